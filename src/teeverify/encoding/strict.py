"""Strict decoding of hex, base64, JSON and decimal integers.

What Python's own decoders let through is refused here: ``bytes.fromhex`` takes spaces,
``b64decode`` skips foreign characters, ``int`` reads Arabic digits, and ``json.loads`` keeps the
last of two equal keys, takes ``NaN`` and lone surrogates, and dies of deep nesting.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from typing import Any, NoReturn

from teeverify.errors import MalformedEvidence

__all__ = [
    "any_base64_bytes",
    "base64_bytes",
    "decimal_int",
    "hex_bytes",
    "json_members",
    "json_value",
    "utf8_text",
]

MAX_JSON_BYTES = 4 * 1024 * 1024
MAX_JSON_DEPTH = 32
_MAX_NUMBER_CHARACTERS = 40
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_BASE64URL = re.compile(r"[A-Za-z0-9_-]*")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,38}")
_NO_BRACKETS_OR_QUOTES = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_NO_OPENINGS = bytes(byte for byte in range(256) if byte not in b"[{")
# A text with no more of them, those inside of strings included, cannot exhaust a parser's stack.
# Texts with escapes mostly are other texts inside of strings.
_FEW_OPENINGS = 256
# Deleted before quotes are looked for: all but structure, backslashes, and what JSON lets follow
# one. (Where another character follows, the parser stops, so what is behind it is never read.)
_NO_OUTLINE = bytes(byte for byte in range(256) if byte not in b'[]{}"\\/bfnrtu')
# Every digit as 0, what can be before a number as a comma, and the rest as a space.
_NUMBERS = bytes(
    48 if byte in b"0123456789" else 44 if byte in b",:[- \t\r\n" else 32 for byte in range(256)
)
_LONG_NUMBER = b"," + b"0" * (_MAX_NUMBER_CHARACTERS - 1)
_JSON_SPACE = re.compile(r"[ \t\n\r]*")


def _fail(field: str, id: str, problem: str, got: object = None) -> NoReturn:
    """Raise the one error of this module."""
    shown = None if got is None else repr(got)[:80]
    raise MalformedEvidence(f"{field}: {problem}", id=id, field=field, got=shown)


def hex_bytes(
    text: object,
    *,
    field: str,
    id: str,
    length: int | None = None,
    prefix: bool = False,
) -> bytes:
    """Decode hexadecimal text, upper or lower case, without spaces.

    Args:
        text: The value to decode; anything but a ``str`` is refused.
        field: Dotted name for the error.
        id: Check id for the error.
        length: Exact number of bytes wanted, or ``None`` for any.
        prefix: Whether a leading ``0x`` is allowed (and then skipped).

    Raises:
        MalformedEvidence: Not text, not hex, or another length.
    """
    if not isinstance(text, str):
        _fail(field, id, "not text", type(text).__name__)
    digits = text[2:] if prefix and text.startswith("0x") else text
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        cut = len(digits) % 2 and not set(digits) - _HEX_DIGITS
        problem = f"cut off: an odd number of digits ({len(digits)})" if cut else "not hexadecimal"
        _fail(field, id, problem, text)
    # What ``fromhex`` skips is white space, and then there are fewer bytes than pairs of digits.
    if 2 * len(data) != len(digits):
        _fail(field, id, "not hexadecimal", text)
    if length is not None and len(data) != length:
        raise MalformedEvidence(
            f"{field}: wrong length", id=id, field=field, need=length, have=len(data)
        )
    return data


def base64_bytes(
    text: object,
    *,
    field: str,
    id: str,
    url: bool = False,
    length: int | None = None,
) -> bytes:
    """Decode base64 (RFC 4648 section 4) or, with ``url``, unpadded base64url (section 5).

    Args:
        text: The value to decode; anything but a ``str`` is refused.
        field: Dotted name for the error.
        id: Check id for the error.
        url: The URL-safe alphabet without padding, as JWS uses it.
        length: Exact number of bytes wanted, or ``None`` for any.

    Raises:
        MalformedEvidence: Foreign characters, wrong padding, unused bits set, or another length.
    """
    if not isinstance(text, str):
        _fail(field, id, "not text", type(text).__name__)
    standard = _standard_base64(text, field, id) if url else text
    try:
        data = binascii.a2b_base64(standard)
        # RFC 4648 section 3.5: bits that no byte needs must be zero, or two texts give the same
        # bytes. A text that is what its bytes encode to has no foreign characters either.
        canonical = binascii.b2a_base64(data, newline=False).decode("ascii") == standard
    except ValueError:
        canonical = False
    if not canonical:
        unused = _BASE64.fullmatch(standard) is not None
        _fail(field, id, "base64 with unused bits set" if unused else "not base64", text)
    if length is not None and len(data) != length:
        raise MalformedEvidence(
            f"{field}: wrong length", id=id, field=field, need=length, have=len(data)
        )
    return data


def any_base64_bytes(text: str, *, field: str, id: str) -> bytes:
    """Decode base64 or base64url, padded or not, for forms whose writers differ.

    Args:
        text: The value to decode.
        field: Dotted name for the error.
        id: Check id for the error.

    Raises:
        MalformedEvidence: Both alphabets in one text, wrong padding, or see :func:`base64_bytes`.
    """
    bare = text.rstrip("=")
    padded = bare + "=" * (-len(bare) % 4)
    if text not in (bare, padded):
        _fail(field, id, "not base64", text)
    if "+" in bare or "/" in bare:
        return base64_bytes(padded, field=field, id=id)
    return base64_bytes(bare, field=field, id=id, url=True)


def _standard_base64(text: str, field: str, id: str) -> str:
    """The same in the standard alphabet, padded."""
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        _fail(field, id, "not base64", text)
    return text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4)


def decimal_int(text: object, *, field: str, id: str) -> int:
    """Decode a non-negative decimal integer in ASCII digits without leading zeros.

    Raises:
        MalformedEvidence: Anything else.
    """
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        _fail(field, id, "not a decimal integer", text)
    return int(text)


def utf8_text(raw: bytes, *, field: str, id: str) -> str:
    """Decode UTF-8 without a byte order mark.

    Raises:
        MalformedEvidence: Not UTF-8, or it starts with a byte order mark.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedEvidence(
            f"{field}: not UTF-8", id=id, field=field, offset=error.start
        ) from None
    if text.startswith("\ufeff"):
        _fail(field, id, "starts with a byte order mark")
    return text


