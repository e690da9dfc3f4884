"""The two presets as one table (docs/policy.md is generated from it).

``genuine`` is for a first look: genuine hardware, whatever code. ``strict`` is for money and
secrets. They differ in what they accept, never in how the tier is computed.

A check that is not a row here (the vendors' own steps: certificate chains, signatures, FMSPC...)
is always required to be proven, and no policy can relax it.
"""

from __future__ import annotations

from teeverify.appraisal.presets_answer import ANSWER_PARAMETERS, ANSWER_ROWS
from teeverify.appraisal.presets_dialects import DIALECT_PARAMETERS, DIALECT_ROWS
from teeverify.appraisal.presets_gpu import GPU_PARAMETERS, GPU_ROWS
from teeverify.appraisal.presets_snp import SNP_PARAMETERS, SNP_ROWS
from teeverify.appraisal.presets_tdx import TDX_PARAMETERS, TDX_ROWS
from teeverify.appraisal.rows import LEVELS, Level, Parameter, PresetName, Row

__all__ = ["LEVELS", "PARAMETERS", "ROWS", "Level", "Parameter", "PresetName", "Row"]

# PPIDs and platform instance ids; CHIP_IDs of Turin, and of the other AMD products.
_PLATFORM = "[0-9a-fA-F]{32}|[0-9a-fA-F]{16}|[0-9a-fA-F]{128}"
_UEID = "[0-9]{1,60}"

ROWS: tuple[Row, ...] = (
    Row(
        id="kind",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="evidence of an endpoint, or an answer; a bare component only where it was asked for "
        "(--for evidence)",
    ),
    Row(
        id="roots",
        genuine="note",
        strict="proven",
        floor="note",
        tier=False,
        asks="every chain leads to a root that ships with teeverify",
    ),
    Row(
        id="time",
        genuine="asserted",
        strict="proven",
        floor="asserted",
        asks="the time of the appraisal is given by the caller, or is now",
    ),
    Row(
        id="clock.behind",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="'now' is not before this version of teeverify, nor before the newest signed date "
        "ever verified here",
    ),
    Row(
        id="freshness.nonce",
        genuine="warn",
        strict="proven",
        floor="warn",
        asks="the CPU evidence carries your nonce; a different nonce always refuses",
    ),
    *TDX_ROWS,
    Row(
        id="platform.listed",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="no platform or device on the deny list; on the allow list where there is one",
    ),
    Row(
        id="code.identity",
        genuine="warn",
        strict="proven",
        floor="warn",
        asks="the measurements of every machine equal reference values that you listed, all of "
        "them, from a source other than a mere observation",
    ),
    Row(
        id="code.changed",
        genuine="note",
        strict="note",
        floor="note",
        asks="code that nobody listed stays what it was at first sight of a live endpoint; "
        "other code always refuses",
    ),
    Row(
        id="code.event-log",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the event log replays to the quoted RTMRs",
    ),
    Row(
        id="code.compose",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the application's configuration is the measured one",
    ),
    Row(
        id="code.images-pinned",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="every container image of the configuration is pinned by digest",
    ),
    Row(
        id="code.compose-manager",
        genuine="proven",
        strict="proven",
        floor="note",
        asks="where the dialect has one, the compose-manager's log is there, and its own quote "
        "proves it for this machine",
    ),
    *GPU_ROWS,
    Row(
        id="binding.report-data",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="all 64 bytes of report_data are what the dialect's layout demands",
    ),
    Row(
        id="endpoint.bound",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="your connection or your encrypted request ends at a key that the CPU evidence binds",
    ),
    Row(
        id="confidential.request",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="only attested code could read the request",
    ),
    Row(
        id="confidential.answer",
        genuine="note",
        strict="note",
        floor="note",
        asks="only you and attested code could read the answer",
    ),
    Row(
        id="signer.origin",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="the machine's key provider is one that you listed (signer.key_services)",
    ),
    *ANSWER_ROWS,
    *DIALECT_ROWS,
    *SNP_ROWS,
)

PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        name="verdict.accept",
        genuine="warning",
        strict="affirming",
        asks="the worst tier that satisfies the policy: warning or affirming",
    ),
    *TDX_PARAMETERS,
    Parameter(
        name="platform.deny",
        genuine=[],
        strict=[],
        wish=True,
        asks="PPIDs, platform instance ids and GPU ueids that are refused",
        form=f"{_PLATFORM}|{_UEID}",
    ),
    Parameter(
        name="platform.allow",
        genuine=[],
        strict=[],
        wish=True,
        asks="if not empty: every CPU's PPID or platform instance id must be one of these",
        form=_PLATFORM,
    ),
    *GPU_PARAMETERS,
    *ANSWER_PARAMETERS,
    *DIALECT_PARAMETERS,
    *SNP_PARAMETERS,
)
