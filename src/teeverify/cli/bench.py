"""``teeverify bench``: what verified confidential inference costs, measured."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from teeverify.cli.bench_plan import API_KEY, config_of, plan_of, require_number
from teeverify.cli.flags import add_policy, add_test_roots
from teeverify.errors import EXIT_SATISFIED, EXIT_WRONG, ConfigurationError, TeeVerifyError

if TYPE_CHECKING:
    from teeverify.bench.plan import Plan
    from teeverify.bench.results import Result
    from teeverify.bench.verification import AnswerVerifier

__all__ = ["add_bench", "bench"]


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Add the command's verbs to its parser."""
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_run(
        verbs.add_parser(
            "run",
            help="measure endpoints side by side",
            description="Measure endpoints side by side, in blocks of random order, until each "
            "overhead is known well enough. An interrupted run goes on with the same command.",
        )
    )
    report = verbs.add_parser(
        "report",
        help="write the report of one or more results",
        description="Write report.md, a self-contained report.html and, for machines, report.json "
        "of one or more results; all intervals and words are computed anew from their blocks.",
    )
    report.add_argument("results", nargs="+", metavar="RESULT.json")
    report.add_argument("--out", default=".", metavar="DIR", help="where to; default: here")
    compare = verbs.add_parser(
        "compare",
        help="compare two runs that could not be interleaved",
        description="Compare a target of two runs that could not be interleaved: turning "
        "confidential computing on takes a reboot.",
    )
    compare.add_argument("base", metavar="A.json")
    compare.add_argument("other", metavar="B.json")
    compare.add_argument("--target", metavar="NAME", help="which target, where there are several")
    attest = verbs.add_parser(
        "attest",
        help="time attestation, signing and verification",
        description="Time an endpoint's evidence, a session cold and warm, and an answer's "
        "verification.",
    )
    attest.add_argument("url", metavar="URL", help="base URL, such as http://127.0.0.1:8000/v1")
    attest.add_argument("--model", default="default", metavar="M")
    attest.add_argument("--rounds", type=int, default=20, metavar="N", help="default: 20")
    add_policy(attest)
    add_test_roots(attest)
    attest.add_argument("--json", action="store_true", help="print one JSON object")
    _add_up(
        verbs.add_parser(
            "up",
            help="start raw vLLM, and the same vLLM behind the reference server",
            description="Start vLLM, and the reference server before it on a simulated machine. "
            "Prints the command that measures the two, and runs until it is interrupted.",
        )
    )


def _add_up(up: argparse.ArgumentParser) -> None:
    up.add_argument("model", metavar="DIR", help="folder with config.json and a tokenizer")
    up.add_argument(
        "--vllm-command",
        default="vllm serve",
        metavar="CMD",
        help="what starts vLLM, with its own flags, such as 'env CUDA_VISIBLE_DEVICES=1 vllm serve "
        "--gpu-memory-utilization 0.4'; default: 'vllm serve'",
    )
    up.add_argument(
        "--timeout", type=float, default=900.0, metavar="SECONDS", help="for vLLM to start"
    )


def _add_run(run: argparse.ArgumentParser) -> None:
    what = run.add_argument_group("what is measured")
    what.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="NAME=URL",
        required=True,
        help="an OpenAI-compatible endpoint, such as raw=http://127.0.0.1:8000/v1; the first is "
        "the baseline",
    )
    what.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="M|NAME=M",
        help="the model to ask for, of all targets or of one; default: default",
    )
    what.add_argument(
        "--workload",
        action="append",
        default=[],
        metavar="W",
        help="ttft, short, medium, long, sharegpt, alpaca, lengths such as 128+32, or a file of "
        "JSON lines; default: short, medium and long, and ttft at batch 1",
    )
    what.add_argument(
        "--batch", action="append", default=[], type=int, metavar="N", help="requests at once"
    )
    what.add_argument(
        "--rate", action="append", default=[], type=float, metavar="R", help="requests a second"
    )
    what.add_argument(
        "--verify",
        action="append",
        default=[],
        metavar="NAME",
        help="verify every answer of this target, and count the cost",
    )
    add_policy(what)
    add_test_roots(what)
    long = run.add_argument_group("how long")
    long.add_argument("--narrow", type=float, default=0.5, metavar="PERCENT", help="default: 0.5")
    long.add_argument("--budget", type=float, default=60.0, metavar="SECONDS", help="of a cell")
    long.add_argument(
        "--total",
        type=float,
        default=12.0,
        metavar="MINUTES",
        help="of the run; a slow machine gets fewer blocks, or not to every cell; default: 12",
    )
    long.add_argument("--block", type=float, default=3.0, metavar="SECONDS", help="of a block")
    long.add_argument("--min-blocks", type=int, default=5, metavar="N")
    long.add_argument("--processes", type=int, metavar="N", help="that ask; default: by cores")
    about = run.add_argument_group("what the result says of the model")
    about.add_argument("--title", default="", help="the report's title")
    about.add_argument("--model-config", metavar="F", help="the model's config.json")
    about.add_argument(
        "--engine", default="", metavar="CMD", help="how the engine was started, for the record"
    )
    about.add_argument("--weights", choices=("real", "dummy", "unknown"), default="unknown")
    run.add_argument("--out", required=True, metavar="DIR", help="where to")


