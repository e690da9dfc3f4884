"""The certificates of chips (VCEK) and clouds (VLEK), and the names of the CAs above them.

AMD document 57230, "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface". They are
read here by hand: AMD gives all of them the serial number 0, which RFC 5280 forbids and which
certificate libraries announce to refuse.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec

from teeverify.clock import UTC
from teeverify.crypto.der import (
    BOOLEAN,
    CONTEXT_0,
    GENERALIZED_TIME,
    INTEGER,
    OCTET_STRING,
    OID,
    SEQUENCE,
    SET,
    UTC_TIME,
    DerReader,
)
from teeverify.crypto.signed import (
    PSS_ALGORITHMS,
    Signed,
    load_issuer_key,
    parse_signed,
)
from teeverify.errors import MalformedEvidence
from teeverify.snp.product import Product, TcbVersion
from teeverify.snp.report import Signer

__all__ = ["Leaf", "authority_names", "common_name", "parse_leaf", "product_of_authority"]

CHECK = "snp.leaf"
_MAX_BYTES = 8 * 1024
_VERSION_3 = 2
_CONTEXT_3 = 0xA3
_IA5_STRING = 0x16
_TEXTS: Mapping[int, str] = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii"}
_COMMON_NAME = bytes.fromhex("550403")
_AMD = bytes.fromhex("2b060104019c78")  # 1.3.6.1.4.1.3704
_ARC = _AMD + b"\x01"
_STRUCT_VERSION, _PRODUCT_NAME, _HWID, _CSP_ID = (_ARC + bytes([n]) for n in (1, 2, 4, 5))
_SPL = _ARC + b"\x03"
# Last arc of each component; those without a name must be zero.
_CLASSIC: Mapping[int, str] = {
    1: "bootloader", 2: "tee", 3: "snp", 4: "", 5: "", 6: "", 7: "", 8: "microcode",
}  # fmt: skip
_TURIN: Mapping[int, str] = {
    1: "bootloader", 2: "tee", 3: "snp", 5: "", 6: "", 7: "", 8: "microcode", 9: "fmc",
}  # fmt: skip
_LAYOUTS: Mapping[Product, tuple[int, Mapping[int, str]]] = {
    Product.MILAN: (0, _CLASSIC),
    Product.GENOA: (0, _CLASSIC),
    Product.TURIN: (1, _TURIN),
}
# A product's name may have a stepping or more behind it (Milan-B0), or none (Genoa); Bergamo and
# Siena are certified as Genoa. What is not here may be a newer name: AMD's signature says of what.
_PRODUCT_NAMES: Mapping[str, Product | None] = {
    "Naples": None,
    "Rome": None,
    "Milan": Product.MILAN,
    "Genoa": Product.GENOA,
    "Bergamo": Product.GENOA,
    "Siena": Product.GENOA,
    "Turin": Product.TURIN,
    "Venice": None,
}
_PRODUCT_NAME_FORM = re.compile(r"([A-Za-z]{1,24})(?:[ -][A-Za-z0-9]{1,24})*")
_LEAF_NAMES = {"SEV-VCEK": Signer.VCEK, "SEV-VLEK": Signer.VLEK}
_UTC_TIME = re.compile(rb"(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")
_GENERALIZED = re.compile(rb"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z")
_LAST_SPL = 0xFF


class AuthorityNames(NamedTuple):
    """Common names of the CAs above a report's key."""

    root: str
    intermediate: str


def authority_names(product: Product, signer: Signer) -> AuthorityNames:
    """How AMD names the root and the intermediate of a product, by kind of key."""
    kind = "VLEK-" if signer is Signer.VLEK else ""
    return AuthorityNames(f"ARK-{product}", f"SEV-{kind}{product}")


def product_of_authority(name: str) -> Product | None:
    """The product of a root or an intermediate, by its common name."""
    for product in Product:
        if name in (f"ARK-{product}", f"SEV-{product}", f"SEV-VLEK-{product}"):
            return product
    return None


