"""Attestation reports, versions 2 to 5 (AMD document 56860, ATTESTATION_REPORT).

What is signed are the bytes as they came; nothing here is ever written again and then verified.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from teeverify.encoding.reader import Reader
from teeverify.errors import MalformedEvidence
from teeverify.snp.flags import GuestPolicy, PlatformInfo
from teeverify.snp.product import TCB_BYTES, Product, TcbVersion, product_of_cpu

__all__ = ["REPORT_BYTES", "FirmwareVersion", "Report", "Signer", "parse_report"]

REPORT_BYTES = 0x4A0
SIGNED_BYTES = 0x2A0
CHECK = "snp.report"
HOST_VMPL = 0xFFFFFFFF
_VERSIONS = (2, 3, 4, 5)
_WITH_CPUID = 3
_WITH_MITIGATIONS = 5
_ECDSA_P384_SHA384 = 1
_LAST_VMPL = 3
_POLICY_ALWAYS_SET = 1 << 17
_POLICY_BITS = 26
_KEY_INFO_BITS = 5
_SCALAR_BYTES = 48
_SCALAR_PADDING = 24


class Signer(Enum):
    """Which kind of key signed a report (KEY_INFO.SIGNING_KEY)."""

    VCEK = 0
    VLEK = 1
    NONE = 7

    def __str__(self) -> str:
        """The name."""
        return self.name


_SIGNERS: Mapping[int, Signer] = {signer.value: signer for signer in Signer}


@dataclass(frozen=True, slots=True, order=True)
class FirmwareVersion:
    """A version of the SEV-SNP firmware.

    Attributes:
        major: Major version of its ABI.
        minor: Minor version of its ABI.
        build: Build.
    """

    major: int
    minor: int
    build: int

    def __str__(self) -> str:
        """As AMD writes it."""
        return f"{self.major}.{self.minor}.{self.build}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One attestation report, read strictly and not verified.

    Attributes:
        raw: The 1184 bytes as they came.
        version: 2 to 5.
        guest_svn: Security version of the guest, from the ID block.
        policy: What the guest's owner lets the host do.
        vmpl: Privilege level of who asked; 0xFFFFFFFF where the host asked.
        current_tcb: TCB_VERSION of the firmware that runs, as bytes.
        platform_info: How the host is configured.
        author_key_enabled: Whether ``author_key_digest`` says anything.
        chip_key_masked: Whether the firmware left the report unsigned.
        signing_key: The value of SIGNING_KEY.
        reported_tcb: TCB_VERSION that selects the signing key, as bytes.
        cpuid: Family, model and stepping; ``None`` before version 3.
        committed_tcb: TCB_VERSION below which the host cannot go back, as bytes.
        current: Version of the firmware that runs.
        committed: Version below which the host cannot go back.
        launch_tcb: TCB_VERSION at the guest's launch, as bytes.
        launch_mitigations: Mitigation vector at launch; ``None`` before version 5.
        current_mitigations: Mitigation vector of now; ``None`` before version 5.
        signature: ``r || s``, big-endian, 96 bytes. Not an identity: it can be malleated.
    """

    raw: bytes
    version: int
    guest_svn: int
    policy: GuestPolicy
    vmpl: int
    current_tcb: bytes
    platform_info: PlatformInfo
    author_key_enabled: bool
    chip_key_masked: bool
    signing_key: int
    reported_tcb: bytes
    cpuid: tuple[int, int, int] | None
    committed_tcb: bytes
    current: FirmwareVersion
    committed: FirmwareVersion
    launch_tcb: bytes
    launch_mitigations: int | None
    current_mitigations: int | None
    signature: bytes

    @property
    def family_id(self) -> bytes:
        """From the ID block."""
        return self.raw[0x010:0x020]

    @property
    def image_id(self) -> bytes:
        """From the ID block."""
        return self.raw[0x020:0x030]

    @property
    def report_data(self) -> bytes:
        """64 bytes of the guest's choice (of the host's, if the host asked)."""
        return self.raw[0x050:0x090]

    @property
    def measurement(self) -> bytes:
        """The launch digest."""
        return self.raw[0x090:0x0C0]

    @property
    def host_data(self) -> bytes:
        """32 bytes that the host chose at launch."""
        return self.raw[0x0C0:0x0E0]

    @property
    def id_key_digest(self) -> bytes:
        """SHA-384 of the key that signed the ID block."""
        return self.raw[0x0E0:0x110]

    @property
    def author_key_digest(self) -> bytes:
        """SHA-384 of the key that certified that key."""
        return self.raw[0x110:0x140]

    @property
    def report_id(self) -> bytes:
        """Names the guest."""
        return self.raw[0x140:0x160]

    @property
    def report_id_ma(self) -> bytes:
        """Names its migration agent; all ones where there is none."""
        return self.raw[0x160:0x180]

    @property
    def chip_id(self) -> bytes:
        """Names the chip; all zero where the host masks it."""
        return self.raw[0x1A0:0x1E0]

    @property
    def signed_bytes(self) -> bytes:
        """What the signature is over."""
        return self.raw[:SIGNED_BYTES]

    @property
    def product(self) -> Product | None:
        """The product that the CPUID fields name; ``None`` if they name none, or are absent."""
        return None if self.cpuid is None else product_of_cpu(*self.cpuid[:2])

    @property
    def signer(self) -> Signer | None:
        """Which kind of key signed; ``None`` for a reserved value."""
        return _SIGNERS.get(self.signing_key)

    @property
    def made_by_host(self) -> bool:
        """Whether the host asked for the report: then ``report_data`` is the host's choice."""
        return self.vmpl == HOST_VMPL

    @property
    def chip_id_masked(self) -> bool:
        """Whether the host keeps the chip's name back."""
        return self.chip_id.count(0) == len(self.chip_id)

    def tcb(self, name: str, product: Product) -> TcbVersion:
        """One of the four TCB versions, in a product's layout.

        Args:
            name: ``current``, ``reported``, ``committed`` or ``launch``.
            product: The product, from CPUID or from the verified chain.

        Raises:
            MalformedEvidence: A byte that the product reserves is not zero.
        """
        raw: bytes = getattr(self, f"{name}_tcb")
        return TcbVersion.read(raw, product, id=CHECK, field=f"snp.report.{name}_tcb")


