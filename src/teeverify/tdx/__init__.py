"""Intel TDX: quotes, Intel's endorsements of a platform, and event logs.

::

    endorsements = tdx.Endorsements.load("collateral.json")
    claims = tdx.verify_quote(raw, endorsements, at="2026-06-29T02:06:57Z")
"""

from teeverify.tdx.appconfig import AppConfigClaims, compose_hash, verify_app_compose
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
from teeverify.tdx.quote import BodyType, EnclaveReport, Quote, TdReport, parse_quote
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
    "Event",
    "EventLog",
    "EventLogClaims",
    "KeyProvider",
    "MissingSvn",
    "Quote",
    "TcbGap",
    "TcbStatus",
    "TdAttributes",
    "TdReport",
    "compose_hash",
    "parse_quote",
    "replay_ccel",
    "replay_event_log",
    "verify_app_compose",
    "verify_event_log",
    "verify_quote",
]
