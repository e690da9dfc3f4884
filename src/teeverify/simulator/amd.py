"""A fake AMD: root, CAs, a chip and a cloud that sign reports, and what its key service answers.

What it makes has the form of the real thing and verifies under :meth:`Amd.roots_pem`, which is
random in every run. Each field can be overridden alone, so that a test breaks exactly one thing::

    amd = Amd(at=moment, product="Turin")
    raw = amd.report(report_data=digest)
    claims = snp.verify_report(raw, amd.endorsements(), at=moment,
                               roots=UnsafeTestRoots([amd.roots_pem()]))
"""

from __future__ import annotations

import base64
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from teeverify.simulator import amd_certificates as made
from teeverify.simulator.amd_reports import FIELDS, pack_report
from teeverify.snp.endorsements import Endorsements
from teeverify.snp.product import Product, TcbVersion

__all__ = ["FIELDS", "Amd", "AmdKeys", "certificate_table"]

Overrides: TypeAlias = Mapping[str, Any]
_NONE: Overrides = {}
_YEAR = timedelta(days=365)
_MONTH = timedelta(days=30)
_SERIALS = {"Milan": 0x010000, "Genoa": 0x020000, "Turin": 0x030000}
_CPUIDS = {"Milan": (0x19, 0x01, 0x01), "Genoa": (0x19, 0x11, 0x01), "Turin": (0x1A, 0x02, 0x01)}
_TCBS: Mapping[str, Mapping[str, int]] = {
    "Milan": {"bootloader": 4, "tee": 0, "snp": 29, "microcode": 222},
    "Genoa": {"bootloader": 10, "tee": 0, "snp": 28, "microcode": 86},
    "Turin": {"fmc": 1, "bootloader": 3, "tee": 2, "snp": 5, "microcode": 97},
}
CSP_ID = "CN=cc-simulated.example.com"
_GUIDS = {
    "vcek": "63da758d-e664-4564-adc5-f4b93be8accd",
    "vlek": "a8074bc2-a25a-483e-aae6-39c045a0b8a1",
    "ask": "4ab7b379-bbac-4fe4-a02f-05aef327c782",
    "ark": "c0b406a4-a803-4952-9743-3fb6014cd0ae",
    "crl": "92f81bc3-5811-4d3d-97ff-d19f88dc67ea",
    "firmware": "9f4116cd-c503-4f5a-8f6f-fb68882f4ce2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AmdKeys:
    """RSA keys of the CAs; making them takes seconds, so tests share them between products."""

    ark: rsa.RSAPrivateKey
    ask: rsa.RSAPrivateKey
    asvk: rsa.RSAPrivateKey

    @classmethod
    def new(cls, bits: int = 4096) -> AmdKeys:
        """Random keys."""
        ark, ask, asvk = (rsa.generate_private_key(65537, bits) for _ in range(3))
        return cls(ark=ark, ask=ask, asvk=asvk)


class Amd:
    """AMD with one chip and one cloud, in software.

    Args:
        at: When the endorsements are asked for.
        product: ``Milan``, ``Genoa`` or ``Turin``.
        keys: Keys of the CAs; random ones by default.
        tcb: Overrides of the chip's firmware versions.
        certificates: Overrides by role (``ark``, ``ask``, ``asvk``, ``vcek``, ``vlek``), each as
            the functions of :mod:`teeverify.simulator.amd_certificates` take them.
    """

    def __init__(
        self,
        *,
        at: datetime,
        product: str = "Milan",
        keys: AmdKeys | None = None,
        tcb: Mapping[str, int] | None = None,
        certificates: Mapping[str, Overrides] = _NONE,
    ) -> None:
        self.at = at
        self.product = Product(product)
        self.keys = keys or AmdKeys.new()
        self.tcb = {**_TCBS[product], **(tcb or {})}
        self.hwid = secrets.token_bytes(self.product.chip_id_bytes)
        self.vcek_key = ec.generate_private_key(ec.SECP384R1())
        self.vlek_key = ec.generate_private_key(ec.SECP384R1())
        self._certificates = certificates
        serial = _SERIALS[product]
        self.ark = self._authority("ark", f"ARK-{product}", serial, self.keys.ark)
        # AMD revoked its first ASK of Genoa, so the one in use is the second.
        second = 2 if self.product is Product.GENOA else 1
        self.ask = self._authority("ask", f"SEV-{product}", serial + second, self.keys.ask)
        self.asvk = self._authority("asvk", f"SEV-VLEK-{product}", serial + 0x101, self.keys.asvk)
        self.vcek = self.leaf("vcek")
        self.vlek = self.leaf("vlek")

    # --- certificates ------------------------------------------------------------------------

    def _authority(self, role: str, name: str, serial: int, key: rsa.RSAPrivateKey) -> bytes:
        is_root = role == "ark"
        return made.authority(**{
            "common_name": name,
            "issuer_name": f"ARK-{self.product}",
            "key": key,
            "signer": self.keys.ark,
            "serial": serial,
            "not_before": self.at - 5 * _YEAR,
            "not_after": self.at + 20 * _YEAR,
            "path_length": None if is_root else 0,
            "key_usage": ("key_cert_sign", "crl_sign") if is_root else ("key_cert_sign",),
            **self._certificates.get(role, _NONE),
        })  # fmt: skip

    def leaf(self, role: str, **overrides: Any) -> bytes:  # noqa: ANN401 -- one override a field
        """Issue the certificate of the chip (``vcek``) or of the cloud (``vlek``).

        Args:
            role: Which of the two.
            overrides: As :func:`~teeverify.simulator.amd_certificates.leaf` and
                :func:`~teeverify.simulator.amd_certificates.leaf_extensions` take them.
        """
        chip = role == "vcek"
        turin = self.product is Product.TURIN
        fields = {
            "layout": "turin" if turin else "classic",
            "struct_version": int(turin),
            "product_name": f"{self.product}-B0" if chip and not turin else str(self.product),
            "tcb": self.tcb,
            "hwid": self.hwid if chip else None,
            "csp_id": None if chip else CSP_ID,
            "wrap_hwid": False,
            "common_name": "SEV-VCEK" if chip else "SEV-VLEK",
            "issuer_name": f"SEV-{self.product}" if chip else f"SEV-VLEK-{self.product}",
            "public_key": (self.vcek_key if chip else self.vlek_key).public_key(),
            "signer": self.keys.ask if chip else self.keys.asvk,
            "not_before": self.at - timedelta(days=1),
            "not_after": self.at + (7 if chip else 1) * _YEAR,
            **self._certificates.get(role, _NONE),
            **overrides,
        }
        names = (
            "layout", "struct_version", "product_name", "tcb", "hwid", "csp_id", "wrap_hwid",
        )  # fmt: skip
        described = {name: fields.pop(name) for name in names}
        if "extensions" not in fields:
            fields["extensions"] = made.leaf_extensions(**described)
        return made.leaf(**fields)

    def crl(self, **overrides: Any) -> bytes:  # noqa: ANN401 -- one override a field
        """The root's revocation list; see ``revocation_list`` for the overrides."""
        return made.revocation_list(**{
            "issuer_name": f"ARK-{self.product}",
            "signer": self.keys.ark,
            "this_update": self.at - timedelta(days=1),
            "next_update": self.at + _MONTH,
            **overrides,
        })  # fmt: skip

    def roots_pem(self) -> bytes:
        """The root certificate, for :class:`~teeverify.roots.UnsafeTestRoots`."""
        return pem(self.ark)

    def chain_pem(self, role: str = "vcek") -> bytes:
        """The CAs above a kind of key, intermediate first, as AMD's key service gives them."""
        return pem(self.ask if role == "vcek" else self.asvk) + pem(self.ark)

    # --- reports -----------------------------------------------------------------------------

    def report(
        self,
        *,
        version: int = 3,
        signer: str = "VCEK",
        key: ec.EllipticCurvePrivateKey | None = None,
        patches: Mapping[int, bytes] = _NONE,  # type: ignore[assignment]
        signature: bytes | None = None,
        **fields: Any,  # noqa: ANN401 -- one override a field
    ) -> bytes:
        """Make a signed report.

        Args:
            version: Version of the report.
            signer: ``VCEK`` or ``VLEK``.
            key: Sign with this key instead of the signer's own.
            patches: Bytes by offset, put in before signing.
            signature: The signature's field (512 bytes) instead of a signature.
            fields: Overrides by the names of :data:`FIELDS`; a TCB may be a mapping.
        """
        cloud = signer == "VLEK"
        values: dict[str, Any] = {
            "version": version,
            "policy": 0x30000,
            "signature_algo": 1,
            "platform_info": 0x25,
            "key_info": 4 if cloud else 0,
            "report_id": secrets.token_bytes(32),
            "report_id_ma": b"\xff" * 32,
            "measurement": secrets.token_bytes(48),
            "chip_id": b"" if cloud else self.hwid,
            "current_version": bytes([41, 55, 1]),
            "committed_version": bytes([41, 55, 1]),
            **{name: {} for name in ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb")},
        }
        if version >= 3:  # noqa: PLR2004 -- the first with CPUID
            values["cpuid"] = bytes(_CPUIDS[str(self.product)])
        values |= fields
        for name, value in values.items():
            if isinstance(value, Mapping):
                values[name] = self.tcb_bytes(**value)
        body = pack_report(values, patches)
        chosen = key or (self.vlek_key if cloud else self.vcek_key)
        return body + (sign_report(chosen, body) if signature is None else signature)

    def tcb_bytes(self, **components: int) -> bytes:
        """The chip's TCB_VERSION, with overrides by component."""
        return TcbVersion(product=self.product, **{**self.tcb, **components}).to_bytes()

    # --- what verifies them ------------------------------------------------------------------

    def files(self) -> dict[str, bytes]:
        """All endorsements as files by name."""
        return {
            "vcek.der": self.vcek,
            "vlek.der": self.vlek,
            "vcek_chain.pem": self.chain_pem("vcek"),
            "vlek_chain.pem": self.chain_pem("vlek"),
            "ark.crl": self.crl(),
        }

    def endorsements(self, **files: bytes | None) -> Endorsements:
        """All endorsements, loaded; a keyword replaces a file's bytes or, with None, drops it.

        Args:
            files: By name with ``_`` for the dot, such as ``vcek_der``.
        """
        own = {name.replace(".", "_"): data for name, data in self.files().items()} | files
        return Endorsements.union(
            *(Endorsements.load(data) for data in own.values() if data is not None)
        )

    def write(self, folder: Path, **files: bytes | None) -> Path:
        """Write the same into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in self.files().items():
            chosen = files.get(name.replace(".", "_"), data)
            if chosen is not None:
                (folder / name).write_bytes(chosen)
        return folder

    def kds(self, path: str) -> bytes | None:
        """What the key service answers to the path of a URL; ``None`` where it knows nothing."""
        product = str(self.product)
        answers = {
            f"/vcek/v1/{product}/cert_chain": self.chain_pem("vcek"),
            f"/vlek/v1/{product}/cert_chain": self.chain_pem("vlek"),
            f"/vcek/v1/{product}/crl": self.crl(),
            f"/vlek/v1/{product}/crl": self.crl(),
            f"/vcek/v1/{product}/{self.hwid.hex()}": self.vcek,
        }
        return answers.get(path.partition("?")[0])


def sign_report(key: ec.EllipticCurvePrivateKey, body: bytes) -> bytes:
    """The signature's field of 512 bytes: r and s little-endian, each in 72 bytes."""
    r, s = decode_dss_signature(key.sign(body, ec.ECDSA(hashes.SHA384())))
    return (r.to_bytes(72, "little") + s.to_bytes(72, "little")).ljust(512, b"\0")


def pem(der: bytes) -> bytes:
    """A certificate in PEM."""
    text = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"


def certificate_table(entries: Mapping[str, bytes], *, mixed_endian: bool = False) -> bytes:
    """The table that a host gives its guest; keys are ``vcek``, ``ask``... or a GUID."""
    header, body = b"", b""
    start = 24 * (len(entries) + 1)
    for name, data in entries.items():
        guid = uuid.UUID(_GUIDS.get(name, name))
        header += guid.bytes_le if mixed_endian else guid.bytes
        header += (start + len(body)).to_bytes(4, "little") + len(data).to_bytes(4, "little")
        body += data
    return header + bytes(24) + body
