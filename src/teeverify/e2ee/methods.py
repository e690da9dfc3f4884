"""Every scheme as one thing: what seals a request, to which attested key, and opens its answer.

A dialect names its method (``Dialect.encryption``); whoever sends asks for no more than this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

from teeverify.e2ee.chutes import seal_call
from teeverify.e2ee.dialects import SCHEMES, seal_request
from teeverify.e2ee.ehbp import seal_body
from teeverify.encoding.strict import json_value
from teeverify.errors import ConfigurationError, TeeVerifyError

__all__ = ["METHODS", "Method", "Opener", "Sealed"]

_EVENTS = "text/event-stream"
Headers: TypeAlias = Mapping[str, str]


class Opener(Protocol):
    """Opens an answer piece by piece, however the network cut it."""

    def feed(self, piece: bytes) -> bytes:
        """What can be read by now.

        Raises:
            ResponseNotVerified: A part is plain, was changed, or is somebody else's.
        """

    def finish(self) -> None:
        """Say that nothing more comes.

        Raises:
            ResponseNotVerified: A part is cut.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A sealed request, of whichever method.

    Attributes:
        method: The method.
        public: The key that it is sealed to.
        text: What was sealed.
        body: What is sent, and what a signature is about.
        headers: What is sent with it.
        begin: From the answer's headers to what opens its pieces; ``None`` where it must be whole.
        whole: Opens an answer that is no stream, by its headers and its body.
    """

    method: Method
    public: bytes
    text: bytes = field(repr=False)
    body: bytes
    headers: Headers
    begin: Callable[[Headers], Opener] = field(repr=False)
    whole: Callable[[Headers, bytes], bytes] = field(repr=False)

    def opener(self, headers: Headers) -> Opener:
        """Open a streamed answer piece by piece.

        Raises:
            ResponseNotVerified: The headers say that it is not encrypted.
        """
        return self.begin(headers)

    def open(self, headers: Headers, body: bytes) -> bytes:
        """Open a whole answer: a stream's events, or one document.

        Args:
            headers: The answer's headers.
            body: Its body.

        Raises:
            ResponseNotVerified: A part is plain, was changed, or is somebody else's.
        """
        named = {name.lower(): value for name, value in headers.items()}
        if not named.get("content-type", "").lower().startswith(_EVENTS):
            return self.whole(headers, body)
        opener = self.begin(headers)
        text = opener.feed(body)
        opener.finish()
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One way to seal requests.

    Attributes:
        name: Its name.
        about: One line for people.
        to: Which of the values that evidence binds is the key to seal to.
        both_ways: Whether the answer's key follows from what only the attested key opens.
        seal: Seals a request to a key of a kind (``ecdsa``, ``ed25519``, ``hpke``,
            ``ml-kem-768``), at a time that the caller gives.
        routes: The routes whose requests it seals, below a dialect's root; none where a call takes
            more than a request and a key.
    """

    name: str
    about: str
    to: Literal["key", "hpke_key", "e2e_public_key"]
    both_ways: bool
    seal: Callable[[str, bytes, bytes, datetime], Sealed] = field(repr=False)
    routes: tuple[str, ...]


def _by_fields(name: str, algorithm: str, public: bytes, request: bytes, at: datetime) -> Sealed:
    envelope = seal_request(name, algorithm, public, request, at=at)

    def begin(headers: Headers) -> Opener:
        envelope.require_applied(headers)
        return envelope.opener()

    def whole(headers: Headers, body: bytes) -> bytes:
        envelope.require_applied(headers)
        return envelope.open(body)

    return Sealed(
        method=METHODS[name],
        public=public,
        text=request,
        body=envelope.body,
        headers=envelope.headers,
        begin=begin,
        whole=whole,
    )


def _by_frames(algorithm: str, public: bytes, request: bytes, at: datetime) -> Sealed:
    del at
    if algorithm != "hpke":
        raise ConfigurationError(
            "no such way to encrypt", id="usage.e2ee", got=f"ehbp, {algorithm}"[:80], want="hpke"
        )
    sealed = seal_body(public, request)

    def whole(headers: Headers, body: bytes) -> bytes:
        opener = sealed.opener(headers)
        text = opener.feed(body)
        opener.finish()
        return text

    return Sealed(
        method=METHODS["ehbp"],
        public=public,
        text=request,
        body=sealed.body,
        headers=sealed.headers,
        begin=sealed.opener,
        whole=whole,
    )


def _by_kem(algorithm: str, public: bytes, request: bytes, at: datetime) -> Sealed:
    del at
    try:
        members = json_value(request, field="request", id="usage.e2ee")
    except TeeVerifyError as error:
        raise ConfigurationError(error.message, id="usage.e2ee") from None
    if algorithm != "ml-kem-768" or not isinstance(members, dict):
        raise ConfigurationError(
            "no such way to encrypt",
            id="usage.e2ee",
            got=f"chutes, {algorithm}"[:80],
            want="a JSON object, and a key of ml-kem-768",
        )
    sealed = seal_call(public, members)
    stream = "true" if members.get("stream") is True else "false"
    return Sealed(
        method=METHODS["chutes"],
        public=public,
        text=request,
        body=sealed.body,
        headers={"Content-Type": "application/octet-stream", "X-E2E-Stream": stream},
        begin=lambda _headers: sealed.opener(),
        whole=lambda _headers, body: sealed.open(body),
    )


_CHAT = ("/chat/completions",)

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        **{
            name: Method(
                name=name,
                about=scheme.about,
                to="key",
                both_ways=False,
                seal=partial(_by_fields, name),
                routes=_CHAT,
            )
            for name, scheme in SCHEMES.items()
        },
        "ehbp": Method(
            name="ehbp",
            about="EHBP: whole bodies under HPKE, in both directions",
            to="hpke_key",
            both_ways=True,
            seal=_by_frames,
            routes=(*_CHAT, "/completions", "/embeddings"),
        ),
        "chutes": Method(
            name="chutes",
            about="Chutes: whole bodies under ML-KEM-768, in both directions",
            to="e2e_public_key",
            both_ways=True,
            seal=_by_kem,
            routes=(),
        ),
    }
)
"""All methods, by name."""
