"""The firmware's own event log."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teeverify import tdx
from teeverify.errors import BindingMismatch, MalformedEvidence

SPEC = b"Spec ID Event03\0" + bytes(17)
HEADER = bytes(4) + (3).to_bytes(4, "little") + bytes(20) + len(SPEC).to_bytes(4, "little") + SPEC
DIGEST = hashlib.sha384(b"measured").digest()
SIZES = {0x04: 20, 0x0B: 32, 0x0C: 48, 0x0D: 64, 0x12: 32}


def record(index, *, kind=0x80000001, digests=((0x0C, DIGEST),), data=b"said", count=None):
    parts = [index.to_bytes(4, "little"), kind.to_bytes(4, "little")]
    parts.append((len(digests) if count is None else count).to_bytes(4, "little"))
    for algorithm, digest in digests:
        parts += [algorithm.to_bytes(2, "little"), digest]
    return b"".join([*parts, len(data).to_bytes(4, "little"), data])


@pytest.mark.parametrize("end", [b"", b"\xff" * 4, b"\xff" * 64, b"\xff" * 7])
def test_indexes_count_from_one(end):
    raw = HEADER + b"".join(record(index) for index in (1, 2, 3, 4)) + end
    log = tdx.replay_ccel(raw)
    assert log.rtmrs == (hashlib.sha384(bytes(48) + DIGEST).digest(),) * 4
    assert [event.rtmr for event in log.events] == [0, 1, 2, 3]
    assert not any(event.authenticated for event in log.events)


def test_what_is_not_measured_into_a_register_is_skipped():
    log = tdx.replay_ccel(HEADER + record(0) + record(1, kind=3))
    assert log.events == ()
    assert log.rtmrs == (bytes(48),) * 4


def test_other_digests_beside_sha384():
    digests = [(algorithm, bytes(size)) for algorithm, size in SIZES.items()]
    assert tdx.replay_ccel(HEADER + record(1, digests=digests)).events[0].digest == bytes(48)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        HEADER[:-1],
        b"\0" * 4 + b"\4" + HEADER[5:],
        HEADER[:8] + b"\1" + HEADER[9:],
        HEADER.replace(b"Event03", b"Event02"),
        HEADER + record(5),
        HEADER + record(0xFFFFFFFE),
        HEADER + record(1, digests=()),
        HEADER + record(1, digests=[(0x0B, bytes(32))]),
        HEADER + record(1, digests=[(0x0C, DIGEST), (0x0C, bytes(48))]),
        HEADER + record(1, digests=[(0x99, bytes(48))]),
        HEADER + record(1, count=6),
        HEADER + record(1, count=0xFFFFFFFF),
        HEADER + record(1)[:-1],
        HEADER + record(1) + b"\xff\xff",
        HEADER + record(1, data=b"") * 4097,
        bytes(1024 * 1024 + 1),
    ],
    ids=range(17),
)
def test_logs_of_another_form(raw):
    with pytest.raises(MalformedEvidence) as caught:
        tdx.replay_ccel(raw)
    assert caught.value.id == "code.event-log"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_junk_raises_nothing_else(data):
    with contextlib.suppress(MalformedEvidence):
        tdx.replay_ccel(HEADER + data)


@pytest.mark.vectors
def test_real_ccel(vectors):
    folder = vectors / "tdx/ccel"
    raw = (folder / "cos113_ccel_data.bin").read_bytes()
    quote = tdx.parse_quote((folder / "cos113.quote.bin").read_bytes())
    log = tdx.replay_ccel(raw)
    assert len(log.events) == 43
    assert {event.rtmr for event in log.events} == {0, 1, 2}
    claims = tdx.verify_event_log(log, quote)
    assert claims.unauthenticated == tuple(range(43))
    changed = bytearray(raw)
    changed[raw.index(log.events[5].digest)] ^= 1
    with pytest.raises(BindingMismatch):
        tdx.verify_event_log(tdx.replay_ccel(bytes(changed)), quote)
