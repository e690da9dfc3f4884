"""Which host speaks which dialect. The caller or this table decides, never the answer's shape."""

from __future__ import annotations

from collections.abc import Mapping

from teeverify.errors import ConfigurationError
from teeverify.providers.dialect import Dialect
from teeverify.providers.dstack import DSTACK
from teeverify.providers.near import NEAR, NEAR_DIRECT
from teeverify.providers.venice import VENICE

__all__ = ["DIALECTS", "Dialect", "dialect_for"]

DIALECTS: Mapping[str, Dialect] = {d.id: d for d in (NEAR, NEAR_DIRECT, VENICE, DSTACK)}


def dialect_for(host: str, name: str | None) -> Dialect | None:
    """The dialect of a host, or the one that the caller named.

    Args:
        host: Host of the recorded or requested URL.
        name: The caller's choice (``--dialect``), which takes precedence.

    Returns:
        The dialect, or ``None`` if the host is in no table and nothing was named.

    Raises:
        ConfigurationError: There is no dialect of that name.
    """
    if name is not None:
        if not isinstance(name, str) or name not in DIALECTS:
            raise ConfigurationError(
                "no such dialect", id="usage.dialect", got=repr(name)[:40], want=", ".join(DIALECTS)
            )
        return DIALECTS[name]
    for dialect in DIALECTS.values():
        for known in dialect.hosts:
            if host == known or (known.startswith(".") and host.endswith(known)):
                return dialect
    return None
