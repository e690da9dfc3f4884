"""The only reader of time.

Every check takes ``at``, an aware :class:`~datetime.datetime`; nothing else in the package asks the
operating system what time it is.
"""

from __future__ import annotations

import re
from datetime import datetime, timezone

from teeverify.errors import ConfigurationError

__all__ = ["RELEASED", "UTC", "from_unix", "now", "parse_time", "show_time"]

UTC = timezone.utc
RELEASED = datetime(2026, 11, 1, tzinfo=UTC)
"""This version was built later: a clock that shows less is behind. Raised with every release."""
_ISO = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<minute>[0-9]{2}:[0-9]{2})(?P<second>:[0-9]{2}(?:\.(?P<fraction>[0-9]+))?)?"
    r"(?P<zone>[Zz]|[+-][0-9]{2}:[0-9]{2})?)?"
)
_YEAR_9999 = 253_402_300_799


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


def from_unix(seconds: int) -> datetime:
    """Turn Unix seconds into an aware UTC time; values outside years 1970 to 9999 are clamped."""
    return datetime.fromtimestamp(min(max(seconds, 0), _YEAR_9999), UTC)


def parse_time(value: datetime | str, *, what: str = "at") -> datetime:
    """Read a caller's point in time.

    Args:
        value: An aware datetime, or ISO 8601 text with a zone (``Z`` or ``+00:00``).
        what: The argument's name, for the error.

    Returns:
        The same instant in UTC.

    Raises:
        ConfigurationError: The text is not ISO 8601, or the zone is missing.
    """
    moment = value if isinstance(value, datetime) else _from_iso(str(value), what)
    if moment.tzinfo is UTC:
        return moment
    if moment.utcoffset() is None:
        raise ConfigurationError(
            f"{what} has no time zone",
            id="usage.time",
            got=str(value),
            want="a time with a zone, such as 2026-06-29T02:06:57Z",
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise _no_time(str(value), what) from None


def _from_iso(text: str, what: str) -> datetime:
    """Parse ISO text, the same in every Python: 3.10 reads neither ``Z`` nor odd fractions."""
    match = _ISO.fullmatch(text)
    if match is None:
        raise _no_time(text, what)
    second = (match["second"] or ":00")[:3]
    fraction = (match["fraction"] or "")[:6].ljust(6, "0")
    zone = (match["zone"] or "").upper().replace("Z", "+00:00")
    try:
        return datetime.fromisoformat(
            f"{match['date']}T{match['minute'] or '00:00'}{second}.{fraction}{zone}"
        )
    except ValueError:
        raise _no_time(text, what) from None


def _no_time(text: str, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} is not a time",
        id="usage.time",
        got=ascii(text)[:80],
        want="ISO 8601 with a zone, such as 2026-06-29T02:06:57Z",
    )


def show_time(moment: datetime) -> str:
    """A time as people read it, to the second, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
