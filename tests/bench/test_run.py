"""The experiment against endpoints whose speed is known."""

from __future__ import annotations

import itertools
import random
import socketserver
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest

from teeverify.bench.fake import Timing, fake_endpoints
from teeverify.bench.journal import Journal
from teeverify.bench.load import Lane, Load, Target
from teeverify.bench.overhead import compare_cell
from teeverify.bench.plan import Plan, cells_of
from teeverify.bench.run import run_plan
from teeverify.bench.sample import Sample
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


class _Simulated:
    """A pool whose time is a number: known delays, noise from a seed, and nothing to wait for."""

    def __init__(self, seed):
        self.random, self.now = random.Random(seed), 0.0

    def generate(self, lanes, _load, *, timeout, seed):
        assert timeout
        assert seed
        found = [[] for _ in lanes]
        for turn in zip(*(lane.asks for lane in lanes), strict=True):
            moment = self.random.expovariate(1 / 0.015)  # all have this, now
            for samples, lane, ask in zip(found, lanes, turn, strict=True):
                samples.append(self._answer(lane.target.name == "other", ask, moment))
        return found

    def _answer(self, late, ask, moment):
        first = 0.005 + moment + 0.001 * late + self.random.gauss(0, 0.0002)
        step = 0.002 + 0.0001 * late + self.random.gauss(0, 0.00002)
        sent, count = self.now, ask.output_tokens
        tokens = tuple(sent + first + number * step for number in range(count))
        self.now = tokens[-1] + 0.001
        return Sample(sent=sent, ended=self.now, wanted=count, tokens=tokens, output_tokens=count)


@pytest.mark.parametrize("batch", [1, 2])
def test_known_delays_are_recovered(plan, tmp_path, batch):
    """``benchmarks/recovery.py`` counts how often where time is real."""
    cells = cells_of([parse_workload("10+20")], [Load(batch=batch)])
    plan = replace(plan, cells=cells, block_seconds=0.5)
    held = Counter()
    for number in range(60):
        path = tmp_path / str(number)
        journal, _ = run(replace(plan, seed=f"run {number}"), _Simulated(number), path)
        tolls = {
            each.metric.id: each.toll for each in compare_cell(journal.blocks, "base", "other")
        }
        for metric, known in {"tpot": 0.1, "ttft": 1.0}.items():
            held[metric] += tolls[metric].low <= known <= tolls[metric].high
        assert (tolls["ttft"].half < 2) == (batch == 1)  # in turns, what both have is in no toll
    assert min(held.values()) >= 57


def test_in_turns_the_others_say_how_they_differ_from_the_baseline(plan, pool, tmp_path):
    plan = replace(plan, cells=cells_of([FIRST_TOKEN], [Load(batch=1)]), min_blocks=2)
    journal, _ = run(plan, pool, tmp_path)
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


def test_half_a_pair_is_left_alone(plan, pool, tmp_path):
    """A run that was killed between two lines of its journal."""
    run(plan, pool, tmp_path)
    path = tmp_path / "blocks.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:4]))  # the plan, a pair, half a pair
    journal, _ = run(plan, pool, tmp_path)
    assert [b.pair for b in journal.blocks[:5]] == [0, 0, 1, 2, 2]
    found = {each.metric.id: each for each in compare_cell(journal.blocks, "base", "other")}
    assert found["qps"].blocks == plan.min_blocks


def test_one_target_alone_is_measured_until_its_own_figure_is_known(plan, pool, tmp_path):
    """``bench compare`` has nothing but such runs."""
    plan = replace(plan, targets=plan.targets[:1], narrow=1e-9, budget_seconds=0.5)
    journal, said = run(plan, pool, tmp_path)
    assert set(journal.ended.values()) == {"budget"}
    assert any("known to ±" in line for line in said)


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
    with fake_endpoints(Timing(first=0.05, step=0.3)) as (slow,):
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


def test_at_a_given_rate_an_answer_that_waits_for_room_is_late(pool):
    """Else an engine that cannot keep up would seem to be quick."""
    with fake_endpoints(Timing(first=0.2)) as (url,):
        target = Target(name="slow", url=url, model="none")
        asks = list(itertools.islice(FIRST_TOKEN.asks("a/b"), 2))
        load = Load(batch=1, rate=1e6)
        ((first, second),) = pool.generate([Lane(target=target, asks=asks)], load, timeout=30.0)
    assert second.sent < first.ended
    assert second.tokens[0] - second.sent > first.tokens[0] - first.sent


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
    good = _stream(20)
    # A block of two requests takes four connections: two are opened before it.
    broken.answers = itertools.chain([good] * 16, [b""] * 5, itertools.repeat(good))
    url = f"http://127.0.0.1:{broken.server_address[1]}/v1"
    target = Target(name="back", url=url, model="m")
    plan = replace(plan, targets=(target,), block_seconds=1e-6, min_blocks=4)
    journal, said = run(plan, pool, tmp_path)
    assert any("does not answer" in line for line in said)
    assert sum(sum(block.failed.values()) for block in journal.blocks) > 0
    assert all(block.answers for block in journal.blocks)


