"""Each formula on answers whose times are known."""

from __future__ import annotations

import math

import pytest

from teeverify.bench.metrics import METRICS, compare_turns, measure, quantile
from teeverify.bench.sample import Sample


def answer(sent, tokens, *, count=None, error=None):
    return Sample(
        sent=sent,
        ended=tokens[-1] + 0.001,
        wanted=len(tokens),
        tokens=tuple(tokens),
        output_tokens=len(tokens) if count is None else count,
        error=error,
    )


def test_the_formulas():
    figures = measure([answer(0.0, [0.1, 0.2, 0.3]), answer(0.0, [0.3, 0.5, 0.7])])
    assert figures["tps"] == pytest.approx(4 / 0.6)
    assert figures["steps"] == pytest.approx(4 / 0.6)
    assert figures["qps"] == pytest.approx(2 / 0.701)
    assert figures["throughput"] == pytest.approx(6 / 0.701)
    assert figures["ttft"] == pytest.approx(200.0)
    assert figures["tpot"] == pytest.approx((100 + 200) / 2)
    assert figures["itl"] == pytest.approx((100 * 2 + 200 * 2) / 4)
    assert figures["e2e"] == pytest.approx((301 + 701) / 2)


def test_several_tokens_in_one_event_are_counted_as_the_endpoint_counts():
    figures = measure([answer(0.0, [0.1, 0.2, 0.3], count=9)])
    assert figures["tps"] == pytest.approx(8 / 0.2)
    assert figures["steps"] == pytest.approx(2 / 0.2)
    assert figures["tpot"] == pytest.approx(200 / 8)


def test_answers_that_came_all_at_once_have_no_speed_and_no_gaps():
    figures = measure([answer(0.0, [0.1, 0.1, 0.1])])
    assert not {"tps", "tpot", "itl", "steps"} & set(figures)
    assert figures["ttft"] == pytest.approx(100.0)


def test_failed_answers_are_in_no_figure():
    whole = answer(0.0, [0.1, 0.2, 0.3])
    assert measure([whole, answer(0.0, [9.0], error="HTTP 500")]) == measure([whole])
    assert measure([answer(0.0, [9.0], error="HTTP 500")]) == {}


def test_where_targets_take_turns_the_others_time_is_not_counted():
    samples = [answer(0.0, [0.1, 0.2, 0.299]), answer(1.0, [1.1, 1.2, 1.299])]
    assert measure(samples, in_turns=True)["qps"] == pytest.approx(2 / 0.6)
    assert measure(samples)["qps"] == pytest.approx(2 / 1.3)


def test_turns_are_compared_pair_by_pair():
    """What slows both at one moment is in no difference, whatever the medians of the blocks do."""
    moments = [0.0, 0.5, 0.001, 0.3, 0.02]
    base = [answer(10 * n, [10 * n + 0.1 + slow]) for n, slow in enumerate(moments)]
    other = [answer(10 * n + 5, [10 * n + 5.102 + slow]) for n, slow in enumerate(moments)]
    found = compare_turns(base, other)
    assert found["ttft"]["ms"] == pytest.approx(2.0)
    assert found["e2e"]["ms"] == pytest.approx(2.0)
    ratios = sorted((0.102 + slow) / (0.1 + slow) for slow in moments)
    assert math.exp(found["ttft"]["log"]) == pytest.approx(ratios[2])


def test_a_pair_that_is_not_whole_is_not_compared():
    whole, failed = answer(0.0, [0.1]), answer(0.0, [0.9], error="HTTP 500")
    assert compare_turns([whole, failed], [failed, whole]) == {}
    assert compare_turns([whole, failed], [whole, whole])["ttft"]["ms"] == 0


@pytest.mark.parametrize("tokens", [[0.1], [0.1, 0.2]])
def test_answers_of_one_or_two_tokens_have_no_decode_speed(tokens):
    figures = measure([answer(0.0, tokens)])
    assert "tps" not in figures
    assert "itl" not in figures
    assert figures["ttft"] == pytest.approx(100.0)


def test_every_metric_is_computed():
    figures = measure([answer(0.0, [0.1, 0.2, 0.3])])
    assert {metric.id for metric in METRICS} <= set(figures)


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.51, 3), (0.99, 4), (0.01, 1), (1, 4)])
def test_quantiles(share, value):
    assert quantile([4, 1, 3, 2], share) == value
