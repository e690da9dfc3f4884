"""The frame of certificates and revocation lists: signed bytes, algorithm, signature.

RFC 5280 sections 4.1.1 and 5.1.1. The signed bytes are those that were sent.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn, Protocol, TypeGuard, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from teeverify.crypto.der import SEQUENCE, DerReader
from teeverify.crypto.ecdsa import verify_der
from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.errors import MalformedEvidence, SignatureInvalid

__all__ = [
    "PSS_ALGORITHMS",
    "Anchor",
    "IssuerKey",
    "LoadedAnchor",
    "Signed",
    "algorithm_problem",
    "anchor_key",
    "is_on_curve",
    "load_issuer_key",
    "parse_signed",
    "require_algorithm",
    "verify_signed",
]

IssuerKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192

# DER of the whole AlgorithmIdentifier (RFC 5758 section 3.2, RFC 4055 section 5): for ECDSA the
# parameters are absent, for RSA they are NULL. Anything else, however close, is another algorithm.
_ECDSA = {
    bytes.fromhex("300a06082a8648ce3d040302"): ("secp256r1", "ecdsa-with-SHA256"),
    bytes.fromhex("300a06082a8648ce3d040303"): ("secp384r1", "ecdsa-with-SHA384"),
}
_RSA: dict[bytes, hashes.HashAlgorithm] = {
    bytes.fromhex("300d06092a864886f70d01010b0500"): hashes.SHA256(),
    bytes.fromhex("300d06092a864886f70d01010c0500"): hashes.SHA384(),
    bytes.fromhex("300d06092a864886f70d01010d0500"): hashes.SHA512(),
}
# RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes (RFC 4055 section 3.1), in the
# two forms that AMD writes: with the default trailer field spelt out (its CAs, though DER leaves
# defaults out) and without it (revocation lists, and the certificates of chips).
PSS_ALGORITHMS = (
    bytes.fromhex(
        "304606092a864886f70d01010a3039a00f300d06096086480165030402020500a11c301a06092a864886f70d01"
        "0108300d06096086480165030402020500a203020130a303020101"
    ),
    bytes.fromhex(
        "304106092a864886f70d01010a3034a00f300d06096086480165030402020500a11c301a06092a864886f70d01"
        "0108300d06096086480165030402020500a203020130"
    ),
)
_PSS_SALT_BYTES = 48
_ECDSA_OIDS = bytes.fromhex("06082a8648ce3d04")
_OID_OFFSET = 2
_ECDSA_ALGORITHM_BYTES = 12
# Beginnings of the SubjectPublicKeyInfo (RFC 5480 section 2.1: named curve, uncompressed point).
_EC_SPKI = (
    bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),
    bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004"),
)
_RSA_OID = bytes.fromhex("06092a864886f70d010101")


class Anchor(Protocol):
    """What a trust anchor must have; :class:`teeverify.roots.TrustAnchor` is one."""

    @property
    def name(self) -> str:
        """What people call it."""

    @property
    def subject(self) -> bytes:
        """DER of the subject name."""

    @property
    def spki(self) -> bytes:
        """DER of the SubjectPublicKeyInfo."""


class LoadedAnchor(NamedTuple):
    """A trust anchor with its key loaded, for whoever verifies several signatures of one anchor.

    Attributes:
        name: What people call it.
        subject: DER of the subject name.
        spki: DER of the SubjectPublicKeyInfo.
        public_key: The key that ``spki`` holds.
    """

    name: str
    subject: bytes
    spki: bytes
    public_key: IssuerKey

    @classmethod
    def load(cls, anchor: Anchor, *, id: str) -> LoadedAnchor:
        """Load the key of an anchor.

        Raises:
            MalformedEvidence: See :func:`load_issuer_key`.
        """
        key = load_issuer_key(anchor.spki, id=id, what=anchor.name)
        return cls(name=anchor.name, subject=anchor.subject, spki=anchor.spki, public_key=key)


def anchor_key(anchor: Anchor, *, id: str) -> IssuerKey:
    """The key of an anchor, loaded where it is not yet.

    Raises:
        MalformedEvidence: See :func:`load_issuer_key`.
    """
    if isinstance(anchor, LoadedAnchor):
        return anchor.public_key
    return load_issuer_key(anchor.spki, id=id, what=anchor.name)


class Signed(NamedTuple):
    """One signed structure, taken apart and not verified.

    Attributes:
        tbs: The signed bytes, with tag and length.
        algorithm: DER of the AlgorithmIdentifier outside the signed bytes.
        signature: Contents of the bit string.
    """

    tbs: bytes
    algorithm: bytes
    signature: bytes


def parse_signed(der: bytes, *, id: str, what: str, max_bytes: int) -> Signed:
    """Take the frame apart; exactly one structure, nothing after it.

    Raises:
        MalformedEvidence: Too large, not DER, or trailing data.
    """
    if len(der) > max_bytes:
        raise MalformedEvidence(
            f"{what}: too large", id=id, field=what, need=f"at most {max_bytes}", have=len(der)
        )
    outer = DerReader(der, name=what, id=id)
    frame = outer.nested(SEQUENCE, "signed")
    outer.finish()
    signed = Signed(
        tbs=frame.encoded(SEQUENCE, "tbs"),
        algorithm=frame.encoded(SEQUENCE, "algorithm"),
        signature=frame.bit_string("signature"),
    )
    frame.finish()
    return signed


def require_algorithm(tbs: DerReader, signed: Signed) -> None:
    """Take the algorithm inside the signed bytes, which must be the one outside them.

    Raises:
        MalformedEvidence: They differ (RFC 5280 section 4.1.1.2), or ECDSA has parameters
            (RFC 5758 section 3.2 has none; the library warns about NULL as it loads).
    """
    problem = algorithm_problem(tbs.encoded(SEQUENCE, "algorithm"), signed)
    if problem:
        raise tbs.error(problem, "algorithm")


def algorithm_problem(inside: bytes, signed: Signed) -> str | None:
    """What is wrong with the algorithm inside the signed bytes; see :func:`require_algorithm`."""
    if inside != signed.algorithm:
        return "two different signature algorithms"
    is_ecdsa = signed.algorithm[_OID_OFFSET:].startswith(_ECDSA_OIDS)
    if is_ecdsa and len(signed.algorithm) != _ECDSA_ALGORITHM_BYTES:
        return "parameters where ECDSA has none"
    return None


def load_issuer_key(spki: bytes, *, id: str, what: str) -> IssuerKey:
    """Load a key of a kind that may sign certificates here.

    Args:
        spki: DER of the SubjectPublicKeyInfo.
        id: Check id for the error.
        what: Whose key it is, for the error.

    Raises:
        MalformedEvidence: Not a key on P-256 or P-384 with an uncompressed point, nor an RSA key
            of 2048 to 8192 bits; or not a valid one.
    """
    # The kind is looked up in the bytes first: libraries warn about some kinds as they load them.
    if not spki.startswith(_EC_SPKI) and _RSA_OID not in spki[:24]:
        _refuse_key(id, what, f"SubjectPublicKeyInfo {spki[:24].hex()}...")
    try:
        key = load_der_public_key(spki)
    except FOREIGN_ERRORS:
        _refuse_key(id, what, "a key that cannot be read")
    if spki.startswith(_EC_SPKI):
        return cast("ec.EllipticCurvePublicKey", key)
    if isinstance(key, rsa.RSAPublicKey):
        if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            _refuse_key(id, what, f"an RSA key of {key.key_size} bits")
        return key
    if not isinstance(key, ec.EllipticCurvePublicKey):
        _refuse_key(id, what, type(key).__name__)
    return key


def _refuse_key(id: str, what: str, got: str) -> NoReturn:
    raise MalformedEvidence(
        f"{what}: the public key is of no kind that is accepted here",
        id=id,
        field=what,
        got=got,
        want="ECDSA on P-256 or P-384, or RSA of 2048 to 8192 bits",
    )


def verify_signed(signed: Signed, key: IssuerKey, *, id: str, what: str) -> None:
    """Verify the signature with the one algorithm that belongs to the key.

    P-256 signs with SHA-256 and P-384 with SHA-384; RSA is PKCS #1 v1.5 (RFC 8017 section 8.2)
    with SHA-256, SHA-384 or SHA-512, or RSASSA-PSS (section 8.1) with the one set of parameters
    that AMD uses. They are taken from here, never from the certificate.

    Raises:
        SignatureInvalid: Another algorithm than the key's, or the signature does not verify.
    """
    if not is_on_curve(key):
        _verify_rsa(signed, cast("rsa.RSAPublicKey", key), id, what)
        return
    curve, name = _ECDSA.get(signed.algorithm, ("", "another algorithm"))
    if curve != key.curve.name:
        _refuse_algorithm(signed, id, what, f"{name}, by a {key.curve.name} key")
    verify_der(key, signed.signature, signed.tbs, id=id, what=what)


def is_on_curve(key: IssuerKey) -> TypeGuard[ec.EllipticCurvePublicKey]:
    """Whether a loaded key is on a curve, or else of RSA.

    The library's classes are abstract ones, and asking those takes longer than reading a key.
    """
    return hasattr(key, "curve")


def _verify_rsa(signed: Signed, key: rsa.RSAPublicKey, id: str, what: str) -> None:
    scheme: padding.AsymmetricPadding = padding.PKCS1v15()
    digest = _RSA.get(signed.algorithm)
    if signed.algorithm in PSS_ALGORITHMS:
        digest = hashes.SHA384()
        scheme = padding.PSS(padding.MGF1(digest), _PSS_SALT_BYTES)
    if digest is None:
        _refuse_algorithm(signed, id, what, "another algorithm, by an RSA key")
    try:
        key.verify(signed.signature, signed.tbs, scheme, digest)
    except FOREIGN_ERRORS:
        raise SignatureInvalid(
            f"{what}: the signature is not valid",
            id=id,
            got="a signature that this key did not make over these bytes",
            want=f"a signature of the issuer's RSA key of {key.key_size} bits",
        ) from None


def _refuse_algorithm(signed: Signed, id: str, what: str, got: str) -> NoReturn:
    raise SignatureInvalid(
        f"{what}: signed with an algorithm that is not accepted",
        id=id,
        got=f"{got} ({signed.algorithm.hex()[:64]})",
        want="ECDSA with the hash of the issuer's curve, RSA PKCS #1 v1.5 with SHA-2, or "
        "RSASSA-PSS with SHA-384",
    )
