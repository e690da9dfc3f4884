"""The experiment against endpoints whose speed is known."""

from __future__ import annotations

import itertools
import socketserver
import threading
import time
from dataclasses import replace

import pytest

from teeverify.bench.fake import Timing, fake_endpoint
from teeverify.bench.journal import Journal
from teeverify.bench.load import Load, Target
from teeverify.bench.overhead import compare_cell
from teeverify.bench.plan import Plan, cells_of
from teeverify.bench.run import run_plan
from teeverify.bench.statistics import mean_interval
from teeverify.bench.workload import FIRST_TOKEN, parse_workload
from teeverify.errors import ConfigurationError, EndpointUnavailable

pytestmark = pytest.mark.network


@pytest.fixture
def plan(two_endpoints):
    base, other = two_endpoints
    return Plan(
        targets=(
            Target(name="base", url=base, model="none"),
            Target(name="other", url=other, model="none"),
        ),
        cells=cells_of([parse_workload("10+20")], [Load(batch=2)]),
        block_seconds=0.1,
        budget_seconds=0.0,
        min_blocks=5,
    )


def nothing(_target, _samples):
    return {}


def run(plan, pool, path, verify=nothing):
    said = []
    journal = Journal(path / "blocks.jsonl", plan.digest)
    run_plan(plan, pool, journal, verify=verify, say=said.append)
    return journal, said


def test_known_delays_are_recovered(plan, pool, tmp_path):
    """``benchmarks/recovery.py`` counts how often, on a machine without other work: here, half."""
    held = []
    for number in range(8):
        journal, _ = run(replace(plan, seed=f"run {number}"), pool, tmp_path / str(number))
        tolls = {
            each.metric.id: each.toll for each in compare_cell(journal.blocks, "base", "other")
        }
        held.append(
            tolls["tpot"].low <= 0.1 <= tolls["tpot"].high
            and tolls["ttft"].low <= 1.0 <= tolls["ttft"].high
        )
    assert sum(held) >= 4


def test_in_turns_noise_that_both_have_is_in_no_toll(pool, tmp_path):
    """``benchmarks/recovery.py`` counts how often 1 ms is held under 15 ms of noise."""
    noisy = {"noise": 0.015, "noise_lasts": 0.25}
    with (
        fake_endpoint(Timing(first=0.005, **noisy)) as base,
        fake_endpoint(Timing(first=0.006, **noisy)) as other,
    ):
        plan = Plan(
            targets=(
                Target(name="base", url=base, model="none"),
                Target(name="other", url=other, model="none"),
            ),
            cells=cells_of([FIRST_TOKEN], [Load(batch=1)]),
            block_seconds=0.3,
            budget_seconds=0.0,
            min_blocks=8,
        )
        journal, _ = run(plan, pool, tmp_path)
    toll = next(
        each.toll
        for each in compare_cell(journal.blocks, "base", "other")
        if each.metric.id == "ttft"
    )
    medians = [block.figures["ttft"] for block in journal.blocks if block.target == "base"]
    noise = mean_interval(medians).half
    assert toll.half < noise
    assert abs(toll.middle - 1.0) < noise
    assert all(block.order is None for block in journal.blocks)
    assert all(bool(block.turns) == (block.target == "other") for block in journal.blocks)


def test_blocks_are_paired_and_each_order_is_followed_by_its_reverse(plan, pool, tmp_path):
    journal, _ = run(replace(plan, min_blocks=8), pool, tmp_path)
    pairs = {(block.pair, block.target): block for block in journal.blocks}
    assert len(pairs) == len(journal.blocks) == 16
    for pair in range(0, 8, 2):
        assert pairs[pair, "base"].order == pairs[pair + 1, "other"].order
    assert not any(block.turns for block in journal.blocks)
    assert all(block.tokens == 20 * block.answers for block in journal.blocks)
    assert all(block.counted == "usage" for block in journal.blocks)


def test_an_interrupted_run_goes_on(plan, pool, tmp_path):
    calls = []

    def interrupt(target, _samples):
        calls.append(target.name)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return {"verified": 1.0}

    plan = replace(plan, verify=frozenset({"base", "other"}))
    with pytest.raises(KeyboardInterrupt):
        run(plan, pool, tmp_path, interrupt)
    kept = Journal(tmp_path / "blocks.jsonl", plan.digest).blocks
    assert [block.pair for block in kept] == [0, 0]
    journal, _ = run(plan, pool, tmp_path)
    assert journal.blocks[:2] == kept
    assert len(journal.blocks) == 2 * plan.min_blocks
    again, said = run(plan, pool, tmp_path)
    assert again.blocks == journal.blocks
    assert said[-1].endswith("measured before")


def test_a_cell_whose_budget_was_spent_is_not_measured_again(plan, pool, tmp_path):
    plan = replace(plan, narrow=1e-9, budget_seconds=0.3)
    journal, _ = run(plan, pool, tmp_path)
    assert set(journal.ended.values()) == {"budget"}
    again, said = run(plan, pool, tmp_path)
    assert again.blocks == journal.blocks
    assert said[-1].endswith("measured before")


