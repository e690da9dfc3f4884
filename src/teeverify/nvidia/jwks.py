"""The keys of NRAS: a JSON Web Key Set (RFC 7517) whose keys come with certificates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from teeverify.crypto.certificates import Certificate, parse_certificate, verify_path
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import base64_bytes, json_value
from teeverify.errors import (
    BindingMismatch,
    ChainInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
)
from teeverify.nvidia.eat import shown
from teeverify.roots import TrustAnchor

__all__ = ["KeySet"]

ID = "nras.key"
_MAX_BYTES = 512 * 1024
_MAX_KEYS = 256
_COORDINATE_BYTES = 48
_CERTIFICATES = 2
_SIGNER = "NVIDIA Attestation Service GPU "
_REQUIRED = (("kty", "EC"), ("crv", "P-384"))
_OPTIONAL = (("alg", "ES384"), ("use", "sig"))


class KeySet:
    """What ``/.well-known/jwks.json`` lists; not verified.

    Args:
        raw: The body, as received.

    Raises:
        MalformedEvidence: Not a list of keys, or too many.
    """

    __slots__ = ("_keys",)

    def __init__(self, raw: bytes) -> None:
        value = json_value(raw, field="jwks", id=ID, max_bytes=_MAX_BYTES)
        self._keys = JsonObject(value, path="jwks", id=ID).objects("keys")
        if len(self._keys) > _MAX_KEYS:
            raise MalformedEvidence("jwks.keys: too many keys", id=ID, field="jwks.keys")

    def __contains__(self, kid: str) -> bool:
        """Whether a key with this id is listed."""
        return any(key.raw("kid") == kid for key in self._keys)

    def certified(self, kid: str, anchors: Sequence[TrustAnchor], *, at: datetime) -> Certificate:
        """Find the key with this id and verify that NVIDIA certified it.

        Args:
            kid: The id, compared exactly.
            anchors: NVIDIA's intermediates of the attestation service.
            at: The time at which the certificates must be valid.

        Returns:
            The certificate whose public key is the key.

        Raises:
            EndorsementUnavailable: No such key, or a certificate is outside its dates.
            MalformedEvidence: Two such keys, or a member of another form.
            ChainInvalid: The certificates lead elsewhere, or are not of a signing key.
            SignatureInvalid: The certificate is not signed by the intermediate.
            BindingMismatch: The certificate holds another key.
        """
        key = self._find(kid)
        for member, want in _REQUIRED + tuple(pair for pair in _OPTIONAL if pair[0] in key):
            if key.text(member) != want:
                raise MalformedEvidence(
                    f"{key.path}.{member}: not {want}",
                    id=ID,
                    field=f"{key.path}.{member}",
                    got=shown(key.raw(member)),
                )
        leaf = _verify_certificates(key.texts("x5c"), anchors, at)
        point = b"".join(
            base64_bytes(
                key.text(member),
                field=f"{key.path}.{member}",
                id=ID,
                url=True,
                length=_COORDINATE_BYTES,
            )
            for member in ("x", "y")
        )
        # RFC 7517 section 4.7: the first certificate holds the key. An uncompressed point is the
        # end of the SubjectPublicKeyInfo (RFC 5480 section 2.2).
        if not leaf.spki.endswith(b"\x04" + point):
            raise BindingMismatch(
                "NRAS: the key in its list is not the one that NVIDIA certified", id=ID
            )
        return leaf

    def _find(self, kid: str) -> JsonObject:
        found = [key for key in self._keys if key.raw("kid") == kid]
        if not found:
            raise EndorsementUnavailable(
                "NRAS: its list of keys has none with the id that signed this answer",
                id=ID,
                got=shown(kid),
                hint="NRAS replaces its keys every day: record the list together with the answer.",
            )
        if len(found) > 1:
            raise MalformedEvidence(
                "jwks.keys: the same key id twice", id=ID, field="jwks.keys", got=shown(kid)
            )
        return found[0]


def _verify_certificates(
    x5c: Sequence[str], anchors: Sequence[TrustAnchor], at: datetime
) -> Certificate:
    """Verify the two certificates of a key up to NVIDIA's pinned intermediate."""
    if len(x5c) != _CERTIFICATES:
        raise ChainInvalid(
            "NRAS: the key comes with another number of certificates",
            id=ID,
            got=str(len(x5c)),
            want=f"{_CERTIFICATES}: signing key, intermediate",
        )
    leaf, intermediate = (
        parse_certificate(
            base64_bytes(text, field=f"jwks.x5c[{index}]", id=ID),
            id=ID,
            what=f"jwks.x5c[{index}]",
        )
        for index, text in enumerate(x5c)
    )
    if leaf.is_ca or "digital_signature" not in leaf.key_usage:
        raise ChainInvalid("NRAS: the certificate is not one of a signing key", id=ID)
    if not leaf.common_name.startswith(_SIGNER):
        raise ChainInvalid(
            "NRAS: the certificate is not one of the attestation service",
            id=ID,
            got=shown(leaf.common_name),
            want=f"{_SIGNER}...",
        )
    verify_path((leaf, intermediate), anchors, at=at, id=ID, what="NRAS signing key")
    return leaf
