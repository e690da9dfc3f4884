"""``teeverify bench``: what verified confidential inference costs, measured."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from teeverify.encoding.strict import json_value
from teeverify.errors import EXIT_SATISFIED, EXIT_WRONG, ConfigurationError, TeeVerifyError

if TYPE_CHECKING:
    from teeverify.bench.plan import Plan
    from teeverify.bench.results import Result

__all__ = ["add_bench", "bench"]

_RAW_KEY = "TEEVERIFY_BENCH_API_KEY"


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
        description="Write report.md and a self-contained report.html of one or more results.",
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
    attest.add_argument("--policy", default="genuine", metavar="genuine|strict|F.toml")
    attest.add_argument("--unsafe-test-roots", metavar="F", help="for a simulated endpoint")
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
        help="what starts vLLM, with its own flags; default: 'vllm serve'",
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
    what.add_argument("--model", default="default", metavar="M", help="the model to ask for")
    what.add_argument(
        "--workload",
        action="append",
        default=[],
        metavar="W",
        help="short, medium, long, sharegpt, alpaca, lengths such as 128+32, or a file of JSON "
        "lines; default: short, medium and long",
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
    what.add_argument("--policy", default="genuine", metavar="genuine|strict|F.toml")
    what.add_argument("--unsafe-test-roots", metavar="F", help="for simulated targets")
    long = run.add_argument_group("how long")
    long.add_argument("--narrow", type=float, default=0.5, metavar="PERCENT", help="default: 0.5")
    long.add_argument("--budget", type=float, default=60.0, metavar="SECONDS", help="of a cell")
    long.add_argument("--block", type=float, default=3.0, metavar="SECONDS", help="of a block")
    long.add_argument("--min-blocks", type=int, default=5, metavar="N")
    long.add_argument("--processes", type=int, metavar="N", help="that ask; default: by cores")
    about = run.add_argument_group("what the result says of the model")
    about.add_argument("--title", default="", help="the report's title")
    about.add_argument("--model-config", metavar="F", help="the model's config.json")
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
    from teeverify.bench.probe import describe_target  # noqa: PLC0415
    from teeverify.bench.results import Result, write_result  # noqa: PLC0415
    from teeverify.bench.run import run_plan  # noqa: PLC0415
    from teeverify.bench.verification import AnswerVerifier  # noqa: PLC0415
    from teeverify.roots import UnsafeTestRoots  # noqa: PLC0415

    plan = _plan(options)
    out = Path(options.out)
    journal = Journal(out / "blocks.jsonl", plan.digest)
    roots = options.unsafe_test_roots
    verifier = AnswerVerifier(options.policy, UnsafeTestRoots.load(roots) if roots else None)
    targets = {
        target.name: {
            "url": target.url,
            "model": target.model,
            **describe_target(target),
            **({"attestation": verifier.attest(target)} if target.name in plan.verify else {}),
        }
        for target in plan.targets
    }
    model = describe_model(_config(options.model_config), weights=options.weights)
    with open_pool(options.processes or default_processes()) as pool:
        ceiling = measure_ceiling(pool, max(cell.load.batch for cell in plan.cells))
        host = describe_host()
        with _progress() as (say, advance):
            run_plan(plan, pool, journal, verify=verifier, say=say, advance=advance)
    result = Result(
        title=options.title or f"{plan.targets[0].model}: {', '.join(targets)}",
        plan=plan.describe(),
        host=host,
        model=model,
        targets=targets,
        blocks=journal.blocks,
        ceiling=ceiling,
    )
    write_result(result, out / "result.json")
    try:
        _write_reports([result], out)
    except ConfigurationError as missing:  # what was measured is on disk
        _say(f"no report.html: {missing}")
    print(out / "result.json")
    for refusal in verifier.refused[:5]:
        print(f"not verified: {refusal}", file=sys.stderr)
    return EXIT_WRONG if verifier.refused else EXIT_SATISFIED


def _plan(options: argparse.Namespace) -> Plan:
    from teeverify.bench.load import Load, Target  # noqa: PLC0415
    from teeverify.bench.plan import Plan, cells_of  # noqa: PLC0415
    from teeverify.bench.workload import CLASSES, parse_workload  # noqa: PLC0415

    targets = []
    for text in options.target:
        name, equals, url = text.partition("=")
        if not (name and equals and url.startswith(("http://", "https://"))):
            raise ConfigurationError(
                "a target is NAME=URL", id="usage.bench", got=text, want="raw=http://…/v1"
            )
        targets.append(
            Target(name=name, url=url, model=options.model, api_key=os.environ.get(_RAW_KEY))
        )
    loads = [Load(batch=batch) for batch in options.batch or ([] if options.rate else [1, 16])]
    loads += [Load(batch=256, rate=rate) for rate in options.rate]
    if any(load.batch < 1 or (load.rate is not None and load.rate <= 0) for load in loads):
        raise ConfigurationError("--batch and --rate are above 0", id="usage.bench")
    return Plan(
        targets=tuple(targets),
        cells=cells_of([parse_workload(text) for text in options.workload or CLASSES], loads),
        block_seconds=options.block,
        budget_seconds=options.budget,
        narrow=options.narrow / 100,
        min_blocks=max(2, options.min_blocks),
        verify=frozenset(options.verify),
    )


def _config(path: str | None) -> dict[str, object]:
    if path is None:
        return {}
    try:
        found = json_value(Path(path).read_bytes(), field="config.json", id="usage.bench")
    except (OSError, TeeVerifyError):
        found = None
    if not isinstance(found, dict):
        raise ConfigurationError(
            "--model-config names no JSON object", id="usage.bench", got=path, want="config.json"
        )
    return found


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
    from teeverify.bench.results import load_result  # noqa: PLC0415

    out = Path(options.out)
    _write_reports([load_result(Path(path)) for path in options.results], out)
    print(out / "report.html")
    return EXIT_SATISFIED


def _write_reports(results: list[Result], out: Path) -> None:
    from teeverify.bench.html import write_html  # noqa: PLC0415
    from teeverify.bench.report import render_report  # noqa: PLC0415

    out.mkdir(parents=True, exist_ok=True)
    (out / "report.md").write_text(render_report(results), encoding="utf-8")
    write_html(results, out / "report.html")


def _compare(options: argparse.Namespace) -> int:
    from teeverify.bench.report import render_comparison  # noqa: PLC0415
    from teeverify.bench.results import load_result  # noqa: PLC0415

    base, other = load_result(Path(options.base)), load_result(Path(options.other))
    print(render_comparison(base, other, options.target))
    return EXIT_SATISFIED


def _attest(options: argparse.Namespace) -> int:
    from teeverify.bench.attest import measure_attestation  # noqa: PLC0415
    from teeverify.bench.load import Target  # noqa: PLC0415
    from teeverify.roots import UnsafeTestRoots  # noqa: PLC0415

    roots = options.unsafe_test_roots
    key = os.environ.get(_RAW_KEY)
    costs = measure_attestation(
        Target(name="endpoint", url=options.url, model=options.model, api_key=key),
        rounds=max(2, options.rounds),
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

    with bring_up(
        Path(options.model),
        command=options.vllm_command,
        timeout=options.timeout,
        say=_say,
    ) as pair:
        config = Path(options.model) / "config.json"
        print(
            f"teeverify bench run --target raw={pair.raw} --target served={pair.served} "
            f"--verify served --unsafe-test-roots {pair.roots} --model-config {config} --out bench",
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