def bench(options: argparse.Namespace) -> int:
    """Run one verb of the benchmark.

    Raises:
        TeeVerifyError: Wrong use, or a target that cannot be measured.
    """
    return _VERBS[options.verb](options)


def _run(options: argparse.Namespace) -> int:
    from teeverify.bench.ceiling import measure_ceiling  # noqa: PLC0415 -- only this command
    from teeverify.bench.environment import describe_host, describe_model  # noqa: PLC0415
    from teeverify.bench.journal import Journal  # noqa: PLC0415
    from teeverify.bench.pool import default_processes, open_pool  # noqa: PLC0415
    from teeverify.bench.results import Result  # noqa: PLC0415
    from teeverify.bench.run import run_plan  # noqa: PLC0415
    from teeverify.bench.verification import AnswerVerifier  # noqa: PLC0415
    from teeverify.roots import UnsafeTestRoots  # noqa: PLC0415

    plan = plan_of(options)
    if options.processes is not None:
        require_number("--processes", options.processes, least=1)
    out = Path(options.out)
    model = describe_model(
        config_of(options.model_config), weights=options.weights, engine=options.engine
    )
    journal = Journal(out / "blocks.jsonl", plan.digest)
    plan = replace(plan, seed=journal.seed)
    roots = options.unsafe_test_roots
    verifier = AnswerVerifier(options.policy, UnsafeTestRoots.load(roots) if roots else None)
    targets = _describe_targets(plan, verifier)
    with open_pool(options.processes or default_processes()) as pool:
        result = Result(
            title=options.title or " against ".join(reversed(targets)),
            plan=plan.describe(),
            host=describe_host(),
            model=model,
            targets=targets,
            blocks=journal.blocks,
            measured_here=not journal.blocks,  # what an earlier part left is a file's word
            ceiling=measure_ceiling(pool, max(cell.load.batch for cell in plan.cells)),
            ended=journal.ended,
        )
        try:
            with _progress() as (say, advance):
                run_plan(plan, pool, journal, verify=verifier, say=say, advance=advance)
        except (TeeVerifyError, KeyboardInterrupt):
            _finish(result, out)
            raise
    _finish(result, out)
    if not journal.blocks:
        raise ConfigurationError(
            "the time was up before anything was measured",
            id="usage.bench",
            got=f"--total {options.total:g}",
            hint="Give it more minutes, or a shorter --workload.",
        )
    for refusal in verifier.refused[:5]:
        print(f"not verified: {refusal}", file=sys.stderr)
    # Also those of an earlier part of the same run.
    refused = any((block.verified or {}).get("refused") for block in journal.blocks)
    return EXIT_WRONG if refused else EXIT_SATISFIED


def _describe_targets(plan: Plan, verifier: AnswerVerifier) -> dict[str, dict[str, object]]:
    from teeverify.bench.probe import describe_target, naming  # noqa: PLC0415

    described: dict[str, dict[str, object]] = {}
    for target in plan.targets:
        about = {"url": target.url, "model": target.model, **describe_target(target)}
        if target.name in plan.verify:
            with naming(target):
                about["attestation"] = verifier.attest(target)
        described[target.name] = about
    return described


