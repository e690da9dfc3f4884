"""NVIDIA's collection of evidence as Conceptual Message Wrappers (draft-ietf-rats-msg-wrap).

The attestation SDK writes it since 2026: an object by device names, in which each value is a pair
of media type and base64url. Only the two media types that hold a report and its certificates are
taken.
"""

from __future__ import annotations

import base64

from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import any_base64_bytes
from teeverify.errors import MalformedEvidence
from teeverify.nvidia.spdm import ID

__all__ = ["is_collection", "read_collection"]

_TYPE = "__cmwc_t"
_COLLECTION = "tag:nvidia.com,"
_NONCE = "nonce"
_MEDIA = {
    "evidence": "application/vnd.nvidia.spdm-measurement-transcript",
    "certificate": "application/vnd.nvidia.pem-cert-chain",
    _NONCE: "application/octet-stream",
}


def is_collection(value: object) -> bool:
    """Whether decoded JSON is NVIDIA's collection."""
    kind = value.get(_TYPE) if isinstance(value, dict) else None
    return isinstance(kind, str) and kind.startswith(_COLLECTION)


def read_collection(wrapper: JsonObject) -> list[dict[str, str]]:
    """The devices of a collection, in the order of their names, in the form of NVIDIA's list.

    Raises:
        MalformedEvidence: A member is missing, of another form or of another media type.
    """
    names = sorted(wrapper.names() - {_TYPE, _NONCE}, key=lambda name: (len(name), name))
    devices = []
    for name in names:
        device = wrapper.object(name)
        whole = {_NONCE: _wrapped(wrapper, _NONCE)} if _NONCE in wrapper else {}
        own = {member: _wrapped(device, member) for member in _MEDIA if member in device}
        if whole and own.get(_NONCE, whole[_NONCE]) != whole[_NONCE]:
            raise _wrong(device, _NONCE, "another one than the collection's")
        devices.append(
            {
                member: data.hex() if member == _NONCE else base64.b64encode(data).decode("ascii")
                for member, data in {**whole, **own}.items()
            }
        )
    return devices


def _wrapped(holder: JsonObject, member: str) -> bytes:
    pair = holder.array(member)
    texts = [item for item in pair if isinstance(item, str)]
    if len(texts) != len(pair) or len(texts) != 2:  # noqa: PLR2004 -- media type and value
        raise _wrong(holder, member, "no pair of media type and value")
    if texts[0] != _MEDIA[member]:
        raise _wrong(holder, member, "another media type", got=texts[0], want=_MEDIA[member])
    return any_base64_bytes(texts[1], field=f"{holder.path}.{member}", id=ID)


def _wrong(
    holder: JsonObject,
    member: str,
    problem: str,
    *,
    got: str | None = None,
    want: str | None = None,
) -> MalformedEvidence:
    field = f"{holder.path}.{member}"
    shown = None if got is None else ascii(got)[:80]
    return MalformedEvidence(f"{field}: {problem}", id=ID, field=field, got=shown, want=want)
