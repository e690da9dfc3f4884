"""The signed statements of ``teeverify/1`` (docs/protocol.md): what is said of one exchange.

A statement is JSON in its one canonical form (RFC 8785) with exactly these members; anything else
is refused, so that no two readers can read two things in it.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from teeverify.binding import SigningKey
from teeverify.crypto.ed25519 import verify_ed25519
from teeverify.crypto.eip712 import domain_separator, typed_digest, typed_hash
from teeverify.crypto.ethereum import keccak256, recover_address
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.jcs import canonical_json
from teeverify.encoding.strict import base64_bytes, hex_bytes
from teeverify.errors import ResponseNotVerified, SignatureInvalid
from teeverify.responses.statement_members import (
    ID,
    ascii_text,
    exactly,
    hash32,
    matching,
    number,
    refuse,
)

__all__ = [
    "END",
    "MAX_STATEMENT",
    "Signed",
    "Statement",
    "parse_signed",
    "parse_statement",
    "read_header",
    "read_trailer",
    "write_header",
    "write_signed",
    "write_trailer",
]

End: TypeAlias = Literal["complete", "aborted"]
END: Mapping[str, int] = {"complete": 1, "aborted": 2}
MAX_STATEMENT = 4096
_TYPE = "teeverify/1 statement"
_SIGNED_TYPE = "teeverify/1 signature"
_MESSAGE = b"teeverify/1 stmt"
_ANSWER = (
    "Answer(bytes32 statement,bytes32 instance,bytes32 challenge,bytes32 request,bytes32 response,"
    "uint64 sequence,uint64 time,uint16 status,uint8 end)"
)
_ANSWER_TYPE = keccak256(_ANSWER.encode("ascii"))
_SEPARATOR = domain_separator("teeverify", "1")
_HASH = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"tv1-[0-9a-f]{32}")
_ZERO = bytes(32)
_MAX_STATUS = 599
# The order is the order of the header and the trailer.
_ALGORITHMS = ("secp256k1", "ed25519")
_SIZES = {"secp256k1": 65, "ed25519": 64}
_MEMBERS = {
    "challenge",
    "end",
    "engine",
    "id",
    "instance",
    "request",
    "response",
    "sequence",
    "time_ms",
    "type",
}
_ENGINE = {"kind", "location", "model", "weights"}
_REQUEST = {"content_type", "hash", "length", "method", "target"}
_RESPONSE = {"content_type", "events", "hash", "length", "status", "upstream_id"}
_TRAILER = b": teeverify/1"
_TRAILER_LINE = re.compile(rb": teeverify/1 ([A-Za-z0-9_-]+) ([ -~]+)\n\n")
_ANY_TRAILER = re.compile(rb"(?:^|[\n\r])" + re.escape(_TRAILER))


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What a process of the server says of one exchange.

    Attributes:
        challenge: The client's challenge; ``None`` where it gave none.
        end: Whether the answer left to its end.
        engine: Kind, location, model and weights of the engine, from the configuration.
        id: The name of the exchange.
        instance: The name of the process.
        method: Method of the request.
        target: Its path and query, as received.
        request_type: Its content type.
        request_hash: Hash of its content; ``None`` where it was not read to its end.
        request_length: Its length.
        status: Status of the answer; 0 where none had left.
        response_type: The answer's content type.
        response_hash: Hash of the answer's content, as far as it left.
        response_length: Its length.
        events: How many events of a stream left; ``None`` for other answers.
        upstream_id: The id that the engine gave the answer.
        sequence: Which statement of the process this is, from 1.
        time_ms: When it was made, in Unix milliseconds, by the host's clock.
    """

    challenge: bytes | None
    end: End
    engine: Mapping[str, str]
    id: str
    instance: bytes
    method: str
    target: str
    request_type: str
    request_hash: str | None
    request_length: int
    status: int
    response_type: str
    response_hash: str
    response_length: int
    events: int | None
    upstream_id: str | None
    sequence: int
    time_ms: int
    _raw: list[bytes] = field(default_factory=list, init=False, repr=False, compare=False)

    def to_bytes(self) -> bytes:
        """The canonical bytes.

        Raises:
            MalformedEvidence: It has none: text that is not ASCII, or it is too large.
        """
        if not self._raw:
            raw = canonical_json(self._members(), field="statement", id=ID)
            if len(raw) > MAX_STATEMENT or not raw.isascii():
                refuse("too large, or not ASCII", field="statement", got=f"{len(raw)} bytes")
            self._raw.append(raw)
        return self._raw[0]

    def _members(self) -> dict[str, object]:
        return {
            "challenge": None if self.challenge is None else self.challenge.hex(),
            "end": self.end,
            "engine": dict(self.engine),
            "id": self.id,
            "instance": self.instance.hex(),
            "request": {
                "content_type": self.request_type,
                "hash": self.request_hash,
                "length": self.request_length,
                "method": self.method,
                "target": self.target,
            },
            "response": {
                "content_type": self.response_type,
                "events": self.events,
                "hash": self.response_hash,
                "length": self.response_length,
                "status": self.status,
                "upstream_id": self.upstream_id,
            },
            "sequence": self.sequence,
            "time_ms": self.time_ms,
            "type": _TYPE,
        }

    @property
    def typed(self) -> tuple[bytes | int, ...]:
        """The members of EIP-712's ``Answer``, in order."""
        return (
            hashlib.sha256(self.to_bytes()).digest(),
            self.instance,
            self.challenge or _ZERO,
            _hash_bytes(self.request_hash),
            _hash_bytes(self.response_hash),
            self.sequence,
            self.time_ms,
            self.status,
            END[self.end],
        )

    @property
    def digest(self) -> bytes:
        """What the secp256k1 key signs: the digest of EIP-712's ``Answer``."""
        return typed_digest(_SEPARATOR, typed_hash(_ANSWER_TYPE, self.typed))

    @property
    def message(self) -> bytes:
        """What the Ed25519 key signs."""
        return _MESSAGE + self.to_bytes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """A statement with its signatures. Nothing in it is verified.

    Attributes:
        statement: The statement.
        signatures: By algorithm: ``secp256k1`` and ``ed25519``, or one of them.
    """

    statement: Statement
    signatures: Mapping[str, bytes]

    def verify(self, keys: tuple[SigningKey, ...]) -> None:
        """Verify the signatures: of each of these keys one, and no other.

        Raises:
            SignatureInvalid: One is missing, one is too many, or one is of another key.
        """
        names = {"ecdsa": "secp256k1", "ed25519": "ed25519"}
        want = {names[key.algorithm]: key for key in keys}
        if set(want) != set(self.signatures) or not want:
            raise SignatureInvalid(
                "the statement is not signed by exactly the keys that the evidence binds",
                id=ID,
                got=" and ".join(sorted(self.signatures)) or "no signature",
                want=" and ".join(sorted(want)) or "a bound key",
            )
        if "secp256k1" in want:
            address = recover_address(self.statement.digest, self.signatures["secp256k1"], id=ID)
            if address != want["secp256k1"].identifier:
                raise SignatureInvalid(
                    "the statement was not signed by the key that the evidence binds",
                    id=ID,
                    got=str(SigningKey("ecdsa", address)),
                    want=str(want["secp256k1"]),
                )
        if "ed25519" in want:
            verify_ed25519(
                want["ed25519"].identifier,
                self.signatures["ed25519"],
                self.statement.message,
                id=ID,
                what="the statement's signature",
            )


