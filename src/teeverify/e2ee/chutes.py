"""Whole bodies under ML-KEM-768 (Chutes): request, answer and stream.

The public key of an instance (1,184 bytes) is bound to its quote (binding ``chutes``). A request is
``KEM ciphertext 1088 || nonce 12 || ChaCha20-Poly1305``, its text gzip of JSON that carries a fresh
key for the answer. Chunks of a stream have no numbers: that one was left out, moved or repeated
cannot be seen, and no answer is signed. So nothing here proves an answer; it keeps a secret.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from teeverify.encoding.strict import base64_bytes, json_value
from teeverify.errors import (
    ConfigurationError,
    MalformedEvidence,
    ResponseNotVerified,
    TeeVerifyError,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

__all__ = ["SealedCall", "StreamOpener", "seal_call"]

_OPEN, _PLAIN = "e2ee.open", "e2ee.plaintext"
_PUBLIC, _CIPHERTEXT, _NONCE, _TAG, _SALT = 1184, 1088, 12, 16, 16
_REQUEST, _RESPONSE, _STREAM = b"e2e-req-v1", b"e2e-resp-v1", b"e2e-stream-v1"
_LARGEST = 64 * 2**20
_DATA = b"data: "


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedCall:
    """A sealed request.

    Attributes:
        body: What is sent.
        key: Opens the answer; of this request alone.
    """

    body: bytes
    key: MLKEM768PrivateKey = field(repr=False)

    def open(self, body: bytes) -> bytes:
        """A whole answer.

        Raises:
            ResponseNotVerified: It was changed, or is somebody else's.
        """
        if len(body) < _CIPHERTEXT + _NONCE + _TAG:
            raise _not_ours()
        shared = _decapsulate(self.key, body[:_CIPHERTEXT])
        return _unzip(_decrypt(_key(shared, body[:_CIPHERTEXT], _RESPONSE), body[_CIPHERTEXT:]))

    def opener(self) -> StreamOpener:
        """Opens a streamed answer event by event."""
        return StreamOpener(self.key)


def seal_call(public: bytes, request: Mapping[str, object]) -> SealedCall:
    """Seal a call to the attested key of an instance.

    Args:
        public: The instance's ML-KEM-768 key, 1,184 bytes.
        request: The call's JSON members.

    Raises:
        ConfigurationError: This ``cryptography`` has no ML-KEM.
        MalformedEvidence: The key is none.
    """
    mlkem = _mlkem()
    try:
        recipient = mlkem.MLKEM768PublicKey.from_public_bytes(public)
    except ValueError:
        raise MalformedEvidence(
            "the key to encrypt to is no ML-KEM-768 key",
            id="e2ee.key",
            field="e2ee.key",
            need=_PUBLIC,
            have=len(public),
        ) from None
    own = mlkem.MLKEM768PrivateKey.generate()
    answer_key = base64.b64encode(own.public_key().public_bytes_raw()).decode()
    text = gzip.compress(json.dumps({**request, "e2e_response_pk": answer_key}).encode())
    shared, ciphertext = recipient.encapsulate()
    nonce = os.urandom(_NONCE)
    cipher = ChaCha20Poly1305(_key(shared, ciphertext, _REQUEST))
    return SealedCall(body=ciphertext + nonce + cipher.encrypt(nonce, text, None), key=own)


class StreamOpener:
    """Opens a stream: its first event carries the key, the others a piece of the answer each.

    Args:
        key: The request's own key.
    """

    def __init__(self, key: MLKEM768PrivateKey) -> None:
        self._private = key
        self._key: bytes | None = None
        self._kept = b""
        self.done = False

    def feed(self, piece: bytes) -> bytes:
        """The text of the events that are whole by now.

        Raises:
            ResponseNotVerified: An event is plain, was changed, or is somebody else's.
        """
        *whole, self._kept = (self._kept + piece).split(b"\n\n")
        if len(self._kept) > _LARGEST:
            raise ResponseNotVerified("an event of the answer has no end", id=_OPEN)
        return b"".join(self._event(event) for event in whole)

    def finish(self) -> None:
        """Say that nothing more comes: only an encrypted ``[DONE]`` ends an answer.

        Raises:
            ResponseNotVerified: It has not come.
        """
        if not self.done or self._kept.strip():
            raise ResponseNotVerified("the answer broke off before its end", id=_OPEN)

    def _event(self, event: bytes) -> bytes:
        if event.startswith(b":") or event == _DATA + b"[DONE]":
            return b""  # plain, so anybody's: it ends nothing
        try:
            if not event.startswith(_DATA):
                raise _not_ours()
            members = json_value(event[len(_DATA) :], field="answer", id=_OPEN)
        except TeeVerifyError:
            raise ResponseNotVerified("an event of the answer is no JSON", id=_OPEN) from None
        if not isinstance(members, dict):
            raise ResponseNotVerified("an event of the answer is no object", id=_OPEN)
        if set(members) == {"e2e_init"} and self._key is None:
            ciphertext = _decoded(members["e2e_init"])
            self._key = _key(_decapsulate(self._private, ciphertext), ciphertext, _STREAM)
            return b""
        if set(members) == {"e2e"} and self._key is not None and not self.done:
            text = _decrypt(self._key, _decoded(members["e2e"]))
            self.done = text.strip() == _DATA + b"[DONE]"
            return text
        if set(members) == {"usage"}:
            return b""  # plain: whoever forwards it may write it
        raise ResponseNotVerified(
            "the request was encrypted, and an event of the answer is not",
            id=_PLAIN,
            got=", ".join(sorted(map(str, members)))[:80],
        )


def _mlkem() -> ModuleType:
    try:
        from cryptography.hazmat.primitives.asymmetric import mlkem  # noqa: PLC0415

        mlkem.MLKEM768PrivateKey.generate()
    except (ImportError, UnsupportedAlgorithm):
        raise ConfigurationError(
            "this release of cryptography has no ML-KEM",
            id="usage.extra",
            hint="pip install --upgrade cryptography",
        ) from None
    return mlkem


def _key(shared: bytes, ciphertext: bytes, info: bytes) -> bytes:
    kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=ciphertext[:_SALT], info=info)
    return kdf.derive(shared)


def _decapsulate(key: MLKEM768PrivateKey, ciphertext: bytes) -> bytes:
    try:
        return key.decapsulate(ciphertext)
    except ValueError:
        raise _not_ours() from None


def _decrypt(key: bytes, sealed: bytes) -> bytes:
    if len(sealed) < _NONCE + _TAG:
        raise _not_ours()
    try:
        return ChaCha20Poly1305(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
    except InvalidTag:
        raise _not_ours() from None


def _unzip(packed: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            text = file.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error):
        raise ResponseNotVerified("the opened answer is no gzip", id=_OPEN) from None
    if len(text) > _LARGEST:
        raise ResponseNotVerified("the opened answer is too large", id=_OPEN)
    return text


def _decoded(value: object) -> bytes:
    try:
        return base64_bytes(value, field="answer", id=_OPEN)
    except TeeVerifyError:
        raise _not_ours() from None


def _not_ours() -> ResponseNotVerified:
    return ResponseNotVerified(
        "the answer cannot be opened with this request's key: it was sealed for somebody else, or "
        "was changed",
        id=_OPEN,
    )
