"""Verify, on your own machine, that an AI answer came from a genuine confidential VM and GPU.

The names below are imported when they are first used, so that a program which only needs one room
(``teeverify.tdx``) does not pay for all of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from teeverify.appraisal import (
        AttestationResult,
        Claim,
        Finding,
        Policy,
        ReferenceValues,
    )
    from teeverify.client import Evidence, Receipt, Verifier, appraise, verify
    from teeverify.client.async_verifier import AsyncVerifier
    from teeverify.client.connect import connect
    from teeverify.client.session import AsyncAttestedSession, AttestedSession
    from teeverify.client.transports.clients import http_clients
    from teeverify.client.transports.openai import AsyncOpenAI, OpenAI
    from teeverify.client.transports.requests import RequestsAdapter
    from teeverify.errors import (
        AppraisalFailed,
        ConfigurationError,
        EndorsementUnavailable,
        EndpointUnavailable,
        EvidenceError,
        ResponseNotVerified,
        SignatureUnavailable,
        TeeVerifyError,
        Unavailable,
    )
    from teeverify.roots import UnsafeTestRoots

__version__ = "0.1.0"

__all__ = [
    "AppraisalFailed",
    "AsyncAttestedSession",
    "AsyncOpenAI",
    "AsyncVerifier",
    "AttestationResult",
    "AttestedSession",
    "Claim",
    "ConfigurationError",
    "EndorsementUnavailable",
    "EndpointUnavailable",
    "Evidence",
    "EvidenceError",
    "Finding",
    "OpenAI",
    "Policy",
    "Receipt",
    "ReferenceValues",
    "RequestsAdapter",
    "ResponseNotVerified",
    "SignatureUnavailable",
    "TeeVerifyError",
    "Unavailable",
    "UnsafeTestRoots",
    "Verifier",
    "appraise",
    "connect",
    "http_clients",
    "verify",
]

# Where each name is defined; those that are not here are errors.
_HOMES = {
    "AttestationResult": "appraisal",
    "Claim": "appraisal",
    "Finding": "appraisal",
    "Policy": "appraisal",
    "ReferenceValues": "appraisal",
    "Evidence": "client",
    "Receipt": "client",
    "Verifier": "client",
    "appraise": "client",
    "verify": "client",
    "connect": "client.connect",
    "AsyncOpenAI": "client.transports.openai",
    "OpenAI": "client.transports.openai",
    "RequestsAdapter": "client.transports.requests",
    "AsyncVerifier": "client.async_verifier",
    "http_clients": "client.transports.clients",
    "AsyncAttestedSession": "client.session",
    "AttestedSession": "client.session",
    "UnsafeTestRoots": "roots",
}
# Homes that need an extra, and how to install it.
_EXTRAS = {"client.transports.openai": "openai"}


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562); later uses find it in the module."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES.get(name, "errors")
    try:
        value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    except ImportError as error:
        extra = _EXTRAS.get(home)
        if extra is None:
            raise
        raise importlib.import_module(f"{__name__}.errors").ConfigurationError(
            f"{name} needs a package that is not installed",
            id=f"usage.{extra}",
            got=error.name,
            hint=f"Run: pip install 'teeverify[{extra}]'",
        ) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *__all__})
