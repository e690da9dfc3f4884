"""Verifying GPU evidence: the order of the checks is that of :data:`CHECKS`.

Every device must pass: the first that does not fails the whole list.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import InitVar, dataclass
from datetime import datetime

from teeverify.clock import parse_time
from teeverify.crypto.ecdsa import verify_raw
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.endorsements.remembered import Remembering
from teeverify.errors import (
    BindingMismatch,
    ConfigurationError,
    StaleEvidence,
)
from teeverify.nvidia.certificates import DeviceChain, verify_chain
from teeverify.nvidia.checks import CHECKS, NRAS_CHECKS
from teeverify.nvidia.chips import Architecture
from teeverify.nvidia.claims import (
    DEVICE_SEAL,
    DeviceClaims,
    FwidState,
    device_nonce,
    same_nonce,
)
from teeverify.nvidia.endorsements import Endorsements
from teeverify.nvidia.evidence import DeviceEvidence, Evidence, Hints, RawEvidence, parse_evidence
from teeverify.nvidia.identity import signed_product, stated_fwid
from teeverify.nvidia.spdm import SpdmReport, parse_report
from teeverify.roots.anchors import RootsInput, RootsKind, as_roots

__all__ = [
    "CHECKS",
    "NRAS_CHECKS",
    "Claims",
    "verify_device",
    "verify_evidence",
]

DEVICE_TYPE = "gpu.device-type"
SIGNATURE = "gpu.report-signature"
NONCE = "gpu.nonce"
FWID = "gpu.fwid"
_SEAL = Seal("nvidia.verify_evidence")
# How containers spell an architecture; nothing else is compared with letter case left out.
_SPELLING: dict[str, Architecture] = {
    "HOPPER": "Hopper",
    "BLACKWELL": "Blackwell",
    "LS10": "LS10",
}
# The nonces of NVIDIA's published samples, which servers without a GPU are known to serve.
_SAMPLES = frozenset(
    (
        bytes.fromhex("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb"),
        bytes.fromhex("4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims(Sealed):
    """The genuine NVIDIA devices of one machine. Their measurements were compared with nothing.

    Attributes:
        devices: Every device, in the order of the evidence.
        nonce: The nonce that each of them signed.
        expires_at: When the first certificate expires.
        roots_kind: Which kind of roots everything leads to.
    """

    devices: tuple[DeviceClaims, ...]
    nonce: bytes
    expires_at: datetime
    roots_kind: RootsKind
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Only :func:`verify_evidence` makes it."""
        self._check_seal(seal, _SEAL)

    @property
    def gpus(self) -> tuple[DeviceClaims, ...]:
        """The GPUs among the devices."""
        return tuple(device for device in self.devices if device.device_type == "GPU")

    @property
    def switches(self) -> tuple[DeviceClaims, ...]:
        """The NVSwitches among the devices."""
        return tuple(device for device in self.devices if device.device_type == "NVSwitch")


def verify_evidence(
    evidence: Evidence | RawEvidence,
    endorsements: Endorsements | None = None,
    *,
    nonce: bytes | str,
    at: datetime | str,
    roots: RootsInput = None,
) -> Claims:
    """Verify the evidence of all devices of one machine.

    Args:
        evidence: What :func:`~teeverify.nvidia.parse_evidence` made, or what it takes.
        endorsements: NVIDIA's endorsements; ``None`` where there are none. What is verified of
            NVIDIA's intermediates is kept on the object. Answers of NRAS are not looked at here:
            they are NVIDIA's word, for :meth:`Endorsements.verify_nras`.
        nonce: The 32 bytes that each device must have signed, or their hex.
        at: The time for which the evidence is verified: an aware datetime, or ISO text with a zone.
        roots: Certificates of other roots than NVIDIA's, for tests and private authorities. The
            claims then say so.

    Returns:
        What cryptography proved of every device.

    Raises:
        MalformedEvidence: The evidence cannot be read.
        ChainInvalid: Certificates that NVIDIA could not have issued, or of another root.
        SignatureInvalid: A certificate or report is not signed by its key.
        StaleEvidence: A device signed another nonce.
        BindingMismatch: Things that belong together do not: the names beside a report, firmware
            identities, one device listed twice, GPUs of several architectures or modes.
        EndorsementUnavailable: A certificate is outside its dates.
        ConfigurationError: A wrong argument.
    """
    parsed = evidence if isinstance(evidence, Evidence) else parse_evidence(evidence)
    want = device_nonce(nonce)
    moment = parse_time(at)
    trusted = as_roots(roots)
    if not (parsed.devices and all(isinstance(one, DeviceEvidence) for one in parsed.devices)):
        raise ConfigurationError("there is no device in the evidence", id="usage.evidence")
    kept = Endorsements() if endorsements is None else endorsements
    devices = tuple(
        verify_device(device, kept, nonce=want, at=moment, roots=trusted)
        for device in parsed.devices
    )
    _require_distinct(devices)
    _require_one_kind(devices)
    return Claims(
        devices=devices,
        nonce=want,
        expires_at=min(device.expires_at for device in devices),
        roots_kind=trusted.kind,
        seal=_SEAL,
    )


