"""ID blocks as a fake guest's owner signs them; each field can be overridden."""

from __future__ import annotations

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from teeverify.simulator.amd import sign_report

__all__ = ["id_auth", "id_block", "packed_key"]


def id_block(
    *,
    measurement: bytes,
    family_id: bytes = bytes(16),
    image_id: bytes = bytes(16),
    version: int = 1,
    guest_svn: int = 0,
    policy: int = 0x30000,
) -> bytes:
    """The 96 bytes of an ID block."""
    numbers = version.to_bytes(4, "little") + guest_svn.to_bytes(4, "little")
    return measurement + family_id + image_id + numbers + policy.to_bytes(8, "little")


def packed_key(key: ec.EllipticCurvePrivateKey, *, curve: int = 2) -> bytes:
    """A public key in AMD's form of 0x404 bytes."""
    numbers = key.public_key().public_numbers()
    point = numbers.x.to_bytes(72, "little") + numbers.y.to_bytes(72, "little")
    return curve.to_bytes(4, "little") + point + bytes(880)


def id_auth(
    block: bytes,
    key: ec.EllipticCurvePrivateKey,
    author: ec.EllipticCurvePrivateKey | None = None,
    **changes: Any,  # noqa: ANN401 -- one override a field
) -> bytes:
    """The ID authentication information of a block.

    Args:
        block: The ID block.
        key: The key that signs it.
        author: The key that certifies that key.
        changes: Overrides of ``id_algo``, ``author_algo`` (numbers), ``block_signature``,
            ``id_key``, ``key_signature``, ``author_key`` and ``tail`` (bytes).
    """
    packed = packed_key(key)
    fields: dict[str, Any] = {
        "id_algo": 1,
        "author_algo": 1 if author else 0,
        "block_signature": sign_report(key, block),
        "id_key": packed,
        "key_signature": sign_report(author, packed) if author else bytes(512),
        "author_key": packed_key(author) if author else bytes(0x404),
        "tail": b"",
        **changes,
    }
    head: bytes = fields["id_algo"].to_bytes(4, "little") + fields["author_algo"].to_bytes(
        4, "little"
    )
    body: bytes = head.ljust(0x40, b"\0") + fields["block_signature"] + fields["id_key"]
    body = body.ljust(0x680, b"\0") + fields["key_signature"] + fields["author_key"]
    body += fields["tail"]
    return body.ljust(0x1000, b"\0")
