"""Each provider's way to seal a chat request: headers, keys, additional data.

In all of them the key for the answer is a header that nothing protects: whoever forwards the
request can put his own key there, read the answer and seal it anew for the asker. So the request
is confidential, and the answer only against those who merely listen.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from teeverify.e2ee.boxes import (
    Box,
    EciesSecp256k1,
    NaclXChaCha,
    PrivateKey,
    X25519AesGcm,
    X25519XChaCha,
)
from teeverify.e2ee.fields import AnswerAad, Envelope, RequestAad, read_chat, seal_messages
from teeverify.errors import ConfigurationError

__all__ = ["SCHEMES", "Scheme", "seal_request"]

_ECIES, _PHALA, _NEAR_V1, _NEAR_V2 = (
    EciesSecp256k1(),
    X25519AesGcm(),
    NaclXChaCha(),
    X25519XChaCha(),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What one request's headers and additional data are made of."""

    algorithm: str
    model: str
    public: str
    own: str
    nonce: str
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One provider's way.

    Attributes:
        about: One line for ``teeverify providers``.
        boxes: The box of each kind of key.
        headers: What is sent with a request.
        bound: Whether texts are tied to their place, the model and the time.
        parts_together: Whether a message in parts is sealed as a whole.
        confirm: Headers that an answer must have.
    """

    about: str
    boxes: Mapping[str, Box]
    headers: Callable[[_Asked], dict[str, str]]
    bound: bool = False
    parts_together: bool = True
    confirm: Mapping[str, str]


def _near(version: int) -> Callable[[_Asked], dict[str, str]]:
    return lambda asked: {
        "X-Signing-Algo": asked.algorithm,
        "X-Client-Pub-Key": asked.own,
        "X-Model-Pub-Key": asked.public,
        "X-Encryption-Version": str(version),
    }


def _phala_v1(asked: _Asked) -> dict[str, str]:
    return {
        "X-Signing-Algo": asked.algorithm,
        "X-Client-Pub-Key": asked.own,
        "X-Model-Pub-Key": asked.public,
    }


def _phala_v2(asked: _Asked) -> dict[str, str]:
    return {
        **_phala_v1(asked),
        "X-E2EE-Version": "2",
        "X-E2EE-Nonce": asked.nonce,
        "X-E2EE-Timestamp": str(asked.time),
    }


def _venice(asked: _Asked) -> dict[str, str]:
    # Without any one of the three the server answers in plain text, and says nothing.
    return {
        "X-Venice-TEE-Client-Pub-Key": f"04{asked.own}",
        "X-Venice-TEE-Model-Pub-Key": f"04{asked.public}",
        "X-Venice-TEE-Signing-Algo": asked.algorithm,
    }


_APPLIED = {"x-e2ee-applied": "true"}
SCHEMES: Mapping[str, Scheme] = {
    "near-v1": Scheme(
        about="NEAR AI, version 1: ECIES or NaCl's box, texts not tied to their place",
        boxes={"ecdsa": _ECIES, "ed25519": _NEAR_V1},
        headers=_near(1),
        confirm={},
    ),
    "near-v2": Scheme(
        about="NEAR AI, version 2: ECIES or XChaCha20-Poly1305, texts not tied to their place",
        boxes={"ecdsa": _ECIES, "ed25519": _NEAR_V2},
        headers=_near(2),
        confirm={},
    ),
    "phala-v1": Scheme(
        about="Phala, version 1: AES-256-GCM, texts not tied to their place",
        boxes={"ecdsa": _ECIES, "ed25519": _PHALA},
        headers=_phala_v1,
        parts_together=False,
        confirm=_APPLIED,
    ),
    "phala-v2": Scheme(
        about="Phala, version 2: AES-256-GCM, texts tied to place, model, nonce and time",
        boxes={"ecdsa": _ECIES, "ed25519": _PHALA},
        headers=_phala_v2,
        bound=True,
        parts_together=False,
        confirm={**_APPLIED, "x-e2ee-version": "2"},
    ),
    "venice": Scheme(
        about="Venice: ECIES, texts not tied to their place",
        boxes={"ecdsa": _ECIES},
        headers=_venice,
        confirm={"x-venice-tee": "true"},
    ),
}


def seal_request(
    scheme: str, algorithm: str, public: bytes, request: bytes, *, at: datetime
) -> Envelope:
    """Seal a chat request to an attested key.

    Args:
        scheme: One of :data:`SCHEMES`.
        algorithm: ``ecdsa`` or ``ed25519``: which of the endpoint's keys was attested.
        public: That public key: 64 bytes ``x || y``, or 32.
        request: The request's JSON.
        at: When it is sent.

    Returns:
        What to send, and what opens the answer.

    Raises:
        ConfigurationError: No such scheme; or the request holds what would stay readable.
        MalformedEvidence: The key is none.
    """
    chosen = SCHEMES.get(scheme)
    box = None if chosen is None else chosen.boxes.get(algorithm)
    if chosen is None or box is None:
        raise ConfigurationError(
            "no such way to encrypt",
            id="usage.e2ee",
            got=f"{scheme}, {algorithm}"[:80],
            want=", ".join(SCHEMES),
        )
    chat = read_chat(request)
    key = box.new_key()
    asked = _Asked(
        algorithm=algorithm,
        model=chat["model"],
        public=public.hex(),
        own=key.public.hex(),
        nonce=secrets.token_hex(16),
        time=int(at.timestamp()),
    )
    body = seal_messages(
        chat,
        box,
        public,
        _request_aad(asked) if chosen.bound else lambda _message, _part: b"",
        parts_together=chosen.parts_together,
    )
    return _envelope(chosen, asked, key, body)


def _envelope(scheme: Scheme, asked: _Asked, key: PrivateKey, body: bytes) -> Envelope:
    return Envelope(
        body=body,
        headers=scheme.headers(asked),
        key=key,
        aad=_answer_aad(asked) if scheme.bound else lambda *_place: b"",
        confirm=scheme.confirm,
    )


def _request_aad(asked: _Asked) -> RequestAad:
    def aad(message: int, part: int | None) -> bytes:
        place = f"m={message}|c={'-' if part is None else part}"
        start = f"v2|req|algo={asked.algorithm}|model={asked.model}"
        return f"{start}|{place}|n={asked.nonce}|ts={asked.time}".encode()

    return aad


def _answer_aad(asked: _Asked) -> AnswerAad:
    def aad(model: str, answer_id: str, choice: int, name: str) -> bytes:
        start = f"v2|resp|algo={asked.algorithm}|model={model}|id={answer_id}"
        end = f"choice={choice}|field={name}|n={asked.nonce}|ts={asked.time}"
        return f"{start}|{end}".encode()

    return aad
