"""The pytest plugin: the fixture ``teeverify_server``.

Loaded into every pytest of an environment that has teeverify, so it imports nothing until used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from teeverify.testing.server import RunningServer

__all__ = ["teeverify_server"]


@pytest.fixture(scope="session")
def teeverify_server() -> Iterator[RunningServer]:
    """A simulated enclave server: ``.url``, ``.roots``, ``.policy`` and ``.openai()``."""
    from teeverify.testing.server import running  # noqa: PLC0415 -- imports nothing until used

    with running() as server:
        yield server
