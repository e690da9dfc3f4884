"""Detached EAT answers of NRAS: the overall token and the tokens that it lists by digest.

The form is NVIDIA's own JSON spelling of detached claims sets (RFC 9711 section 5):
``[["JWT", overall], {"GPU-0": token, ...}]``.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass

from teeverify.crypto.jws import Jws, parse_compact
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import hex_bytes, json_value
from teeverify.errors import BindingMismatch, EndorsementInvalid, MalformedEvidence

__all__ = ["ISSUER", "Answer", "claims_of", "parse_answer", "shown", "verify_detached"]

ID = "nras.token"
ISSUER = "https://nras.attestation.nvidia.com"
_MAX_ANSWER_BYTES = 512 * 1024
_MAX_SUBMODS = 32
_PAIR = 2
_NAME = re.compile(r"(?:GPU|SWITCH)-(?:0|[1-9][0-9]?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, taken apart and not verified.

    Attributes:
        overall: The token about the whole request.
        submods: The token of each device, by name.
        digests: SHA-256 of each device's token as the overall token lists it, by name.
    """

    overall: Jws
    submods: Mapping[str, Jws]
    digests: Mapping[str, bytes]

    @property
    def tokens(self) -> tuple[tuple[str, Jws], ...]:
        """All tokens with the names that messages use, the overall one first."""
        return (("overall", self.overall), *self.submods.items())

    @property
    def claimed_nonce(self) -> str:
        """The nonce of the overall token, in lower case; empty where there is none."""
        value = self.overall.payload.raw("eat_nonce")
        return value.lower() if isinstance(value, str) else ""

    @property
    def claimed_ueids(self) -> frozenset[str]:
        """The devices that the tokens name."""
        found = (token.payload.raw("ueid") for token in self.submods.values())
        return frozenset(value for value in found if isinstance(value, str))


def parse_answer(raw: bytes) -> Answer:
    """Take an answer apart.

    Raises:
        MalformedEvidence: Another form, no or too many devices, a token that is no ES384 JWS, or
            a digest entry of another form.
    """
    value = json_value(raw, field="nras", id=ID, max_bytes=_MAX_ANSWER_BYTES)
    if not (isinstance(value, list) and len(value) == _PAIR):
        raise _malformed("nras", "not an overall token and the devices' tokens")
    pair, tokens = value
    if not (isinstance(pair, list) and len(pair) == _PAIR and pair[0] == "JWT"):
        raise _malformed("nras.overall", "not one JWT")
    texts = JsonObject(tokens, path="nras.submods", id=ID)
    names = sorted(texts.names())
    if not 0 < len(names) <= _MAX_SUBMODS:
        raise _malformed("nras.submods", f"{len(names)} devices, want 1 to {_MAX_SUBMODS}")
    if not all(map(_NAME.fullmatch, names)):
        raise _malformed("nras.submods", "a name that is neither GPU-n nor SWITCH-n")
    overall = parse_compact(pair[1], id=ID, what="nras.overall")
    entries = overall.payload.object("submods")
    return Answer(
        overall=overall,
        submods={
            name: parse_compact(texts.text(name), id=ID, what=f"nras.{name}") for name in names
        },
        digests={name: _digest(entries, name) for name in sorted(entries.names())},
    )


def _digest(entries: JsonObject, name: str) -> bytes:
    """Read ``["DIGEST", ["SHA-256", hex]]``; NVIDIA's local tools leave the hyphen out."""
    path = f"nras.overall.submods.{ascii(name)[:40]}"
    entry = entries.array(name)
    inner = entry[1] if len(entry) == _PAIR and entry[0] == "DIGEST" else None
    if not (isinstance(inner, list) and len(inner) == _PAIR):
        raise _malformed(path, "not a digest")
    if inner[0] not in ("SHA-256", "SHA256"):
        raise _malformed(path, "not a SHA-256 digest")
    return hex_bytes(inner[1], field=path, id=ID, length=32)


def verify_detached(answer: Answer) -> None:
    """Verify that all tokens are the production service's and belong together.

    Raises:
        MalformedEvidence: A token has no issuer.
        EndorsementInvalid: A token has another issuer.
        BindingMismatch: The overall token lists other tokens than were sent, by name or by the
            SHA-256 of their text.
    """
    for name, token in answer.tokens:
        issuer = token.payload.text("iss")
        if issuer != ISSUER:
            raise EndorsementInvalid(
                f"NRAS: the token {name} is not of NVIDIA's production service",
                id=ID,
                got=shown(issuer),
                want=ISSUER,
            )
    if answer.digests.keys() != answer.submods.keys():
        raise BindingMismatch(
            "NRAS: the overall token lists other devices than were sent",
            id=ID,
            got=shown(sorted(answer.submods)),
            want=shown(sorted(answer.digests)),
        )
    for name, token in answer.submods.items():
        # The digest is of the compact token as text, not of its claims.
        got = hashlib.sha256(token.compact.encode("ascii")).digest()
        if not hmac.compare_digest(got, answer.digests[name]):
            raise BindingMismatch(
                f"NRAS: the token {name} is not the one that the overall token lists",
                id=ID,
                got=got.hex(),
                want=answer.digests[name].hex(),
            )


def claims_of(token: Jws, name: str, *, id: str) -> JsonObject:
    """The claims of a token, read for another check than the parser's."""
    payload = token.payload
    claims = {claim: payload.raw(claim) for claim in payload.names()}
    return JsonObject(claims, path=f"nras.{name}", id=id)


def shown(value: object) -> str:
    """Something that NRAS wrote, as it may be shown."""
    return ascii(value)[:200]


def _malformed(field: str, problem: str) -> MalformedEvidence:
    return MalformedEvidence(f"{field}: {problem}", id=ID, field=field)