@dataclass(frozen=True)
class Leaf:
    """The certificate of a VCEK or a VLEK, read strictly and not verified.

    Attributes:
        der: The certificate as sent.
        signer: Which kind of key it is, by its subject.
        product: The product, by its issuer.
        issuer: DER of the issuer's name.
        spki: DER of the SubjectPublicKeyInfo.
        not_before: First moment of validity.
        not_after: Last moment of validity.
        product_name: The product as AMD writes it, perhaps with a stepping.
        tcb: The firmware versions for which AMD certified the key.
        hwid: VCEK: names the chip.
        csp_id: VLEK: names the cloud, for example ``CN=cc-us-east-2.amazonaws.com``.
        signed: The signed bytes, the algorithm and the signature.
    """

    der: bytes
    signer: Signer = field(compare=False)
    product: Product = field(compare=False)
    issuer: bytes = field(compare=False, repr=False)
    spki: bytes = field(compare=False, repr=False)
    not_before: datetime = field(compare=False)
    not_after: datetime = field(compare=False)
    product_name: str = field(compare=False)
    tcb: TcbVersion = field(compare=False)
    hwid: bytes | None = field(compare=False)
    csp_id: str | None = field(compare=False)
    signed: Signed = field(compare=False, repr=False)

    @property
    def sha256(self) -> str:
        """SHA-256 of the certificate, in hex. AMD issues many for one key: no identity."""
        return hashlib.sha256(self.der).hexdigest()

    @cached_property
    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The key.

        Raises:
            MalformedEvidence: It is not on P-384.
        """
        key = load_issuer_key(self.spki, id=CHECK, what=str(self.signer))
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
            raise MalformedEvidence(
                f"{self.signer}: the key is not on P-384", id=CHECK, field=str(self.signer)
            )
        return key


def parse_leaf(der: bytes) -> Leaf:
    """Read the certificate of a VCEK or VLEK; exactly one, nothing after it.

    Raises:
        MalformedEvidence: Not DER, of another form than AMD's, an extension twice, missing or
            unknown, or a version that is negative or larger than a byte.
    """
    signed = parse_signed(der, id=CHECK, what="leaf", max_bytes=_MAX_BYTES)
    tbs = DerReader(signed.tbs, name="leaf", id=CHECK).nested(SEQUENCE, "tbs")
    version = tbs.optional(CONTEXT_0, "version")
    if version is None or version.integer("version") != _VERSION_3:
        raise tbs.error("not an X.509 version 3 certificate", "version")
    version.finish()
    # Zero in every one that AMD issued: it says nothing, so that it is 0 is no reason to refuse.
    if tbs.integer("serial") < 0:
        raise tbs.error("a negative serial number", "serial")
    if tbs.encoded(SEQUENCE, "algorithm") != signed.algorithm:
        raise tbs.error("two different signature algorithms", "algorithm")
    if signed.algorithm not in PSS_ALGORITHMS:
        raise tbs.error(
            "another signature algorithm than AMD's", "algorithm", got=signed.algorithm.hex()[:80]
        )
    issuer = tbs.encoded(SEQUENCE, "issuer")
    validity = tbs.nested(SEQUENCE, "validity")
    dates = _time(validity, "not_before"), _time(validity, "not_after")
    validity.finish()
    subject = tbs.encoded(SEQUENCE, "subject")
    spki = tbs.encoded(SEQUENCE, "spki")
    wrapper = tbs.nested(_CONTEXT_3, "extensions")
    extensions = _extensions(wrapper.nested(SEQUENCE, "extensions"))
    wrapper.finish()
    tbs.finish()
    signer, product = _names(subject, issuer, tbs)
    read = _Extensions(extensions, product, signer)
    return Leaf(
        der, signer, product, issuer, spki, *dates, read.product_name(), read.tcb(), read.hwid(),
        read.csp_id(), signed,
    )  # fmt: skip


def _names(subject: bytes, issuer: bytes, tbs: DerReader) -> tuple[Signer, Product]:
    """The kind of key and the product, which its two names give."""
    name, above = (common_name(part, id=CHECK) for part in (subject, issuer))
    signer = _LEAF_NAMES.get(name)
    if signer is None:
        raise tbs.error("not a VCEK or VLEK", "subject", got=ascii(name[:80]))
    for product in Product:
        if above == authority_names(product, signer).intermediate:
            return signer, product
    raise tbs.error(f"no CA of AMD's that issues a {signer}", "issuer", got=ascii(above[:80]))


def common_name(name: bytes, *, id: str) -> str:
    """The one common name of a distinguished name; empty where there is none.

    Raises:
        MalformedEvidence: Not a name, or more than one common name.
    """
    relative_names = DerReader(name, name="name", id=id).nested(SEQUENCE, "name")
    found = []
    while relative_names.remaining:
        attributes = relative_names.nested(SET, "rdn")
        while attributes.remaining:
            attribute = attributes.nested(SEQUENCE, "attribute")
            kind = attribute.value(OID, "type")
            tag, value = attribute.any("value")
            if kind == _COMMON_NAME:
                found.append(value.decode(_TEXTS.get(tag, "ascii"), "replace"))
    if len(found) > 1:
        raise relative_names.error("more than one common name", "name")
    return found[0] if found else ""


def _time(validity: DerReader, name: str) -> datetime:
    """A time in one of the two forms of RFC 5280 section 4.1.2.5."""
    tag, text = validity.any(name)
    forms = {UTC_TIME: _UTC_TIME, GENERALIZED_TIME: _GENERALIZED}
    match = forms[tag].fullmatch(text) if tag in forms else None
    if match is None:
        raise validity.error("not a time", name)
    year, *rest = (int(part) for part in match.groups())
    if tag == UTC_TIME:
        year += 1900 if year >= 50 else 2000  # noqa: PLR2004 -- RFC 5280 section 4.1.2.5.1
    try:
        return datetime(year, *rest, tzinfo=UTC)  # type: ignore[arg-type,misc]
    except ValueError:
        raise validity.error("not a time", name) from None


def _extensions(reader: DerReader) -> dict[bytes, bytes]:
    """The values of all extensions by OID (RFC 5280 section 4.1)."""
    found: dict[bytes, bytes] = {}
    while reader.remaining:
        extension = reader.nested(SEQUENCE, "extension")
        oid = extension.value(OID, "oid")
        if extension.next_tag() == BOOLEAN and extension.boolean("critical"):
            raise extension.error("a critical extension, where AMD has none", "oid", got=oid.hex())
        if oid in found:
            raise extension.error("an extension twice", "oid", got=oid.hex())
        found[oid] = extension.value(OCTET_STRING, "value")
        extension.finish()
    return found


class _Extensions:
    """AMD's extensions, whose meaning depends on product and kind of key.

    Args:
        values: All extensions by OID.
        product: The product, by the issuer's name.
        signer: The kind of key, by the subject's name.
    """

    def __init__(self, values: Mapping[bytes, bytes], product: Product, signer: Signer) -> None:
        self._values = values
        self._product = product
        self._signer = signer
        struct_version, self._spls = _LAYOUTS[product]
        known = {_STRUCT_VERSION, _PRODUCT_NAME, self._identity}
        known |= {_SPL + bytes([number]) for number in self._spls}
        unknown = [oid for oid in values if oid.startswith(_ARC) and oid not in known]
        missing = [oid for oid in known if oid not in values]
        if unknown or missing:
            raise self._error(
                "not the extensions that AMD gives to this product",
                got=f"unknown {[oid.hex() for oid in unknown]}, "
                f"missing {[oid.hex() for oid in missing]}",
            )
        if self._integer(_STRUCT_VERSION, "structVersion") != struct_version:
            raise self._error("a structVersion that is not the product's")

    @property
    def _identity(self) -> bytes:
        """A VCEK must name its chip, a VLEK its cloud, and neither the other's."""
        return _HWID if self._signer is Signer.VCEK else _CSP_ID

    def product_name(self) -> str:
        name = self._text(_PRODUCT_NAME, "productName")
        form = _PRODUCT_NAME_FORM.fullmatch(name)
        if form is None or _PRODUCT_NAMES.get(form[1], self._product) is not self._product:
            raise self._error("a productName of another product", got=ascii(name[:40]))
        return name

    def tcb(self) -> TcbVersion:
        values: dict[str, int] = {}
        for number, name in self._spls.items():
            value = self._integer(_SPL + bytes([number]), f"spl{number}")
            if name:
                values[name] = value
            elif value:
                raise self._error(f"the reserved component {number} is not zero", got=str(value))
        return TcbVersion(product=self._product, **values)

    def hwid(self) -> bytes | None:
        """Raw bytes, or an OCTET STRING of them: told apart by length, as any byte may be first."""
        if self._signer is not Signer.VCEK:
            return None
        raw, size = self._values[_HWID], self._product.chip_id_bytes
        if len(raw) == size:
            return raw
        reader = DerReader(raw, name="leaf.hwid", id=CHECK)
        value = reader.value(OCTET_STRING, "hwid")
        reader.finish()
        if len(value) != size:
            raise self._error("a HWID of another length", got=str(len(value)))
        return value

    def csp_id(self) -> str | None:
        return self._text(_CSP_ID, "cspId") if self._signer is Signer.VLEK else None

    def _integer(self, oid: bytes, name: str) -> int:
        reader = DerReader(self._values[oid], name=f"leaf.{name}", id=CHECK)
        value = reader.integer(name, tag=INTEGER)
        reader.finish()
        if not 0 <= value <= _LAST_SPL:
            raise self._error(f"{name} is no byte", got=str(value)[:20])
        return value

    def _text(self, oid: bytes, name: str) -> str:
        reader = DerReader(self._values[oid], name=f"leaf.{name}", id=CHECK)
        value = reader.value(_IA5_STRING, name)
        reader.finish()
        if not value.isascii() or not value.decode("ascii").isprintable() or not value:
            raise self._error(f"{name} is not plain text")
        return value.decode("ascii")

    def _error(self, problem: str, got: str | None = None) -> MalformedEvidence:
        what = f"{self._signer} of {self._product}"
        return MalformedEvidence(f"{what}: {problem}", id=CHECK, field=what, got=got)