def parse_statement(raw: bytes) -> Statement:
    """Read a statement.

    Raises:
        MalformedEvidence: Other members than a statement has, or other bytes than its canonical
            ones.
    """
    if len(raw) > MAX_STATEMENT:
        refuse("too large", field="statement", got=f"{len(raw)} bytes")
    top = JsonObject.parse(raw, path="statement", id=ID)
    exactly(top, _MEMBERS)
    if top.raw("type") != _TYPE:
        refuse("another version", field="statement.type", got=repr(top.raw("type"))[:40])
    request, response = top.object("request"), top.object("response")
    exactly(request, _REQUEST)
    exactly(response, _RESPONSE)
    statement = Statement(
        challenge=hash32(top, "challenge") if top.raw("challenge") is not None else None,
        end=_end(top),
        engine=_engine(top.object("engine")),
        id=matching(top, "id", _NAME),
        instance=hash32(top, "instance"),
        method=ascii_text(request, "method"),
        target=ascii_text(request, "target"),
        request_type=ascii_text(request, "content_type"),
        request_hash=None if request.raw("hash") is None else matching(request, "hash", _HASH),
        request_length=number(request, "length"),
        status=number(response, "status", most=_MAX_STATUS),
        response_type=ascii_text(response, "content_type"),
        response_hash=matching(response, "hash", _HASH),
        response_length=number(response, "length"),
        events=None if response.raw("events") is None else number(response, "events"),
        upstream_id=None
        if response.raw("upstream_id") is None
        else ascii_text(response, "upstream_id"),
        sequence=number(top, "sequence", least=1),
        time_ms=number(top, "time_ms"),
    )
    if statement.to_bytes() != raw:
        refuse("not in its canonical form", field="statement")
    return statement


