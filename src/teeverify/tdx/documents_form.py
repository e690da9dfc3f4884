"""The forms of Intel's signed JSON documents: strict reading.

Intel PCS API version 4: "Get TCB Info" (tcbInfo version 3), "Get QE Identity" (enclaveIdentity
version 2) and "Get TCB Evaluation Data Numbers". Nothing is verified.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from operator import itemgetter
from typing import TypeVar

from teeverify.encoding.fields import JsonObject
from teeverify.errors import MalformedEvidence
from teeverify.tdx.documents import (
    COMPONENTS,
    EVALUATION_NUMBERS,
    QE_IDENTITY,
    TCB_INFO,
    ComponentLevel,
    EvaluationNumbers,
    ModuleIdentity,
    QeIdentity,
    TcbInfo,
    TcbLevel,
    Tee,
)
from teeverify.tdx.status import TcbStatus

__all__ = ["parse_evaluation_numbers", "parse_qe_identity", "parse_tcb_info"]

_T = TypeVar("_T")
_SVN = itemgetter("svn")
_MAX_LEVELS = 256
_MAX_U16 = 0xFFFF
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII)
_S = TcbStatus
_STATUSES = {status.value: status for status in _S}
_PLATFORM = frozenset(_S) - {
    _S.TD_RELAUNCH_ADVISED,
    _S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED,
}
_MODULE = frozenset({_S.UP_TO_DATE, _S.OUT_OF_DATE, _S.REVOKED})
_QE = _MODULE | {_S.CONFIGURATION_NEEDED, _S.OUT_OF_DATE_CONFIGURATION_NEEDED}


def parse_evaluation_numbers(
    signed: bytes, signature: bytes, issuer_chain: bytes | None
) -> EvaluationNumbers:
    """Read a ``tcbEvaluationDataNumbers`` object.

    Args:
        signed: Its exact text.
        signature: The signature that came with it.
        issuer_chain: The PEM chain that came with it.

    Raises:
        MalformedEvidence: A field is missing or of another form; version or id unknown; no
            numbers, or one twice.
    """
    check = EVALUATION_NUMBERS
    form = JsonObject.parse(signed, path="tcb_evaluation_data_numbers", id=check)
    tee: Tee = "TDX" if _one_of(form, "id", ("SGX", "TDX"), check) == "TDX" else "SGX"
    _exactly(form, "version", 1, check)
    sets = form.objects("tcbEvalNumbers")
    recoveries = {
        _number(item, "tcbEvaluationDataNumber", _MAX_U16, check): _date(
            item, "tcbRecoveryEventDate", check
        )
        for item in sets
    }
    if not 0 < len(sets) <= _MAX_LEVELS or len(recoveries) != len(sets):
        raise _malformed(form, "tcbEvalNumbers", check, "no numbers, too many, or one twice")
    return EvaluationNumbers(
        signed=signed,
        signature=signature,
        issuer_chain=issuer_chain,
        tee=tee,
        issue_date=_date(form, "issueDate", check),
        next_update=_date(form, "nextUpdate", check),
        recoveries=tuple(sorted(recoveries.items(), reverse=True)),
    )


def parse_tcb_info(signed: bytes, signature: bytes, issuer_chain: bytes | None) -> TcbInfo:
    """Read a ``tcbInfo`` object.

    Args:
        signed: Its exact text.
        signature: The signature that came with it.
        issuer_chain: The PEM chain that came with it.

    Raises:
        MalformedEvidence: A field is missing or of another form; version, type or status unknown;
            levels empty, or a component list that is not 16 long.
    """
    info = JsonObject.parse(signed, path="tcb_info", id=TCB_INFO)
    tee: Tee = "TDX" if _one_of(info, "id", ("SGX", "TDX"), TCB_INFO) == "TDX" else "SGX"
    _exactly(info, "version", 3, TCB_INFO)
    _exactly(info, "tcbType", 0, TCB_INFO)
    modules: tuple[ModuleIdentity, ...] = ()
    if tee == "TDX" and "tdxModuleIdentities" in info:
        modules = tuple(map(_module_identity, info.objects("tdxModuleIdentities")))
    if len({module.id for module in modules}) != len(modules):
        raise _malformed(info, "tdxModuleIdentities", TCB_INFO, "the same module twice")
    levels = _levels(info, TCB_INFO, lambda level: _tcb_level(level, tee))
    return TcbInfo(
        signed=signed,
        signature=signature,
        issuer_chain=issuer_chain,
        tee=tee,
        issue_date=_date(info, "issueDate", TCB_INFO),
        next_update=_date(info, "nextUpdate", TCB_INFO),
        fmspc=info.hex("fmspc", 6),
        pce_id=info.hex("pceId", 2),
        evaluation_data_number=_number(info, "tcbEvaluationDataNumber", _MAX_U16, TCB_INFO),
        module=_module(info.object("tdxModule"), "", ()) if tee == "TDX" else None,
        modules=modules,
        # Intel keeps levels in a set ordered by SVNs; the order in the JSON must not matter.
        levels=tuple(
            sorted(levels, key=lambda level: (level.sgx, level.pce_svn, level.tdx), reverse=True)
        ),
    )


def parse_qe_identity(signed: bytes, signature: bytes, issuer_chain: bytes | None) -> QeIdentity:
    """Read an ``enclaveIdentity`` object.

    Args:
        signed: Its exact text.
        signature: The signature that came with it.
        issuer_chain: The PEM chain that came with it.

    Raises:
        MalformedEvidence: A field is missing or of another form; version, id or status unknown;
            levels empty.
    """
    identity = JsonObject.parse(signed, path="qe_identity", id=QE_IDENTITY)
    tee: Tee = "TDX" if _one_of(identity, "id", ("QE", "TD_QE"), QE_IDENTITY) == "TD_QE" else "SGX"
    _exactly(identity, "version", 2, QE_IDENTITY)
    return QeIdentity(
        signed=signed,
        signature=signature,
        issuer_chain=issuer_chain,
        tee=tee,
        issue_date=_date(identity, "issueDate", QE_IDENTITY),
        next_update=_date(identity, "nextUpdate", QE_IDENTITY),
        evaluation_data_number=_number(identity, "tcbEvaluationDataNumber", _MAX_U16, QE_IDENTITY),
        misc_select=identity.hex("miscselect", 4),
        misc_select_mask=identity.hex("miscselectMask", 4),
        attributes=identity.hex("attributes", 16),
        attributes_mask=identity.hex("attributesMask", 16),
        mr_signer=identity.hex("mrsigner", 32),
        isv_prod_id=_number(identity, "isvprodid", _MAX_U16, QE_IDENTITY),
        levels=_component_levels(identity, _QE, QE_IDENTITY),
    )


def _malformed(where: JsonObject, name: str, id: str, problem: str) -> MalformedEvidence:
    field = f"{where.path}.{name}"
    return MalformedEvidence(f"{field}: {problem}", id=id, field=field)


def _one_of(where: JsonObject, name: str, allowed: tuple[str, ...], id: str) -> str:
    value = where.text(name)
    if value not in allowed:
        raise MalformedEvidence(
            f"{where.path}.{name}: unknown",
            id=id,
            field=f"{where.path}.{name}",
            got=repr(value)[:80],
            want=" or ".join(allowed),
        )
    return value


def _exactly(where: JsonObject, name: str, wanted: int, id: str) -> None:
    value = where.integer(name)
    if value != wanted:
        raise MalformedEvidence(
            f"{where.path}.{name}: unknown",
            id=id,
            field=f"{where.path}.{name}",
            got=str(value),
            want=str(wanted),
        )


def _number(where: JsonObject, name: str, most: int, id: str) -> int:
    value = where.integer(name)
    if not 0 <= value <= most:
        raise _malformed(where, name, id, f"not between 0 and {most}")
    return value


def _date(where: JsonObject, name: str, id: str) -> datetime:
    text = where.text(name)
    try:
        if _DATE.fullmatch(text):
            return datetime.fromisoformat(f"{text[:-1]}+00:00")
    except ValueError:
        pass
    raise _malformed(where, name, id, "not a date such as 2026-06-29T01:42:47Z")


def _levels(where: JsonObject, id: str, read: Callable[[JsonObject], _T]) -> list[_T]:
    found = where.objects("tcbLevels")
    if not 0 < len(found) <= _MAX_LEVELS:
        raise _malformed(where, "tcbLevels", id, f"not between 1 and {_MAX_LEVELS} levels")
    return [read(level) for level in found]


def _status(level: JsonObject, allowed: frozenset[TcbStatus], id: str) -> TcbStatus:
    word = level.text("tcbStatus")
    status = _STATUSES.get(word)
    if status not in allowed:
        raise _malformed(level, "tcbStatus", id, f"unknown status {word[:60]!r}")
    return status


def _advisories(level: JsonObject) -> tuple[str, ...]:
    return level.texts("advisoryIDs") if "advisoryIDs" in level else ()


def _tcb_level(level: JsonObject, tee: Tee) -> TcbLevel:
    tcb = level.object("tcb")
    sgx, sgx_labels = _components(tcb, "sgxtcbcomponents")
    tdx, tdx_labels = bytes(COMPONENTS), ("",) * COMPONENTS
    if tee == "TDX":
        tdx, tdx_labels = _components(tcb, "tdxtcbcomponents")
    return TcbLevel(
        sgx=sgx,
        pce_svn=_number(tcb, "pcesvn", _MAX_U16, TCB_INFO),
        tdx=tdx,
        sgx_labels=sgx_labels,
        tdx_labels=tdx_labels,
        tcb_date=_date(level, "tcbDate", TCB_INFO),
        status=_status(level, _PLATFORM, TCB_INFO),
        advisory_ids=_advisories(level),
    )


def _components(tcb: JsonObject, name: str) -> tuple[bytes, tuple[str, ...]]:
    """Read a list of exactly 16 SVNs, each one byte, with what Intel calls them."""
    items = tcb.array(name)
    try:
        numbers = list(map(_SVN, items))
        svns = bytes(numbers)
    except (KeyError, TypeError, ValueError):
        raise _malformed(tcb, name, TCB_INFO, "an SVN is not between 0 and 255") from None
    # To Python, true and false are integers.
    if len(svns) != COMPONENTS or set(map(type, numbers)) != {int}:
        raise _malformed(tcb, name, TCB_INFO, f"not {COMPONENTS} integers")
    # Most components have no name: only those that have one are asked for it.
    named = [str(x.get("type") or x.get("category") or "") if len(x) > 1 else "" for x in items]
    return svns, tuple(named)


def _component_levels(
    where: JsonObject,
    allowed: frozenset[TcbStatus],
    id: str,
) -> tuple[ComponentLevel, ...]:
    levels = _levels(where, id, lambda level: _component_level(level, allowed, id))
    return tuple(sorted(levels, key=lambda level: level.isv_svn, reverse=True))


def _component_level(
    level: JsonObject,
    allowed: frozenset[TcbStatus],
    id: str,
) -> ComponentLevel:
    return ComponentLevel(
        isv_svn=_number(level.object("tcb"), "isvsvn", _MAX_U16, id),
        tcb_date=_date(level, "tcbDate", id),
        status=_status(level, allowed, id),
        advisory_ids=_advisories(level),
    )


def _module_identity(item: JsonObject) -> ModuleIdentity:
    return _module(item, item.text("id").upper(), _component_levels(item, _MODULE, TCB_INFO))


def _module(item: JsonObject, name: str, levels: tuple[ComponentLevel, ...]) -> ModuleIdentity:
    return ModuleIdentity(
        id=name,
        mr_signer=item.hex("mrsigner", 48),
        attributes=item.hex("attributes", 8),
        attributes_mask=item.hex("attributesMask", 8),
        levels=levels,
    )
