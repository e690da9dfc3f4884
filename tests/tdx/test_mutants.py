"""Thousands of forged and mutated quotes through us and dcap-qvl, an independent verifier.

Every disagreement must be in the table below, where each has its reason. TEEVERIFY_MUTANTS says how
many (1,000 unless set; CI makes 10,000), TEEVERIFY_SEED which.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from teeverify import tdx
from teeverify.errors import TeeVerifyError

dcap_qvl = pytest.importorskip("dcap_qvl", reason="dcap-qvl is not installed")

COUNT = int(os.environ.get("TEEVERIFY_MUTANTS", "1000"))
SEED = int(os.environ.get("TEEVERIFY_SEED", "20261122"))
CHAINS = {"tdx.pck-chain", "tdx.tcb-info", "tdx.qe-identity"}
WORSE = {
    "UpToDate": "OutOfDate",
    "SWHardeningNeeded": "OutOfDate",
    "TDRelaunchAdvised": "OutOfDate",
    "ConfigurationNeeded": "OutOfDateConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded": "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvisedConfigurationNeeded": "OutOfDateConfigurationNeeded",
}
UNORDERED = (
    "Levels of modules and quoting enclaves are sorted, as Intel's library does; dcap-qvl takes "
    "them in the order of the JSON. With the levels in order both say the same."
)
THEIR_ATTRIBUTES = (
    "Reserved bits in TD attributes", "MR service TD", "SERVTD_EXT", "profiling", "migration",
    "SEPT_VE_DISABLE",
)  # fmt: skip


@dataclass(frozen=True)
class Verdicts:
    """What both say: a status or ``None``; our check and words, their words; and our claims."""

    kind: str
    ours: str | None
    check: str | None
    words: str
    theirs: str | None
    their_words: str
    claims: tdx.Claims | None


@dataclass(frozen=True)
class Reason:
    """Why both may disagree, and where that applies."""

    why: str
    applies: Callable[[Verdicts], bool]


def _stricter(both: Verdicts) -> bool:
    return both.ours is None and both.theirs is not None


def _in_a_chain(both: Verdicts) -> bool:
    kinds = ("flipped", "spliced", "text pck_", "text tcb_info_issuer", "text qe_identity_issuer")
    return _stricter(both) and both.check in CHAINS and both.kind.startswith(kinds)


REASONS = (
    Reason(
        "TD attributes and service TDs are for the policy to refuse (tdx.attributes, which by "
        "default refuses most of these and warns of the rest): some real clouds run so. dcap-qvl "
        "has one fixed rule. The debug bit we refuse here too.",
        lambda both: (
            both.ours is not None
            and both.theirs is None
            and any(word in both.their_words for word in THEIR_ATTRIBUTES)
        ),
    ),
    Reason(
        "QE auth data of any size is hashed into the QE report; Intel's library accepts any. "
        "dcap-qvl knows 32 bytes only.",
        lambda both: both.ours is not None and "auth data length" in both.their_words,
    ),
    Reason(
        "Roles are names: TCB info signed by a CPU's own key is no TCB info. Intel's library "
        "refuses it as well.",
        lambda both: _stricter(both) and both.kind == "signed by the CPU",
    ),
    Reason(
        "The whole chain must be as Intel made it, its root certificate and the text around it "
        "included; dcap-qvl does not look at the root that comes with a chain.",
        _in_a_chain,
    ),
    Reason(
        "The outer certification type must be 6; it is not signed, and dcap-qvl skips it.",
        lambda both: _stricter(both) and "outer_certification" in both.words,
    ),
    Reason(
        "The sizes of the certification data must add up, as Intel's library demands; they are "
        "not signed.",
        lambda both: (
            _stricter(both)
            and both.check == "tdx.quote"
            and both.kind in ("flipped", "spliced", "cut")
        ),
    ),
    Reason(
        "Signed documents are read strictly: known versions, tcbType 0, PCEID equal to the CPU's, "
        "dates in Intel's form. dcap-qvl does not compare the PCEID and passes over the rest.",
        lambda both: (
            _stricter(both)
            and both.check in ("tdx.tcb-info", "tdx.qe-identity", "tdx.fmspc", "tdx.module")
            and both.kind.startswith("member ")
        ),
    ),
    Reason(
        "A quoting enclave that is OutOfDateConfigurationNeeded is out of date: its status lowers "
        "the platform's. dcap-qvl takes only OutOfDate for that.",
        lambda both: (
            both.claims is not None
            and both.claims.qe_tcb_status is tdx.TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
            and both.theirs is not None
            and both.ours == WORSE.get(both.theirs)
        ),
    ),
)


def _mutants() -> Any:
    """The module beside this one; tests are not a package."""
    path = Path(__file__).with_name("mutants.py")
    spec = importlib.util.spec_from_file_location("mutants", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module
    spec.loader.exec_module(module)
    return module


def theirs(forge, quote, form):
    at = int(forge.at.timestamp())
    try:
        collateral = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(form))
        return dcap_qvl.verify_with_root_ca(quote, collateral, forge.intel.root.der, at).status, ""
    except ValueError as error:
        return None, str(error)


def compare(forge, roots, mutant) -> Verdicts:
    claims, check, words = None, None, ""
    try:
        endorsements = tdx.Endorsements.load(json.dumps(mutant.collateral))
        claims = tdx.verify_quote(mutant.quote, endorsements, at=forge.at, roots=roots)
    except TeeVerifyError as error:
        check, words = error.id, str(error)
    ours = None if claims is None else str(claims.tcb_status)
    kind = mutant.kind
    status, their_words = theirs(forge, mutant.quote, mutant.collateral)
    if status != ours and mutant.ordered is not None:
        kind = UNORDERED
        status, their_words = theirs(forge, mutant.quote, mutant.ordered)
    return Verdicts(kind, ours, check, words, status, their_words, claims)


def test_every_disagreement_has_a_reason(forge):
    roots = forge.roots.roots
    seen: Counter[str] = Counter()
    unexplained = []
    for mutant in _mutants().Mutants(forge.intel, SEED).some(COUNT):
        both = compare(forge, roots, mutant)
        if both.ours == both.theirs and both.kind == UNORDERED:
            seen[UNORDERED] += 1
            continue
        if both.ours == both.theirs:
            seen["both accept" if both.ours else "both refuse"] += 1
            continue
        reason = next((r.why for r in REASONS if r.applies(both)), None)
        if reason is None:
            unexplained.append((both.kind, both.ours, both.words, both.theirs, both.their_words))
        else:
            seen[reason] += 1
    for why, count in seen.most_common():
        print(f"{count:6}  {why}")  # noqa: T201 -- pytest -s shows the table
    assert unexplained == []
    assert seen["both accept"] > COUNT / 10
    assert seen["both refuse"] > COUNT / 4


def test_only_attributes_and_auth_data_are_accepted_against_their_word():
    """The two reasons for which we accept what dcap-qvl refuses; all others are stricter."""
    accepting = [
        reason
        for reason in REASONS
        if reason.applies(
            Verdicts("attributes", "UpToDate", None, "", None, "SERVTD_EXT is enabled", None)
        )
        or reason.applies(Verdicts("x", "UpToDate", None, "", None, "auth data length", None))
    ]
    assert accepting == list(REASONS[:2])
