"""The firmware's own event log (CCEL): TCG crypto-agile form, registers counted from 1.

Formats: TCG PC Client Platform Firmware Profile 1.05, sections 10.2.1 and 10.2.2; Intel Guest-Host
Communication Interface for TDX, section 4.3 (which register each index means).
"""

from __future__ import annotations

from teeverify.encoding.reader import Reader
from teeverify.tdx.eventlog import CHECK, Event, EventLog, replayed

__all__ = ["replay_ccel"]

_NO_ACTION = 3
_FILL = b"\xff\xff\xff\xff"
_SPEC_ID = b"Spec ID Event03\x00"
_SHA384 = 0x000C
# TCG Algorithm Registry: SHA-1, SHA-256, SHA-384, SHA-512, SM3.
_SIZES = {0x0004: 20, 0x000B: 32, _SHA384: 48, 0x000D: 64, 0x0012: 32}
_MAX_SIZE = 1024 * 1024
_MAX_EVENTS = 4096
_MRTD, _LAST = 0, 4


def replay_ccel(raw: bytes) -> EventLog:
    """Read and replay a CCEL.

    Nothing that its events say is authenticated, only their digests are. Events of index 0 are part
    of MRTD and skipped.

    Args:
        raw: The log, with or without the fill behind it.

    Raises:
        MalformedEvidence: Not such a log, an unknown algorithm or index, an event without a
            SHA-384 digest, or too large.
    """
    reader = Reader(bytes(raw), name="ccel", id=CHECK)
    if len(raw) > _MAX_SIZE:
        raise reader.error("too large", "size", need=f"at most {_MAX_SIZE}", have=len(raw))
    _header(reader)
    events: list[Event] = []
    while reader.remaining:
        found = _event(reader)
        if found is None:
            break
        if len(events) == _MAX_EVENTS:
            raise reader.error("too many events", "events", need=f"at most {_MAX_EVENTS}")
        events += found
    return replayed(events)


def _header(reader: Reader) -> None:
    """The first record, in the old form: it names the form of the others, and is not measured."""
    reader.u32("header.index")
    if reader.u32("header.type") != _NO_ACTION:
        raise reader.error("not a Spec ID event", "header.type")
    reader.zeros(20, "header.digest")
    body = reader.sub(reader.u32("header.size"), "header.event")
    if body.take(len(_SPEC_ID), "signature") != _SPEC_ID:
        raise reader.error("not a crypto-agile log", "header.event")


def _event(reader: Reader) -> list[Event] | None:
    """One record: the event it holds, none where it is not measured, ``None`` at the end."""
    start = reader.offset
    marker = reader.take(4, "index")
    if marker == _FILL:
        return None
    index = int.from_bytes(marker, "little")
    kind = reader.u32("type")
    digests = {}
    for _ in range(_count(reader)):
        algorithm = reader.u16("digest.algorithm")
        if algorithm not in _SIZES or algorithm in digests:
            raise reader.error(
                "unknown digest algorithm, or one twice", "digest.algorithm", got=f"{algorithm:#x}"
            )
        digests[algorithm] = reader.take(_SIZES[algorithm], "digest")
    payload = reader.take(reader.u32("size"), "event")
    if kind == _NO_ACTION or index == _MRTD:
        return []
    if index > _LAST or _SHA384 not in digests:
        raise reader.error(
            "unknown register, or no SHA-384 digest", "event", got=f"index {index} at {start:#x}"
        )
    return [
        Event(
            rtmr=index - 1,
            type=kind,
            digest=digests[_SHA384],
            name="",
            payload=payload,
            authenticated=False,
        )
    ]


def _count(reader: Reader) -> int:
    count = reader.u32("digest.count")
    if count > len(_SIZES):
        raise reader.error("too many digests", "digest.count", need="at most 5", have=count)
    return count
