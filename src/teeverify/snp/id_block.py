"""ID blocks: what a guest's owner signs about a launch, so that the firmware refuses any other.

AMD document 56860, SNP_LAUNCH_FINISH: the ID block, and the ID authentication information with the
owner's key, its signature, and perhaps an author key that certifies the owner's. The firmware has
checked all this at the launch; a report names the keys by digest. Whoever has the block itself can
check it again, and see whose signature stands for the measurement.
"""

from __future__ import annotations

import hashlib
from dataclasses import InitVar, dataclass

from cryptography.hazmat.primitives.asymmetric import ec

from teeverify.crypto.ecdsa import verify_raw
from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.encoding.reader import Reader
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.errors import BindingMismatch, ConfigurationError, MalformedEvidence
from teeverify.snp.claims import Claims

__all__ = [
    "IdAuth",
    "IdBlock",
    "IdBlockClaims",
    "id_key_digest",
    "parse_id_auth",
    "parse_id_block",
    "verify_id_block",
]

SEAL = Seal("teeverify.snp.verify_id_block")
CHECK = "snp.id-block"
_BLOCK_BYTES = 0x60
_AUTH_BYTES = 0x1000
_KEY_BYTES = 0x404
_BLOCK_VERSION = 1
_ECDSA_P384_SHA384 = 1
_P384 = 2
_SCALAR_BYTES = 48
_SCALAR_PADDING = 24
_KEY_PADDING = 880
_SIGNATURE_PADDING = 368


