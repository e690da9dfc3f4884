"""The embedded engine: a real loop, token by token, that gives the same each time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time

import pytest

from teeverify.enclave.engines import EngineBusy, EngineFailed, Message, Sampling

PROMPT = (Message("user", "Say something."),)


@pytest.fixture(scope="module")
def engine():
    pytest.importorskip("numpy", reason="the extra 'server' is not installed")
    from teeverify.enclave.engines.tiny import TinyEngine

    made = TinyEngine(rows=8)
    yield made
    made.close()


def sampling(**members):
    defaults = {"max_tokens": 40, "temperature": 0.0, "top_p": 1.0, "seed": None}
    return Sampling(**(defaults | members))


async def pieces(engine, messages=PROMPT, **members):
    return [piece async for piece in engine.generate(messages, sampling(**members))]


def text(engine, messages=PROMPT, **members):
    return "".join(piece.text for piece in asyncio.run(pieces(engine, messages, **members)))


def test_one_token_after_the_other(engine):
    found = asyncio.run(pieces(engine, ignore_end=True))
    assert sum(piece.tokens for piece in found) == 40
    assert [piece.finish_reason for piece in found[:-1]] == [None] * (len(found) - 1)
    assert found[-1].finish_reason == "length"
    assert len("".join(piece.text for piece in found)) == 40


@pytest.mark.parametrize("most", [1, 2, 127, 128, 129, 300])
def test_max_tokens(engine, most):
    assert len(text(engine, max_tokens=most, ignore_end=True)) == most


def test_it_can_end_by_itself(engine):
    found = [asyncio.run(pieces(engine, temperature=1.0, seed=n))[-1] for n in range(12)]
    assert {"stop", "length"} >= {piece.finish_reason for piece in found} >= {"stop"}


def test_temperature_zero_is_deterministic(engine):
    assert text(engine) == text(engine, seed=7) == text(engine, top_p=0.1)


def test_a_seed_makes_sampling_repeatable(engine):
    hot = {"temperature": 1.0, "ignore_end": True}
    assert text(engine, seed=1, **hot) == text(engine, seed=1, **hot)
    assert text(engine, seed=1, **hot) != text(engine, seed=2, **hot)
    assert text(engine, **hot) != text(engine, **hot)
    assert text(engine, seed=-1, **hot) == text(engine, seed=2**64 - 1, **hot)


def test_the_likeliest_token_alone_is_as_cold_as_it_gets(engine):
    assert text(engine, temperature=2.0, top_p=0.0) == text(engine)


def test_the_prompt_matters(engine):
    other = (Message("user", "Say nothing at all."),)
    assert text(engine, ignore_end=True) != text(engine, other, ignore_end=True)


@pytest.mark.parametrize("size", [0, 1, 117, 118, 119, 500, 100_000])
def test_any_length_of_prompt(engine, size):
    messages = (Message("user", "x" * size),)
    assert text(engine, messages)
    assert engine.count(messages) == size + 8


def test_any_text_in_a_prompt(engine):
    assert text(engine, (Message("user", "鍵 🔑 \0"), Message("assistant", "é")))


def test_what_else_is_in_the_batch_does_not_matter(engine):
    """Deterministic although requests join and leave, and more wait than there are rows."""

    async def together():
        wanted = [
            {"seed": n % 3, "temperature": float(n % 2), "max_tokens": 10 + 7 * (n % 5)}
            for n in range(30)
        ]
        found = await asyncio.gather(*(pieces(engine, **members) for members in wanted))
        return wanted, found

    wanted, found = asyncio.run(together())
    for members, got in zip(wanted, found, strict=True):
        assert "".join(piece.text for piece in got) == text(engine, **members)


def test_the_cache_is_the_same_as_reading_all_at_once(engine):
    import numpy as np

    from teeverify.enclave.engines.decoder import START, Cache

    prompt = np.array([START, *b"user: all of this at once "])
    at_once = engine._decoder.prefill(prompt, Cache(1), 0)
    cache = Cache(1)
    for before, token in itertools.pairwise(prompt):
        if not cache.positions[0]:
            engine._decoder.step(np.array([[before, before]]), cache)
        by_token = engine._decoder.step(np.array([[before, token]]), cache)[0]
    assert np.allclose(at_once, by_token, atol=1e-9)


def test_the_first_token_comes_soon(engine):
    async def first():
        started = time.perf_counter()
        async with contextlib.aclosing(engine.generate(PROMPT, sampling())) as stream:
            await anext(stream)
            return time.perf_counter() - started

    assert min(asyncio.run(first()) for _ in range(5)) < 0.05


def test_the_loop_is_not_blocked(engine):
    async def ticks():
        work = asyncio.create_task(pieces(engine, max_tokens=400, ignore_end=True))
        longest, last = 0.0, time.perf_counter()
        while not work.done():
            await asyncio.sleep(0.001)
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()
        return longest

    assert min(asyncio.run(ticks()) for _ in range(3)) < 0.1


def test_who_leaves_is_dropped_from_the_batch(engine):
    async def leave():
        streams = [engine.generate(PROMPT, sampling(max_tokens=4096)) for _ in range(8)]
        for stream in streams:
            await anext(stream)
        for stream in streams:
            await stream.aclose()
        await pieces(engine)
        return len(engine._active)

    assert asyncio.run(leave()) == 0


def test_a_full_queue(engine, monkeypatch):
    from teeverify.enclave.engines import tiny

    monkeypatch.setattr(tiny, "_MAX_WAITING", 0)
    with pytest.raises(EngineBusy):
        asyncio.run(pieces(engine))


def test_an_error_breaks_off_everyone_and_the_next_one_works(engine, monkeypatch, caplog):
    async def together():
        return await asyncio.gather(*(pieces(engine) for _ in range(12)), return_exceptions=True)

    def broken(*_):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(engine._decoder, "step", broken)
        outcomes = asyncio.run(together())
    assert {type(outcome) for outcome in outcomes} == {EngineFailed}
    assert "the engine broke off" in caplog.text
    assert text(engine)


def test_after_close_it_fails_at_once(caplog):
    pytest.importorskip("numpy", reason="the extra 'server' is not installed")
    from teeverify.enclave.engines.tiny import TinyEngine

    engine = TinyEngine(rows=1)
    engine.close()
    with pytest.raises(EngineFailed):
        asyncio.run(pieces(engine))
    assert caplog.records


def test_it_does_not_pass_for_vllm(engine):
    assert "not-vllm" in engine.fingerprint
    assert "not vLLM" in engine.description


def test_everybody_has_the_same_weights(engine):
    from teeverify.enclave.engines.decoder import Decoder

    assert engine.fingerprint.endswith(Decoder().digest()[:8])
