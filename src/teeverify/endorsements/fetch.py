"""Fetching endorsements over HTTPS, from hosts that the caller chose.

No URL is ever taken from evidence: whoever is attested must not choose where the collateral that
judges it comes from.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from teeverify.endorsements.answers import Answer
from teeverify.endorsements.deadline import Deadline, no_credentials, watched_adapter
from teeverify.errors import ConfigurationError, EndorsementUnavailable

if TYPE_CHECKING:
    import requests

__all__ = ["Fetcher", "require_https"]

_CHUNK = 64 * 1024
_MAX_BODY = 4 * 1024 * 1024
_MAX_HEADER = 64 * 1024
_ATTEMPTS = 3
_OK = 200
_REDIRECTS = range(300, 400)
_LATER = (429, 503)
_MAX_WAIT_DIGITS = 5
_MAX_QUESTION = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What is asked: posted where there is a body."""

    url: str
    what: str
    id: str
    body: bytes | None = None
    content_type: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """Nothing may come compressed, for sizes are bounded as sent."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "teeverify"}
        return headers | ({"Content-Type": self.content_type} if self.body is not None else {})


class Fetcher:
    """Fetches answers: HTTPS only, no redirects, bounded in size and in total time.

    Args:
        timeout: Seconds that one answer may take in all, waiting for busy servers included.
        ca_file: PEM file of the authorities that may vouch for the hosts, in place of the public
            ones: for a caching service (PCCS) with a certificate of its own. It has no say in
            what is genuine: every answer is verified by the vendor's signatures.
        backoff: Seconds to wait, one after the other, where a busy host does not say how long.
    """

    def __init__(
        self,
        *,
        timeout: float = 20.0,
        ca_file: str | Path | None = None,
        backoff: Sequence[float] = (),
    ) -> None:
        if not isinstance(timeout, (int, float)) or not 0 < timeout <= 600:  # noqa: PLR2004
            raise ConfigurationError(
                "the time-out is no number of seconds up to 600",
                id="usage.timeout",
                got=repr(timeout)[:40],
            )
        if ca_file is not None and not Path(ca_file).is_file():
            raise ConfigurationError(
                "the file of authorities is not there", id="usage.ca-file", got=ascii(str(ca_file))
            )
        self._timeout = float(timeout)
        self._backoff = tuple(backoff)
        self._ca_file = None if ca_file is None else str(ca_file)

    def get(self, url: str, *, what: str, id: str, keep: Collection[str] = ()) -> Answer:
        """Fetch one answer.

        Args:
            url: Where; ``https`` only.
            what: What is fetched, for errors.
            id: The check that needs it, for errors.
            keep: Names of the headers that belong to the answer, in lower case.

        Raises:
            ConfigurationError: Not an HTTPS URL.
            EndorsementUnavailable: No connection, no answer in time, another status than 200, a
                redirect, too large, or compressed.
        """
        headers, body = self._ask(_Question(url=url, what=what, id=id))
        kept = {name: headers[name] for name in keep if name in headers}
        return Answer(url=url, headers=kept, body=body)

    def post(self, url: str, body: bytes, *, content_type: str, what: str, id: str) -> bytes:
        """Post a question and fetch the answer, under the same bounds.

        Args:
            url: Where; ``https`` only.
            body: What is posted.
            content_type: What that is.
            what: What is asked for, for errors.
            id: The check that needs it, for errors.

        Raises:
            ConfigurationError: Not an HTTPS URL, or more than a question may hold.
            EndorsementUnavailable: As for :meth:`get`.
        """
        if len(body) > _MAX_QUESTION:
            raise ConfigurationError(
                "the question is too large",
                id="usage.endorsements",
                got=f"{len(body)} bytes",
                want=f"at most {_MAX_QUESTION}",
            )
        return self._ask(
            _Question(url=url, what=what, id=id, body=body, content_type=content_type)
        )[1]

    def _ask(self, question: _Question) -> tuple[Mapping[str, str], bytes]:
        """Ask, and again where a busy host says so, until it answers or the time is over."""
        require_https(question.url)
        ends = time.monotonic() + self._timeout
        attempts = max(_ATTEMPTS, len(self._backoff) + 1)
        for attempt in range(1, attempts + 1):
            status, headers, body = self._once(question, ends)
            if status == _OK:
                return headers, body
            pause = self._pause(headers, attempt) if status in _LATER else None
            if pause is None or attempt == attempts or time.monotonic() + pause >= ends:
                raise _refused(status, question)
            time.sleep(pause)
        raise _refused(0, question)

    def _pause(self, headers: Mapping[str, str], attempt: int) -> float | None:
        asked = _retry_after(headers)
        if asked is not None or attempt > len(self._backoff):
            return asked
        return self._backoff[attempt - 1]

    def _once(self, question: _Question, ends: float) -> tuple[int, Mapping[str, str], bytes]:
        import requests  # noqa: PLC0415 -- heavy, and not every verification fetches
        import urllib3  # noqa: PLC0415

        left = max(ends - time.monotonic(), 0.001)
        with Deadline(left) as deadline, requests.Session() as session:
            session.mount("https://", watched_adapter(deadline))
            if self._ca_file is not None:
                session.verify = self._ca_file
                session.trust_env = False  # or the environment's own file would be used instead
            try:
                with session.request(
                    "GET" if question.body is None else "POST",
                    question.url,
                    data=question.body,
                    headers=question.headers,
                    auth=no_credentials,
                    stream=True,
                    allow_redirects=False,
                    timeout=left,
                ) as response:
                    body = _body(response, question.what, question.id)
                    if deadline.expired:  # a connection that was shut may look like one that ended
                        raise _late(question.what, question.id, self._timeout)
                    return response.status_code, _headers(response), body
            except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
                if deadline.expired or isinstance(error, requests.Timeout):
                    raise _late(question.what, question.id, self._timeout) from None
                raise EndorsementUnavailable(
                    f"{question.what} could not be fetched: no connection",
                    id=question.id,
                    got=type(error).__name__,
                    want=f"an answer of {urlsplit(question.url).hostname}",
                    hint="Check the network and any proxy, or give them with --endorsements PATH.",
                ) from None


def require_https(url: str) -> None:
    """Demand an HTTPS URL with a host, and neither a password nor a fragment.

    Raises:
        ConfigurationError: Anything else.
    """
    try:
        parts = urlsplit(url)
        good = (
            parts.scheme == "https"
            and bool(parts.hostname)
            and "@" not in parts.netloc
            and not parts.fragment
            and url.isascii()
            and url.isprintable()
            and " " not in url
            and (parts.port is None or parts.port > 0)
        )
    except (ValueError, AttributeError, TypeError):
        good = False
    if not good:
        raise ConfigurationError(
            "endorsements are fetched over HTTPS only",
            id="usage.endorsements",
            got=ascii(url)[:80],
            want="https://HOST[:PORT]",
        )


def _body(response: requests.Response, what: str, id: str) -> bytes:
    encoding = response.headers.get("content-encoding") or "identity"
    if encoding.strip().lower() != "identity":
        raise EndorsementUnavailable(
            f"{what} came compressed, which was not asked for", id=id, got=ascii(encoding)[:40]
        )
    chunks: list[bytes] = []
    size = 0
    for chunk in response.raw.stream(_CHUNK, decode_content=False):
        size += len(chunk)
        if size > _MAX_BODY:
            raise EndorsementUnavailable(
                f"{what} is too large", id=id, got="more", want=f"at most {_MAX_BODY} bytes"
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _headers(response: requests.Response) -> dict[str, str]:
    given = cast("Mapping[str, str]", response.headers)
    return {name.lower(): value for name, value in given.items() if len(value) <= _MAX_HEADER}


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a busy server asks to wait (RFC 9110 section 10.2.3); dates are not read."""
    text = headers.get("retry-after", "").strip()
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_WAIT_DIGITS:
        return None
    return float(text)


def _late(what: str, id: str, timeout: float) -> EndorsementUnavailable:
    return EndorsementUnavailable(
        f"{what} did not come in {timeout:g} s", id=id, hint="Try again, or allow more time."
    )


def _refused(status: int, question: _Question) -> EndorsementUnavailable:
    host = urlsplit(question.url).hostname
    if status in _REDIRECTS:
        problem, hint = "a redirect, which is not followed", "Give the host that itself answers."
    elif status in _LATER:
        problem, hint = "too many questions, or out of service", "Try again later."
    elif status == 404:  # noqa: PLR2004 -- HTTP
        problem, hint = "it knows nothing of that name", "Check the host, and what is asked for."
    elif status == 410:  # noqa: PLR2004 -- HTTP
        problem, hint = "this evaluation number is retired", "Ask for a newer one."
    else:
        problem, hint = "no answer of use", "Check the host."
    return EndorsementUnavailable(
        f"{question.what} could not be fetched: {problem}",
        id=question.id,
        got=f"status {status} of {host}",
        want="status 200",
        hint=hint,
    )
