"""Which host speaks which dialect. The caller or this table decides, never the answer's shape."""

from __future__ import annotations

from collections.abc import Mapping

from teeverify.errors import ConfigurationError
from teeverify.providers.chutes import CHUTES, CHUTES_RESOLD
from teeverify.providers.dialect import Dialect
from teeverify.providers.dstack import DSTACK
from teeverify.providers.morpheus import MORPHEUS
from teeverify.providers.nanogpt import NANOGPT
from teeverify.providers.near import NEAR, NEAR_DIRECT
from teeverify.providers.near_ita import NEAR_ITA
from teeverify.providers.nilcc import NILAI, NILCC
from teeverify.providers.opengradient import OPENGRADIENT
from teeverify.providers.panda import PANDA
from teeverify.providers.phala import PHALA
from teeverify.providers.secretvm import SECRETVM
from teeverify.providers.teeverify import TEEVERIFY
from teeverify.providers.tinfoil import TINFOIL, TINFOIL_BUNDLE, TINFOIL_V2
from teeverify.providers.venice import VENICE
from teeverify.providers.zerog import ZEROG, ZEROG_BROKER

__all__ = ["DIALECTS", "Dialect", "dialect_for"]

_SIGNED = (
    TEEVERIFY,
    NEAR,
    NEAR_DIRECT,
    VENICE,
    PHALA,
    NANOGPT,
    ZEROG,
    ZEROG_BROKER,
    OPENGRADIENT,
    DSTACK,
)
# Their answers carry no signature, or none that an attested key made.
_CHANNEL_ONLY = (
    CHUTES,
    CHUTES_RESOLD,
    TINFOIL,
    TINFOIL_V2,
    TINFOIL_BUNDLE,
    SECRETVM,
    MORPHEUS,
    NILCC,
    NILAI,
    PANDA,
    NEAR_ITA,
)

DIALECTS: Mapping[str, Dialect] = {dialect.id: dialect for dialect in (*_SIGNED, *_CHANNEL_ONLY)}


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