def write_signed(statement: Statement, signatures: Mapping[str, bytes]) -> bytes:
    """What the signature's route serves, and what receipts keep."""
    value = {
        "signatures": {name: data.hex() for name, data in signatures.items()},
        "statement": _base64url(statement.to_bytes()),
        "type": _SIGNED_TYPE,
    }
    return canonical_json(value, field="signature", id=ID)


def parse_signed(raw: bytes | str) -> Signed:
    """Read what :func:`write_signed` writes.

    Raises:
        MalformedEvidence: Other members, another version, or a statement that is not in its
            canonical form.
    """
    top = JsonObject.parse(raw, path="signature", id=ID)
    exactly(top, {"signatures", "statement", "type"})
    if top.raw("type") != _SIGNED_TYPE:
        refuse("another version", field="signature.type", got=repr(top.raw("type"))[:40])
    given = top.object("signatures")
    if not given.names() or not given.names() <= set(_ALGORITHMS):
        refuse("unknown signatures, or none", field="signature.signatures")
    return Signed(
        statement=parse_statement(top.base64("statement", url=True)),
        signatures={name: given.hex(name, _SIZES[name]) for name in given.names()},
    )


def write_header(signatures: Mapping[str, bytes]) -> str:
    """The value of the header ``Teeverify-Signature``."""
    return ", ".join(
        f"{name}={signatures[name].hex()}" for name in _ALGORITHMS if name in signatures
    )


def read_header(statement: str, signatures: str) -> bytes:
    """What :func:`write_signed` writes, from the headers of an answer in one piece.

    Raises:
        MalformedEvidence: Another form.
    """
    raw = base64_bytes(statement, field="statement", id=ID, url=True)
    found: dict[str, bytes] = {}
    for part in signatures.split(", "):
        name, _, text = part.partition("=")
        if name not in _ALGORITHMS or name in found:
            refuse("unknown signatures, or one twice", field="signature", got=repr(name)[:40])
        found[name] = hex_bytes(text, field=f"signature.{name}", id=ID, length=_SIZES[name])
    if write_header(found) != signatures:
        refuse("signatures in another order or spelling", field="signature")
    return write_signed(parse_statement(raw), found)


def write_trailer(statement: Statement, signatures: Mapping[str, bytes]) -> bytes:
    """The last line of a stream; a comment, which its readers skip."""
    text = f"{_base64url(statement.to_bytes())} {write_header(signatures)}\n\n"
    return _TRAILER + b" " + text.encode("ascii")


def read_trailer(body: bytes) -> tuple[bytes, bytes]:
    """Take a stream apart: its content, and what :func:`write_signed` writes.

    Raises:
        ResponseNotVerified: There is no trailer.
        MalformedEvidence: It does not stand at the very end, or there are two of them.
    """
    start = body.rfind(b"\n" + _TRAILER) + 1
    match = _TRAILER_LINE.fullmatch(body, start) if start else None
    if not start:
        raise ResponseNotVerified(
            "the stream broke off before its end: its statement is missing",
            id="answer.complete",
            want="a line that begins with ': teeverify/1'",
            hint="What was received is a part of an answer; ask again.",
        )
    if match is None:
        refuse("something follows it, or it has another form", field="trailer")
    content = body[:start]
    if _ANY_TRAILER.search(content):
        refuse("the stream holds another one", field="trailer")
    header = match[2].decode("ascii")
    return content, read_header(match[1].decode("ascii"), header)


def _engine(value: JsonObject) -> dict[str, str]:
    exactly(value, _ENGINE)
    return {name: ascii_text(value, name) for name in sorted(_ENGINE)}


def _end(top: JsonObject) -> End:
    end = top.raw("end")
    if end not in ("complete", "aborted"):
        refuse("unknown end", field="statement.end", got=repr(end)[:40])
    return "complete" if end == "complete" else "aborted"


def _hash_bytes(text: str | None) -> bytes:
    if text is None:
        return _ZERO
    return hex_bytes(text.rpartition(":")[2], field="statement.hash", id=ID)


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
