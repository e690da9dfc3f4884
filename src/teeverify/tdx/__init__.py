"""Intel TDX: quotes, Intel's endorsements of a platform, and event logs.

::

    endorsements = tdx.Endorsements.load("collateral.json")
    claims = tdx.verify_quote(raw, endorsements, at="2026-06-29T02:06:57Z")

The names below are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from teeverify.tdx.advice import describe_gap, remedies
    from teeverify.tdx.appconfig import AppConfigClaims, compose_hash, verify_app_compose
    from teeverify.tdx.azure import parse_azure_evidence, parse_hcl_report, verify_vtpm
    from teeverify.tdx.ccel import replay_ccel
    from teeverify.tdx.claims import Claims, TdAttributes
    from teeverify.tdx.collateral import Endorsements
    from teeverify.tdx.eventlog import (
        AppIdentity,
        Event,
        EventLog,
        EventLogClaims,
        KeyProvider,
        replay_event_log,
        verify_event_log,
    )
    from teeverify.tdx.numbers import EvaluationClaims, verify_evaluation_numbers
    from teeverify.tdx.quote import BodyType, EnclaveReport, Quote, TdReport, parse_quote
    from teeverify.tdx.ratls import RatlsClaims, verify_ratls
    from teeverify.tdx.status import TcbStatus
    from teeverify.tdx.tcb import MissingSvn, TcbGap
    from teeverify.tdx.verify import CHECKS, SEPARATE_CHECKS, verify_quote

__all__ = [
    "CHECKS",
    "SEPARATE_CHECKS",
    "AppConfigClaims",
    "AppIdentity",
    "BodyType",
    "Claims",
    "EnclaveReport",
    "Endorsements",
    "EvaluationClaims",
    "Event",
    "EventLog",
    "EventLogClaims",
    "KeyProvider",
    "MissingSvn",
    "Quote",
    "RatlsClaims",
    "TcbGap",
    "TcbStatus",
    "TdAttributes",
    "TdReport",
    "compose_hash",
    "describe_gap",
    "parse_azure_evidence",
    "parse_hcl_report",
    "parse_quote",
    "remedies",
    "replay_ccel",
    "replay_event_log",
    "verify_app_compose",
    "verify_evaluation_numbers",
    "verify_event_log",
    "verify_quote",
    "verify_ratls",
    "verify_vtpm",
]

_HOMES = {
    "advice": ("describe_gap", "remedies"),
    "appconfig": ("AppConfigClaims", "compose_hash", "verify_app_compose"),
    "azure": ("parse_azure_evidence", "parse_hcl_report", "verify_vtpm"),
    "ccel": ("replay_ccel",),
    "claims": ("Claims", "TdAttributes"),
    "collateral": ("Endorsements",),
    "eventlog": (
        "AppIdentity",
        "Event",
        "EventLog",
        "EventLogClaims",
        "KeyProvider",
        "replay_event_log",
        "verify_event_log",
    ),
    "numbers": ("EvaluationClaims", "verify_evaluation_numbers"),
    "quote": ("BodyType", "EnclaveReport", "Quote", "TdReport", "parse_quote"),
    "ratls": ("RatlsClaims", "verify_ratls"),
    "status": ("TcbStatus",),
    "tcb": ("MissingSvn", "TcbGap"),
    "verify": ("CHECKS", "SEPARATE_CHECKS", "verify_quote"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562); later uses find it in the module."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, imported or not."""
    return sorted({*globals(), *__all__})
