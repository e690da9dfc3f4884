"""``teeverify verify`` of many receipts: a progress bar, a table, and the worst exit code."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator

from teeverify.appraisal import Policy
from teeverify.audit import Mapper, Report, Settings, audit, is_records, on_ray
from teeverify.encoding.text import counted
from teeverify.errors import ConfigurationError
from teeverify.render import printable
from teeverify.roots import TimestampRoots, UnsafeTestRoots

__all__ = ["verify_many"]

_MEANINGS = {2: "refused: wrong", 3: "undecided", 1: "refused by the policy", 0: "satisfied"}
_SHOWN = 10
_OF_ONE = ("answer", "request", "signature", "attestation", "nonce", "html", "dialect", "scope")


def verify_many(sources: list[str], options: argparse.Namespace) -> int:
    """Verify all receipts of several sources.

    Raises:
        ConfigurationError: Flags that are for one answer, or sources that cannot be read.
    """
    wrong = [f"--{name}" for name in _OF_ONE if getattr(options, name, None) is not None]
    if wrong:
        raise ConfigurationError(
            "these flags are for one answer", id="usage.arguments", got=", ".join(wrong)
        )
    strangers = [source for source in sources if not (is_records(source) or _is_file(source))]
    if strangers:
        raise ConfigurationError(
            "many receipts and recordings need a command each",
            id="usage.arguments",
            got=ascii(strangers[0])[:200],
        )
    roots, stamps = options.unsafe_test_roots, options.timestamp_roots
    settings = Settings(
        policy=Policy.of(options.policy),
        roots=UnsafeTestRoots.load(roots) if roots else None,
        endorsements=tuple(options.endorsements),
        offline=options.offline,
        timestamp_roots=TimestampRoots.load(stamps) if stamps else None,
        at=options.at,
    )
    with _ray(options.ray) as mapper, _progress() as progress:
        report = audit(sources, settings, mapper=mapper, workers=options.workers, progress=progress)
    if options.json:
        print(json.dumps(report.to_dict()))
    else:
        print(_table(report, everything=options.all))
    return report.exit_code


def _is_file(source: str) -> bool:
    """Whether a source may be a single receipt; what it is, is worked out with the others."""
    return source.endswith(".json")


@contextlib.contextmanager
def _ray(address: str | None) -> Iterator[Mapper | None]:
    """A connection to a Ray cluster, where one was asked for."""
    if address is None:
        yield None
        return
    mapper = on_ray()
    import ray  # noqa: PLC0415 -- an extra, which is there by now

    ray.init(address=None if address == "local" else address, log_to_driver=False)
    try:
        yield mapper
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int], None] | None]:
    """A bar on stderr, where rich is installed and a person looks."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console  # noqa: PLC0415 -- an extra
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415
    except ImportError:
        yield None
        return
    columns = (TextColumn("{task.completed} receipts"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("verify", total=None)
        yield lambda number: bar.advance(task, number)


def _table(report: Report, *, everything: bool) -> str:
    lines = [counted(len(report.rows), "receipt")]
    if any(row.simulated for row in report.rows):
        lines[0] = f"SIMULATED. {lines[0]}"
    lines += [f"  {number:>9}  {code}  {_MEANINGS[code]}" for code, number in report.counts.items()]
    tiers: dict[str, int] = {}
    for row in report.rows:
        tiers[row.tier] = tiers.get(row.tier, 0) + 1
    lines.append("  by tier: " + ", ".join(f"{name} {n}" for name, n in sorted(tiers.items())))
    for cause, number in report.causes():
        lines.append(f"  {number:>9}  because of {printable(cause)}")
    for title, groups in (
        ("the same signed answer", report.duplicates),
        ("DIFFERENT ANSWERS under one id or challenge of one signer", report.equivocations),
        ("LEAKED KEY: one secret number for different texts (key.leaked)", report.leaked),
    ):
        for names in groups if everything else groups[:_SHOWN]:
            lines.append(f"  {title}: {printable(', '.join(names))}")
        if not everything and len(groups) > _SHOWN:
            lines.append(f"  ... and {len(groups) - _SHOWN} more: --all lists them")
    refused = [row for row in report.rows if row.exit_code]
    shown = report.rows if everything else refused[:_SHOWN]
    lines += [f"{printable(r.name)}  {r.exit_code}  {printable(r.summary)}" for r in shown]
    if not everything and len(refused) > _SHOWN:
        lines.append(f"... and {len(refused) - _SHOWN} more that are refused: --all lists them")
    return "\n".join(lines)
