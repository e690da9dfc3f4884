"""Types that only the step that verifies them can build (law 9)."""

from __future__ import annotations

from typing import Any, NoReturn

from teeverify.errors import ConfigurationError

__all__ = ["Seal", "Sealed"]


class Seal:
    """The private token of one verifying step. Compared by identity.

    Args:
        step: The function that may build the type, for the error message.
    """

    __slots__ = ("step",)

    def __init__(self, step: str) -> None:
        self.step = step


class Sealed:
    """Base of verified types: no construction elsewhere, no copy with changes, no pickle.

    A subclass is a frozen dataclass with a field ``seal: InitVar[Seal]`` and calls
    :meth:`_check_seal` in ``__post_init__``.
    """

    __slots__ = ()

    def _check_seal(self, seal: object, own: Seal) -> None:
        if seal is not own:
            self._refuse(f"only {own.step} makes it")

    def _refuse(self, why: str) -> NoReturn:
        raise ConfigurationError(
            f"{type(self).__name__} says that something was verified: {why}",
            id="usage.sealed",
            hint="Keep the raw evidence and verify it where the result is needed.",
        )

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse pickling, and so ``copy.copy`` too."""
        self._refuse("it cannot be pickled or copied")

    def __copy__(self) -> NoReturn:
        """Refuse copying."""
        self._refuse("it cannot be copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        """Refuse copying."""
        self._refuse("it cannot be copied")

    def __replace__(self, **changes: Any) -> NoReturn:  # noqa: ANN401
        """Refuse :func:`copy.replace`."""
        self._refuse("it cannot be copied with changes")