def json_value(
    raw: bytes | str,
    *,
    field: str,
    id: str,
    max_bytes: int = MAX_JSON_BYTES,
    max_depth: int = MAX_JSON_DEPTH,
) -> Any:  # noqa: ANN401 -- JSON is what it is; JsonObject gives it types
    """Decode one JSON text (RFC 8259) whose strings are valid Unicode and whose keys are unique.

    Args:
        raw: The text, as received.
        field: Dotted name for the error.
        id: Check id for the error.
        max_bytes: Largest size accepted; checked before anything is read.
        max_depth: Deepest nesting accepted; checked before anything is parsed.

    Raises:
        MalformedEvidence: Too large, too deep, not JSON, a key twice, ``NaN`` or an infinity, a
            number of more than 40 characters, or a lone surrogate.
    """
    text, decoder = _checked_text(raw, field, id, max_bytes, max_depth)
    try:
        value = decoder.decode(text)
    except _UnwantedError as error:
        _fail(field, id, error.problem, error.got)
    except RecursionError:
        raise _too_deep(field, id, max_depth, "more") from None
    except ValueError as error:
        offset = getattr(error, "pos", None)
        raise MalformedEvidence(f"{field}: not JSON", id=id, field=field, offset=offset) from None
    if "\\" in text:
        _check_decoded(value, field, id, max_depth)
    return value


def _check_decoded(value: object, field: str, id: str, max_depth: int) -> None:
    """Refuse deep nesting, and half a surrogate pair, which only an escape can bring in."""
    items = [value]
    for _ in range(max_depth + 1):
        containers = [item for item in items if isinstance(item, (dict, list))]
        texts = [item for item in items if isinstance(item, str) and not item.isascii()]
        texts += [name for one in containers if isinstance(one, dict) for name in one]
        try:
            "".join(texts).encode("utf-8")
        except UnicodeEncodeError:
            _fail(field, id, "text with a lone surrogate")
        if not containers:
            return
        items = [
            item for one in containers for item in (one.values() if isinstance(one, dict) else one)
        ]
    raise _too_deep(field, id, max_depth, max_depth + 1)


