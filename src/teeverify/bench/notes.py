"""What a reader must know of a result before its figures are believed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from teeverify.bench.results import Result

__all__ = ["notes_on"]


def notes_on(result: Result) -> Iterator[str]:
    """What a reader must know before the figures are believed."""
    yield from _ceiling_notes(result)
    yield from _missing_notes(result)
    word = "" if result.measured_here else ", according to its file"
    for name in result.names:
        blocks = [block for block in result.blocks if block.target == name]
        answers = sum(block.answers for block in blocks)
        attestation = result.targets[name].get("attestation")
        if isinstance(attestation, Mapping):
            yield f"{name} was attested{word}. {_attested(attestation)}"
        if verified := [block.verified for block in blocks if block.verified]:
            yield f"{name}{word}: {_verified(verified, answers)}"
        if failed := sum(sum(block.failed.values()) for block in blocks):
            why = sorted({reason for block in blocks for reason in block.failed})
            yield f"{name}: {failed} requests failed ({', '.join(why)}); they are in no figure."
        if short := sum(block.short for block in blocks):
            yield (
                f"{name}: {short} of {answers} answers have fewer tokens than were asked for; "
                "QPS and latency of such cells are not those of the named lengths."
            )
        if any(block.counted == "events" for block in blocks):
            yield f"{name} does not count tokens: an event is taken for one, which may be several."


def _attested(attestation: Mapping[str, object]) -> str:
    if attestation.get("simulated"):
        return "SIMULATED: its evidence leads to test roots, and proves nothing about any hardware."
    return str(attestation.get("summary"))


def _verified(costs: Sequence[Mapping[str, float]], answers: int) -> str:
    good = sum(each["verified"] for each in costs)
    said = f"{good:.0f} of {answers} answers verified"
    if good < answers:
        said = f"**only {said}: do not use these figures**"
    each = [cost["p50_ms"] for cost in costs if "p50_ms" in cost]
    if each:
        said += f", {statistics.median(each):.2f} ms each (median, with the signature's fetch)"
    return f"{said}."


def _missing_notes(result: Result) -> Iterator[str]:
    """Cells that were planned and are not there, or not whole."""
    if result.ended is None:
        return
    missing = {
        "measured": [cell for cell in result.planned if cell not in result.cells],
        "finished": [cell for cell in result.cells if cell not in result.ended],
    }
    for what, cells in missing.items():
        if cells:
            names = "; ".join(cells)
            yield f"**Not {what}**, because the time was up or the run broke off: {names}."


def _ceiling_notes(result: Result) -> Iterator[str]:
    events = result.ceiling.get("events_per_s")
    most = max((b.figures.get("throughput", 0.0) for b in result.blocks), default=0.0)
    if events:
        used = most / events
        line = (
            f"The benchmark itself reads {events:,.0f} events/s from an endpoint without an engine "
            f"(batch {result.ceiling['batch']:.0f}); at most {math.ceil(100 * used)} % of that was "
            "used."
        )
        yield line if used < 0.5 else f"{line} **It may have limited the load.**"  # noqa: PLR2004