def test_time_that_is_short_is_divided_and_what_lacks_is_measured_later(plan, pool, tmp_path):
    two = cells_of([parse_workload("10+20"), parse_workload("10+30")], [Load(batch=2)])
    plan = replace(
        plan, cells=two, narrow=1e-9, min_blocks=50, budget_seconds=60.0, total_seconds=4.0
    )
    started = time.monotonic()
    journal, said = run(plan, pool, tmp_path)
    assert time.monotonic() - started < 15  # fifty blocks of each take 20
    assert said[0] == "2 cells in 0.0667 minutes: about 2 s each"
    assert journal.ended == dict.fromkeys([cell.id for cell in two], "time")
    known = len(journal.blocks)
    more, _ = run(replace(plan, total_seconds=2.0), pool, tmp_path)
    assert len(more.blocks) > known


def test_a_machine_that_is_too_slow_for_a_cell_says_so_and_ends(pool, tmp_path):
    with fake_endpoint(Timing(first=0.05, step=0.3)) as slow:
        plan = Plan(
            targets=(Target(name="slow", url=slow, model="none"),),
            cells=cells_of([parse_workload("5+4"), parse_workload("5+90")], [Load(batch=1)]),
            block_seconds=0.1,
            total_seconds=8.0,
        )
        journal, said = run(plan, pool, tmp_path)
    assert journal.of("5+4, batch 1")
    assert not journal.of("5+90, batch 1")
    assert said[-1].startswith("the time is up")


def test_answers_are_handed_over_for_verification(plan, pool, tmp_path):
    seen = []

    def verify(target, samples):
        seen.extend((target.name, s.request, s.response, s.id) for s in samples)
        return {"verified": float(len(samples))}

    journal, _ = run(replace(plan, verify=frozenset({"other"})), pool, tmp_path, verify)
    assert {name for name, *_ in seen} == {"other"}
    assert all(
        request and response.endswith(b"data: [DONE]\n\n") for _, request, response, _ in seen
    )
    assert {b.target for b in journal.blocks if b.verified is not None} == {"other"}


def test_a_given_rate_is_kept(plan, pool, tmp_path):
    cells = cells_of([parse_workload("5+5")], [Load(batch=50, rate=40.0)])
    journal, _ = run(replace(plan, cells=cells, block_seconds=0.5), pool, tmp_path)
    assert all(block.answers == 20 for block in journal.blocks)
    assert all(20 < block.figures["qps"] < 80 for block in journal.blocks)


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    answers = itertools.repeat(b"")


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(65536)
        self.request.sendall(next(self.server.answers))


@pytest.fixture
def broken(monkeypatch):
    monkeypatch.setattr("teeverify.bench.run._WAIT_SECONDS", 0.0)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_answers_that_failed_before_it_came_back_are_counted(plan, pool, tmp_path, broken):
    """A block that had to be asked for again says so."""
    good = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s"
    token = b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
    stream = 20 * token + b"data: [DONE]\n\n"
    good %= len(stream), stream
    # A block of two requests takes four connections: two are opened before it.
    broken.answers = itertools.chain([good] * 16, [b""] * 5, itertools.repeat(good))
    url = f"http://127.0.0.1:{broken.server_address[1]}/v1"
    target = Target(name="back", url=url, model="m")
    plan = replace(plan, targets=(target,), block_seconds=1e-6, min_blocks=4)
    journal, said = run(plan, pool, tmp_path)
    assert any("does not answer" in line for line in said)
    assert sum(sum(block.failed.values()) for block in journal.blocks) > 0
    assert all(block.answers for block in journal.blocks)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", "HTTP 503"),
        (b"", "ServerDisconnectedError"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "the answer is empty"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhi\n\n", "the stream broke off"),
        (b"HTTP/1.1 302 Go\r\nLocation: /v1\r\nContent-Length: 0\r\n\r\n", "HTTP 302"),
    ],
)
def test_an_endpoint_that_goes_down_ends_the_run_and_keeps_what_there_is(
    plan, pool, tmp_path, broken, answer, why
):
    broken.answers = itertools.repeat(answer)
    url = f"http://127.0.0.1:{broken.server_address[1]}/v1"
    plan = replace(plan, targets=(plan.targets[0], Target(name="down", url=url, model="m")))
    with pytest.raises(EndpointUnavailable) as caught:
        run(plan, pool, tmp_path)
    assert why in caught.value.got
    assert "goes on from there" in caught.value.hint
    assert Journal(tmp_path / "blocks.jsonl", plan.digest).blocks == []


def test_a_plan_names_its_targets(plan):
    with pytest.raises(ConfigurationError, match="a name of its own"):
        replace(plan, targets=(plan.targets[0], plan.targets[0]))
    with pytest.raises(ConfigurationError, match="no target has this name"):
        replace(plan, verify=frozenset({"nobody"}))
