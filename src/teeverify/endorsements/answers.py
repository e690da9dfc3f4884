"""A vendor's answer as it was fetched or kept: URL, the headers that count, exact bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from teeverify.encoding.fields import JsonObject
from teeverify.errors import MalformedEvidence

__all__ = ["BUNDLE_SCHEMA", "Answer", "read_bundle", "write_bundle"]

BUNDLE_SCHEMA = "teeverify.endorsements/1"
_ID = "endorsements.bundle"
_MAX_ANSWERS = 4096
_MAX_QUERY = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer; who made it is for a verification to say.

    Attributes:
        url: What was asked; a fragment tells apart what was posted to one URL.
        headers: The answer's headers that belong to it; names in lower case.
        body: Its exact bytes.
    """

    url: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def path(self) -> str:
        """The path of the URL."""
        return urlsplit(self.url).path

    @property
    def query(self) -> dict[str, str]:
        """The query of the URL, one value a name."""
        try:
            found = parse_qs(urlsplit(self.url).query, max_num_fields=_MAX_QUERY)
        except ValueError:
            return {}
        return {name: values[0] for name, values in found.items()}

    def to_json(self) -> dict[str, object]:
        """As it is kept."""
        return {
            "url": self.url,
            "headers": dict(self.headers),
            "body": base64.b64encode(self.body).decode("ascii"),
        }

    @classmethod
    def from_json(cls, form: JsonObject) -> Answer:
        """Read what :meth:`to_json` made.

        Raises:
            MalformedEvidence: Another form.
        """
        url = form.text("url")
        headers = form.object("headers")
        try:
            urlsplit(url)
        except ValueError:
            raise MalformedEvidence(f"{form.path}.url: not a URL", id=_ID, field="url") from None
        return cls(
            url=url,
            headers={name.lower(): headers.text(name) for name in headers.names()},
            body=form.base64("body"),
        )


def write_bundle(answers: Iterable[Answer]) -> bytes:
    """Put answers into one file, for machines without a network."""
    ordered = sorted(answers, key=lambda answer: answer.url)
    form = {"schema": BUNDLE_SCHEMA, "answers": [answer.to_json() for answer in ordered]}
    return json.dumps(form, indent=1).encode("ascii") + b"\n"


def read_bundle(form: JsonObject) -> tuple[Answer, ...]:
    """Read a bundle.

    Raises:
        MalformedEvidence: Another form, or too many answers.
    """
    if form.text("schema") != BUNDLE_SCHEMA:
        raise MalformedEvidence(
            "the bundle has an unknown schema",
            id=_ID,
            field="schema",
            got=ascii(form.text("schema"))[:60],
            want=BUNDLE_SCHEMA,
        )
    answers = form.objects("answers")
    if len(answers) > _MAX_ANSWERS:
        raise MalformedEvidence(
            "the bundle holds too many answers",
            id=_ID,
            field="answers",
            need=f"at most {_MAX_ANSWERS}",
            have=len(answers),
        )
    return tuple(Answer.from_json(answer) for answer in answers)
