"""The one profile of XML signatures (W3C XML Signature 1.1) that is accepted here.

One enveloped signature over the whole document: Canonical XML 1.1, ECDSA on P-384 with SHA-384, and
the certificates of the key beside it. Every element and attribute of it is demanded; nothing is
looked up by an id, and no other key, reference, transform or algorithm is understood.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass

from teeverify.crypto.certificates import Certificate, parse_certificate
from teeverify.crypto.ecdsa import verify_raw
from teeverify.encoding.strict import base64_bytes
from teeverify.encoding.xml import XmlElement, canonical
from teeverify.errors import MalformedEvidence, SignatureInvalid

__all__ = ["DSIG", "EnvelopedSignature", "parse_enveloped", "verify_enveloped"]

DSIG = "http://www.w3.org/2000/09/xmldsig#"
_C14N = "http://www.w3.org/2006/12/xml-c14n11"
_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#sha384"
_ECDSA_SHA384 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
_DIGEST_BYTES = 48
_SIGNATURE_BYTES = 96
_MAX_CERTIFICATES = 8
_SPACE = " \t\r\n"
_STRIP = {ord(space): None for space in _SPACE}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvelopedSignature:
    """A signature of the profile, taken apart and not verified.

    Attributes:
        element: The element that holds it.
        signed_info: The signed bytes: the canonical form of the reference and the algorithms.
        digest: The digest in it.
        value: ``r || s``.
        certificates: The certificates beside it, leaf first.
    """

    element: XmlElement
    signed_info: bytes
    digest: bytes
    value: bytes
    certificates: tuple[Certificate, ...]


def parse_enveloped(root: XmlElement, *, id: str, what: str) -> EnvelopedSignature:
    """Take the signature of a document apart.

    Args:
        root: The document element; its last child must be the signature, and the only one.
        id: Check id for the errors.
        what: What the document is, for the errors.

    Raises:
        MalformedEvidence: There is not exactly one signature in its place, or anything in it is
            not what the profile has there.
    """
    reader = _Reader(id, what)
    found = [item for item in root.walk() if (item.uri, item.local) == (DSIG, "Signature")]
    if len(found) != 1 or root.elements[-1] is not found[0]:
        raise reader.error("not one signature at its end", got=f"{len(found)} signatures")
    signature = found[0]
    info, value, key_info = reader.children(signature, "SignedInfo", "SignatureValue", "KeyInfo")
    method, algorithm, reference = reader.children(
        info, "CanonicalizationMethod", "SignatureMethod", "Reference"
    )
    reader.leaf(method, Algorithm=_C14N)
    reader.leaf(algorithm, Algorithm=_ECDSA_SHA384)
    transforms, digest_method, digest = reader.children(
        reference, "Transforms", "DigestMethod", "DigestValue", URI=""
    )
    first, second = reader.children(transforms, "Transform", "Transform")
    reader.leaf(first, Algorithm=_ENVELOPED)
    reader.leaf(second, Algorithm=_C14N)
    reader.leaf(digest_method, Algorithm=_SHA384)
    (data,) = reader.children(key_info, "X509Data")
    count = len(data.elements)
    if not 0 < count <= _MAX_CERTIFICATES:
        raise reader.error("another number of certificates", got=str(count))
    return EnvelopedSignature(
        element=signature,
        signed_info=canonical(info),
        digest=reader.bytes(digest, _DIGEST_BYTES),
        value=reader.bytes(value, _SIGNATURE_BYTES),
        certificates=tuple(
            parse_certificate(reader.bytes(one), id=id, what=f"{what}: certificate[{index}]")
            for index, one in enumerate(reader.children(data, *["X509Certificate"] * count))
        ),
    )


class _Reader:
    """Demands exactly one form of every element."""

    def __init__(self, id: str, what: str) -> None:
        self._id = id
        self._what = what

    def error(self, problem: str, *, got: str | None = None) -> MalformedEvidence:
        return MalformedEvidence(
            f"{self._what}: {problem}", id=self._id, field=f"{self._what}.signature", got=got
        )

    def _attributes(self, element: XmlElement, wanted: dict[str, str]) -> None:
        found = {item.name: item.value for item in element.attributes}
        if found != wanted:
            raise self.error(
                f"the {element.local} of its signature is another", got=ascii(found)[:160]
            )

    def children(self, element: XmlElement, *names: str, **wanted: str) -> tuple[XmlElement, ...]:
        """The child elements, which must be these, with nothing but white space between them."""
        self._attributes(element, wanted)
        children = element.elements
        found = [child.local if child.uri == DSIG else child.name for child in children]
        if found != list(names) or element.text.strip(_SPACE):
            raise self.error(
                f"the {element.local} of its signature holds something else",
                got=ascii(found)[:160],
            )
        return children

    def leaf(self, element: XmlElement, **wanted: str) -> None:
        """Demand an element with these attributes and nothing inside."""
        self.children(element, **wanted)

    def bytes(self, element: XmlElement, length: int | None = None) -> bytes:
        """The base64 text of an element; line breaks are allowed in it."""
        self._attributes(element, {})
        if element.elements:
            raise self.error(f"an element inside {element.local}")
        return base64_bytes(
            element.text.translate(_STRIP),
            field=f"{self._what}.{element.local}",
            id=self._id,
            length=length,
        )


def verify_enveloped(
    root: XmlElement,
    signature: EnvelopedSignature,
    certificates: Sequence[Certificate],
    *,
    id: str,
    what: str,
) -> None:
    """Verify that the leaf's key signed this tree.

    Args:
        root: The tree that :func:`parse_enveloped` was given; only what is in it is signed.
        signature: What that gave.
        certificates: The path that was verified, leaf first: its key must have signed, whatever
            else the document offers.
        id: Check id for the errors.
        what: What the document is, for the errors.

    Raises:
        SignatureInvalid: The document is not the one that was signed, or not by this key.
    """
    digest = hashlib.sha384(canonical(root, without=signature.element)).digest()
    if not hmac.compare_digest(digest, signature.digest):
        raise SignatureInvalid(
            f"{what}: it was changed after it was signed",
            id=id,
            got=f"SHA-384 {digest.hex()}",
            want=signature.digest.hex(),
        )
    verify_raw(certificates[0].public_key, signature.value, signature.signed_info, id=id, what=what)
