"""The rows and parameters of the policy table that are about one TD and its platform."""

from __future__ import annotations

from teeverify.appraisal.rows import Parameter, Row

__all__ = ["TDX_PARAMETERS", "TDX_ROWS"]

_TCB_TOLERATED = ["ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"]
_TCB_GRACED = [
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
]
_TCB_STATUSES = "|".join(["UpToDate", "SWHardeningNeeded", *_TCB_TOLERATED, *_TCB_GRACED])
_ATTRIBUTES_FATAL = ["profiling", "reserved", "migratable", "service_td"]
_ATTRIBUTES_WARNED = ["sept_ve_disable_missing", "pks", "kl", "perfmon"]
_ATTRIBUTES = "|".join([*_ATTRIBUTES_FATAL, *_ATTRIBUTES_WARNED])
_HASH = "[0-9a-fA-F]{96}"
_FMSPC = "[0-9a-fA-F]{12}"
_REGISTERS = {
    "mr_td": "the firmware's measurement (MRTD)",
    "rtmr0": "RTMR0",
    "rtmr1": "RTMR1",
    "rtmr2": "RTMR2",
    "rtmr3": "RTMR3",
    "mr_seam": "the TDX module's measurement (MRSEAM); a new module needs a new entry",
    "mr_config_id": "MRCONFIGID, which whoever launches the TD chooses",
    "mr_owner": "MROWNER, which whoever launches the TD chooses",
    "mr_owner_config": "MROWNERCONFIG, which whoever launches the TD chooses",
}

TDX_ROWS: tuple[Row, ...] = (
    Row(
        id="tdx.tcb-status",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="Intel's TCB status, after convergence, is one of the accepted ones",
    ),
    Row(
        id="tdx.attributes",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the TD's attributes leave nobody a way in",
    ),
    Row(
        id="tdx.xfam",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the TD's extended features are possible ones; one of tdx.xfam where that lists any",
    ),
    Row(
        id="tdx.measurements",
        genuine="note",
        strict="note",
        floor="note",
        asks="registers equal the values of tdx.mr_td, tdx.rtmr0 and so on; where a list is given, "
        "any other value always refuses",
    ),
    Row(
        id="tdx.platform-configuration",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="Intel certifies no configuration of the platform that tdx.configuration_refused "
        "lists",
    ),
    Row(
        id="tcb.evaluation-number",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="Intel's data set is not older than tdx.min_evaluation_number; for an appraisal of "
        "now, nor than the least number that ships with teeverify, nor than was seen before; "
        "with tdx.newest_standard and Intel's service at hand, nor than the standard one of today",
    ),
)


def _register(name: str, what: str) -> Parameter:
    return Parameter(
        name=f"tdx.{name}",
        genuine=[],
        strict=[],
        wish=True,
        asks=f"if not empty: the accepted values of {what}",
        form=_HASH,
    )


TDX_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        name="tdx.accepted",
        genuine=["UpToDate", "SWHardeningNeeded"],
        strict=["UpToDate"],
        asks="TCB statuses accepted as they are",
        form=_TCB_STATUSES,
    ),
    Parameter(
        name="tdx.tolerated",
        genuine=_TCB_TOLERATED,
        strict=[],
        asks="TCB statuses accepted with a warning",
        form=_TCB_STATUSES,
    ),
    Parameter(
        name="tdx.graced",
        genuine=_TCB_GRACED,
        strict=[],
        asks="TCB statuses accepted with a warning during the grace time",
        form=_TCB_STATUSES,
    ),
    Parameter(
        name="tdx.grace_days",
        genuine=30,
        strict=0,
        item=int,
        asks="days since the TCB date of the level that is missed",
    ),
    Parameter(
        name="tdx.accepted_advisories",
        genuine=[],
        strict=[],
        wish=True,
        asks="advisory ids that you accept; with 'strict', what lets an accepted status pass "
        "although it names advisories",
    ),
    Parameter(
        name="tdx.attributes_refused",
        genuine=_ATTRIBUTES_FATAL,
        strict=[*_ATTRIBUTES_FATAL, *_ATTRIBUTES_WARNED],
        asks="TD attributes that refuse",
        form=_ATTRIBUTES,
    ),
    Parameter(
        name="tdx.attributes_warned",
        genuine=_ATTRIBUTES_WARNED,
        strict=[],
        asks="TD attributes that warn",
        form=_ATTRIBUTES,
    ),
    *(_register(name, what) for name, what in _REGISTERS.items()),
    Parameter(
        name="tdx.xfam",
        genuine=[],
        strict=[],
        wish=True,
        asks="if not empty: the accepted values of XFAM, 8 bytes as the TD report has them",
        form="[0-9a-fA-F]{16}",
    ),
    Parameter(
        name="tdx.service_tds",
        genuine=[],
        strict=[],
        wish=True,
        asks="measurements of service TDs (MRSERVICETD) that may be bound to the TD",
        form=_HASH,
    ),
    Parameter(
        name="tdx.configuration_refused",
        genuine=[],
        strict=[],
        wish=True,
        asks="what Intel must not certify of the platform: that packages can be added "
        "(dynamic_platform), that Intel keeps its keys (cached_keys), hyper-threading (smt)",
        form="dynamic_platform|cached_keys|smt",
    ),
    Parameter(
        name="tdx.min_evaluation_number",
        genuine=0,
        strict=0,
        item=int,
        wish=True,
        asks="the least number of Intel's data set (tcbEvaluationDataNumber)",
    ),
    Parameter(
        name="tdx.newest_standard",
        genuine=False,
        strict=True,
        item=bool,
        asks="for an appraisal of now that may ask Intel: its list of data sets is needed, and "
        "the data set must be at least the one that is the standard by now",
    ),
    Parameter(
        name="platform.fmspc_deny",
        genuine=[],
        strict=[],
        wish=True,
        asks="models of Intel CPU (FMSPC) that are refused",
        form=_FMSPC,
    ),
    Parameter(
        name="platform.fmspc_allow",
        genuine=[],
        strict=[],
        wish=True,
        asks="if not empty: every Intel CPU's model (FMSPC) must be one of these",
        form=_FMSPC,
    ),
)
