"""How current a platform is: Intel's rule for choosing and merging TCB levels.

The rule is that of Intel's quote verification library (confidential-computing.tee.dcap.qvl,
EvaluateTcb): levels sorted by their SVNs, then one level each for the platform, the TDX module and
the quoting enclave, then convergence, which is not "the worst of".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias, TypeVar

from teeverify.errors import TcbRejected
from teeverify.tdx.documents import (
    ComponentLevel,
    ModuleIdentity,
    QeIdentity,
    TcbInfo,
    TcbLevel,
)
from teeverify.tdx.pck import PckTcb
from teeverify.tdx.status import TcbStatus

__all__ = [
    "Machine",
    "MissingSvn",
    "Part",
    "TcbEvaluation",
    "TcbGap",
    "converge",
    "evaluate",
    "gap",
    "module_identity",
    "relaunch",
]

Part: TypeAlias = Literal["sgx", "pce", "tdx", "module", "qe"]
_Level = TypeVar("_Level", TcbLevel, ComponentLevel)
CHECK = "tdx.tcb"
CHECK_MODULE = "tdx.module"
_S = TcbStatus
_HINT = "Do not use this machine; only its operator can update it."
_LABELS = {
    "pce": "provisioning certification enclave",
    "module": "TDX module",
    "qe": "quoting enclave",
}

_WITH_OUTDATED_COMPONENT = {
    _S.UP_TO_DATE: _S.OUT_OF_DATE,
    _S.SW_HARDENING_NEEDED: _S.OUT_OF_DATE,
    _S.CONFIGURATION_NEEDED: _S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    _S.CONFIGURATION_AND_SW_HARDENING_NEEDED: _S.OUT_OF_DATE_CONFIGURATION_NEEDED,
}
_OUT_OF_DATE = frozenset({_S.OUT_OF_DATE, _S.OUT_OF_DATE_CONFIGURATION_NEEDED})
_GOOD = (frozenset({_S.UP_TO_DATE}), frozenset(_S) - _OUT_OF_DATE - {_S.REVOKED})
_NEEDS_CONFIGURATION = frozenset(
    {
        _S.CONFIGURATION_NEEDED,
        _S.CONFIGURATION_AND_SW_HARDENING_NEEDED,
        _S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    }
)


class Machine(NamedTuple):
    """The SVNs of one machine, from its PCK certificate and its quote.

    Attributes:
        cpu: Those that the PCK certificate vouches for.
        tee_tcb_svn: The TD's ``tee_tcb_svn`` or ``tee_tcb_svn_2``; ``None`` for SGX.
        qe_isv_svn: The quoting enclave's.
    """

    cpu: PckTcb
    tee_tcb_svn: bytes | None
    qe_isv_svn: int

    @property
    def module_major(self) -> int:
        """Major version of the TDX module; 0 also for SGX.

        Up to major version 0 the module's SVN is a component of the platform's levels; from 1 on
        the module has an identity and levels of its own.
        """
        return self.tee_tcb_svn[1] if self.tee_tcb_svn is not None else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingSvn:
    """One security version number that is too low.

    Attributes:
        part: ``sgx`` or ``tdx`` component, ``pce``, TDX ``module``, or ``qe``.
        index: Which component, for ``sgx`` and ``tdx``; else ``None``.
        label: What Intel calls it; may be empty.
        has: What the machine has.
        needs: What the newest level asks for.
    """

    part: Part
    index: int | None
    label: str
    has: int
    needs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbGap:
    """What a machine lacks to be at Intel's newest level.

    Attributes:
        missing: The SVNs that are too low.
        since: The date of the newest level missed: the machine lacks Intel's fixes of that day.
        first_missed: The date of the oldest level missed: how long it has been behind.
    """

    missing: tuple[MissingSvn, ...]
    since: datetime
    first_missed: datetime


class TcbEvaluation(NamedTuple):
    """The levels that one machine matches, and what they come to.

    Attributes:
        status: After convergence.
        platform: The platform's level.
        module: The TDX module's level; ``None`` where the platform's levels hold its SVN.
        qe: The quoting enclave's level.
    """

    status: TcbStatus
    platform: TcbLevel
    module: ComponentLevel | None
    qe: ComponentLevel

    @property
    def levels(self) -> tuple[TcbLevel | ComponentLevel, ...]:
        """The matched levels: platform, quoting enclave and, where it has one, module."""
        found = (self.platform, self.qe)
        return found if self.module is None else (*found, self.module)


def module_identity(info: TcbInfo, major: int) -> ModuleIdentity | None:
    """Find the identity of the TDX module of a major version.

    Returns:
        The identity; for major version 0 that of ``tdxModule``, which SGX has not.

    Raises:
        TcbRejected: Intel describes no module of that major version.
    """
    if major == 0:
        return info.module
    wanted = f"TDX_{major:02X}"
    for identity in info.modules:
        if identity.id == wanted:
            return identity
    raise TcbRejected(
        "Intel describes no TDX module of this major version for this platform",
        id=CHECK_MODULE,
        got=wanted,
        want=" or ".join(identity.id for identity in info.modules) or "none",
        hint=_HINT,
    )


def evaluate(info: TcbInfo, identity: QeIdentity, machine: Machine) -> TcbEvaluation:
    """Match one machine with Intel's levels.

    Args:
        info: The verified TCB info.
        identity: The verified QE identity.
        machine: The machine's SVNs.

    Raises:
        TcbRejected: A part matches no level, or what they come to is revoked.
    """
    platform = _platform(info, machine)
    module = None
    if machine.tee_tcb_svn is not None and machine.module_major > 0:
        module = _component("module", _module_levels(info, machine), machine.tee_tcb_svn[0])
    qe = _component("qe", identity.levels, machine.qe_isv_svn)
    components = [qe.status] if module is None else [module.status, qe.status]
    status = converge(platform.status, components)
    found = TcbEvaluation(status=status, platform=platform, module=module, qe=qe)
    if status is _S.REVOKED:
        advisories = {name for level in found.levels for name in level.advisory_ids}
        raise TcbRejected(
            "Intel has revoked this TCB",
            id=CHECK,
            got=", ".join(["Revoked", *sorted(advisories)]),
            hint=_HINT,
        )
    return found


def converge(platform: TcbStatus, components: Sequence[TcbStatus]) -> TcbStatus:
    """Merge the platform's status with those of the TDX module and the quoting enclave."""
    if platform is _S.REVOKED or _S.REVOKED in components:
        return _S.REVOKED
    if _OUT_OF_DATE.intersection(components):
        return _WITH_OUTDATED_COMPONENT.get(platform, platform)
    return platform


