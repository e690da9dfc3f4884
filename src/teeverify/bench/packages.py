"""The benchmark's own packages, which a plain install does not bring."""

from __future__ import annotations

import importlib.util

from teeverify.errors import ConfigurationError

__all__ = ["require_package"]


def require_package(name: str, *, extra: str) -> None:
    """Say which extra is missing before anything is started.

    Raises:
        ConfigurationError: The package is not installed.
    """
    if importlib.util.find_spec(name) is None:
        raise ConfigurationError(
            f"{name} is not installed", id="usage.extra", hint=f"pip install 'teeverify[{extra}]'"
        )
