"""The frame of certificates and revocation lists: signed bytes, algorithm, signature.

RFC 5280 sections 4.1.1 and 5.1.1. The signed bytes are those that were sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, NoReturn, Protocol, TypeGuard, TypeVar, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from teeverify.crypto.der import SEQUENCE, DerReader, contents_of, ends_of, span_of
from teeverify.crypto.ecdsa import P256_SPKI, verify_der
from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.errors import MalformedEvidence, SignatureInvalid

__all__ = [
    "PSS_ALGORITHMS",
    "Anchor",
    "Frame",
    "IssuerKey",
    "LoadedAnchor",
    "Signed",
    "anchor_key",
    "cut_signed",
    "is_on_curve",
    "load_issuer_key",
    "parse_signed",
    "require_algorithm",
    "verify_signed",
]

T = TypeVar("T")
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
# Beginnings of the SubjectPublicKeyInfo; the second is of P-384.
_EC_SPKI = (P256_SPKI, bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004"))
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

    @property
    def issued_sha256(self) -> frozenset[str]:
        """SHA-256 of certificates that are known to be signed by it, in hex."""


class LoadedAnchor(NamedTuple):
    """A trust anchor with its key loaded, for whoever verifies several signatures of one anchor.

    Attributes:
        name: What people call it.
        subject: DER of the subject name.
        spki: DER of the SubjectPublicKeyInfo.
        issued_sha256: SHA-256 of certificates that are known to be signed by it, in hex.
        public_key: The key that ``spki`` holds.
    """

    name: str
    subject: bytes
    spki: bytes
    issued_sha256: frozenset[str]
    public_key: IssuerKey

    @classmethod
    def load(cls, anchor: Anchor, *, id: str) -> LoadedAnchor:
        """Load the key of an anchor.

        Raises:
            MalformedEvidence: See :func:`load_issuer_key`.
        """
        key = load_issuer_key(anchor.spki, id=id, what=anchor.name)
        return cls(anchor.name, anchor.subject, anchor.spki, anchor.issued_sha256, key)


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


class Frame(NamedTuple):
    """Where the parts of one signed structure are.

    Attributes:
        signed: The structure, taken apart.
        start: Where the contents of its signed bytes begin.
        end: Where they end.
    """

    signed: Signed
    start: int
    end: int


def cut_signed(
    der: bytes, cut: Callable[[bytes, Frame], T], *, id: str, what: str, max_bytes: int
) -> T:
    """Cut a structure into its parts, which are right only where a strict reader accepts it too.

    Args:
        der: The structure; nothing may follow it.
        cut: Cuts the signed bytes; a :class:`ValueError` says what is wrong with them.
        id: Check id for the errors.
        what: What is read, for the errors.
        max_bytes: Most bytes accepted.

    Raises:
        MalformedEvidence: Too large, truncated, trailing data, or what ``cut`` says.
    """
    problem, offset = "truncated", len(der)
    if len(der) > max_bytes:
        raise MalformedEvidence(
            f"{what}: too large", id=id, field=what, need=f"at most {max_bytes}", have=len(der)
        )
    try:
        tbs, whole = span_of(der, 0)
        end, algorithm = ends_of(der, tbs, 2)
        bits = contents_of(der, algorithm)
        signed = Signed(der[tbs:end], der[end:algorithm], der[bits + 1 :])
        if whole >= len(der) and der[bits] == 0:
            return cut(der, Frame(signed, contents_of(der, tbs), end))
        problem, offset = "trailing data, or a signature with unused bits", whole
    except IndexError:
        pass
    except ValueError as error:
        problem, offset = str(error), 0
    raise MalformedEvidence(f"{what}: {problem}", id=id, field=what, offset=offset)


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


def require_algorithm(inside: bytes, signed: Signed) -> None:
    """Demand that the algorithm inside the signed bytes is the one outside them.

    Args:
        inside: DER of the AlgorithmIdentifier inside.
        signed: The structure.

    Raises:
        ValueError: They differ (RFC 5280 section 4.1.1.2), or ECDSA has parameters (RFC 5758
            section 3.2 has none; the library warns about NULL as it loads).
    """
    if inside != signed.algorithm:
        raise ValueError("two different signature algorithms")
    is_ecdsa = signed.algorithm[_OID_OFFSET:].startswith(_ECDSA_OIDS)
    if is_ecdsa and len(signed.algorithm) != _ECDSA_ALGORITHM_BYTES:
        raise ValueError("parameters where ECDSA has none")


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
