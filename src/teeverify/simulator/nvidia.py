"""A fake NVIDIA: device certificates, devices that sign reports, manifests, OCSP, and an NRAS.

What it makes has the form of the real thing, signed under random roots. Each field of a report and
of a certificate can be overridden alone, so that a test breaks exactly one thing.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.clock import UTC
from teeverify.errors import ConfigurationError
from teeverify.simulator.authority import Authority
from teeverify.simulator.nras import FakeNras
from teeverify.simulator.ocsp import ocsp_answers
from teeverify.simulator.rim import FakeRims, RimForm
from teeverify.simulator.spdm import ABSENT, ReportContent, ReportForm

__all__ = ["ABSENT", "Nvidia", "ReportForm", "SimulatedDevice"]

Chip: TypeAlias = Literal["GH100", "GB100", "GB20X", "LS_10"]
_NEVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
_BORN = datetime(2020, 10, 17, tzinfo=UTC)
_DEVICE_INFO = "1.3.6.1.4.1.412.274.1"  # DMTF DSP0274 1.1 table 33
_COMPOSITE_ID = "2.23.133.5.4.1"
_TCB_INFO = "2.23.133.5.4.1.1"
_SHA384 = bytes.fromhex("0609608648016503040202")
# Which measurements the real manifests demand (index 35 is the decoder that is switched off).
_DRIVER_INDICES = (7, *range(21, 41))
_VBIOS_INDICES = (*range(7), *range(8, 13))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """What differs from chip to chip."""

    arch: str
    engine: str
    provisioner: str
    identity: str
    blocks: int
    opaque: Mapping[int, bytes]


def _gpu_opaque(project: bytes, sku: bytes, chip_sku: bytes, vbios: str) -> dict[int, bytes]:
    """The opaque items that a GPU's report carries, in the order of the real ones."""
    return {
        6: bytes.fromhex(vbios) + bytes(3),
        14: bytes.fromhex("74298001"),
        15: chip_sku.ljust(4, b"\0"),
        16: b"0\0",
        17: project + b"\0",
        18: sku + b"\0",
        19: b"0\0",
        3: b"570.172.08\0",
        4: bytes.fromhex("8001000002000000"),
        12: bytes(256),
        13: bytes(4),
        11: b"\x55",
        21: b"\x55",
        34: b"\x01\x00",
        36: b"\x00\x00",
    }


