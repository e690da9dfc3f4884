"""The endorsements that a caller gives, sorted by vendor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

from teeverify import nvidia, snp, tdx
from teeverify.appraisal import Evidence
from teeverify.endorsements import is_directory, read_file
from teeverify.endorsements.answers import BUNDLE_SCHEMA
from teeverify.endorsements.remembered import Remembering
from teeverify.errors import ConfigurationError
from teeverify.tdx.pool import Pool

__all__ = ["EndorsementSource", "Given", "in_addition", "in_place", "load_given"]

T = TypeVar("T")

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
        tdx=_united(intel, tdx.Endorsements.union),
        snp=_united(amd, snp.Endorsements.union),
        nvidia=_united(gpus, nvidia.Endorsements.union),
    )


def in_place(evidence: Evidence, given: Given, memory: Remembering) -> Evidence:
    """Evidence with what the caller gave, in place of what was beside it.

    Args:
        evidence: The evidence.
        given: What the caller gave.
        memory: What was verified of NVIDIA's endorsements before.
    """
    return replace(
        _with_nvidia(evidence, given.nvidia, memory),
        tdx_endorsements=given.tdx or evidence.tdx_endorsements,
        snp_endorsements=given.snp or evidence.snp_endorsements,
    )


def _with_nvidia(
    evidence: Evidence, given: nvidia.Endorsements | None, memory: Remembering
) -> Evidence:
    """Evidence with the endorsements of NVIDIA's that are at hand, and that may count."""
    found = given or evidence.nvidia_endorsements
    if found is None:
        return evidence
    notes = evidence.notes
    if evidence.live and not evidence.nras_posted and found.nras_answers:
        # Whoever is attested would choose which of NRAS's answers to show.
        found = found.without_nras()
        notes = (*notes, "left aside: an answer of NRAS to evidence that was not posted here")
    return replace(evidence, nvidia_endorsements=found.remembering_in(memory), notes=notes)


def in_addition(evidence: Evidence, given: Given) -> Evidence:
    """A receipt's evidence with what the caller gave added: the receipt's own still counts.

    Both are there, since what is current today was not yet issued then.
    """
    intel = [one for one in (evidence.tdx_endorsements, given.tdx) if one is not None]
    amd = [one for one in (evidence.snp_endorsements, given.snp) if one is not None]
    gpus = [one for one in (evidence.nvidia_endorsements, given.nvidia) if one is not None]
    return replace(
        evidence,
        tdx_endorsements=_united(intel, tdx.Endorsements.union),
        snp_endorsements=_united(amd, snp.Endorsements.union),
        nvidia_endorsements=_united(gpus, nvidia.Endorsements.union),
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


def _united(several: Sequence[T], union: Callable[..., T]) -> T | None:
    """All in one; a single one stays what it is, with what was verified of it."""
    return union(*several) if len(several) > 1 else next(iter(several), None)
