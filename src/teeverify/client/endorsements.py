"""The endorsements that a caller gives, sorted by vendor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from teeverify import nvidia, tdx
from teeverify.endorsements import is_directory
from teeverify.errors import ConfigurationError
from teeverify.tdx.pool import Pool

__all__ = ["EndorsementSource", "Given", "load_given"]

EndorsementSource: TypeAlias = "str | Path | tdx.Endorsements | nvidia.Endorsements"


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the caller gave, by vendor; ``None`` where nothing of that vendor was given."""

    tdx: tdx.Endorsements | None
    nvidia: nvidia.Endorsements | None


def load_given(sources: EndorsementSource | Sequence[EndorsementSource]) -> Given:
    """Load files, directories and loaded endorsements.

    Raises:
        ConfigurationError: A path that is not there, or that holds no endorsements.
        MalformedEvidence: An endorsement that cannot be read.
    """
    items: Iterable[EndorsementSource] = (
        (sources,)
        if isinstance(sources, (str, Path, tdx.Endorsements, nvidia.Endorsements))
        else sources
    )
    intel: list[tdx.Endorsements] = []
    gpus: list[nvidia.Endorsements] = []
    for item in items:
        if isinstance(item, tdx.Endorsements):
            intel.append(item)
        elif isinstance(item, nvidia.Endorsements):
            gpus.append(item)
        elif isinstance(item, (str, Path)):
            _load(Path(item), intel, gpus)
        else:
            raise ConfigurationError(
                "endorsements are paths, tdx.Endorsements or nvidia.Endorsements",
                id="usage.endorsements",
                got=type(item).__name__,
            )
    return Given(
        tdx=intel[0] if len(intel) == 1 else tdx.Endorsements.union(*intel) if intel else None,
        nvidia=_merge(gpus),
    )


def _load(path: Path, intel: list[tdx.Endorsements], gpus: list[nvidia.Endorsements]) -> None:
    found = tdx.Endorsements.load(path)
    if found.pool != Pool():
        intel.append(found)
    recorded = nvidia.Endorsements.load(path) if is_directory(path) else nvidia.Endorsements()
    if recorded.nras_answers:
        gpus.append(recorded)
    elif found.pool == Pool():
        raise ConfigurationError(
            "no endorsements were found there", id="usage.endorsements", got=str(path)
        )


def _merge(several: list[nvidia.Endorsements]) -> nvidia.Endorsements | None:
    if len(several) <= 1:
        return several[0] if several else None
    return nvidia.Endorsements(
        nras_answers=tuple(a for one in several for a in one.nras_answers),
        jwks=tuple(keys for one in several for keys in one.jwks),
    )
