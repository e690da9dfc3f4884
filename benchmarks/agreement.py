"""Does our load generator agree with vLLM's own, on the same server and load?

Both ask the same endpoint for as many answers of the same lengths, as many at once, in turns: in
each round both run, in an order that is random and then reversed. Prints a table of the means of
all rounds, with their intervals, and of the difference, paired by round.

    python -m benchmarks.agreement URL TOKENIZER --vllm 'vllm bench serve' [--rounds 6] [--out FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from teeverify.bench.environment import describe_host
from teeverify.bench.load import Lane, Load, Target, order_of
from teeverify.bench.metrics import METRICS, measure
from teeverify.bench.overhead import say_overhead
from teeverify.bench.pool import default_processes, open_pool
from teeverify.bench.statistics import Interval, mean_interval, paired_ratio
from teeverify.bench.workload import parse_workload, words_of

if TYPE_CHECKING:
    from teeverify.bench.pool import Pool

# Our metric, and the name of the same in vLLM's JSON.
SAME = {
    "qps": "request_throughput",
    "throughput": "output_throughput",
    "ttft": "median_ttft_ms",
    "tpot": "mean_tpot_ms",
    "itl": "mean_itl_ms",
    "e2e": "median_e2el_ms",
}
_PROBES = (32, 256)
# Checked on one recorded load (96 answers of 100 tokens) that was read by both definitions.
_DEFINITIONS = (
    "On the same bytes both definitions give the same TTFT and TPOT, to 0.2 %: what lies between "
    "them here is the load, not the formula. TPOT is what TTFT leaves of the latency: a client "
    "that reads some first events late, on busy cores, has less TPOT for the same latency. vLLM "
    "takes the event that only announces the role, which comes with the first token, for a token: "
    "its ITL has one gap of almost 0 more an answer. Its latency ends with the last token, ours "
    "with the last byte."
)


def measure_theirs(options: argparse.Namespace, seed: int) -> dict[str, float]:
    """One run of ``vllm bench serve``, in our names."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *shlex.split(options.vllm),
            "--backend", "openai-chat", "--base-url", options.url.removesuffix("/v1"),
            "--endpoint", "/v1/chat/completions", "--model", options.model,
            "--tokenizer", options.tokenizer, "--dataset-name", "random",
            "--random-input-len", str(options.prompt - options.template),
            "--random-output-len", str(options.output), "--num-prompts", str(options.count),
            "--max-concurrency", str(options.batch), "--num-warmups", str(options.batch),
            "--ignore-eos", "--temperature", "0", "--seed", str(seed), "--disable-tqdm",
            "--percentile-metrics", "ttft,tpot,itl,e2el", "--save-result",
            "--result-dir", folder, "--result-filename", "result.json",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        try:
            found = json.loads((Path(folder) / "result.json").read_text())
        except OSError:
            sys.exit(f"vllm bench serve made no result:\n{done.stderr[-2000:]}")
    if found["completed"] != options.count:
        sys.exit(f"vllm bench serve had {found['completed']} of {options.count} answers")
    asked = found["total_input_tokens"] / options.count  # by the endpoint's count, as ours
    return {ours: found[theirs] for ours, theirs in SAME.items()} | {"prompt": asked}


def measure_ours(pool: Pool, options: argparse.Namespace, seed: int) -> dict[str, float]:
    """One block, after a warm-up as vLLM's."""
    target = Target(name="endpoint", url=options.url, model=options.model)
    load = Load(batch=options.batch)
    asks = options.workload.asks(f"{seed}/ours")
    for count in (options.batch, options.count):
        lane = Lane(target=target, asks=list(itertools.islice(asks, count)))
        (samples,) = pool.generate([lane], load, timeout=600.0, seed=str(seed))
        if failed := {sample.error for sample in samples if sample.error is not None}:
            sys.exit(f"answers failed: {failed}")
    prompts = sum(sample.prompt_tokens or 0 for sample in samples)
    return measure(samples) | {"prompt": prompts / len(samples)}