def json_members(raw: bytes | str, *, field: str, id: str) -> dict[str, bytes]:
    """Cut a JSON object into its members, each with the exact bytes of its value.

    This is how a signed inner object is reached: what was signed is the text as sent, so it is cut
    out, never serialised again.

    Raises:
        MalformedEvidence: As :func:`json_value`, or the text is not an object.
    """
    text, decoder = _checked_text(raw, field, id, MAX_JSON_BYTES, MAX_JSON_DEPTH)
    if not isinstance(json_value(raw, field=field, id=id), dict):
        _fail(field, id, "not a JSON object")
    members: dict[str, bytes] = {}
    position = _skip(text, text.index("{") + 1)
    while text[position] != "}":
        name, position = decoder.raw_decode(text, position)
        start = _skip(text, _skip(text, position) + 1)
        _, end = decoder.raw_decode(text, start)
        members[name] = text[start:end].encode("utf-8")
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
    return members


def _skip(text: str, position: int) -> int:
    """The position after JSON white space."""
    match = _JSON_SPACE.match(text, position)
    return match.end() if match else position


def _checked_text(
    raw: bytes | str, field: str, id: str, max_bytes: int, max_depth: int
) -> tuple[str, json.JSONDecoder]:
    """Apply the caps that must hold before a parser sees the text; give it, and its decoder."""
    try:
        data = raw.encode("utf-8") if isinstance(raw, str) else bytes(raw)
    except UnicodeEncodeError:
        _fail(field, id, "text with a lone surrogate")
    if len(data) > max_bytes:
        raise MalformedEvidence(
            f"{field}: larger than {max_bytes} bytes",
            id=id,
            field=field,
            need=f"at most {max_bytes}",
            have=len(data),
        )
    text = raw if isinstance(raw, str) else utf8_text(data, field=field, id=id)
    if text.startswith("\ufeff"):
        _fail(field, id, "starts with a byte order mark")
    outline = data
    if b"\\" in data:
        if len(data.translate(None, _NO_OPENINGS)) <= _FEW_OPENINGS:
            return text, _DECODER_OF_LONG  # how deep it goes is seen when it is decoded
        outline = data.translate(None, _NO_OUTLINE).replace(rb"\\", b"").replace(rb"\"", b"")
    # A string without brackets is now two quotes, side by side. Where one has some, a quote is left
    # over: then every second piece between quotes is outside of all strings.
    outline = outline.translate(None, _NO_BRACKETS_OR_QUOTES).replace(b'""', b"")
    brackets = b"".join(outline.split(b'"')[::2])
    _check_depth(brackets, field, id, max_depth)
    return text, _decoder(data, brackets)


def _check_depth(brackets: bytes, field: str, id: str, max_depth: int) -> None:
    """Refuse deep nesting before a parser that recurses sees the text."""
    # One round takes one or two levels away; what is not gone by then is counted.
    left = brackets
    for _ in range(max_depth // 2):
        if not left:
            return
        left = left.replace(b"[]", b"").replace(b"{}", b"")
    depth = 0
    for bracket in brackets:
        depth += 1 if bracket in b"[{" else -1
        if depth > max_depth:
            raise _too_deep(field, id, max_depth, depth)


def _too_deep(field: str, id: str, need: int, have: int | str) -> MalformedEvidence:
    return MalformedEvidence(
        f"{field}: nested deeper than {need}",
        id=id,
        field=field,
        need=f"at most {need}",
        have=have,
    )


class _UnwantedError(ValueError):
    """What Python's own decoder lets through and is refused here."""

    def __init__(self, problem: str, got: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.got = got


def _pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(items)
    if len(result) != len(items):
        seen: set[str] = set()
        for name, _ in items:
            if name in seen:
                raise _UnwantedError("the same key twice", name)
            seen.add(name)
    return result


def _constant(name: str) -> NoReturn:
    raise _UnwantedError("not a JSON number", name)


def _integer(digits: str) -> int:
    if len(digits) > _MAX_NUMBER_CHARACTERS:
        raise _UnwantedError("number too long", digits)
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits) if len(digits) <= _MAX_NUMBER_CHARACTERS else math.inf
    if not math.isfinite(value):
        raise _UnwantedError("number out of range", digits)
    return value


# Digits are counted only where a number may have many: some texts have a thousand integers, and
# the library's own reading of them is the fast one.
_DECODER, _DECODER_OF_LONG = (
    json.JSONDecoder(
        object_pairs_hook=_pairs, parse_constant=_constant, parse_int=integer, parse_float=_real
    )
    for integer in (None, _integer)
)


def _decoder(data: bytes, brackets: bytes) -> json.JSONDecoder:
    """A decoder that refuses what Python's default lets through."""
    if brackets == b"{}":
        return _DECODER_OF_LONG  # one object of no lists: no row of numbers
    numbers = (b"," + data).translate(_NUMBERS)
    return _DECODER_OF_LONG if _LONG_NUMBER in numbers else _DECODER