def verify_device(
    device: DeviceEvidence,
    endorsements: Endorsements | None = None,
    *,
    nonce: bytes | str,
    at: datetime | str,
    roots: RootsInput = None,
) -> DeviceClaims:
    """Verify one device alone: whether it is listed twice is for :func:`verify_evidence` to see.

    Args:
        device: One entry of :class:`~teeverify.nvidia.Evidence`.
        endorsements: As for :func:`verify_evidence`.
        nonce: The 32 bytes that it must have signed, or their hex.
        at: The time for which it is verified.
        roots: Other roots than the embedded ones.

    Raises:
        MalformedEvidence: As :func:`verify_evidence`, and so for all of these.
        ChainInvalid: See there.
        SignatureInvalid: See there.
        StaleEvidence: See there.
        BindingMismatch: See there.
        EndorsementUnavailable: A certificate is outside its dates.
        ConfigurationError: A wrong argument.
    """
    want = device_nonce(nonce)
    trusted = as_roots(roots)
    if not isinstance(endorsements, Endorsements | None):
        raise ConfigurationError(
            "endorsements must be nvidia.Endorsements",
            id="usage.endorsements",
            got=type(endorsements).__name__,
        )
    memory = Remembering() if endorsements is None else endorsements.memory
    name = device.name
    # Anybody can build an SpdmReport: what counts are the fields of the bytes that were signed.
    report = device.report
    if not report.read_here:
        report = parse_report(report.raw, name=f"{name}.report")
    chain = verify_chain(
        device.certificate_chain, trusted.nvidia_device, memory, at=parse_time(at), name=name
    )
    vbios_version = _require_type(report, chain, device.hints, name)
    verify_raw(
        chain.leaf.public_key,
        report.signature,
        report.signed,
        id=SIGNATURE,
        what=f"{name}: measurement report",
    )
    _require_nonce(report, device.hints, want, name)
    fwid = stated_fwid(chain, name=name)
    state = _compare_fwid(report, fwid, name)
    return _claims(report, chain, (device.index, vbios_version, fwid, state), trusted.kind)


def _claims(
    report: SpdmReport,
    chain: DeviceChain,
    found: tuple[int, str, bytes, FwidState],
    roots_kind: RootsKind,
) -> DeviceClaims:
    index, vbios_version, fwid, fwid_state = found
    fields = report.fields
    return DeviceClaims(
        index=index,
        device_type=chain.chip.device_type,
        architecture=chain.chip.architecture,
        chip=chain.chip.product,
        hwmodel=chain.device_ca.common_name,
        ueid=str(chain.leaf.serial),
        leaf_sha256=chain.leaf.sha256,
        leaf_spki=chain.leaf.spki,
        device_ca_spki=chain.device_ca.spki,
        driver_version=fields.driver_version,
        vbios_version=vbios_version,
        project=fields.project,
        project_sku=fields.project_sku,
        chip_sku=fields.chip_sku,
        chip_info=fields.chip_info,
        fwid=fwid,
        fwid_state=fwid_state,
        feature_flag=fields.feature_flag,
        protected_pcie=fields.protected_pcie,
        nvdec0_enabled=fields.nvdec0_enabled,
        measurements=report.measurements,
        opaque=report.opaque,
        nonce=report.requester_nonce,
        issuers=chain.issuers,
        expires_at=chain.not_after,
        roots_kind=roots_kind,
        seal=DEVICE_SEAL,
    )


