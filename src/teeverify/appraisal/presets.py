"""The two presets as one table (docs/policy.md is generated from it).

``genuine`` is for a first look: genuine hardware, whatever code. ``strict`` is for money and
secrets. They differ in what they accept, never in how the tier is computed.

A check that is not a row here (the vendors' own steps: certificate chains, signatures, FMSPC...)
is always required to be proven, and no policy can relax it.
"""

from __future__ import annotations

from teeverify.appraisal.presets_snp import SNP_PARAMETERS, SNP_ROWS
from teeverify.appraisal.presets_tdx import TDX_PARAMETERS, TDX_ROWS
from teeverify.appraisal.rows import LEVELS, Level, Parameter, PresetName, Row

__all__ = ["LEVELS", "PARAMETERS", "ROWS", "Level", "Parameter", "PresetName", "Row"]

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
        id="freshness.nonce",
        genuine="warn",
        strict="proven",
        floor="warn",
        asks="the CPU evidence carries your nonce; a different nonce always refuses",
    ),
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
        genuine="note",
        strict="note",
        floor="note",
        asks="where a compose-manager's log is present, its own quote proves it for this machine",
    ),
    Row(
        id="gpu.required",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="as many genuine GPUs, of the architectures, as the policy demands",
    ),
    Row(
        id="gpu.measurements",
        genuine="asserted",
        strict="proven",
        floor="note",
        asks="driver and VBIOS are NVIDIA's: measurements equal the RIMs, or NRAS says so",
    ),
    Row(
        id="gpu.device",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="of GPU evidence alone: each device's measurements equal NVIDIA's manifests",
    ),
    Row(
        id="gpu.switches",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="GPUs and NVSwitches name each other; needed where eight GPUs are in protected PCIe "
        "mode, and wrong links always refuse",
    ),
    Row(
        id="gpu.revocation",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="no certificate of the GPUs is revoked or on hold",
    ),
    Row(
        id="gpu.binding",
        genuine="asserted",
        strict="proven",
        floor="asserted",
        asks="the GPU evidence is tied to the CPU evidence, better than by an equal nonce",
    ),
    Row(
        id="gpu.attachment",
        genuine="note",
        strict="note",
        floor="note",
        asks="recorded only: no vendor can prove yet that a GPU sits in this machine",
    ),
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
        asks="the TLS key of your connection is in the CPU evidence",
    ),
    Row(
        id="confidential.request",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="only attested code could read the request",
    ),
    Row(
        id="signer.origin",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="the signing key was made inside this machine",
    ),
    Row(
        id="key.attested",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the key that signed the answer is the one that the evidence binds",
    ),
    Row(
        id="answer.signature",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the answer's signature verifies under that key",
    ),
    Row(
        id="response.hash-equal",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the signed hash is that of the exact bytes of the answer",
    ),
    Row(
        id="answer.complete",
        genuine="proven",
        strict="proven",
        floor="proven",
        asks="the answer is whole",
    ),
    Row(
        id="answer.signer-role",
        genuine="warn",
        strict="proven",
        floor="warn",
        asks="the model's own machine signed, not a gateway",
    ),
    Row(
        id="answer.fresh",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="the signed text names a challenge of yours",
    ),
    Row(
        id="answer.attested-later",
        genuine="asserted",
        strict="proven",
        floor="asserted",
        asks="the evidence is not younger than the answer",
    ),
    Row(
        id="session.age",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="the evidence is not older than the session may be",
    ),
    Row(
        id="request.bound",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="the signed request hash is that of your request's exact bytes, and the enclave made "
        "it itself",
    ),
    Row(
        id="http.semantics",
        genuine="note",
        strict="proven",
        floor="note",
        asks="method, target, status and content type are signed",
    ),
    Row(
        id="model.identity",
        genuine="warn",
        strict="proven",
        floor="note",
        asks="the model requested, reported and signed is the same; a different one always refuses",
    ),
    *SNP_ROWS,
)

PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        name="verdict.accept",
        genuine="warning",
        strict="affirming",
        asks="the worst tier that satisfies the policy: warning or affirming",
    ),
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
    Parameter(
        name="gpu.required",
        genuine=True,
        strict=True,
        item=bool,
        asks="whether there must be a GPU at all; the first sentence repeats a 'false'",
    ),
    Parameter(
        name="gpu.count",
        genuine=None,
        strict=None,
        wish=True,
        item=int,
        asks="exact number of GPUs; 'strict' wants it said",
    ),
    Parameter(
        name="gpu.count_required",
        genuine=False,
        strict=True,
        item=bool,
        asks="whether gpu.count and gpu.architectures must be said",
    ),
    Parameter(
        name="gpu.architectures",
        genuine=[],
        strict=[],
        wish=True,
        asks="if not empty: the only architectures accepted, for example Hopper",
        form="Hopper|Blackwell",
    ),
    Parameter(
        name="gpu.allow_expired_rim_signers",
        genuine=False,
        strict=False,
        item=bool,
        asks="whether manifests (RIMs) whose signer's certificates were valid once and have "
        "expired pass, with a warning",
    ),
    Parameter(
        name="gpu.links",
        genuine=["hash-in-quote", "mutual"],
        strict=["hash-in-quote", "mutual"],
        asks="CPU-GPU binding classes that count as proven",
        form="same-nonce|hash-in-quote|mutual",
    ),
    Parameter(
        name="session.max_age_seconds",
        genuine=3600,
        strict=600,
        item=int,
        asks="how old evidence may be when the answer is made",
    ),
    Parameter(
        name="session.clock_skew_seconds",
        genuine=600,
        strict=60,
        item=int,
        asks="how far two clocks may be apart",
    ),
    Parameter(
        name="answer.allow_attested_later_days",
        genuine=0,
        strict=0,
        item=int,
        asks="how many days after the answer the evidence may have been made; then a warning",
    ),
    *SNP_PARAMETERS,
)
