"""Run a vendor's verification so that each of its checks is told of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from teeverify.appraisal.observation import Observation
from teeverify.encoding.checks import Check
from teeverify.errors import ConfigurationError, TeeVerifyError

__all__ = ["not_reached", "ordered"]

T = TypeVar("T")


def ordered(
    into: list[Observation],
    label: str,
    checks: Sequence[Check],
    action: Callable[[], T],
    *,
    optional: Callable[[TeeVerifyError], None] | None = None,
) -> T | None:
    """Run one verification; every one of its checks gets an observation.

    Args:
        into: Where the observations go.
        label: The part that they are about.
        checks: The checks, in the order in which the verification makes them.
        action: The verification.
        optional: Where the first check asks whether there is anything to verify with, and something
            else may do instead: gets the error that says so, and nothing is observed.

    Returns:
        What was proved; ``None`` where something is wrong or missing.

    Raises:
        ConfigurationError: The caller's own mistake.
    """
    try:
        value = action()
    except ConfigurationError:
        raise
    except TeeVerifyError as error:
        ids = [check.id for check in checks]
        if optional is not None and error.retryable and error.id == ids[0]:
            optional(error)
            return None
        reached = ids.index(error.id) if error.id in ids else 0
        into += [_passed(check, label) for check in checks[:reached]]
        into.append(Observation.failed(error, subject=label))
        into += not_reached([i for i in ids[reached:] if i != error.id], label)
        return None
    into += [_passed(check, label) for check in checks]
    return value


def _passed(check: Check, label: str) -> Observation:
    return Observation.proven(check.id, check.proves, subject=label)


def not_reached(ids: Sequence[str], label: str) -> list[Observation]:
    """Checks that an earlier failure kept from being made."""
    why = "an earlier check failed"
    return [Observation.not_reached(check_id, why, subject=label) for check_id in ids]