def _require_type(report: SpdmReport, chain: DeviceChain, hints: Hints, name: str) -> str:
    """Certificates, container and report must agree on the device; returns its VBIOS version."""
    chip, fields = chain.chip, report.fields
    product = signed_product(chain.leaf, name=name)
    if product != chip.product:
        raise _other(name, "the chip in the name of the attestation key", product, chip.product)
    for hint in hints.arch:
        if _SPELLING.get(hint.upper()) != chip.architecture:
            raise _other(
                name, "the architecture beside the evidence", ascii(hint[:40]), chip.architecture
            )
    # A GPU packs its VBIOS version in 8 bytes and names its driver; a switch does neither.
    gpu = chip.device_type == "GPU"
    vbios, driver = fields.vbios_version, fields.driver_version
    if vbios is None or fields.vbios_is_binary != gpu or (driver is not None) != gpu:
        raise _other(
            name,
            "the pair of versions in the report",
            f"driver {driver}, VBIOS {vbios}",
            f"those of a {chip.device_type}",
        )
    _require_version(name, "driver", hints.driver_version, driver)
    _require_version(name, "VBIOS", hints.vbios_version, vbios)
    return vbios


def _require_version(name: str, what: str, said: Sequence[str], signed: str | None) -> None:
    """A version beside the report may not differ from the signed one."""
    for hint in said:
        if signed is None or hint.upper() != signed.upper():
            raise _other(
                name, f"the {what} version beside the report", ascii(hint[:40]), signed or "none"
            )


def _other(name: str, what: str, got: str, want: str) -> BindingMismatch:
    return BindingMismatch(
        f"{name}: {what} is not that of the device", id=DEVICE_TYPE, got=got, want=want
    )


def _require_nonce(report: SpdmReport, hints: Hints, want: bytes, name: str) -> None:
    """The nonce inside the signed request must be ours; one beside it may not differ."""
    if not same_nonce(report.requester_nonce, want):
        sample = report.requester_nonce in _SAMPLES
        raise StaleEvidence(
            f"{name}: the report does not answer this nonce",
            id=NONCE,
            got=report.requester_nonce.hex(),
            want=want.hex(),
            hint="It is a sample that NVIDIA published, which servers without a GPU serve."
            if sample
            else "It is cached, recorded, or was made for somebody else's question.",
        )
    for hint in hints.nonce:
        if hint.lower().removeprefix("0x") != report.requester_nonce.hex():
            raise BindingMismatch(
                f"{name}: the nonce beside the report is not the one that was signed",
                id=NONCE,
                got=ascii(hint[:80]),
                want=report.requester_nonce.hex(),
            )


def _compare_fwid(report: SpdmReport, fwid: bytes, name: str) -> FwidState:
    """Field 20 is missing in reports of old drivers and of switches, and signed like the rest."""
    stated = report.fields.fwid
    if stated is None:
        return "not-present"
    if not same_nonce(stated, fwid):
        raise BindingMismatch(
            f"{name}: the report names other firmware than the attestation key's certificate",
            id=FWID,
            got=stated.hex(),
            want=fwid.hex(),
        )
    return "match"


def _require_distinct(devices: Sequence[DeviceClaims]) -> None:
    """No attestation key, no serial number of one and no device CA may come twice."""
    identities: tuple[tuple[str, Callable[[DeviceClaims], Hashable]], ...] = (
        ("serial number", lambda device: device.ueid),
        ("attestation key", lambda device: device.leaf_spki),
        ("device key", lambda device: device.device_ca_spki),
    )
    for what, identity in identities:
        seen: dict[Hashable, DeviceClaims] = {}
        for device in devices:
            first = seen.setdefault(identity(device), device)
            if first is not device:
                raise BindingMismatch(
                    f"{first.name} and {device.name} are one device: the same {what}",
                    id="gpu.distinct",
                    got=f"serial number {device.ueid}",
                    want="a device of its own in each entry",
                )


def _require_one_kind(devices: Sequence[DeviceClaims]) -> None:
    """GPUs of one machine are of one architecture, and in one mode."""
    gpus = [device for device in devices if device.device_type == "GPU"]
    architectures = {device.architecture for device in gpus}
    if len(architectures) > 1:
        raise BindingMismatch(
            "the GPUs are of several architectures",
            id="gpu.same-architecture",
            got=_listed(architectures),
            want="one, as in one machine",
        )
    modes = {(device.feature_flag, device.protected_pcie) for device in gpus}
    if len(modes) > 1:
        raise BindingMismatch(
            "the GPUs are in several modes",
            id="gpu.same-mode",
            got=_listed(f"{flag} with protected PCIe {pcie}" for flag, pcie in modes),
            want="one, as in one machine",
        )


def _listed(values: Iterable[str]) -> str:
    return ", ".join(sorted(values))
