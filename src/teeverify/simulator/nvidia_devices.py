"""Fake GPUs and NVSwitches: certificates and reports, with every field open to change."""

from __future__ import annotations

import base64
import dataclasses
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.clock import UTC
from teeverify.crypto.der_writer import element, integer, octets, sequence
from teeverify.errors import ConfigurationError
from teeverify.simulator.authority import Authority
from teeverify.simulator.nvidia_chips import MODELS, Chip
from teeverify.simulator.spdm import ABSENT, ReportContent, ReportForm

__all__ = ["BORN", "DATES", "NEVER", "CertificateForm", "SimulatedDevice"]

NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
BORN = datetime(2020, 10, 17, tzinfo=UTC)
DATES: Mapping[str, datetime] = {"not_before": BORN, "not_after": NEVER}
_DEVICE_INFO = "1.3.6.1.4.1.412.274.1"  # DMTF DSP0274 1.1 table 33
_COMPOSITE_ID = "2.23.133.5.4.1"
_TCB_INFO = "2.23.133.5.4.1.1"
_SHA384 = bytes.fromhex("0609608648016503040202")


class Issuer(Protocol):
    """The vendor, as a device needs it."""

    root: Authority

    def golden(self, chip: Chip) -> tuple[bytes, ...]:
        """What every device of a chip measures."""

    def intermediate(
        self, common_name: str, issuer: Authority, overrides: Mapping[str, Any]
    ) -> Authority:
        """An intermediate CA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateForm:
    """What can be set wrong in a device's certificates.

    ``leaf``, ``brom``, ``provisioner`` and ``identity`` are arguments of
    :meth:`~teeverify.simulator.authority.Authority.issue`; ``root`` is another root; ``fwids`` and
    ``fwid_extension`` replace the firmware identity of the leaf (or its whole extension);
    ``chain`` replaces the PEM bundle.
    """

    leaf: Mapping[str, Any] = field(default_factory=dict)
    brom: Mapping[str, Any] = field(default_factory=dict)
    provisioner: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    root: Authority | None = None
    san: str | None = None
    san_extension: bytes | None = None
    fwids: Sequence[bytes] | None = None
    fwid_extension: bytes | None = None
    chain: bytes | None = None


class SimulatedDevice:
    """One fake GPU or NVSwitch with keys and measurements of its own.

    Args:
        vendor: Who certifies it.
        chip: Which chip it is.
        index: Which of these chips it is; the same index is the same device.
    """

    def __init__(self, vendor: Issuer, chip: Chip, index: int) -> None:
        self.vendor = vendor
        self.chip = chip
        self.index = index
        self.model = MODELS[chip]
        self.fwid = secrets.token_bytes(48)
        self.measurements = vendor.golden(chip)
        self.authorities = self.certify(CertificateForm())

    @property
    def leaf(self) -> Authority:
        """The attestation key and its certificate."""
        return self.authorities[0]

    @property
    def ueid(self) -> str:
        """The serial number of the leaf, in decimal."""
        return str(self.leaf.certificate.serial_number)

    @property
    def pdi(self) -> bytes:
        """The device's identifier: the end of its certificate's serial number."""
        serial = self.authorities[1].certificate.serial_number
        return (serial % (1 << 64)).to_bytes(8, "big")

    @property
    def rim_ids(self) -> tuple[str, ...]:
        """The ids of the manifests of its driver and VBIOS, or of its BIOS."""
        opaque = self.model.opaque
        if self.model.engine == "FSP":
            return ("NV_SWITCH_BIOS_5612_0002_890_9610550001",)
        chip = opaque.get(35, b"GB100").rstrip(b"\0").decode()
        driver = "NV_GPU_DRIVER_GH100" if self.chip == "GH100" else f"NV_GPU_CC_DRIVER_{chip}"
        board = "_".join(opaque[kind].rstrip(b"\0").decode() for kind in (17, 18, 15))
        return (
            f"{driver}_{opaque[3].rstrip(bytes(1)).decode()}",
            f"NV_GPU_VBIOS_{board}_{self.vbios.replace('.', '')}",
        )

    @property
    def vbios(self) -> str:
        """Version of the VBIOS, or BIOS, as its manifest names it."""
        raw = self.model.opaque[6]
        if self.model.engine == "FSP":
            return raw.decode()
        return ".".join(f"{raw[place]:02X}" for place in (3, 2, 1, 0, 4))

    def evidence(self, nonce: bytes | str, /, **overrides: Any) -> dict[str, Any]:  # noqa: ANN401
        """Make evidence as NVIDIA's tools write it.

        Args:
            nonce: The requester's 32 bytes, or their hex.
            **overrides: Fields of :class:`ReportForm`, fields of the certificates (``leaf``,
                ``san``, ``fwids``...), or members of the entry itself (``arch``, ``evidence``...);
                ``None`` leaves such a member out.

        Raises:
            ConfigurationError: An override that does not exist.
        """
        entry = {"arch": self.model.arch, "certificate": "", "evidence": ""}
        report = {k: overrides.pop(k) for k in _names(ReportForm) & overrides.keys()}
        chain = {k: overrides.pop(k) for k in _names(CertificateForm) & overrides.keys()}
        unknown = overrides.keys() - entry.keys() - {"nonce", "driver_version", "vbios_version"}
        if unknown:
            raise ConfigurationError("no such override", id="usage.simulator", got=str(unknown))
        raw_nonce = bytes.fromhex(nonce) if isinstance(nonce, str) else nonce
        form = CertificateForm(**chain)
        raw = ReportForm(**report).build(self._content(), raw_nonce)
        pem = self.pem(form) if form.chain is None else form.chain
        entry["evidence"] = base64.b64encode(raw).decode("ascii")
        entry["certificate"] = base64.b64encode(pem).decode("ascii")
        return {k: v for k, v in (entry | overrides).items() if v is not None}

    def _content(self) -> ReportContent:
        opaque = dict(self.model.opaque)
        if self.model.engine == "GSP":
            opaque[20] = self.fwid
        return ReportContent(measurements=self.measurements, opaque=opaque, key=self.leaf.key)

    def pem(self, form: CertificateForm | None = None) -> bytes:
        """The five certificates, leaf first."""
        changed = form is not None and form != CertificateForm()
        authorities = self.certify(form) if form and changed else self.authorities
        return b"".join(authority.pem for authority in authorities)

    def certify(self, form: CertificateForm) -> tuple[Authority, ...]:
        """Issue the chain; the device keeps its own keys."""
        root = form.root or self.vendor.root
        identity = self.vendor.intermediate(self.model.identity, root, form.identity)
        provisioner = self.vendor.intermediate(self.model.provisioner, identity, form.provisioner)
        keys = self.__dict__.get("authorities")
        brom = provisioner.issue(
            **{
                "common_name": f"{self.chip} A01 {self.model.engine} BROM",
                "ca": True,
                "key_usage": ("key_cert_sign",),
                "serial": int.from_bytes(b"\x41" + secrets.token_bytes(8), "big"),
                "key": keys[1].key if keys else None,
                **DATES,
                **form.brom,
            }
        )
        leaf = brom.issue(
            **{
                "common_name": f"{self.chip} A01 {self.model.engine} FMC LF",
                "ca": None,
                "serial": keys[0].certificate.serial_number if keys else None,
                "key": keys[0].key if keys else None,
                "extensions": self._leaf_extensions(form, brom),
                **DATES,
                **form.leaf,
            }
        )
        return (leaf, brom, provisioner, identity, root)

    def _leaf_extensions(
        self, form: CertificateForm, brom: Authority
    ) -> list[tuple[str, bytes, bool]]:
        san = form.san_extension
        if san is None:
            name = form.san or f"NVIDIA:{self.chip}:{48 << 56 | self.index:016X}"
            san = x509.SubjectAlternativeName(
                [x509.OtherName(x509.ObjectIdentifier(_DEVICE_INFO), element(0x0C, name.encode()))]
            ).public_bytes()
        oid, extension = self._fwid_extension(form.fwids or (self.fwid, bytes(48)), brom)
        if form.fwid_extension is not None:
            extension = form.fwid_extension
        found = [("2.5.29.17", san, False), (oid, extension, False)]
        return [item for item in found if item[1] is not ABSENT]

    def _fwid_extension(self, fwids: Iterable[bytes], brom: Authority) -> tuple[str, bytes]:
        entries = [sequence(_SHA384, octets(fwid)) for fwid in fwids]
        if self.chip in ("GH100", "LS_10"):
            spki = brom.certificate.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            )
            return _COMPOSITE_ID, sequence(integer(1), spki, entries[0])
        return _TCB_INFO, sequence(
            element(0x80, b"NVIDIA"),
            element(0x81, f"{self.chip} A01 GSP".encode()),
            bytes.fromhex("82023031830101840100850100"),
            element(0xA6, *entries),
            bytes.fromhex("870500800000018801c0890100"),
        )


def _names(form: type) -> set[str]:
    return {item.name for item in dataclasses.fields(form)}
