"""Whole bodies in frames (Encrypted HTTP Body Protocol, Tinfoil).

A body is frames of ``length u32 || ciphertext``. The request's are HPKE (X25519, HKDF-SHA256,
AES-256-GCM, info ``ehbp request``); the answer's key comes from the request's exporter secret and
the answer's nonce. Headers stay plain. Nothing marks the end of a body: that an answer is whole is
for HTTP's own framing and the stream's last event to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from teeverify.e2ee.hpke import expand, extract, sender
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import ResponseNotVerified, TeeVerifyError

__all__ = ["Opener", "SealedBody", "seal_body"]

_REQUEST, _RESPONSE = b"ehbp request", b"ehbp response"
_HEADER, _NONCE_HEADER = "Ehbp-Encapsulated-Key", "ehbp-response-nonce"
_SIZE, _NONCE, _LENGTH, _TAG = 32, 12, 4, 16
_LARGEST_FRAME = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedBody:
    """A sealed request.

    Attributes:
        body: What is sent.
        headers: What is sent with it.
        secret: Opens the answer; of this request alone.
        encapsulated: The request's own public key.
    """

    body: bytes
    headers: Mapping[str, str]
    secret: bytes = field(repr=False)
    encapsulated: bytes

    def opener(self, headers: Mapping[str, str]) -> Opener:
        """Open the answer that has these headers.

        Raises:
            ResponseNotVerified: The answer is not encrypted.
        """
        found = {name.lower(): value for name, value in headers.items()}.get(_NONCE_HEADER)
        if found is None:
            raise ResponseNotVerified(
                "the request was encrypted, and the answer is not", id="e2ee.plaintext"
            )
        try:
            nonce = hex_bytes(found, field=_NONCE_HEADER, id="e2ee.open", length=_SIZE)
        except TeeVerifyError:
            raise ResponseNotVerified(
                "the answer's nonce is none", id="e2ee.open", got=found[:80]
            ) from None
        return Opener(*derive(self.secret, self.encapsulated, nonce))


def seal_body(public: bytes, body: bytes) -> SealedBody:
    """Seal a whole body to an attested HPKE key.

    Raises:
        MalformedEvidence: The key is no X25519 key.
    """
    context = sender(public, _REQUEST)
    sealed = context.seal(body)
    return SealedBody(
        body=len(sealed).to_bytes(_LENGTH, "big") + sealed,
        headers={_HEADER: context.encapsulated.hex()},
        secret=context.export(_RESPONSE, _SIZE),
        encapsulated=context.encapsulated,
    )


def derive(secret: bytes, encapsulated: bytes, nonce: bytes) -> tuple[bytes, bytes]:
    """The answer's key and base nonce."""
    key = extract(encapsulated + nonce, secret)
    return expand(key, b"key", _SIZE), expand(key, b"nonce", _NONCE)


class Opener:
    """Opens an answer piece by piece, however the network cut it.

    Args:
        key: The answer's key.
        base_nonce: Its base nonce.
    """

    def __init__(self, key: bytes, base_nonce: bytes) -> None:
        self._cipher = AESGCM(key)
        self._base = int.from_bytes(base_nonce, "big")
        self._number = 0
        self._kept = b""

    def feed(self, piece: bytes) -> bytes:
        """The text of the frames that are whole by now.

        Raises:
            ResponseNotVerified: A frame was changed, left out or moved.
        """
        self._kept += piece
        out = b""
        while len(self._kept) >= _LENGTH:
            length = int.from_bytes(self._kept[:_LENGTH], "big")
            if not _TAG <= length <= _LARGEST_FRAME:
                raise ResponseNotVerified(
                    "a frame of the answer has no possible length", id="e2ee.open", got=str(length)
                )
            if len(self._kept) < _LENGTH + length:
                break
            frame, self._kept = (
                self._kept[_LENGTH : _LENGTH + length],
                self._kept[_LENGTH + length :],
            )
            out += self._open(frame)
        return out

    def finish(self) -> None:
        """Say that nothing more comes.

        Raises:
            ResponseNotVerified: A frame is cut.
        """
        if self._kept:
            raise ResponseNotVerified("the answer's last frame is cut", id="e2ee.open")

    def _open(self, frame: bytes) -> bytes:
        nonce = (self._base ^ self._number).to_bytes(_NONCE, "big")
        self._number += 1
        try:
            return self._cipher.decrypt(nonce, frame, b"")
        except InvalidTag:
            raise ResponseNotVerified(
                "a frame of the answer was changed, left out or moved", id="e2ee.open"
            ) from None