def parse_report(raw: bytes) -> Report:
    """Read a report; exactly 1184 bytes, see :func:`teeverify.snp.unwrap_report` for containers.

    Raises:
        MalformedEvidence: Another length, an unknown version or algorithm, a reserved bit or byte
            that is not zero, or bytes that are no ``bytes``.
    """
    if not isinstance(raw, (bytes, bytearray, memoryview)):
        raise MalformedEvidence(
            "snp.report: not bytes", id=CHECK, field="snp.report", got=type(raw).__name__
        )
    data = bytes(raw)
    if len(data) != REPORT_BYTES:
        raise MalformedEvidence(
            "snp.report: wrong length",
            id=CHECK,
            field="snp.report",
            offset=0,
            need=REPORT_BYTES,
            have=len(data),
        )
    reader = Reader(data, name="snp.report", id=CHECK)
    version = reader.u32("version")
    if version not in _VERSIONS:
        raise reader.error("unknown version", "version", got=str(version), want="2, 3, 4 or 5")
    return Report(raw=data, version=version, **_head(reader), **_body(reader, version))


def _head(reader: Reader) -> dict[str, Any]:
    """0x004 to 0x04F."""
    fields: dict[str, Any] = {
        "guest_svn": reader.u32("guest_svn"),
        "policy": _policy(reader),
    }
    reader.take(32, "family_id and image_id")
    fields["vmpl"] = _vmpl(reader)
    algorithm = reader.u32("signature_algo")
    if algorithm != _ECDSA_P384_SHA384:
        raise reader.error(
            "unknown signature algorithm",
            "signature_algo",
            got=str(algorithm),
            want="1 (ECDSA P-384 with SHA-384)",
        )
    fields["current_tcb"] = reader.take(TCB_BYTES, "current_tcb")
    fields["platform_info"] = PlatformInfo(reader.integer(8, "platform_info"))
    key_info = reader.u32("key_info")
    if key_info >> _KEY_INFO_BITS:
        raise reader.error("reserved bits are set", "key_info", got=hex(key_info))
    fields["author_key_enabled"] = bool(key_info & 1)
    fields["chip_key_masked"] = bool(key_info >> 1 & 1)
    fields["signing_key"] = key_info >> 2
    reader.zeros(4, "reserved_0x4c")
    return fields


def _policy(reader: Reader) -> GuestPolicy:
    policy = reader.integer(8, "policy")
    if policy >> _POLICY_BITS or not policy & _POLICY_ALWAYS_SET:
        raise reader.error("bit 17 is not set, or a reserved bit is", "policy", got=f"{policy:#x}")
    return GuestPolicy(policy)


def _vmpl(reader: Reader) -> int:
    vmpl = reader.u32("vmpl")
    if vmpl > _LAST_VMPL and vmpl != HOST_VMPL:
        raise reader.error("no privilege level", "vmpl", got=hex(vmpl), want="0 to 3")
    return vmpl


def _body(reader: Reader, version: int) -> dict[str, Any]:
    """0x050 to 0x49F."""
    reader.take(0x130, "report_data to report_id_ma")
    fields: dict[str, Any] = {
        "reported_tcb": reader.take(TCB_BYTES, "reported_tcb"),
        "cpuid": None,
    }
    if version >= _WITH_CPUID:
        family, model, stepping = reader.take(3, "cpuid")
        fields["cpuid"] = (family, model, stepping)
        reader.zeros(21, "reserved_0x18b")
    else:
        reader.zeros(24, "reserved_0x188")
    reader.take(64, "chip_id")
    fields["committed_tcb"] = reader.take(TCB_BYTES, "committed_tcb")
    fields["current"] = _firmware(reader, "current_version")
    fields["committed"] = _firmware(reader, "committed_version")
    fields["launch_tcb"] = reader.take(TCB_BYTES, "launch_tcb")
    fields["launch_mitigations"] = fields["current_mitigations"] = None
    if version >= _WITH_MITIGATIONS:
        fields["launch_mitigations"] = reader.integer(8, "launch_mit_vector")
        fields["current_mitigations"] = reader.integer(8, "current_mit_vector")
    else:
        reader.zeros(16, "reserved_0x1f8")
    reader.zeros(152, "reserved_0x208")
    fields["signature"] = _scalar(reader, "signature_r") + _scalar(reader, "signature_s")
    reader.zeros(368, "reserved_0x330")
    reader.finish()
    return fields


def _firmware(reader: Reader, field: str) -> FirmwareVersion:
    build, minor, major, reserved = reader.take(4, field)
    if reserved:
        raise reader.error("reserved bytes are not zero", field)
    return FirmwareVersion(major, minor, build)


def _scalar(reader: Reader, field: str) -> bytes:
    """A number of P-384, which the firmware writes little-endian into 72 bytes; here big-endian."""
    value = reader.take(_SCALAR_BYTES + _SCALAR_PADDING, field)
    if any(value[_SCALAR_BYTES:]):
        raise reader.error("reserved bytes are not zero", field)
    return value[_SCALAR_BYTES - 1 :: -1]