@dataclass(frozen=True, slots=True, kw_only=True)
class IdBlock:
    """What the owner demands of a launch, read strictly and not verified.

    Attributes:
        raw: The 96 bytes, which are what is signed.
        measurement: The launch digest.
        family_id: The owner's name for the family of the guest.
        image_id: The owner's name for the image.
        guest_svn: The guest's security version.
        policy: The guest policy.
    """

    raw: bytes
    measurement: bytes
    family_id: bytes
    image_id: bytes
    guest_svn: int
    policy: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IdAuth:
    """The keys and signatures of an ID block, read strictly and not verified.

    Attributes:
        id_key: The key that signed the ID block, in AMD's form of 0x404 bytes.
        block_signature: Its signature over the ID block: ``r || s``, big-endian.
        author_key: The key that certified that key, in the same form; ``None`` where there is none.
        key_signature: Its signature over ``id_key``.
    """

    id_key: bytes
    block_signature: bytes
    author_key: bytes | None
    key_signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class IdBlockClaims(Sealed):
    """Whose signatures stand for the launch of a genuine report.

    Attributes:
        block: The ID block.
        id_key_digest: SHA-384 of the key that signed it.
        author_key_digest: SHA-384 of the key that certified that key; ``None`` where the launch
            demanded none.
    """

    block: IdBlock
    id_key_digest: bytes
    author_key_digest: bytes | None
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Refuse construction by anything but the verification."""
        self._check_seal(seal, SEAL)


def parse_id_block(raw: bytes) -> IdBlock:
    """Read an ID block.

    Raises:
        MalformedEvidence: Another length or version.
    """
    reader = Reader(_sized(raw, _BLOCK_BYTES, "ID block"), name="snp.id-block", id=CHECK)
    measurement = reader.take(48, "launch_digest")
    family_id, image_id = reader.take(16, "family_id"), reader.take(16, "image_id")
    version = reader.u32("version")
    if version != _BLOCK_VERSION:
        raise reader.error("unknown version", "version", got=str(version), want="1")
    guest_svn, policy = reader.u32("guest_svn"), reader.integer(8, "policy")
    return IdBlock(
        raw=bytes(raw),
        measurement=measurement,
        family_id=family_id,
        image_id=image_id,
        guest_svn=guest_svn,
        policy=policy,
    )


def parse_id_auth(raw: bytes) -> IdAuth:
    """Read ID authentication information.

    Raises:
        MalformedEvidence: Another length or algorithm, or reserved bytes that are not zero.
    """
    data = _sized(raw, _AUTH_BYTES, "ID authentication information")
    reader = Reader(data, name="snp.id-auth", id=CHECK)
    algorithm, author_algorithm = reader.u32("id_key_algo"), reader.u32("author_key_algo")
    if algorithm != _ECDSA_P384_SHA384 or author_algorithm not in (0, _ECDSA_P384_SHA384):
        raise reader.error(
            "unknown algorithm",
            "id_key_algo",
            got=f"{algorithm} and {author_algorithm}",
            want="1 (ECDSA P-384 with SHA-384)",
        )
    reader.zeros(0x38, "reserved_0x8")
    block_signature = _signature(reader, "id_block_sig")
    id_key = reader.take(_KEY_BYTES, "id_key")
    reader.zeros(0x3C, "reserved_0x644")
    key_signature = _signature(reader, "id_key_sig")
    author_key = reader.take(_KEY_BYTES, "author_key")
    reader.zeros(reader.remaining, "reserved_0xc84")
    return IdAuth(
        id_key=id_key,
        block_signature=block_signature,
        author_key=author_key if any(author_key) else None,
        key_signature=key_signature,
    )


def verify_id_block(
    id_block: bytes | IdBlock, id_auth: bytes | IdAuth, claims: Claims
) -> IdBlockClaims:
    """Verify that an ID block is the one with which a genuine report's guest was launched.

    Args:
        id_block: The ID block.
        id_auth: Its ID authentication information.
        claims: What :func:`teeverify.snp.verify_report` proved of the report.

    Raises:
        MalformedEvidence: The block, the information or a key in it cannot be read.
        BindingMismatch: The report names other keys or values.
        SignatureInvalid: The block, or the key that signed it, is not signed by the key above it.
    """
    block = parse_id_block(id_block.raw if isinstance(id_block, IdBlock) else id_block)
    auth = id_auth if isinstance(id_auth, IdAuth) else parse_id_auth(id_auth)
    report = claims.report
    _require_equal("id_key_digest", hashlib.sha384(auth.id_key).digest(), report.id_key_digest)
    author_digest = None
    if report.author_key_enabled:
        author = auth.author_key or b""
        author_digest = hashlib.sha384(author).digest()
        _require_equal("author_key_digest", author_digest, report.author_key_digest)
        _verify(author, auth.key_signature, auth.id_key, "the ID key")
    _verify(auth.id_key, auth.block_signature, block.raw, "the ID block")
    for name, value, want in (
        ("measurement", block.measurement, report.measurement),
        ("family_id", block.family_id, report.family_id),
        ("image_id", block.image_id, report.image_id),
        ("guest_svn", block.guest_svn, report.guest_svn),
        ("policy", block.policy, report.policy.value),
    ):
        _require_equal(name, value, want)
    return IdBlockClaims(
        block=block,
        id_key_digest=report.id_key_digest,
        author_key_digest=author_digest,
        seal=SEAL,
    )


def id_key_digest(key: ec.EllipticCurvePublicKey) -> bytes:
    """The digest by which reports name a key that signs ID blocks, or certifies such keys.

    Raises:
        ConfigurationError: The key is not on P-384.
    """
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
        raise ConfigurationError("ID keys are on P-384", id="usage.snp", got=type(key).__name__)
    numbers = key.public_numbers()
    size = _SCALAR_BYTES + _SCALAR_PADDING
    point = b"".join(value.to_bytes(size, "little") for value in (numbers.x, numbers.y))
    return hashlib.sha384(_P384.to_bytes(4, "little") + point + bytes(_KEY_PADDING)).digest()


def _sized(raw: bytes, size: int, what: str) -> bytes:
    if not isinstance(raw, (bytes, bytearray)) or len(raw) != size:
        raise MalformedEvidence(
            f"{what}: wrong length",
            id=CHECK,
            field=what,
            need=size,
            have=len(raw) if isinstance(raw, (bytes, bytearray)) else None,
        )
    return bytes(raw)


def _signature(reader: Reader, field: str) -> bytes:
    """``r || s``, which AMD writes little-endian into 72 bytes each; here big-endian."""
    value = _scalar(reader, field) + _scalar(reader, field)
    reader.zeros(_SIGNATURE_PADDING, field)
    return value


def _scalar(reader: Reader, field: str) -> bytes:
    value = reader.take(_SCALAR_BYTES, field)
    reader.zeros(_SCALAR_PADDING, field)
    return value[::-1]


def _verify(key: bytes, signature: bytes, message: bytes, what: str) -> None:
    verify_raw(_public_key(key, what), signature, message, id=CHECK, what=what)


def _public_key(raw: bytes, what: str) -> ec.EllipticCurvePublicKey:
    """A key in AMD's form: the curve's number, then x and y little-endian in 72 bytes each."""
    reader = Reader(raw, name="snp.id-auth.key", id=CHECK)
    curve = reader.u32("curve")
    x, y = _scalar(reader, "qx"), _scalar(reader, "qy")
    reader.zeros(_KEY_PADDING, "reserved")
    reader.finish()
    try:
        if curve == _P384:
            point = int.from_bytes(x, "big"), int.from_bytes(y, "big")
            return ec.EllipticCurvePublicNumbers(*point, ec.SECP384R1()).public_key()
    except FOREIGN_ERRORS:
        pass
    raise MalformedEvidence(
        f"the key that signed {what} is not on P-384", id=CHECK, field="key", got=str(curve)
    )


def _require_equal(name: str, got: bytes | int, want: bytes | int) -> None:
    if got != want:
        shown = [one.hex() if isinstance(one, bytes) else f"{one:#x}" for one in (got, want)]
        raise BindingMismatch(
            f"the report's guest was not launched with this ID block: {name} differs",
            id=CHECK,
            got=shown[0],
            want=shown[1],
        )