def relaunch(launch: TcbStatus, current: TcbStatus) -> TcbStatus:
    """Merge the status at launch with the current one, for TDs that survived a module update.

    A TD that was launched on an old TCB stays exposed to what was wrong with it; if the machine has
    been updated since, launching the TD again is the remedy.
    """
    if launch not in _OUT_OF_DATE or current in _OUT_OF_DATE:
        return launch
    if launch in _NEEDS_CONFIGURATION or current in _NEEDS_CONFIGURATION:
        return _S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return _S.TD_RELAUNCH_ADVISED


def gap(
    found: TcbEvaluation, info: TcbInfo, identity: QeIdentity, machine: Machine
) -> TcbGap | None:
    """Say what is missing to be at Intel's newest levels.

    Args:
        found: What :func:`evaluate` returned for the same arguments.
        info: The verified TCB info.
        identity: The verified QE identity.
        machine: The machine's SVNs.

    Returns:
        ``None`` when no SVN is too low.
    """
    gaps = [
        _platform_gap(found.platform, info, machine),
        _component_gap("qe", found.qe, identity.levels, machine.qe_isv_svn),
    ]
    if found.module is not None and machine.tee_tcb_svn is not None:
        levels = _module_levels(info, machine)
        gaps.append(_component_gap("module", found.module, levels, machine.tee_tcb_svn[0]))
    lacking = [one for one in gaps if one is not None]
    if not lacking:
        return None
    return TcbGap(
        missing=tuple(svn for one in lacking for svn in one.missing),
        since=max(one.since for one in lacking),
        first_missed=min(one.first_missed for one in lacking),
    )


