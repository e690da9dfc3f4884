"""What a fake Intel's service states of a CPU: TCB info, QE identity, and the list of data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from teeverify.clock import show_time
from teeverify.simulator.intel_pck import SimulatedPlatform
from teeverify.simulator.intel_reports import QE_SIGNER
from teeverify.tdx.status import TcbStatus

__all__ = ["Dates", "evaluation_numbers", "qe_identity", "tcb_info", "tcb_level"]

Dates: TypeAlias = tuple[datetime, datetime]
_NUMBER = 20
_MODULE = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}


def tcb_info(
    platform: SimulatedPlatform,
    dates: Dates,
    *,
    status: str,
    module_status: str,
    advisory_ids: Sequence[str],
) -> dict[str, Any]:
    """The members of ``tcbInfo``: a level at the CPU's SVNs, one below, and one above if need be.

    Args:
        platform: The CPU.
        dates: From when and until when it is valid.
        status: Status of the CPU's level.
        module_status: Status of the TDX module's.
        advisory_ids: Advisories of the CPU's level.
    """
    levels = [tcb_level(platform, status, advisory_ids=advisory_ids)]
    if status != TcbStatus.UP_TO_DATE:
        newer = tcb_level(platform, "UpToDate", raise_by=1, date="2026-02-11T00:00:00Z")
        levels.insert(0, newer)
    if platform.components[0]:
        old, advisory = "2024-03-13T00:00:00Z", "INTEL-SA-00000"
        levels.append(
            tcb_level(platform, "OutOfDate", raise_by=-1, date=old, advisory_ids=[advisory])
        )
    return {
        "id": "TDX",
        "version": 3,
        "issueDate": show_time(dates[0]),
        "nextUpdate": show_time(dates[1]),
        "fmspc": platform.fmspc,
        "pceId": platform.pce_id,
        "tcbType": 0,
        "tcbEvaluationDataNumber": _NUMBER,
        "tdxModule": _MODULE,
        "tdxModuleIdentities": [
            {"id": "TDX_01", **_MODULE, "tcbLevels": _svn_levels(11, module_status)}
        ],
        "tcbLevels": levels,
    }


def qe_identity(dates: Dates, status: str) -> dict[str, Any]:
    """The members of ``enclaveIdentity``, with this status of the quoting enclave."""
    return {
        "id": "TD_QE",
        "version": 2,
        "issueDate": show_time(dates[0]),
        "nextUpdate": show_time(dates[1]),
        "tcbEvaluationDataNumber": _NUMBER,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_SIGNER.hex().upper(),
        "isvprodid": 2,
        "tcbLevels": _svn_levels(4, status),
    }


def evaluation_numbers(at: datetime) -> dict[str, Any]:
    """The members of the list of data sets, of which 20 is the standard one by then."""
    events = {_NUMBER + 1: 90, _NUMBER: 400, _NUMBER - 1: 500}
    return {
        "id": "TDX",
        "version": 1,
        "issueDate": show_time(at - timedelta(days=1)),
        "nextUpdate": show_time(at + timedelta(days=29)),
        "tcbEvalNumbers": [
            {
                "tcbEvaluationDataNumber": number,
                "tcbRecoveryEventDate": show_time(at - timedelta(days=days)),
                "tcbDate": show_time(at - timedelta(days=days - 1)),
            }
            for number, days in events.items()
        ],
    }


def tcb_level(
    platform: SimulatedPlatform,
    status: str,
    *,
    raise_by: int = 0,
    date: str = "2025-08-13T00:00:00Z",
    advisory_ids: Sequence[str] = (),
) -> dict[str, Any]:
    """A TCB level at the CPU's SVNs, or above or below them by ``raise_by`` in component 0."""
    sgx = (max(platform.components[0] + raise_by, 0), *platform.components[1:])
    tcb = {
        "sgxtcbcomponents": [{"svn": svn} for svn in sgx],
        "pcesvn": platform.pce_svn,
        "tdxtcbcomponents": [{"svn": svn} for svn in (11, 0, 4, *([0] * 13))],
    }
    return _level(tcb, status, date=date, advisory_ids=advisory_ids)


def _level(
    tcb: Mapping[str, Any], status: str, *, date: str, advisory_ids: Sequence[str] = ()
) -> dict[str, Any]:
    level: dict[str, Any] = {"tcb": dict(tcb), "tcbDate": date, "tcbStatus": str(status)}
    if advisory_ids:
        level["advisoryIDs"] = list(advisory_ids)
    return level


def _svn_levels(svn: int, status: str) -> list[dict[str, Any]]:
    levels = [_level({"isvsvn": svn}, status, date="2025-05-14T00:00:00Z")]
    if status != TcbStatus.UP_TO_DATE:
        newer = _level({"isvsvn": svn + 1}, "UpToDate", date="2025-11-12T00:00:00Z")
        levels.insert(0, newer)
    return levels