_MODELS: Mapping[str, _Model] = {
    "GH100": _Model(
        arch="HOPPER",
        engine="GSP",
        provisioner="NVIDIA GH100 Provisioner ICA 1",
        identity="NVIDIA GH100 Identity",
        blocks=64,
        opaque=_gpu_opaque(b"G520", b"0280", b"895", "00cf009602"),
    ),
    "GB100": _Model(
        arch="BLACKWELL",
        engine="GSP",
        provisioner="NVIDIA GB100 Provisioner ICA 00000",
        identity="NVIDIA GB100 Identity",
        blocks=64,
        opaque=_gpu_opaque(b"G525", b"0220", b"886", "008800970f"),
    ),
    "GB20X": _Model(
        arch="BLACKWELL",
        engine="GSP",
        provisioner="NVIDIA GB202 Provisioner ICA 00000",
        identity="NVIDIA GB20X Identity",
        blocks=64,
        opaque=_gpu_opaque(b"G153", b"0210", b"895", "0081029801") | {35: b"GB202\0"},
    ),
    "LS_10": _Model(
        arch="LS10",
        engine="FSP",
        provisioner="NVIDIA LS_10 Provisioner ICA 1",
        identity="NVIDIA GH100 Identity",
        blocks=31,
        opaque={6: b"96.10.55.00.01", 12: bytes(104), 22: bytes(8), 25: b"\x01\x00"},
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _CertificateForm:
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

    def __init__(self, vendor: Nvidia, chip: Chip, index: int) -> None:
        self.vendor = vendor
        self.chip = chip
        self.index = index
        self.model = _MODELS[chip]
        self.fwid = secrets.token_bytes(48)
        self.measurements = vendor.golden(chip)
        self.authorities = self.certify(_CertificateForm())

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
        chain = {k: overrides.pop(k) for k in _names(_CertificateForm) & overrides.keys()}
        unknown = overrides.keys() - entry.keys() - {"nonce", "driver_version", "vbios_version"}
        if unknown:
            raise ConfigurationError("no such override", id="usage.simulator", got=str(unknown))
        raw_nonce = bytes.fromhex(nonce) if isinstance(nonce, str) else nonce
        form = _CertificateForm(**chain)
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

    def pem(self, form: _CertificateForm | None = None) -> bytes:
        """The five certificates, leaf first."""
        changed = form is not None and form != _CertificateForm()
        authorities = self.certify(form) if form and changed else self.authorities
        return b"".join(authority.pem for authority in authorities)

    def certify(self, form: _CertificateForm) -> tuple[Authority, ...]:
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
                **_DATES,
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
                **_DATES,
                **form.leaf,
            }
        )
        return (leaf, brom, provisioner, identity, root)

    def _leaf_extensions(
        self, form: _CertificateForm, brom: Authority
    ) -> list[tuple[str, bytes, bool]]:
        san = form.san_extension
        if san is None:
            name = form.san or f"NVIDIA:{self.chip}:{48 << 56 | self.index:016X}"
            san = x509.SubjectAlternativeName(
                [x509.OtherName(x509.ObjectIdentifier(_DEVICE_INFO), _tlv(0x0C, name.encode()))]
            ).public_bytes()
        oid, extension = self._fwid_extension(form.fwids or (self.fwid, bytes(48)), brom)
        if form.fwid_extension is not None:
            extension = form.fwid_extension
        found = [("2.5.29.17", san, False), (oid, extension, False)]
        return [item for item in found if item[1] is not ABSENT]

    def _fwid_extension(self, fwids: Iterable[bytes], brom: Authority) -> tuple[str, bytes]:
        entries = [_tlv(0x30, _SHA384 + _tlv(0x04, fwid)) for fwid in fwids]
        if self.chip in ("GH100", "LS_10"):
            spki = brom.certificate.public_key().public_bytes(
                Encoding.DER, PublicFormat.SubjectPublicKeyInfo
            )
            return _COMPOSITE_ID, _tlv(0x30, b"\x02\x01\x01" + spki + entries[0])
        body = (
            _tlv(0x80, b"NVIDIA")
            + _tlv(0x81, f"{self.chip} A01 GSP".encode())
            + bytes.fromhex("82023031830101840100850100")
            + _tlv(0xA6, b"".join(entries))
            + bytes.fromhex("870500800000018801c0890100")
        )
        return _TCB_INFO, _tlv(0x30, body)


class Nvidia:
    """A fake NVIDIA with random roots: a device identity CA and an attestation service."""

    def __init__(self) -> None:
        self.root = Authority.root(
            "Simulated NVIDIA Device Identity CA", curve="p384", not_before=_BORN, not_after=_NEVER
        )
        self.nras = FakeNras()
        self.rim_signers = FakeRims()
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

    def golden(self, chip: Chip) -> tuple[bytes, ...]:
        """What every device of a chip measures, if nobody changed its firmware."""
        if chip not in self._golden:
            blocks = _MODELS[chip].blocks
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
        return {
            name: self.rim_signers.build(RimForm(**{**common, **form, **overrides.get(part, {})}))
            for name, (part, form) in zip(device.rim_ids, forms.items(), strict=True)
        }

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
        answers = [one for path in paths for one in ocsp_answers(path, at, **overrides)]
        return answers + ocsp_answers(self.rim_signers.chain, at, **overrides)

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
        return json.dumps({"nonce": text, "evidence_list": entries, "arch": _MODELS[chip].arch})

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
        form = {"common_name": common_name, "ca": True, **_DATES, **overrides}
        made = issuer.issue(**form)
        if not overrides:
            self._intermediates[(common_name, issuer.der)] = made
        return made


_DATES: Mapping[str, datetime] = {"not_before": _BORN, "not_after": _NEVER}


def _names(form: type) -> set[str]:
    return {item.name for item in dataclasses.fields(form)}


def _tlv(tag: int, content: bytes) -> bytes:
    """One DER element of fewer than 65536 bytes."""
    size = len(content)
    if size < 0x80:  # noqa: PLR2004 -- X.690 section 8.1.3.4
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content
