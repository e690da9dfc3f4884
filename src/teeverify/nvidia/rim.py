"""Reference integrity manifests (RIMs): the golden values of a driver or VBIOS, signed by NVIDIA.

A manifest is a SWID tag (ISO/IEC 19770-2) with the TCG's attributes (Reference Integrity Manifest
Information Model 1.01) and an enveloped XML signature. Its values are read from the very tree that
was digested, and the key is that of the certificate whose path was verified.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from teeverify.clock import parse_time
from teeverify.crypto.certificates import Certificate, verify_path
from teeverify.crypto.xmldsig import DSIG, EnvelopedSignature, parse_enveloped, verify_enveloped
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.encoding.strict import decimal_int, hex_bytes
from teeverify.encoding.xml import XmlElement, parse_xml
from teeverify.endorsements.remembered import Dated, Remembering
from teeverify.errors import ChainInvalid, ConfigurationError, MalformedEvidence
from teeverify.nvidia.certificates import dated
from teeverify.roots import Roots, TrustAnchor
from teeverify.roots.anchors import RootsInput, RootsKind, as_roots

__all__ = ["GoldenValue", "RimClaims", "rim_signers", "verify_rim"]

FORM = "rim.form"
CHAIN = "rim.chain"
SIGNATURE = "rim.signature"
NVIDIA_ID = "5703"  # IANA private enterprise number
VALUE_BYTES = 48
_SWID = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_TCG = (
    "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-"
    "information-model/"
)
_SHA384 = "http://www.w3.org/2001/04/xmlenc#sha384"
_ACTIVE = {"True": True, "False": False}
_RESOURCE = {"type", "index", "active", "alternatives", "name", "size"}
_CHILDREN = [(_SWID, "Entity"), (_SWID, "Meta"), (_SWID, "Payload"), (DSIG, "Signature")]
_MAX_INDEX = 253  # SPDM counts blocks from 1 to 254
_MAX_ALTERNATIVES = 64
_CERTIFICATES = 4
_TEXT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SEAL = Seal("nvidia.verify_rim")


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenValue:
    """What a manifest says about one measurement.

    Attributes:
        index: The manifest's index: that of the measurement block minus one.
        active: Whether a device must have one of the values.
        alternatives: The values.
        name: NVIDIA's name of it.
    """

    index: int
    active: bool
    alternatives: tuple[bytes, ...]
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RimClaims(Sealed):
    """A manifest that NVIDIA signed.

    Attributes:
        product: The chip, for example ``GH100``.
        version: Version of the driver or VBIOS.
        edition: ``GPU`` or ``SWITCH``.
        revision: NVIDIA's revision of the manifest.
        values: All golden values.
        signers: The path of the signing certificate, leaf first.
        sha256: SHA-256 of the file, in hex.
        expires_at: When the first certificate of the path expires, or expired.
        signer_expired: Whether that is past, and was let pass on demand.
        roots_kind: Which kind of roots the path leads to.
    """

    product: str
    version: str
    edition: str
    revision: str
    values: tuple[GoldenValue, ...]
    signers: tuple[Certificate, ...]
    sha256: str
    expires_at: datetime
    signer_expired: bool
    roots_kind: RootsKind
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Only :func:`verify_rim` makes it."""
        self._check_seal(seal, _SEAL)

    @property
    def active(self) -> tuple[GoldenValue, ...]:
        """The values that a device must have."""
        return tuple(value for value in self.values if value.active)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What the tree of a manifest says."""

    product: str
    version: str
    edition: str
    revision: str
    values: tuple[GoldenValue, ...]


def verify_rim(
    raw: bytes,
    *,
    at: datetime | str,
    roots: RootsInput = None,
    memory: Remembering | None = None,
    allow_expired_signer: bool = False,
    name: str = "RIM",
) -> RimClaims:
    """Verify one manifest.

    Args:
        raw: The XML file, as received.
        at: The time at which its signer's certificates must be valid.
        roots: Other roots than the embedded ones.
        memory: What was verified before; this is added.
        allow_expired_signer: Let a manifest pass whose signer's certificates were valid together
            once and have expired; the claims then say so.
        name: How errors call it.

    Raises:
        MalformedEvidence: Not a manifest of the one form that is accepted.
        ChainInvalid: The signer's certificates lead elsewhere, or are not of a signing key.
        SignatureInvalid: It was changed, or signed by another key than the certified one.
        EndorsementUnavailable: A certificate is outside its dates.
        ConfigurationError: A wrong argument.
    """
    if not isinstance(raw, bytes):
        raise ConfigurationError("a manifest is bytes", id="usage.endorsements")
    moment = parse_time(at)
    trusted = as_roots(roots)
    kept = Remembering() if memory is None else memory

    def verify() -> Dated[tuple[_Content, tuple[Certificate, ...]]]:
        # Where an expired signer is let pass, the last moment at which all were valid counts.
        found = _verify(raw, trusted, moment, name, allow_expired_signer=allow_expired_signer)
        return dated(found, found[1])

    content, signers = kept.remember(
        ("nvidia.rim", raw, trusted.nvidia_rim, allow_expired_signer), moment, verify
    ).value
    expires_at = min(certificate.not_after for certificate in signers)
    return RimClaims(
        product=content.product,
        version=content.version,
        edition=content.edition,
        revision=content.revision,
        values=content.values,
        signers=signers,
        sha256=hashlib.sha256(raw).hexdigest(),
        expires_at=expires_at,
        signer_expired=moment > expires_at,
        roots_kind=trusted.kind,
        seal=_SEAL,
    )


def _verify(
    raw: bytes, roots: Roots, at: datetime, name: str, *, allow_expired_signer: bool
) -> tuple[_Content, tuple[Certificate, ...]]:
    root = parse_xml(raw, field=name, id=FORM)
    content = _read(_Form(name), root)
    signature = parse_enveloped(root, id=FORM, what=name)
    signers = _verify_signers(
        signature, roots.nvidia_rim, at, name, allow_expired_signer=allow_expired_signer
    )
    # The content above is of this same tree, of which nothing but the signature is left out.
    verify_enveloped(root, signature, signers, id=SIGNATURE, what=name)
    return content, signers


def _verify_signers(
    signature: EnvelopedSignature,
    anchors: Sequence[TrustAnchor],
    at: datetime,
    name: str,
    *,
    allow_expired_signer: bool,
) -> tuple[Certificate, ...]:
    """Verify the path of the signing certificate: a leaf, two CAs and NVIDIA's root."""
    path = signature.certificates
    if len(path) != _CERTIFICATES:
        raise ChainInvalid(
            f"{name}: the number of certificates is wrong",
            id=CHAIN,
            got=str(len(path)),
            want=f"{_CERTIFICATES}: signing key, two CAs, root",
        )
    for certificate in path:
        key = certificate.public_key
        if not (isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp384r1"):
            raise ChainInvalid(f"{certificate.what}: the key is not on P-384", id=CHAIN)
    leaf, root = path[0], path[-1]
    if leaf.is_ca or leaf.key_usage != {"digital_signature"}:
        raise ChainInvalid(
            f"{name}: the signing key may do more, or less, than sign",
            id=CHAIN,
            got=f"CA {leaf.is_ca}, {', '.join(sorted(leaf.key_usage)) or 'no key usage'}",
            want="CA False, digital_signature",
        )
    moment = at
    if allow_expired_signer:
        # The last moment at which all of them were valid, if there was one.
        moment = min(at, *(certificate.not_after for certificate in path))
    anchor = verify_path(path, anchors, at=moment, id=CHAIN, what=name)
    if (root.subject, root.spki) != (anchor.subject, anchor.spki):
        raise ChainInvalid(f"{name}: the last certificate is not the root", id=CHAIN)
    return path


def rim_signers(raw: bytes, *, name: str = "RIM") -> tuple[Certificate, ...]:
    """The certificates that a manifest comes with, leaf first. Nothing is verified.

    Raises:
        MalformedEvidence: Not a manifest of the one form that is accepted.
    """
    root = parse_xml(raw, field=name, id=FORM)
    return parse_enveloped(root, id=FORM, what=name).certificates


class _Form:
    """Reads elements that must have exactly one form."""

    def __init__(self, name: str) -> None:
        self.name = name

    def error(self, problem: str, *, got: object = None) -> MalformedEvidence:
        shown = None if got is None else ascii(got)[:120]
        return MalformedEvidence(f"{self.name}: {problem}", id=FORM, field=self.name, got=shown)

    def children(self, element: XmlElement) -> tuple[XmlElement, ...]:
        """The child elements, with nothing but white space between them."""
        if element.text.strip(" \t\r\n"):
            raise self.error(f"text inside {element.local}", got=element.text.strip()[:40])
        return element.elements

    def plain(self, element: XmlElement) -> dict[str, str]:
        """The attributes without a namespace."""
        return {item.local: item.value for item in element.attributes if not item.uri}

    def text(self, attributes: dict[str, str], name: str) -> str:
        """A short attribute."""
        value = attributes.get(name, "")
        if not _TEXT.fullmatch(value):
            raise self.error(f"{name} is no short text", got=value)
        return value

    def number(self, attributes: dict[str, str], name: str, low: int, high: int) -> int:
        """An attribute that is a number in a range."""
        value = decimal_int(attributes.get(name), field=f"{self.name}.{name}", id=FORM)
        if not low <= value <= high:
            raise self.error(f"{name} is out of range", got=value)
        return value


def _read(form: _Form, root: XmlElement) -> _Content:
    """Read the whole tree; an element that has no place in it is refused."""
    children = form.children(root)
    if (root.uri, root.local) != (_SWID, "SoftwareIdentity"):
        raise form.error("not a SWID tag", got=root.name)
    if [(child.uri, child.local) for child in children] != _CHILDREN:
        raise form.error("another content", got=[child.name for child in children])
    entity, meta, payload, _ = children
    if form.children(entity) or form.children(meta):
        raise form.error("elements inside Entity or Meta")
    makers = [
        item.value
        for item in meta.attributes
        if (item.uri, item.local) == (_TCG, "FirmwareManufacturerId")
    ]
    if makers != [NVIDIA_ID]:
        raise form.error("not about firmware of NVIDIA", got=makers)
    values = tuple(_golden(form, resource) for resource in form.children(payload))
    if not values or len({value.index for value in values}) != len(values):
        raise form.error("no measurement, or the same index twice", got=len(values))
    about = form.plain(meta)
    return _Content(
        product=form.text(about, "product"),
        version=form.text(about, "colloquialVersion"),
        edition=form.text(about, "edition"),
        revision=form.text(about, "revision"),
        values=values,
    )


def _golden(form: _Form, resource: XmlElement) -> GoldenValue:
    """Read one Resource."""
    if (resource.uri, resource.local) != (_SWID, "Resource") or form.children(resource):
        raise form.error("something else than a Resource", got=resource.name)
    plain = form.plain(resource)
    hashes = {item.local: item.value for item in resource.attributes if item.uri == _SHA384}
    if set(plain) != _RESOURCE or len(plain) + len(hashes) != len(resource.attributes):
        raise form.error(
            "a Resource with other attributes", got=[item.name for item in resource.attributes]
        )
    index = form.number(plain, "index", 0, _MAX_INDEX)
    count = form.number(plain, "alternatives", 1, _MAX_ALTERNATIVES)
    names = [f"Hash{number}" for number in range(count)]
    if set(hashes) != set(names):
        raise form.error(f"Resource {index} has not {count} alternatives", got=sorted(hashes))
    if plain["type"] != "Measurement" or plain["size"] != str(VALUE_BYTES):
        raise form.error(f"Resource {index} is no measurement of {VALUE_BYTES} bytes", got=plain)
    if plain["active"] not in _ACTIVE:
        # "true" or "1" would mean inactive to one reader and active to another.
        raise form.error(f"Resource {index} is neither True nor False", got=plain["active"])
    return GoldenValue(
        index=index,
        active=_ACTIVE[plain["active"]],
        alternatives=tuple(
            hex_bytes(
                hashes[name],
                field=f"{form.name}[{index}].{name}",
                id=FORM,
                length=VALUE_BYTES,
            )
            for name in names
        ),
        name=form.text(plain, "name"),
    )