def calibrate(pool: Pool, options: argparse.Namespace) -> None:
    """Learn how many tokens a word and the chat template are, so that both ask the same."""
    target = Target(name="endpoint", url=options.url, model=options.model)
    lane = Lane(target=target, asks=[words_of(words, words) for words in _PROBES])
    (samples,) = pool.generate([lane], Load(batch=1), timeout=600.0)
    tokens = (samples[0].prompt_tokens or 0, samples[1].prompt_tokens or 0)
    workload = parse_workload(f"{options.prompt}+{options.output}")
    options.workload = workload.calibrated(words=_PROBES, tokens=tokens)
    options.template = round(options.workload.template_tokens)


def table(theirs: list[dict[str, float]], ours: list[dict[str, float]]) -> str:
    """Markdown: each metric of both, and how ours differs."""
    lines = ["| | `vllm bench serve` | `teeverify bench` | ours, of the same round |"]
    lines.append("| --- | --- | --- | --- |")
    for metric in METRICS:
        if metric.id not in SAME:
            continue
        left, right = [run[metric.id] for run in theirs], [run[metric.id] for run in ours]
        shown = [_show(mean_interval(values)) for values in (left, right)]
        # More is more here, of rates as of times.
        said = _difference(paired_ratio(left, right, rate=False))
        lines.append(f"| {metric.name}, {metric.unit} | {shown[0]} | {shown[1]} | {said} |")
    prompts = [sum(run["prompt"] for run in runs) / len(runs) for runs in (theirs, ours)]
    lines.append(f"| tokens of a prompt | {prompts[0]:.1f} | {prompts[1]:.1f} | |")
    lines += ["", _DEFINITIONS]
    return "\n".join(lines)


def write_rounds(
    theirs: list[dict[str, float]], ours: list[dict[str, float]], options: argparse.Namespace
) -> None:
    """JSON: where and what was asked, and every round of both, in our names."""
    document = {
        "host": describe_host(),
        "vllm": options.vllm,
        "model": options.model,
        "streams": options.batch,
        "prompt_tokens": options.prompt,
        "output_tokens": options.output,
        "answers_a_round": options.count,
        "rounds": [
            {
                "vllm": {name: left[name] for name in (*SAME, "prompt")},
                "teeverify": {name: right[name] for name in (*SAME, "prompt")},
            }
            for left, right in zip(theirs, ours, strict=True)
        ],
    }
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _show(interval: Interval) -> str:
    return f"{interval.middle:.4g} ± {interval.half:.2g}"


def _difference(ratio: Interval) -> str:
    if not ratio.clear:
        return say_overhead(ratio)
    word = "more" if ratio.low > 0 else "less"
    low, high = sorted((abs(ratio.low), abs(ratio.high)))
    return f"{abs(ratio.middle):.2%} {word} [{low:.2%} to {high:.2%}]"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.add_argument("url", metavar="URL", help="base URL of raw vLLM, which ends in /v1")
    parser.add_argument("tokenizer", metavar="TOKENIZER", help="the model's folder")
    parser.add_argument("--vllm", default="vllm bench serve", metavar="CMD")
    parser.add_argument("--model", default="default", metavar="M")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--batch", type=int, default=8, help="requests at once")
    parser.add_argument("--count", type=int, default=96, help="requests of a run")
    parser.add_argument("--prompt", type=int, default=100, help="tokens")
    parser.add_argument("--output", type=int, default=100, help="tokens")
    parser.add_argument("--out", type=Path, metavar="FILE", help="each round as JSON")
    options = parser.parse_args()
    theirs, ours = [], []
    with open_pool(default_processes()) as pool:
        calibrate(pool, options)
        for number in range(options.rounds):
            for side in order_of(2, number, "agreement"):
                if side == 0:
                    theirs.append(measure_theirs(options, number))
                else:
                    ours.append(measure_ours(pool, options, number))
            shown = [
                json.dumps({k: round(v, 3) for k, v in runs[-1].items() if k in SAME})
                for runs in (theirs, ours)
            ]
            print(f"round {number + 1} of {options.rounds}: {shown[0]} {shown[1]}", file=sys.stderr)
            if options.out is not None:  # each round: a run that is cut off leaves what it has
                write_rounds(theirs, ours, options)
    print(table(theirs, ours))


if __name__ == "__main__":
    main()
