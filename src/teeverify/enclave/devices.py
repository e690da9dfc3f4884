"""Ask the GPUs and NVSwitches of this machine for reports, through NVIDIA's SDK.

The SDK pins old libraries, writes log files where it stands and keeps state between calls. So it
runs in an environment of its own, in a process of its own and in a scratch folder; what it gives is
read strictly, and must answer our nonce.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from teeverify import nvidia
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import json_value
from teeverify.errors import ConfigurationError, EndpointUnavailable, EvidenceError

__all__ = ["CollectedDevice", "SdkDevices"]

ID = "endpoint.devices"
_NONCE_BYTES = 32
_MAX_OUTPUT = 4 * 1024 * 1024
_GPU, _SWITCH = 1, 2
_KINDS: Mapping[str, int] = {"gpus": _GPU, "switches": _SWITCH}
# What runs in the SDK's environment; nothing of ours is imported there.
_PROGRAM = """
import json, sys
nonce, switches, target = sys.argv[1], sys.argv[2] == "yes", sys.argv[3]
from verifier import cc_admin
found = {"gpus": cc_admin.collect_gpu_evidence_remote(nonce, ppcie_mode=False), "switches": []}
if switches:
    from nv_attestation_sdk.verifiers.nv_switch_verifier import nvswitch_admin
    for one in nvswitch_admin.collect_evidence_remote(nonce, ppcie_mode=False):
        found["switches"].append({**one, "arch": "LS10"})
with open(target, "w", encoding="ascii") as file:
    json.dump(found, file)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedDevice:
    """The report of one GPU or switch, as the SDK gives it. Nothing in it was verified.

    Attributes:
        kind: 1 for a GPU, 2 for a switch.
        arch: ``HOPPER``, ``BLACKWELL`` or ``LS10``.
        certificate: Its certificate chain, base64 of PEM, leaf first.
        evidence: SPDM request and response, base64.
    """

    kind: int
    arch: str
    certificate: str
    evidence: str

    def as_json(self) -> dict[str, str]:
        """As lists of evidence hold it."""
        return {"arch": self.arch, "certificate": self.certificate, "evidence": self.evidence}


class SdkDevices:
    """Collects the reports of all devices of this machine.

    Args:
        python: The interpreter of the environment with ``nv-attestation-sdk``; ours unless named.
        switches: Whether there are NVSwitches too.
        timeout: Seconds until all devices must have answered.

    Raises:
        ConfigurationError: There is no such interpreter.
    """

    def __init__(
        self,
        python: str | Path | None = None,
        *,
        switches: bool = False,
        timeout: float = 120.0,
    ) -> None:
        self._python = Path(sys.executable if python is None else python).absolute()
        if not self._python.is_file():
            raise ConfigurationError(
                "there is no such Python",
                id="usage.devices",
                got=ascii(str(self._python)),
                hint="Name the interpreter of the environment with nv-attestation-sdk.",
            )
        self._switches = switches
        self._timeout = timeout

    def collect(self, nonce: bytes) -> tuple[CollectedDevice, ...]:
        """Ask every device for a report: GPUs first, then switches.

        Args:
            nonce: The 32 bytes that each must sign.

        Raises:
            ConfigurationError: The nonce is not 32 bytes.
            EndpointUnavailable: No GPU, no answer in time, or an answer that is not to this nonce.
        """
        if len(nonce) != _NONCE_BYTES:
            raise ConfigurationError(
                "the nonce is not 32 bytes", id="usage.nonce", got=str(len(nonce))
            )
        with tempfile.TemporaryDirectory(prefix="teeverify-gpus-") as scratch:
            target = Path(scratch) / "evidence.json"
            self._run(nonce, target)
            devices = _read(target)
        _require_ours(devices, nonce)
        return devices

    def _run(self, nonce: bytes, target: Path) -> None:
        arguments = [nonce.hex(), "yes" if self._switches else "no", str(target)]
        try:
            done = subprocess.run(  # noqa: S603 -- a fixed program and our own arguments
                [str(self._python), "-I", "-c", _PROGRAM, *arguments],
                cwd=target.parent,
                env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=self._timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _unavailable(f"no answer in {self._timeout:g} s") from None
        except OSError as error:
            raise _unavailable(error.strerror or type(error).__name__) from None
        if done.returncode:
            last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise _unavailable(ascii(last)[:200])


def _unavailable(reason: str) -> EndpointUnavailable:
    return EndpointUnavailable(
        "NVIDIA's SDK gave no evidence of the GPUs",
        id=ID,
        got=reason,
        hint="Check that the GPUs are in confidential mode, and that the SDK sees them.",
    )


def _read(target: Path) -> tuple[CollectedDevice, ...]:
    try:
        with target.open("rb") as file:
            raw = file.read(_MAX_OUTPUT + 1)
        form = JsonObject(
            json_value(raw, field="evidence", id=ID, max_bytes=_MAX_OUTPUT), path="evidence", id=ID
        )
        return tuple(
            CollectedDevice(
                kind=kind,
                arch=one.text("arch"),
                certificate=one.text("certificate"),
                evidence=one.text("evidence"),
            )
            for name, kind in _KINDS.items()
            for one in form.objects(name)
        )
    except (OSError, EvidenceError) as error:
        raise _unavailable(ascii(str(error))[:200]) from None


def _require_ours(devices: tuple[CollectedDevice, ...], nonce: bytes) -> None:
    """The SDK's test mode serves a published sample, under a nonce of its own."""
    try:
        parsed = nvidia.parse_evidence([device.as_json() for device in devices])
    except EvidenceError as error:
        raise _unavailable(error.message) from None
    if any(one.report.requester_nonce != nonce for one in parsed.devices):
        raise _unavailable("a report that answers another nonce")