def _module_levels(info: TcbInfo, machine: Machine) -> tuple[ComponentLevel, ...]:
    identity = module_identity(info, machine.module_major)
    return identity.levels if identity is not None else ()


def _platform(info: TcbInfo, machine: Machine) -> TcbLevel:
    for level in info.levels:
        if not _missing(level, machine):
            return level
    cpu, tdx = machine.cpu, machine.tee_tcb_svn
    raise TcbRejected(
        "the machine is below every TCB level that Intel describes for it",
        id=CHECK,
        got=f"component SVNs {' '.join(map(str, cpu.components))}, PCE SVN {cpu.pce_svn}"
        + (f", TDX {' '.join(map(str, tdx))}" if tdx is not None else ""),
        want=f"one of {len(info.levels)} levels",
        hint=_HINT,
    )


def _missing(level: TcbLevel, machine: Machine) -> list[MissingSvn]:
    """The SVNs that are below a level; none where the level matches."""
    cpu, tdx = machine.cpu, machine.tee_tcb_svn
    pairs = enumerate(zip(cpu.components, level.sgx, strict=True))
    found = [_short("sgx", i, level.sgx_labels[i], pair) for i, pair in pairs if pair[0] < pair[1]]
    if cpu.pce_svn < level.pce_svn:
        found.append(_short("pce", None, _LABELS["pce"], (cpu.pce_svn, level.pce_svn)))
    if tdx is not None:
        # Components 0 and 1 are the module's, which its identity judges from major version 1.
        first = 2 if machine.module_major else 0
        pairs = enumerate(zip(tdx[first:], level.tdx[first:], strict=True), first)
        found += [
            _short("tdx", i, level.tdx_labels[i], pair) for i, pair in pairs if pair[0] < pair[1]
        ]
    return found


def _short(part: Part, index: int | None, label: str, svns: tuple[int, int]) -> MissingSvn:
    return MissingSvn(part=part, index=index, label=label, has=svns[0], needs=svns[1])


def _component(part: Part, levels: Sequence[ComponentLevel], svn: int) -> ComponentLevel:
    for level in levels:
        if svn >= level.isv_svn:
            return level
    raise TcbRejected(
        f"the {_LABELS[part]} is below every TCB level that Intel describes for it",
        id=CHECK,
        got=f"SVN {svn}",
        want=f"at least {levels[-1].isv_svn}" if levels else "a level",
        hint=_HINT,
    )


def _platform_gap(matched: TcbLevel, info: TcbInfo, machine: Machine) -> TcbGap | None:
    newest = _newest(info.levels)
    if newest is None or newest is matched:
        return None
    missing = _missing(newest, machine)
    if not missing:
        return None
    return TcbGap(
        missing=tuple(missing),
        since=newest.tcb_date,
        first_missed=_first_missed(info.levels, matched, newest),
    )


def _component_gap(
    part: Part, matched: ComponentLevel, levels: Sequence[ComponentLevel], svn: int
) -> TcbGap | None:
    newest = _newest(levels)
    if newest is None or svn >= newest.isv_svn:
        return None
    return TcbGap(
        missing=(_short(part, None, _LABELS[part], (svn, newest.isv_svn)),),
        since=newest.tcb_date,
        first_missed=_first_missed(levels, matched, newest),
    )


def _newest(levels: Sequence[_Level]) -> _Level | None:
    """The newest level that is UpToDate, or else the newest that is not out of date."""
    for wanted in _GOOD:
        chosen = [level for level in levels if level.status in wanted]
        if chosen:
            return max(chosen, key=lambda level: level.tcb_date)
    return None


def _first_missed(levels: Sequence[_Level], matched: _Level, newest: _Level) -> datetime:
    """The date of the oldest level above the matched one that is newer than it."""
    above = levels[: levels.index(matched)]
    dates = [level.tcb_date for level in above if level.tcb_date > matched.tcb_date]
    return min(*dates, newest.tcb_date) if dates else newest.tcb_date