def _stream(tokens, *, usage=None):
    body = tokens * b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n'
    if usage is not None:
        body += b'data: {"choices": [], "usage": {"completion_tokens": %d}}\n\n' % usage
    body += b"data: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def test_an_endpoint_that_goes_down_in_mid_run_is_gone_on_with(plan, pool, tmp_path, broken):
    # Calibration and warm-up take 14 connections, a block of two requests four.
    broken.answers = itertools.chain([_stream(20)] * 24, itertools.repeat(b""))
    url = f"http://127.0.0.1:{broken.server_address[1]}/v1"
    target = Target(name="down", url=url, model="m")
    plan = replace(plan, targets=(target,), block_seconds=1e-6, min_blocks=5)
    with pytest.raises(EndpointUnavailable, match="does not answer"):
        run(plan, pool, tmp_path)
    kept = Journal(tmp_path / "blocks.jsonl", plan.digest).blocks
    assert 0 < len(kept) < 5
    broken.answers = itertools.repeat(_stream(20))
    journal, _ = run(plan, pool, tmp_path)
    assert journal.blocks[: len(kept)] == kept
    assert [block.pair for block in journal.blocks] == list(range(5))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [(None, (5, "events", True)), (5, (5, "usage", True)), (20, (20, "usage", False))],
)
def test_a_model_that_stops_early_is_counted_by_what_the_endpoint_says(
    plan, pool, tmp_path, broken, usage, expected
):
    """Five events, of twenty tokens that were asked for."""
    broken.answers = itertools.repeat(_stream(5, usage=usage))
    url = f"http://127.0.0.1:{broken.server_address[1]}/v1"
    target = Target(name="early", url=url, model="m")
    plan = replace(plan, targets=(target,), block_seconds=1e-6, min_blocks=2)
    journal, _ = run(plan, pool, tmp_path)
    tokens, counted, short = expected
    for block in journal.blocks:
        assert (block.tokens, block.counted) == (tokens * block.answers, counted)
        assert block.short == (block.answers if short else 0)


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


class _Refusing:
    """A pool that takes its time, and whose every answer fails for one reason."""

    def __init__(self, why):
        self.why, self.now = why, 0.0

    def generate(self, lanes, _load, **_options):
        self.now += 10.0
        failed = Sample(sent=0.0, ended=1.0, wanted=1, error=self.why)
        return [[failed] * len(lane.asks) for lane in lanes]


class _Clock:
    """The time of such a pool, in place of the module ``time``."""

    def __init__(self, pool):
        self.pool = pool

    def monotonic(self):
        return self.pool.now

    def sleep(self, seconds):
        self.pool.now += seconds


@pytest.mark.parametrize("total", [5.0, 1e6])
@pytest.mark.parametrize(
    ("why", "said"),
    [
        ("HTTP 404", r"base answers HTTP 404 to model 'none'"),
        ("HTTP 401", r"base answers HTTP 401 to model 'none'"),
        ("ServerDisconnectedError", r"base does not answer \(ServerDisconnectedError\)"),
    ],
)
def test_who_refuses_is_named_though_the_time_is_up(plan, tmp_path, monkeypatch, why, said, total):
    """Else a mistyped model would end like a run that was too slow: with nothing, and no word."""
    pool = _Refusing(why)
    monkeypatch.setattr("teeverify.bench.run.time", _Clock(pool))
    with pytest.raises(EndpointUnavailable, match=said):
        run(replace(plan, total_seconds=total), pool, tmp_path)


def test_what_the_end_of_the_run_cut_off_was_refused_by_nobody(plan, tmp_path, monkeypatch):
    pool = _Refusing("TimeoutError")
    monkeypatch.setattr("teeverify.bench.run.time", _Clock(pool))
    journal, said = run(replace(plan, total_seconds=5.0), pool, tmp_path)
    assert journal.blocks == []
    assert said[-1].startswith("the time is up")


def test_a_cell_whose_time_is_over_has_three_pairs_of_blocks(plan, tmp_path, monkeypatch):
    """Two have no interval: there would be nothing to say of the cell."""
    pool = _Simulated(1)
    monkeypatch.setattr("teeverify.bench.run.time", _Clock(pool))
    cells = cells_of([parse_workload(f"10+{20 + n}") for n in range(8)], [Load(batch=2)])
    short = {"narrow": 1e-9, "min_blocks": 50, "total_seconds": 8.0, "block_seconds": 0.5}
    journal, _ = run(replace(plan, cells=cells, **short), pool, tmp_path)
    assert journal.ended[cells[0].id] == "time"
    assert {block.pair for block in journal.of(cells[0].id)} == {0, 1, 2}


def test_a_plan_names_its_targets(plan):
    with pytest.raises(ConfigurationError, match="a name of its own"):
        replace(plan, targets=(plan.targets[0], plan.targets[0]))
    with pytest.raises(ConfigurationError, match="no target has this name"):
        replace(plan, verify=frozenset({"nobody"}))
