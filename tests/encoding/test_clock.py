"""The only reader of time."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teeverify.clock import UTC, from_unix, now, parse_time, show_time
from teeverify.errors import ConfigurationError

MOMENT = datetime(2026, 6, 29, 2, 6, 57, tzinfo=UTC)


def refused(value, **more):
    with pytest.raises(ConfigurationError) as caught:
        parse_time(value, **more)
    assert caught.value.id == "usage.time"
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "2026-06-29T02:06:57Z",
        "2026-06-29T02:06:57z",
        "2026-06-29t02:06:57Z",
        "2026-06-29 02:06:57Z",
        "2026-06-29T02:06:57+00:00",
        "2026-06-29T02:06:57-00:00",
        "2026-06-29T04:06:57+02:00",
        "2026-06-28T21:06:57-05:00",
        "2026-06-29T02:06:57.0Z",
        "2026-06-29T02:06:57.000000000Z",
    ],
)
def test_forms(text):
    parsed = parse_time(text)
    assert parsed == MOMENT
    assert parsed.tzinfo is UTC


def test_fractions_and_minutes():
    assert parse_time("2026-06-29T02:06:57.5Z").microsecond == 500_000
    assert parse_time("2026-06-29T02:06:57.123456789Z").microsecond == 123_456
    assert parse_time("2026-06-29T02:06Z") == MOMENT.replace(second=0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Z",
        "now",
        "1782699600",
        "2026",
        "20260629T020657Z",
        "2026-W26-1T02:06:57Z",
        "2026-180T02:06:57Z",
        "29.06.2026 02:06:57Z",
        "2026-06-29T02:06:57 Z",
        "2026-06-29T02:06:57ZZ",
        "2026-06-29T02:06:57.Z",
        "2026-06-29T02:06:57,5Z",
        "2026-06-29T02:06:57+0200",
        "2026-06-29T02:06:57+25:00",
        "2026-06-29T02:06:60Z",
        "2026-06-29T25:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-06-29Z",
        "\uff12026-06-29T02:06:57Z",
        "\u0662026-06-29T02:06:57Z",
        "2026-06-29T02:06:57.\u0662Z",
        "2026-06-29T02:06:57Z\n",
        " 2026-06-29T02:06:57Z",
        "\ud800",
        "\x00",
    ],
)
def test_no_time(text):
    error = refused(text, what="captured_at")
    assert "captured_at is not a time" in error.message
    assert str(error).isascii()
    assert "2026-06-29T02:06:57Z" in error.want


@pytest.mark.parametrize("text", ["2026-06-29T02:06:57", "2026-06-29T02:06", "2026-06-29"])
def test_no_zone(text):
    assert "time zone" in refused(text).message


class NoOffset(tzinfo):
    def utcoffset(self, moment):
        return None

    def dst(self, moment):
        return None

    def tzname(self, moment):
        return None


def test_datetimes():
    assert parse_time(MOMENT) == MOMENT
    zone = timezone(timedelta(hours=5, minutes=30))
    assert parse_time(MOMENT.astimezone(zone)) == MOMENT
    assert parse_time(MOMENT.astimezone(zone)).tzinfo is UTC
    refused(MOMENT.replace(tzinfo=None))
    refused(MOMENT.replace(tzinfo=NoOffset()))


def test_outside_the_calendar():
    refused("0001-01-01T00:00:00+01:00")
    refused("9999-12-31T23:59:59-01:00")
    refused(datetime.min.replace(tzinfo=timezone(timedelta(hours=1))))
    assert parse_time("9999-12-31T23:59:59Z").year == 9999


@pytest.mark.parametrize("value", [None, 5, 1.5, b"2026-06-29T02:06:57Z", [], {}])
def test_other_types(value):
    refused(value)


def test_from_unix():
    assert from_unix(0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert from_unix(-5) == from_unix(0)
    assert from_unix(10**30) == datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert from_unix(1782698817) == MOMENT


def test_now_is_aware_and_moves_forward():
    first, second = now(), now()
    assert first.tzinfo is UTC
    assert first <= second


def test_show_time():
    assert show_time(MOMENT) == "2026-06-29T02:06:57Z"
    zone = timezone(timedelta(hours=-7))
    assert show_time(MOMENT.astimezone(zone)) == "2026-06-29T02:06:57Z"
    assert show_time(MOMENT.replace(microsecond=999_999)) == "2026-06-29T02:06:57Z"


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9999, 12, 31)))  # noqa: DTZ001
def test_what_is_shown_is_read_back(naive):
    moment = naive.replace(tzinfo=UTC)
    assert parse_time(show_time(moment)) == moment.replace(microsecond=0)
    assert parse_time(moment.isoformat()) == moment


@given(st.text(max_size=40))
def test_any_text(text):
    with contextlib.suppress(ConfigurationError):
        assert parse_time(text).tzinfo is UTC
