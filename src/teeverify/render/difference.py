"""What differs between two results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from teeverify.appraisal import AttestationResult
from teeverify.render.escape import printable

__all__ = ["differences", "render_difference"]

_NOTHING = "-"


def differences(one: AttestationResult, two: AttestationResult) -> list[tuple[str, str, str]]:
    """The facts that differ: their name, and what each result says.

    When something was looked at is left out; what was found then is not.
    """
    facts = [dict(_facts(result)) for result in (one, two)]
    names = list(dict.fromkeys([*facts[0], *facts[1]]))
    both = [(name, facts[0].get(name, _NOTHING), facts[1].get(name, _NOTHING)) for name in names]
    return [(name, first, second) for name, first, second in both if first != second]


def _facts(result: AttestationResult) -> Iterator[tuple[str, str]]:
    yield "tier", result.tier
    yield "exit code", str(result.exit_code)
    yield "scope", result.scope
    yield "kind", result.kind
    yield "roots", result.roots_kind
    yield "policy", result.policy.hash
    yield "signer", str(result.signer) if result.signer is not None else _NOTHING
    yield "model", result.model or _NOTHING
    for name, claim in result.claims.items():
        yield name, f"{claim.outcome.value}: {claim.text}"
    for one in result.identities:
        for register, value in one.registers.items():
            yield f"{one.role} {register}", value
    for finding in result.findings:
        subject = f" [{finding.subject}]" if finding.subject else ""
        yield f"{finding.id}{subject}", f"{finding.outcome.value}: {finding.got or _NOTHING}"


def render_difference(found: Sequence[tuple[str, str, str]], one: str, two: str) -> str:
    """Draw what differs.

    Args:
        found: See :func:`differences`.
        one: The first source's name.
        two: The second's.
    """
    if not found:
        return "Nothing differs."
    lines = [f"- {printable(one)}", f"+ {printable(two)}", ""]
    for name, first, second in found:
        lines += [
            printable(name),
            f"  - {printable(first, limit=200)}",
            f"  + {printable(second, limit=200)}",
        ]
    return "\n".join(lines)
