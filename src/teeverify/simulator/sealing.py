"""The enclave's side of encryption: it opens requests, and seals answers as each provider does.

What it does not do is tell who asks: the key for the answer is whatever the headers say, as with
the providers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.e2ee.boxes import Box
from teeverify.e2ee.dialects import SCHEMES
from teeverify.e2ee.ehbp import derive
from teeverify.e2ee.hpke import receiver
from teeverify.errors import ResponseNotVerified, TeeVerifyError
from teeverify.simulator.keys import SimulatedKey

__all__ = ["FieldSealing", "FrameSealing", "KeyRefused", "Opened"]

_TEXTS = ("content", "reasoning_content", "reasoning")
_POINT = 65
_NONCE = 32


class KeyRefused(TeeVerifyError):
    """The request was sealed to another key: the providers answer 400, or 422 (EHBP)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A request that was opened.

    Attributes:
        body: What was asked.
        headers: What the answer's headers say.
        seal: Seals the answer: its body, and whether it is a stream.
    """

    body: bytes
    headers: Mapping[str, str]
    seal: Callable[[bytes, bool], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldSealing:
    """A machine that speaks NEAR's, Phala's or Venice's scheme.

    Attributes:
        scheme: Its name.
        key: The machine's signing key, which requests are sealed to.
    """

    scheme: str
    key: SimulatedKey

    def open(self, headers: Mapping[str, str], body: bytes) -> Opened | None:
        """Open a request; ``None`` where its headers do not ask for encryption.

        Args:
            headers: The request's, names in lower case.
            body: Its body.

        Raises:
            KeyRefused: It was sealed to another key.
        """
        prefix = "x-venice-tee-" if self.scheme == "venice" else "x-"
        names = (f"{prefix}client-pub-key", f"{prefix}model-pub-key", f"{prefix}signing-algo")
        asker, model, algorithm = (headers.get(name) for name in names)
        if asker is None or model is None or algorithm is None:
            return None  # as Venice does: it answers in plain text, and says nothing
        if bytes.fromhex(model)[-len(self.key.public_bytes) :] != self.key.public_bytes:
            raise KeyRefused("another model's key", id="e2ee.key")
        box = SCHEMES[self.scheme].boxes[algorithm]
        document = json.loads(body)
        own = box.new_key(self.key.secret_bytes)
        request = _Aad(self.scheme, algorithm, headers)
        for number, message in enumerate(document["messages"]):
            content = message["content"]
            if isinstance(content, str):
                aad = request.of_request(document["model"], number, None)
                message["content"] = own.open(bytes.fromhex(content), aad).decode()
                continue
            for place, part in enumerate(content):
                aad = request.of_request(document["model"], number, place)
                part["text"] = own.open(bytes.fromhex(part["text"]), aad).decode()
        public = bytes.fromhex(asker)
        public = public[1:] if len(public) == _POINT else public
        return Opened(
            body=json.dumps(document).encode(),
            headers=dict(SCHEMES[self.scheme].confirm),
            seal=lambda answer, stream: _sealed(answer, stream, box, public, request),
        )


@dataclass(frozen=True, slots=True)
class _Aad:
    """Additional data, of Phala's second version alone."""

    scheme: str
    algorithm: str
    headers: Mapping[str, str]

    def of_request(self, model: str, message: int, part: int | None) -> bytes:
        return self._text(
            f"v2|req|algo={self.algorithm}|model={model}",
            f"m={message}|c={'-' if part is None else part}",
        )

    def of_answer(self, document: Mapping[str, Any], choice: int, name: str) -> bytes:
        start = f"v2|resp|algo={self.algorithm}|model={document['model']}|id={document['id']}"
        return self._text(start, f"choice={choice}|field={name}")

    def _text(self, start: str, place: str) -> bytes:
        if self.scheme != "phala-v2":
            return b""
        nonce, time = self.headers["x-e2ee-nonce"], self.headers["x-e2ee-timestamp"]
        return f"{start}|{place}|n={nonce}|ts={time}".encode()


def _sealed(answer: bytes, stream: bool, box: Box, public: bytes, aad: _Aad) -> bytes:  # noqa: FBT001
    if not stream:
        return json.dumps(_document(json.loads(answer), "message", box, public, aad)).encode()
    events = []
    for event in answer.split(b"\n\n"):
        if event.startswith(b"data: {"):
            document = _document(json.loads(event[6:]), "delta", box, public, aad)
            events.append(b"data: " + json.dumps(document).encode())
        else:
            events.append(event)
    return b"\n\n".join(events)


def _document(
    document: dict[str, Any], where: str, box: Box, public: bytes, aad: _Aad
) -> dict[str, Any]:
    for choice in document["choices"]:
        message = choice[where]
        for name in _TEXTS:
            if message.get(name):
                data = aad.of_answer(document, choice["index"], name)
                message[name] = box.seal(public, message[name].encode(), data).hex()
    return document


class FrameSealing:
    """A machine that speaks EHBP, with a random HPKE key."""

    def __init__(self) -> None:
        self._key = X25519PrivateKey.generate()

    @property
    def public(self) -> bytes:
        """The key that evidence binds."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def open(self, headers: Mapping[str, str], body: bytes) -> Opened | None:
        """Open a request; ``None`` where it is not encrypted.

        Args:
            headers: The request's, names in lower case.
            body: Its body.

        Raises:
            KeyRefused: It was sealed to another key.
        """
        shown = headers.get("ehbp-encapsulated-key")
        if shown is None:
            return None
        encapsulated, nonce = bytes.fromhex(shown), os.urandom(_NONCE)
        context = receiver(self._key, encapsulated, b"ehbp request")
        try:
            text = b"".join(context.open(frame) for frame in _frames(body))
        except ResponseNotVerified:
            raise KeyRefused("another key configuration", id="e2ee.key") from None
        key, base = derive(context.export(b"ehbp response", 32), encapsulated, nonce)

        def seal(answer: bytes, stream: bool) -> bytes:  # noqa: FBT001
            pieces = answer.splitlines(keepends=True) if stream else [answer]
            sealed = (
                AESGCM(key).encrypt(_nonce(base, number), piece, b"")
                for number, piece in enumerate(pieces)
            )
            return b"".join(len(one).to_bytes(4, "big") + one for one in sealed)

        return Opened(body=text, headers={"Ehbp-Response-Nonce": nonce.hex()}, seal=seal)


def _frames(body: bytes) -> list[bytes]:
    frames = []
    while body:
        size = int.from_bytes(body[:4], "big")
        frames.append(body[4 : 4 + size])
        body = body[4 + size :]
    return frames


def _nonce(base: bytes, number: int) -> bytes:
    return (int.from_bytes(base, "big") ^ number).to_bytes(len(base), "big")
