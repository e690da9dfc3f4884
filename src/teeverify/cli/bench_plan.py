"""From the options of ``teeverify bench run`` to what is measured."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from teeverify.encoding.strict import json_value
from teeverify.errors import ConfigurationError, TeeVerifyError

if TYPE_CHECKING:
    from teeverify.bench.load import Target
    from teeverify.bench.plan import Plan

__all__ = ["API_KEY", "config_of", "plan_of", "require_number", "targets_of"]

API_KEY = "TEEVERIFY_BENCH_API_KEY"
"""The environment's variable; with ``_`` and a target's name, that target's."""


def plan_of(options: argparse.Namespace) -> Plan:
    """What ``bench run`` is to measure.

    Raises:
        ConfigurationError: Wrong use.
    """
    from teeverify.bench.load import Load  # noqa: PLC0415
    from teeverify.bench.plan import Plan, cells_of  # noqa: PLC0415
    from teeverify.bench.workload import CLASSES, FIRST_TOKEN, parse_workload  # noqa: PLC0415

    loads = [Load(batch=batch) for batch in options.batch or ([] if options.rate else [1, 16])]
    loads += [Load(batch=256, rate=rate) for rate in options.rate]
    for load in loads:
        require_number("--batch", load.batch, least=1)
    for rate in options.rate:
        require_number("--rate", rate)
    require_number("--narrow", options.narrow, least=0)
    require_number("--budget", options.budget, least=0)
    require_number("--total", options.total)
    require_number("--block", options.block)
    require_number("--min-blocks", options.min_blocks, least=1)
    cells = cells_of([parse_workload(text) for text in options.workload or CLASSES], loads)
    if not options.workload:
        cells = cells_of([FIRST_TOKEN], [load for load in loads if load.in_turns]) + cells
    return Plan(
        targets=targets_of(options),
        cells=cells,
        block_seconds=options.block,
        budget_seconds=options.budget,
        total_seconds=60 * options.total,
        narrow=options.narrow / 100,
        min_blocks=options.min_blocks,
        verify=frozenset(options.verify),
    )


def require_number(flag: str, value: float, *, least: float | None = None) -> None:
    """Refuse a number that nothing can be measured with.

    Args:
        flag: Whose it is.
        value: As it was given.
        least: The least that it may be; ``None`` where it must be above 0.

    Raises:
        ConfigurationError: It is less, infinite or no number.
    """
    enough = value > 0 if least is None else value >= least
    if not (enough and math.isfinite(value)):
        want = "a number above 0" if least is None else f"{least:g} or more"
        raise ConfigurationError(
            f"{flag} is out of range", id="usage.bench", got=f"{value:g}", want=want
        )


def targets_of(options: argparse.Namespace) -> tuple[Target, ...]:
    """The endpoints that were named, each with its model and key.

    Raises:
        ConfigurationError: One is no NAME=URL, or two have one name.
    """
    from teeverify.bench.load import Target  # noqa: PLC0415

    urls: dict[str, str] = {}
    for text in options.target:
        name, equals, url = text.partition("=")
        if not (name and equals and url.startswith(("http://", "https://"))):
            raise ConfigurationError(
                "a target is NAME=URL", id="usage.bench", got=text, want="raw=http://…/v1"
            )
        if name in urls:
            raise ConfigurationError("two targets have one name", id="usage.bench", got=name)
        urls[name] = url
    models = _models_of(options.model, urls)
    rest = models.get("", "default")
    return tuple(
        Target(name=name, url=url, model=models.get(name, rest), api_key=_api_key(name, len(urls)))
        for name, url in urls.items()
    )


def _models_of(texts: Sequence[str], names: Collection[str]) -> dict[str, str]:
    """The model of each target that one was named for; under no name that of the others."""
    models: dict[str, str] = {}
    for text in texts:
        name, _, model = text.partition("=") if "=" in text else ("", "", text)
        if (name and name not in names) or not model or name in models:
            raise ConfigurationError(
                "--model is M, or NAME=M of a target, each once",
                id="usage.bench",
                got=text,
                want=f"M, {', '.join(f'{each}=M' for each in names)}",
            )
        models[name] = model
    return models


def _api_key(name: str, targets: int) -> str | None:
    """A target's own key; where there are several, none is sent to two."""
    own = os.environ.get(f"{API_KEY}_{name.upper()}")
    return own or (os.environ.get(API_KEY) if targets == 1 else None)


def config_of(path: str | None) -> dict[str, object]:
    """The model's ``config.json``; nothing where none was named.

    Raises:
        ConfigurationError: The file holds no JSON object.
    """
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
