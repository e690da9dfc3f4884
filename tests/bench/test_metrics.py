"""Each formula on answers whose times are known."""

from __future__ import annotations

import pytest

from teeverify.bench.metrics import METRICS, measure, quantile
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


def test_failed_answers_are_in_no_figure():
    whole = answer(0.0, [0.1, 0.2])
    assert measure([whole, answer(0.0, [9.0], error="HTTP 500")]) == measure([whole])
    assert measure([answer(0.0, [9.0], error="HTTP 500")]) == {}


def test_answers_of_one_token_have_no_decode_speed():
    figures = measure([answer(0.0, [0.1])])
    assert "tps" not in figures
    assert "itl" not in figures
    assert figures["ttft"] == pytest.approx(100.0)


def test_every_metric_is_computed():
    figures = measure([answer(0.0, [0.1, 0.2, 0.3])])
    assert {metric.id for metric in METRICS} <= set(figures)


@pytest.mark.parametrize(("share", "value"), [(0.5, 2), (0.51, 3), (0.99, 4), (0.01, 1), (1, 4)])
def test_quantiles(share, value):
    assert quantile([4, 1, 3, 2], share) == value
