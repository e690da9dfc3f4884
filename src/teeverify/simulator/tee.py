"""A whole confidential machine in software: one TDX VM with NVIDIA GPUs. Proves nothing.

Evidence in the form of the dstack vLLM proxies' flat report, with the endorsements that belong to
it, under roots that are random in every run::

    tee = SimulatedTee()
    report = tee.report(nonce, key=key, public_key=public_key, model="default")
    roots = tee.roots()
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from teeverify.binding import Process, SigningKey
from teeverify.clock import now, show_time
from teeverify.errors import ConfigurationError
from teeverify.simulator.authority import new_key
from teeverify.simulator.dstack import Dstack
from teeverify.simulator.intel import Intel
from teeverify.simulator.nvidia import Nvidia
from teeverify.simulator.vendors import Vendors

__all__ = ["TEE_FAULTS", "SimulatedDevice", "SimulatedQuote", "SimulatedTee"]

TEE_FAULTS: Mapping[str, str] = {
    "stale-quote": "the quote answers an older nonce",
    "stale-gpu-nonce": "one GPU's report answers an older nonce",
    "debug-td": "the VM runs in debug mode",
    "broken-gpu": "another key signed one GPU's report",
    "relayed-gpu": "the GPUs are those of an honest enclave elsewhere, which was asked for them",
    "wrong-mr-config": "the VM was launched with another configuration than the one shown",
    "edited-event-log": "one digest of the event log was changed",
    "revoked-pck": "Intel has revoked the CPU's certificate",
    "expired-collateral": "Intel's TCB info ran out an hour ago",
    "out-of-date-tcb": "the CPU lacks security fixes",
    "revoked-tcb": "Intel has revoked the CPU's level of security fixes",
    "swapped-gpu": "two GPUs show each other's certificates",
}
_FAULTS_OF_TWO = ("swapped-gpu",)
_NONCE_BYTES = 32
_IMAGE = f"teeverify/simulated-engine@sha256:{hashlib.sha256(b'no such image').hexdigest()}"
_OTHER_IMAGE = f"teeverify/other-engine@sha256:{hashlib.sha256(b'nor this one').hexdigest()}"
# What else differs from boot to boot is fixed, so that every run shows the same code.
_BOOT: Mapping[str, bytes | None] = {
    "instance-id": hashlib.sha256(b"teeverify simulator instance").digest()[:20],
    "mr-kms": hashlib.sha256(b"teeverify simulator key service").digest(),
    "key-provider": json.dumps({"name": "kms", "id": "00"}).encode("ascii"),
}


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """The report of one GPU.

    Attributes:
        certificate: Its certificate chain, base64 of PEM.
        evidence: SPDM request and response, base64.
        arch: Its architecture.
        kind: 1: a GPU.
    """

    certificate: str
    evidence: str
    arch: str
    kind: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedQuote:
    """A quote, and what belongs to it.

    Attributes:
        quote: The quote.
        event_log: The events that its registers are made of.
        info: What dstack's guest agent says.
        vm_config: How the VM was launched, as JSON text.
    """

    quote: bytes
    event_log: list[dict[str, Any]]
    info: dict[str, Any]
    vm_config: str


class SimulatedTee(Vendors):
    """One machine that lives as long as this object, with random roots.

    Args:
        at: When it was made; now, unless a test says otherwise.
        gpus: How many GPUs it has.
        fault: A key of :data:`TEE_FAULTS`: the one thing that is wrong with its evidence.

    Raises:
        ConfigurationError: No such fault, or too few GPUs for it.
    """

    platform = "tdx"

    def __init__(
        self, *, at: datetime | None = None, gpus: int = 8, fault: str | None = None
    ) -> None:
        least = 2 if fault in _FAULTS_OF_TWO else 1
        if gpus < least:
            raise ConfigurationError(
                "too few GPUs", id="usage.simulator", got=str(gpus), want=f"at least {least}"
            )
        if fault is not None and fault not in TEE_FAULTS:
            raise ConfigurationError(
                "no such fault", id="usage.fault", got=fault, want=", ".join(TEE_FAULTS)
            )
        self.fault = fault
        self.intel = Intel(at=at or now())
        self.nvidia = Nvidia(at=at or now())
        self.guest = Dstack(images=[_IMAGE], events=_BOOT)
        self._gpus = [self.nvidia.gpu(index) for index in range(gpus)]
        self._old_nonce = secrets.token_bytes(_NONCE_BYTES)
        # A process of the enclave that lends its GPUs: they answer what follows from its keys.
        self._elsewhere = Process(ed25519=secrets.token_bytes(_NONCE_BYTES), config=b"{}")

    def with_other_code(self) -> SimulatedTee:
        """The same machine, started with another image."""
        other = copy.copy(self)
        other.guest = Dstack(images=[_OTHER_IMAGE], events=_BOOT)
        return other

    def write_roots(self, path: str | Path) -> None:
        """Write the roots of this run to a PEM file.

        Raises:
            ConfigurationError: The file cannot be written.
        """
        try:
            Path(path).write_bytes(self.roots_pem())
        except OSError as error:
            raise ConfigurationError(
                f"the test roots cannot be written: {error.strerror}",
                id="usage.roots",
                got=str(path),
            ) from None

    def report(
        self,
        nonce: bytes,
        *,
        key: SigningKey,
        public_key: bytes,
        model: str = "default",
        at: datetime | None = None,
    ) -> dict[str, Any]:
        """Attest a signing key: CPU quote, GPU reports, and the vendors' endorsements of both.

        Args:
            nonce: The 32 bytes that the evidence must carry.
            key: The signing key to attest (layout ``dstack-padded``).
            public_key: Its public key: ``x || y``, or the raw Ed25519 key.
            model: The name of the model that the key answers for.
            at: When the report is made; now, unless a test says otherwise.

        Returns:
            The flat report of the dstack proxies, with ``endorsements`` beside it.

        Raises:
            ConfigurationError: The nonce is not 32 bytes.
        """
        if len(nonce) != _NONCE_BYTES:
            raise ConfigurationError(
                "the nonce is not 32 bytes", id="usage.nonce", got=str(len(nonce))
            )
        moment = at or now()
        devices = self.devices(nonce)
        listed = [
            {"certificate": one.certificate, "evidence": one.evidence, "arch": one.arch}
            for one in devices
        ]
        payload = {"nonce": nonce.hex(), "evidence_list": listed, "arch": listed[0]["arch"]}
        cpu = self.quote(key.identifier.ljust(_NONCE_BYTES, b"\0") + nonce)
        return {
            "model_name": model,
            "signing_address": str(key),
            "signing_algo": key.algorithm,
            "signing_public_key": public_key.hex(),
            "request_nonce": nonce.hex(),
            "intel_quote": cpu.quote.hex(),
            "nvidia_payload": json.dumps(payload),
            "event_log": cpu.event_log,
            "info": cpu.info,
            "vm_config": cpu.vm_config,
            "endorsements": self.endorsements(at=moment),
        }

    def devices(self, nonce: bytes) -> list[SimulatedDevice]:
        """The reports of all GPUs over 32 bytes."""
        if self.fault == "relayed-gpu":
            nonce = self._elsewhere.gpu_nonce(nonce)
        found = [gpu.evidence(nonce) for gpu in self._gpus]
        if self.fault == "stale-gpu-nonce":
            found[-1] = self._gpus[-1].evidence(self._old_nonce)
        if self.fault == "broken-gpu":
            found[-1] = self._gpus[-1].evidence(nonce, signer=new_key("p384"))
        if self.fault == "swapped-gpu":
            first, last = found[0], found[-1]
            found[0] = {**first, "certificate": last["certificate"]}
            found[-1] = {**last, "certificate": first["certificate"]}
        return [SimulatedDevice(**evidence) for evidence in found]

    def quote(self, report_data: bytes) -> SimulatedQuote:
        """A quote over 64 bytes, with the event log and the guest agent's word."""
        if self.fault == "stale-quote":
            report_data = report_data[:_NONCE_BYTES] + self._old_nonce
        configuration = self.guest.mr_config_id()
        if self.fault == "wrong-mr-config":
            other = hashlib.sha256(b"another configuration").digest()
            configuration = b"\x01" + other + bytes(15)
        quote = self.intel.quote(
            report_data=report_data,
            rtmrs=self.guest.rtmrs,
            mr_config_id=configuration,
            debug=self.fault == "debug-td",
        )
        return SimulatedQuote(
            quote=quote,
            event_log=self._event_log(),
            info=self._info(),
            vm_config=json.dumps({"num_gpus": len(self._gpus), "simulated": True}),
        )

    def endorsements(self, *, at: datetime | None = None) -> dict[str, Any]:
        """The vendors' endorsements of the machine, whatever it was asked."""
        moment = at or now()
        rims = {name: xml.decode("ascii") for name, xml in self.nvidia.rims().items()}
        answers = self.nvidia.ocsp_answers(moment, *dict.fromkeys(self._gpus))
        return {
            "tdx": self._collateral(moment),
            "nvidia": {
                "rims": rims,
                "ocsp": [base64.b64encode(answer).decode("ascii") for answer in answers],
            },
        }

    def _event_log(self) -> list[dict[str, Any]]:
        log = list(self.guest.event_log)
        if self.fault == "edited-event-log":
            log[0] = {**log[0], "digest": hashlib.sha384(b"another firmware").hexdigest()}
        return log

    def _collateral(self, moment: datetime) -> dict[str, str]:
        over = {"nextUpdate": show_time(moment - timedelta(hours=1))}
        faulty: dict[str, dict[str, Any]] = {
            "revoked-pck": {"revoked": ["pck"]},
            "expired-collateral": {"tcb_info": over},
            "revoked-tcb": {"tcb_status": "Revoked"},
            "out-of-date-tcb": {"tcb_status": "OutOfDate", "advisory_ids": ["INTEL-SA-00000"]},
        }
        overrides = faulty.get(self.fault or "", {})
        day = timedelta(days=1)
        return self.intel.collateral(
            issue_date=moment - day, next_update=moment + 29 * day, **overrides
        )

    def _info(self) -> dict[str, Any]:
        """What dstack's guest agent says of itself; the registers are in the quote too."""
        guest = self.guest
        rtmrs = {f"rtmr{index}": value.hex() for index, value in enumerate(guest.rtmrs)}
        return {
            "app_id": guest.app_id.hex(),
            "app_name": "simulated",
            "compose_hash": guest.compose_hash.hex(),
            "tcb_info": {**rtmrs, "app_compose": guest.app_compose},
        }
