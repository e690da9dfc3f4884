"""What results were measured on: what several have in common is said once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from teeverify.bench.document import Section, Table
from teeverify.bench.notes import notes_on
from teeverify.bench.results import Result

__all__ = ["conditions", "differences", "gpu_of"]

_MOMENTARY = ("time", "load_average")  # of each run, not of its host


def gpu_of(result: Result) -> str:
    """The GPU that a result was measured on, as NVML names it; or that there is none."""
    gpus = result.host.get("gpus")
    if not isinstance(gpus, list) or not gpus:
        return "no GPU"
    return " and ".join(dict.fromkeys(map(str, gpus)))


def conditions(results: Sequence[Result]) -> Section:
    """Hosts, models and targets of all results, with what a reader must know of them."""
    return Section(
        title="What it ran on",
        text=_notes(results),
        tables=[
            _side_by_side("host", [(each.title, _lasting(each.host)) for each in results]),
            _side_by_side("model", [(each.title, each.model) for each in results]),
            _targets(results),
        ],
    )


def differences(base: Result, other: Result) -> Table | None:
    """In what two results' hosts and models differ; ``None`` where they do not."""
    rows = [
        [f"{what}: {key}", _show(ours.get(key)), _show(theirs.get(key))]
        for what, ours, theirs in (
            ("host", _lasting(base.host), _lasting(other.host)),
            ("model", base.model, other.model),
        )
        for key in dict.fromkeys([*ours, *theirs])
        if ours.get(key) != theirs.get(key)
    ]
    header = ["in what they differ", base.title, other.title]
    return Table(header=header, rows=rows) if rows else None


def _notes(results: Sequence[Result]) -> list[str]:
    """What is true of all runs first; then, of each run, what is true of it."""
    noted = [list(notes_on(result)) for result in results]
    common = [note for note in noted[0] if all(note in notes for notes in noted)]
    own = [
        " ".join([f"**{result.title}.**", *(note for note in notes if note not in common)])
        for result, notes in zip(results, noted, strict=True)
        if set(notes) - set(common)
    ]
    return [*common, *own]


def _side_by_side(what: str, records: Sequence[tuple[str, Mapping[str, object]]]) -> Table:
    """A column for each that is not like another."""
    columns: list[tuple[list[str], dict[str, object]]] = []
    for title, record in records:
        alike = next((titles for titles, known in columns if known == dict(record)), None)
        if alike is None:
            columns.append(([title], dict(record)))
        else:
            alike.append(title)
    keys = dict.fromkeys(key for _, record in columns for key in record)
    header = [what, *("; ".join(titles) if len(columns) > 1 else "" for titles, _ in columns)]
    rows = [
        [key, *(_show(record[key]) if key in record else "-" for _, record in columns)]
        for key in keys
    ]
    return Table(header=header, rows=rows)


def _targets(results: Sequence[Result]) -> Table:
    """A row for each target of each run."""
    known = [
        (result, name, {key: value for key, value in about.items() if key != "attestation"})
        for result in results
        for name, about in result.targets.items()
    ]
    keys = list(dict.fromkeys(key for _, _, about in known for key in about))
    rows = [
        [result.title, *(_show(result.host.get(key)) for key in _MOMENTARY), name]
        + [_show(about[key]) if key in about else "-" for key in keys]
        for result, name, about in known
    ]
    return Table(header=["run", *_MOMENTARY, "target", *keys], rows=rows)


def _lasting(host: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in host.items() if key not in _MOMENTARY}


def _show(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_show(each)}" for key, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_show(each) for each in value) or "none"
    if value is None:
        return "not said"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