def _finish(result: Result, out: Path) -> None:
    """Write what there is; of a run that broke off too."""
    from teeverify.bench.results import write_result  # noqa: PLC0415

    if not result.blocks:
        return
    write_result(result, out / "result.json")
    try:
        _write_reports([result], out)
        print(out / "report.html")
    except ConfigurationError as missing:  # what was measured is on disk
        _say(f"no report.html: {missing}")
    print(out / "result.json")


@contextlib.contextmanager
def _progress() -> Iterator[tuple[Callable[[str], None], Callable[[float], None]]]:
    """A bar where a person looks on and ``rich`` is installed; else a line a block."""
    if not sys.stderr.isatty() or importlib.util.find_spec("rich") is None:
        yield _say, lambda _share: None
        return
    from rich.console import Console  # noqa: PLC0415 -- an extra
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("measuring", total=1.0)
        yield (
            lambda line: bar.update(task, description=line),
            lambda share: bar.update(task, completed=share),
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _report(options: argparse.Namespace) -> int:
    from teeverify.bench.results import load_result, write_results  # noqa: PLC0415

    out = Path(options.out)
    results = [load_result(Path(path)) for path in options.results]
    try:
        _write_reports(results, out)
        write_results(results, out / "report.json")
    except OSError as error:
        raise ConfigurationError(
            "the report cannot be written", id="usage.bench", got=f"{out}: {error.strerror}"
        ) from None
    print(out / "report.html")
    return EXIT_SATISFIED


def _write_reports(results: list[Result], out: Path) -> None:
    from teeverify.bench.html import write_html  # noqa: PLC0415
    from teeverify.bench.report import render_report  # noqa: PLC0415

    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(render_report(results), encoding="utf-8")
    write_html(results, out / "report.html")


def _compare(options: argparse.Namespace) -> int:
    from teeverify.bench.comparison import render_comparison  # noqa: PLC0415
    from teeverify.bench.results import load_result  # noqa: PLC0415

    base, other = load_result(Path(options.base)), load_result(Path(options.other))
    print(render_comparison(base, other, options.target))
    return EXIT_SATISFIED


def _attest(options: argparse.Namespace) -> int:
    from teeverify.bench.attest import measure_attestation  # noqa: PLC0415
    from teeverify.bench.load import Target  # noqa: PLC0415
    from teeverify.bench.probe import naming  # noqa: PLC0415
    from teeverify.roots import UnsafeTestRoots  # noqa: PLC0415

    require_number("--rounds", options.rounds, least=2)
    roots = options.unsafe_test_roots
    key = os.environ.get(API_KEY)
    target = Target(name="endpoint", url=options.url, model=options.model, api_key=key)
    with naming(target):
        costs = measure_attestation(
            target,
            rounds=options.rounds,
            policy=options.policy,
            roots=UnsafeTestRoots.load(roots) if roots else None,
        )
    if options.json:
        print(json.dumps({cost.name: asdict(cost) for cost in costs}))
        return EXIT_SATISFIED
    for cost in costs:
        spread = f"{cost.least:.3g} to {cost.most:.3g}, {cost.times} times"
        print(f"{cost.name:<22} {cost.median:>9.3f} ms  ({spread})")
    return EXIT_SATISFIED


def _up(options: argparse.Namespace) -> int:
    from teeverify.bench.up import bring_up  # noqa: PLC0415

    require_number("--timeout", options.timeout)

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)  # so that what was started is stopped too
    with bring_up(
        Path(options.model),
        command=options.vllm_command,
        timeout=options.timeout,
        say=_say,
    ) as pair:
        config = Path(options.model) / "config.json"
        print(
            f"teeverify bench run --target raw={pair.raw} --target served={pair.served} "
            f"--verify served --unsafe-test-roots {pair.roots} --model-config {config} "
            f"--engine {shlex.quote(options.vllm_command)} "
            f"{'--weights dummy ' if 'dummy' in options.vllm_command else ''}--out bench",
            flush=True,
        )
        while True:
            time.sleep(3600)


_VERBS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "report": _report,
    "compare": _compare,
    "attest": _attest,
    "up": _up,
}
