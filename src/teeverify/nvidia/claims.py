"""What a verified device is known to be."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import InitVar, dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from teeverify.crypto.certificates import Certificate
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import ConfigurationError, MalformedEvidence
from teeverify.nvidia.chips import Architecture, DeviceType
from teeverify.nvidia.spdm import NONCE_BYTES, FeatureFlag, Measurement, OpaqueField
from teeverify.roots.anchors import RootsKind

__all__ = ["DEVICE_SEAL", "DeviceClaims", "FwidState", "device_nonce", "same_nonce"]

DEVICE_SEAL = Seal("nvidia.verify_device")

FwidState: TypeAlias = Literal["match", "not-present"]
# Boards that a signed report was seen to come from; others of the same chip stay unnamed.
_BOARDS: Mapping[str, str] = {
    "G520_0200_885": "H100",
    "G520_0280_895": "H200",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceClaims(Sealed):
    """One genuine GPU or NVSwitch, as its certificates and its signed report say.

    Attributes:
        index: Position in the evidence, from 0.
        device_type: ``GPU`` or ``NVSwitch``, from the certificates.
        architecture: ``Hopper``, ``Blackwell`` or ``LS10``, from the certificates.
        chip: The chip, for example ``GH100``, from the certificates.
        hwmodel: Common name of the device CA, for example ``GH100 A01 GSP BROM``.
        ueid: Serial number of the attestation key's certificate, in decimal.
        leaf_sha256: SHA-256 of that certificate, in hex.
        leaf_spki: The attestation key, as DER.
        device_ca_spki: The device CA's key, as DER: every device has its own, for life. Its
            certificate is no identity, as an ECDSA signature has a second form.
        driver_version: Driver version; switches have none.
        vbios_version: Version of the VBIOS, or of the NVSwitch BIOS.
        project: Board project, for example ``G520``.
        project_sku: Board SKU within the project.
        chip_sku: SKU of the chip.
        chip_info: Name of the chip in the report, where it has one.
        fwid: Identity of the firmware that made the attestation key, from its certificate.
        fwid_state: Whether the report states the same one, or (old drivers, switches) none.
        feature_flag: ``SPT``, ``MPT`` or ``PPCIE``, where the report says it.
        protected_pcie: Whether protected PCIe is on, where the report says it.
        nvdec0_enabled: Whether video decoder 0 is on, where the report says it.
        measurements: All measurement blocks; compared with no reference value yet.
        opaque: All opaque items, known or not.
        nonce: The requester's nonce that was signed.
        issuers: The certificates above the attestation key's: device CA, provisioner, architecture
            identity, root.
        expires_at: When the first certificate of the chain expires.
        roots_kind: Which kind of roots the chain leads to.
    """

    index: int
    device_type: DeviceType
    architecture: Architecture
    chip: str
    hwmodel: str
    ueid: str
    leaf_sha256: str
    leaf_spki: bytes
    device_ca_spki: bytes
    driver_version: str | None
    vbios_version: str
    project: str | None
    project_sku: str | None
    chip_sku: str | None
    chip_info: str | None
    fwid: bytes
    fwid_state: FwidState
    feature_flag: FeatureFlag | None
    protected_pcie: bool | None
    nvdec0_enabled: bool | None
    measurements: tuple[Measurement, ...]
    opaque: tuple[OpaqueField, ...]
    nonce: bytes
    issuers: tuple[Certificate, ...]
    expires_at: datetime
    roots_kind: RootsKind
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Only :func:`teeverify.nvidia.verify_device` makes it."""
        self._check_seal(seal, DEVICE_SEAL)

    @property
    def name(self) -> str:
        """How messages call the device, for example ``gpu[3]``."""
        return f"gpu[{self.index}]"

    @property
    def pdi(self) -> bytes:
        """The device's own identifier: the low 8 bytes of its certificate's serial number."""
        return (self.issuers[0].serial % (1 << 64)).to_bytes(8, "big")

    @property
    def described(self) -> str:
        """What it is and runs, for people."""
        board = f", {self.board}" if self.board else ""
        driver = f"driver {self.driver_version}, VBIOS" if self.driver_version else "BIOS"
        return f"{self.architecture} ({self.chip}{board}), {driver} {self.vbios_version}"

    @property
    def board(self) -> str | None:
        """``H100`` or ``H200``, where the signed board fields say so."""
        return _BOARDS.get(f"{self.project}_{self.project_sku}_{self.chip_sku}")


def device_nonce(value: bytes | str) -> bytes:
    """Read a caller's nonce: 32 bytes, or 64 hex digits.

    Raises:
        ConfigurationError: Anything else.
    """
    if isinstance(value, str):
        try:
            return hex_bytes(value, field="nonce", id="usage.nonce", length=NONCE_BYTES)
        except MalformedEvidence:
            pass
    elif isinstance(value, bytes) and len(value) == NONCE_BYTES:
        return value
    raise ConfigurationError(
        "the nonce of GPU evidence has another form",
        id="usage.nonce",
        got=type(value).__name__ if not isinstance(value, bytes | str) else f"{len(value)} long",
        want=f"{NONCE_BYTES} bytes, or their hex",
    )


def same_nonce(one: bytes, other: bytes) -> bool:
    """Compare two nonces in constant time."""
    return hmac.compare_digest(one, other)
