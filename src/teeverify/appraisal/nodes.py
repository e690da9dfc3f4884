"""Lists of nodes, of which any may have answered: each is appraised alone.

A bad entry of a list neither taints nor rescues the others. It cannot taint them, because whoever
shows the list could have left it out. It cannot be rescued by them, because an answer counts only
under the evidence of its own signer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from teeverify.appraisal.answer import SignedAnswer
from teeverify.appraisal.examined import Examined
from teeverify.appraisal.observation import Observation
from teeverify.appraisal.result import Finding
from teeverify.errors import EXIT_POLICY, EXIT_SATISFIED, EXIT_UNDECIDED, EXIT_WRONG

__all__ = ["choose_node"]

_BEST_FIRST = (EXIT_SATISFIED, EXIT_POLICY, EXIT_UNDECIDED, EXIT_WRONG)


def choose_node(
    examined: Examined,
    answer: SignedAnswer | None,
    judge: Callable[[Examined], Sequence[Finding]],
) -> Examined:
    """The evidence as far as it concerns one node of a list, and what was set aside.

    Args:
        examined: All machines. Where they are no list, they are returned as they are.
        answer: The answer: then the node whose key signed it, whatever it is worth.
        judge: Gives the findings about one node, under the policy in force.

    Returns:
        The machines that all nodes share, and those of the best node. Where several are equally
        good, the first; where the answer's key is that of several, the best of them.
    """
    parts = _alternatives(examined)
    if len(parts) < 2:  # noqa: PLR2004
        return examined
    judged = [(part, judge(part)) for part in parts]
    own = [each for each in judged if answer is not None and _signed(each[0], answer)]
    chosen, _ = min(own or judged, key=lambda each: (_rank(each[1]), _count(each[1])))
    aside = [
        _set_aside(part, findings)
        for part, findings in judged
        if part is not chosen and _rank(findings)
    ]
    return replace(chosen, aside=tuple(aside))


def _alternatives(examined: Examined) -> list[Examined]:
    """Each node with what all share, and with the nodes that claim a GPU of its own."""
    machines = examined.machines
    devices: dict[int, set[str]] = {}
    for machine in machines:
        if machine.machine.node is not None:
            found = {d.ueid for d in machine.gpus.devices} if machine.gpus else set()
            devices.setdefault(machine.machine.node, set()).update(found)
    return [
        replace(
            examined,
            machines=tuple(m for m in machines if _together(m.machine.node, node, devices)),
        )
        for node in sorted(devices)
    ]


def _together(one: int | None, node: int, devices: Mapping[int, set[str]]) -> bool:
    """Whether a machine is judged with a node: one GPU in two machines makes liars of both."""
    return one is None or one == node or not devices[one].isdisjoint(devices[node])


def _signed(part: Examined, answer: SignedAnswer) -> bool:
    """Whether a node's quote was verified, and binds the key that signed the answer."""
    return answer.signer is not None and any(
        m.machine.node is not None and m.layout is not None and m.machine.key == answer.signer
        for m in part.machines
    )


def _rank(findings: Sequence[Finding]) -> int:
    return max(_BEST_FIRST.index(code) for code in {0, *(f.exit_code for f in findings)})


def _count(findings: Sequence[Finding]) -> int:
    return sum(finding.exit_code != EXIT_SATISFIED for finding in findings)


def _set_aside(part: Examined, findings: Sequence[Finding]) -> Observation:
    label = next(m.machine.label for m in part.machines if m.machine.node is not None)
    worst = max(findings, key=lambda f: _BEST_FIRST.index(f.exit_code))
    return Observation.absent(
        "nodes.set-aside",
        f"This node of the list does not count: {worst.message.rstrip('.')}.",
        subject=label,
        got=worst.id,
    )
