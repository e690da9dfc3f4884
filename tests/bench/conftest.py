"""Blocks with given figures, and endpoints without an engine."""

from __future__ import annotations

import pytest

from teeverify.bench.fake import Timing, fake_endpoints
from teeverify.bench.journal import Block
from teeverify.bench.pool import open_pool
from teeverify.bench.results import Result


@pytest.fixture
def block():
    def make(target="raw", pair=0, **members):
        known = {"cell": "short, batch 1", "order": 0, "started_at": "2026-11-22T00:00:00+00:00"}
        return Block(**{**known, "target": target, "pair": pair, "answers": 4, **members})

    return make


@pytest.fixture
def result(block):
    def make(blocks=None, **members):
        if blocks is None:
            blocks = [
                block(
                    target=name,
                    pair=pair,
                    figures={"tps": tps + pair / 10, "ttft": 10.0 + pair / 10, "tpot": 7.0},
                )
                for pair in range(6)
                for name, tps in (("raw", 100.0), ("ours", 99.0))
            ]
        cells = list(dict.fromkeys(each.cell for each in blocks))
        plan = {"cells": [{"id": cell, "headline": "tps"} for cell in cells]}
        names = list(dict.fromkeys(each.target for each in blocks))
        known = {
            "title": "Tiny",
            "plan": plan,
            "host": {"cpu": "a CPU", "confidential_computing": "off"},
            "model": {"weights": "dummy"},
            "targets": {name: {"url": "http://127.0.0.1/v1"} for name in names},
            "ceiling": {"batch": 1, "events_per_s": 1e5, "answers_per_s": 1e3},
        }
        return Result(**{**known, "blocks": blocks, **members})

    return make


@pytest.fixture(scope="module")
def pool():
    pytest.importorskip("aiohttp", reason="needs teeverify[bench]")
    with open_pool(1) as ready:
        yield ready


@pytest.fixture(scope="module")
def two_endpoints():
    """Their URLs; the second takes 1 ms longer to the first token and 0.1 ms longer a token."""
    timings = Timing(first=0.005, step=0.002), Timing(first=0.006, step=0.0021)
    with fake_endpoints(*timings) as urls:
        yield urls
