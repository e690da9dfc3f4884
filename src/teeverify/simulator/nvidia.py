"""A fake NVIDIA: device certificates, devices that sign reports, manifests, OCSP, and an NRAS.

What it makes has the form of the real thing, signed under random roots. Each field of a report and
of a certificate can be overridden alone, so that a test breaks exactly one thing.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from teeverify.simulator.authority import Authority
from teeverify.simulator.nras import FakeNras
from teeverify.simulator.nvidia_chips import MODELS, Chip
from teeverify.simulator.nvidia_devices import BORN, DATES, NEVER, SimulatedDevice
from teeverify.simulator.ocsp import ocsp_answer
from teeverify.simulator.rim import FakeRims, RimForm
from teeverify.simulator.spdm import ABSENT, ReportForm

__all__ = ["ABSENT", "Nvidia", "ReportForm", "SimulatedDevice"]

# Which measurements the real manifests demand (index 35 is the decoder that is switched off).
_DRIVER_INDICES = (7, *range(21, 41))
_VBIOS_INDICES = (*range(7), *range(8, 13))


class Nvidia:
    """A fake NVIDIA with random roots: device identity, signers of manifests, and services.

    Args:
        at: When the signers of manifests are at work; in 2025 and 2026 unless said otherwise.
    """

    def __init__(self, *, at: datetime | None = None) -> None:
        self.root = Authority.root(
            "Simulated NVIDIA Device Identity CA", curve="p384", not_before=BORN, not_after=NEVER
        )
        self.nras = FakeNras()
        self.rim_signers = FakeRims(at=at)
        self._rims: dict[Chip, dict[str, bytes]] = {}
        self._golden: dict[Chip, tuple[bytes, ...]] = {}
        self._intermediates: dict[tuple[str, bytes], Authority] = {}
        self._devices: dict[tuple[Chip, int], SimulatedDevice] = {}

    def roots_pem(self) -> bytes:
        """The roots that a verifier must be given to accept any of this."""
        return self.root.pem + self.nras.intermediate.pem + self.rim_signers.root.pem

    def gpu(self, index: int = 0, *, chip: Chip = "GH100") -> SimulatedDevice:
        """A device; the same chip and index give the same one."""
        key = (chip, index)
        if key not in self._devices:
            self._devices[key] = SimulatedDevice(self, chip, index)
        return self._devices[key]

    @property
    def devices(self) -> tuple[SimulatedDevice, ...]:
        """All devices that were made so far."""
        return tuple(self._devices.values())

    def golden(self, chip: Chip) -> tuple[bytes, ...]:
        """What every device of a chip measures, if nobody changed its firmware."""
        if chip not in self._golden:
            blocks = MODELS[chip].blocks
            self._golden[chip] = tuple(secrets.token_bytes(48) for _ in range(blocks))
        return self._golden[chip]

    def rims(
        self,
        chip: Chip = "GH100",
        /,
        **overrides: Mapping[str, Any],
    ) -> dict[str, bytes]:
        """The manifests of a chip's firmware, by id.

        Args:
            chip: The chip.
            **overrides: ``driver``, ``vbios`` or ``bios``: fields of
                :class:`~teeverify.simulator.rim.RimForm` to change in that manifest.
        """
        if not overrides and chip in self._rims:
            return self._rims[chip]
        device = self.gpu(chip=chip)
        values = [[value] for value in self.golden(chip)]
        product = chip.replace("_", "")
        common: dict[str, Any] = {"product": product, "values": values}
        if product == "LS10":
            forms = {"bios": {"edition": "SWITCH", "active": range(31), "version": device.vbios}}
        else:
            driver = device.rim_ids[0].rpartition("_")[2]
            forms = {
                "driver": {"active": _DRIVER_INDICES, "version": driver},
                "vbios": {"active": _VBIOS_INDICES, "version": device.vbios},
            }
        made = {
            name: self.rim_signers.build(RimForm(**{**common, **form, **overrides.get(part, {})}))
            for name, (part, form) in zip(device.rim_ids, forms.items(), strict=True)
        }
        if not overrides:
            self._rims[chip] = made
        return made

    def ocsp_answers(
        self,
        at: datetime,
        *devices: SimulatedDevice,
        **overrides: Any,  # noqa: ANN401
    ) -> list[bytes]:
        """NVIDIA's answers about the certificates of devices and of the manifests' signer.

        Args:
            at: When the question comes.
            *devices: The devices; the first GPU where none is given.
            **overrides: Fields of :class:`~teeverify.simulator.ocsp.OcspForm`, of each answer.
        """
        paths = [device.authorities[1:] for device in devices or (self.gpu(),)]
        paths.append(self.rim_signers.chain)
        # The devices of a machine share their issuers, of which each is asked about once.
        pairs = dict.fromkeys(pair for path in paths for pair in pairwise(path))
        return [ocsp_answer(child, issuer, at, **overrides) for child, issuer in pairs]

    def protected_machine(
        self,
        nonce: bytes | str,
        gpus: int = 8,
        switches: int = 4,
        *,
        changes: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> list[dict[str, Any]]:
        """The evidence of GPUs and NVSwitches that name each other, in protected PCIe mode.

        Args:
            nonce: The requester's nonce.
            gpus: How many GPUs.
            switches: How many switches; they come after the GPUs.
            changes: Overrides of single entries' :meth:`SimulatedDevice.evidence`, by position.
        """
        cards = [self.gpu(index) for index in range(gpus)]
        links = [self.gpu(index, chip="LS_10") for index in range(switches)]
        ports = b"".join(link.pdi[::-1] for link in links for _ in range(4))
        gpu_pdis = b"".join(card.pdi for card in cards).ljust(64, b"\0") + b"\xff" * 64
        entries = []
        for place, device in enumerate([*cards, *links]):
            opaque = {21: b"\xaa", 36: b"\x02\0", 22: ports.ljust(144, b"\0")}
            if device.chip == "LS_10":
                opaque = {22: device.pdi, 26: gpu_pdis}
            given = dict((changes or {}).get(place, {}))
            opaque |= given.pop("opaque", {})
            entries.append(device.evidence(nonce, opaque=opaque, **given))
        return entries

    def evidence_list(
        self,
        nonce: bytes | str,
        count: int = 1,
        *,
        chip: Chip = "GH100",
        **overrides: Any,  # noqa: ANN401
    ) -> list[dict[str, Any]]:
        """The evidence of several devices of one kind; overrides apply to each."""
        devices = [self.gpu(index, chip=chip) for index in range(count)]
        return [device.evidence(nonce, **overrides) for device in devices]

    def payload(
        self,
        nonce: bytes | str,
        count: int = 1,
        *,
        chip: Chip = "GH100",
        **overrides: Any,  # noqa: ANN401
    ) -> str:
        """The same as vLLM proxies send it: a JSON text named ``nvidia_payload``."""
        text = nonce if isinstance(nonce, str) else nonce.hex()
        entries = self.evidence_list(nonce, count, chip=chip, **overrides)
        return json.dumps({"nonce": text, "evidence_list": entries, "arch": MODELS[chip].arch})

    def nras_answer(
        self,
        evidence_list: Sequence[Mapping[str, Any]],
        nonce: bytes | str,
        at: datetime,
        **overrides: Any,  # noqa: ANN401
    ) -> tuple[bytes, bytes]:
        """What NRAS would answer about good evidence, and the JWKS that it publishes.

        Args:
            evidence_list: Entries as :meth:`evidence_list` makes them.
            nonce: The nonce of the request.
            at: When the answer was made.
            **overrides: See :class:`teeverify.simulator.nras.AnswerForm`.
        """
        text = nonce if isinstance(nonce, str) else nonce.hex()
        return self.nras.answer(evidence_list, text, at, **overrides)

    def intermediate(
        self, common_name: str, issuer: Authority, overrides: Mapping[str, Any]
    ) -> Authority:
        """An intermediate CA: kept, unless something about it or above it is overridden."""
        kept = self._intermediates.get((common_name, issuer.der))
        if kept is not None and not overrides:
            return kept
        form = {"common_name": common_name, "ca": True, **DATES, **overrides}
        made = issuer.issue(**form)
        if not overrides:
            self._intermediates[(common_name, issuer.der)] = made
        return made
