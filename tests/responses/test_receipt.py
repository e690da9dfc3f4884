"""What a receipt's file holds, as people meet it."""

from __future__ import annotations

from datetime import datetime

from teeverify.clock import UTC
from teeverify.responses.receipt import Kept, ReceiptFile


def test_it_shows_itself_in_one_line():
    at = datetime(2026, 6, 1, tzinfo=UTC)
    parts = ReceiptFile(
        dialect="teeverify/1",
        endpoint="https://llm.example/v1",
        path="/attestation",
        query={},
        nonce=bytes(32),
        attested_at=at,
        report=bytes(1 << 16),
        answered_at=at,
        request=Kept.of(b"question" * 1000),
        response=Kept.of(b"answer" * 1000),
        signature=bytes(1 << 12),
    )
    assert repr(parts) == str(parts)
    assert str(parts) == (
        "<ReceiptFile: teeverify/1 at https://llm.example/v1, "
        "answered 2026-06-01T00:00:00.000000+00:00>"
    )
