"""From the options of ``teeverify bench run`` to what is measured."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from teeverify.encoding.strict import json_value
from teeverify.errors import ConfigurationError, TeeVerifyError

if TYPE_CHECKING:
    from teeverify.bench.load import Target
    from teeverify.bench.plan import Plan

__all__ = ["API_KEY", "config_of", "plan_of", "targets_of"]

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
    if any(load.batch < 1 or (load.rate is not None and load.rate <= 0) for load in loads):
        raise ConfigurationError("--batch and --rate are above 0", id="usage.bench")
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
        min_blocks=max(2, options.min_blocks),
        verify=frozenset(options.verify),
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
    models, rest = {}, "default"
    for text in options.model:
        name, equals, model = text.partition("=")
        if equals and name in urls:
            models[name] = model
        else:
            rest = text
    return tuple(
        Target(name=name, url=url, model=models.get(name, rest), api_key=_api_key(name, len(urls)))
        for name, url in urls.items()
    )


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
