"""EIP-712: typed data that wallets and contracts sign, of fixed-size members only."""

from __future__ import annotations

from collections.abc import Sequence

from teeverify.crypto.keccak import keccak256
from teeverify.errors import MalformedEvidence

__all__ = ["domain_separator", "typed_digest", "typed_hash"]

_DOMAIN = "EIP712Domain(string name,string version)"
_WORD = 32


def domain_separator(name: str, version: str) -> bytes:
    """The hash of a domain that has a name and a version, and no chain or contract.

    Args:
        name: Its name.
        version: Its version.
    """
    texts = [keccak256(text.encode("utf-8")) for text in (name, version)]
    return typed_hash(keccak256(_DOMAIN.encode("ascii")), texts)


def typed_hash(type_hash: bytes, members: Sequence[bytes | int]) -> bytes:
    """``hashStruct`` of a structure of ``bytes32`` and unsigned integers.

    Args:
        type_hash: Keccak-256 of the type's text.
        members: Their values in order.

    Raises:
        MalformedEvidence: A value that does not fit into one word.
    """
    return keccak256(b"".join([type_hash, *(_word(member) for member in members)]))


def typed_digest(separator: bytes, struct_hash: bytes) -> bytes:
    """The 32 bytes that are signed."""
    return keccak256(b"\x19\x01" + separator + struct_hash)


def _word(value: bytes | int) -> bytes:
    if isinstance(value, int) and 0 <= value < 1 << (8 * _WORD):
        return value.to_bytes(_WORD, "big")
    if isinstance(value, bytes) and len(value) == _WORD:
        return value
    raise MalformedEvidence(
        "typed data: a value that is no word", id="ethereum.typed-data", field="typed data"
    )
