"""The endorsements that a caller gives, sorted by vendor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from teeverify import nvidia, snp, tdx
from teeverify.endorsements import is_directory, read_file
from teeverify.endorsements.answers import BUNDLE_SCHEMA
from teeverify.errors import ConfigurationError
from teeverify.tdx.pool import Pool

__all__ = ["EndorsementSource", "Given", "load_given"]

EndorsementSource: TypeAlias = (
    "str | Path | tdx.Endorsements | snp.Endorsements | nvidia.Endorsements"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the caller gave, by vendor; ``None`` where nothing of that vendor was given."""

    tdx: tdx.Endorsements | None
    snp: snp.Endorsements | None
    nvidia: nvidia.Endorsements | None


def load_given(sources: EndorsementSource | Sequence[EndorsementSource]) -> Given:
    """Load files, directories and loaded endorsements.

    Raises:
        ConfigurationError: A path that is not there, or that holds no endorsements.
        MalformedEvidence: An endorsement that cannot be read.
    """
    items: Iterable[EndorsementSource] = (
        (sources,)
        if isinstance(sources, (str, Path, tdx.Endorsements, snp.Endorsements, nvidia.Endorsements))
        else sources
    )
    intel: list[tdx.Endorsements] = []
    amd: list[snp.Endorsements] = []
    gpus: list[nvidia.Endorsements] = []
    for item in items if isinstance(items, Iterable) else (items,):
        if isinstance(item, tdx.Endorsements):
            intel.append(item)
        elif isinstance(item, snp.Endorsements):
            amd.append(item)
        elif isinstance(item, nvidia.Endorsements):
            gpus.append(item)
        elif isinstance(item, (str, Path)):
            _load(Path(item), intel, amd, gpus)
        else:
            raise ConfigurationError(
                "endorsements are paths, or the Endorsements of tdx, snp or nvidia",
                id="usage.endorsements",
                got=type(item).__name__,
            )
    return Given(
        tdx=intel[0] if len(intel) == 1 else tdx.Endorsements.union(*intel) if intel else None,
        snp=amd[0] if len(amd) == 1 else snp.Endorsements.union(*amd) if amd else None,
        nvidia=_merge(gpus),
    )


def _load(
    path: Path,
    intel: list[tdx.Endorsements],
    amd: list[snp.Endorsements],
    gpus: list[nvidia.Endorsements],
) -> None:
    folder = is_directory(path)
    if not folder and not _is_json(path):
        amd.append(snp.Endorsements.load(path))  # Intel's are one JSON file, or a directory
        return
    found = tdx.Endorsements.load(path)
    if found.pool != Pool():
        intel.append(found)
    bundle = not folder and BUNDLE_SCHEMA.encode() in read_file(path)
    certified = snp.Endorsements(snp.Found())
    if folder or bundle:
        certified = snp.Endorsements.load(path)
    if not certified.found.empty:
        amd.append(certified)
    recorded = nvidia.Endorsements.load(path) if folder or bundle else nvidia.Endorsements()
    if not recorded.is_empty:
        gpus.append(recorded)
    elif found.pool == Pool() and certified.found.empty:
        raise ConfigurationError(
            "no endorsements were found there", id="usage.endorsements", got=str(path)
        )


def _is_json(path: Path) -> bool:
    """Whether a file is a JSON text that is not Azure's answer about an AMD chip."""
    raw = read_file(path)
    return raw.lstrip()[:1] == b"{" and b'"vcekCert"' not in raw


def _merge(several: list[nvidia.Endorsements]) -> nvidia.Endorsements | None:
    if len(several) <= 1:
        return several[0] if several else None
    return nvidia.Endorsements.union(*several)
