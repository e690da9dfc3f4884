"""What a dialect asks for, as data: paths with holes, and programs of several questions.

Nothing here opens a socket: whoever runs the program asks each question and tells the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from teeverify.providers.dialect import Recorded

__all__ = ["Ask", "Asking", "Questions", "Told", "fill", "holes"]

_HOLE = re.compile(r"\{([a-z]+)\}")


def holes(template: str, path: str) -> dict[str, str] | None:
    """What stands in the holes of a path; ``None`` where it is another path.

    Args:
        template: For example ``/chutes/{id}/evidence``; a hole is one segment or a part of one.
        path: The path of a URL.
    """
    parts = _HOLE.split(template)
    names = parts[1::2]
    pattern = "".join(
        re.escape(part) if index % 2 == 0 else "([^/]+)" for index, part in enumerate(parts)
    )
    match = re.fullmatch(pattern, path)
    return None if match is None else dict(zip(names, match.groups(), strict=True))


def fill(template: str, values: Mapping[str, str]) -> str:
    """The path with its holes filled."""
    return _HOLE.sub(lambda match: values[match[1]], template)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One question: a GET request.

    Attributes:
        what: What is asked for, in words.
        path: Path of the URL.
        query: Its query.
        host: Host, where it is another one than the endpoint's; always a constant of the dialect.
        json: Whether the answer must be JSON.
    """

    what: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    json: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The answer to a question.

    Attributes:
        body: The exact bytes.
        peer_spki_sha256: Fingerprint of the TLS key at the other end, if there was TLS.
    """

    body: bytes
    peer_spki_sha256: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What an endpoint's evidence is asked for with.

    Attributes:
        host: Host of the endpoint.
        nonce: Our nonce, for dialects whose evidence carries one.
        model: The model.
    """

    host: str
    nonce: bytes
    model: str | None


Questions: TypeAlias = "Callable[[Asking], Generator[Ask, Told, Recorded]]"
