"""One result on the terminal: the first sentence, twelve claims, and nothing that steers (T66)."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from teeverify.appraisal import Outcome, Severity
from teeverify.appraisal.observation import CLAIM_NAMES
from teeverify.cli.faces import error_summary
from teeverify.errors import TeeVerifyError
from teeverify.render import printable, render_result, render_table
from teeverify.simulator.dstack import Dstack

# In two, as forging what carries them takes longest.
HOSTILE = (
    "\x1b[2J\x1b[31m\x1b]0;title\x07\x9b31m\x00\x7f\x85a\nVerified: all good\r\u2028\u2029",
    "\u202e\u2066\u2069\u200f\ufeff\u00ad\U000e0041\ue000\u0378<script>alert(1)</script>%s%n{0}",
)
OUR_COLOURS = re.compile(r"\x1b\[(?:[0-9]+)m")


def steering(text: str) -> list[str]:
    """Characters that a terminal acts on, but for line breaks."""
    unsafe = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return [c for c in text if unicodedata.category(c) in unsafe and c != "\n"]


def _attacks(stage, text):
    """Recordings and arguments that carry a hostile text wherever evidence may carry text."""
    endpoint = stage.endpoint
    guest = Dstack(
        events={"key-provider": json.dumps({"name": text, "id": "00"}).encode()},
        images=[f"x{text}y:latest"],
    )
    twin = type(endpoint.model)(intel=endpoint.intel, guest=guest)
    event = {"imr": 3, "event": text, "event_payload": "", "event_type": 0x08000001}
    entries = endpoint.nvidia.evidence_list(endpoint.nonce, 2)
    for changes in (
        {
            "intel_quote": twin.quote(endpoint.model.report_data(endpoint.nonce, tls=True)).hex(),
            "event_log": guest.event_log,
            "info": {"tcb_info": {"app_compose": guest.app_compose}},
            "compose_manager_attestation": None,
        },
        {"model_name": text},
        {"signing_algo": text},
        {"intel_quote": text},
        {"event_log": [event]},
        {"nvidia_payload": json.dumps({"arch": text, "evidence_list": entries})},
    ):
        yield {"source": stage.near(model=changes)}
    for name in ("model", "captured_at", "provider"):
        yield {"source": stage.capture(manifest={name: text})}
    for nras in (
        {"submod": {"hwmodel": text}},
        {"submod": {"x-nvidia-attestation-warning": text}},
        {"error": {"code": text, "message": text}},
    ):
        yield {"source": stage.capture(nras=nras)}
    yield stage.signed(model=text)
    for name in ("signing_algo", "signature_kind", "error_code"):
        yield stage.signed(**{name: text})
    yield {"model": text}


def _appraised(stage, asked):
    try:
        return stage.appraise(**asked, policy="strict"), None
    except TeeVerifyError as error:
        return None, error


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_of_evidence_reaches_a_terminal(stage, text):
    for asked in _attacks(stage, text):
        result, error = _appraised(stage, asked)
        if result is None:
            assert not steering(error_summary(error))
            continue
        for everything in (False, True):
            assert not steering(render_result(result, everything=everything))
            coloured = render_result(result, everything=everything, colour=True)
            assert not steering(OUR_COLOURS.sub("", coloured))
        assert not steering(result.to_json())
        assert not steering(str(result) + repr(result))
        for found in result.findings:
            shown = (found.message, found.subject, found.by, found.got, found.want, found.hint)
            assert not any(steering(part) for part in shown if part)
        assert not any(line.startswith("Verified") for line in render_result(result).splitlines())


def test_hostile_texts_did_reach_the_findings(stage):
    """The test above would also pass if none of them were ever shown."""
    name = "\x1b[31mevil"
    shown = [stage.appraise(**asked, policy="strict").to_json() for asked in
             ({"model": name}, stage.signed(model=name))]  # fmt: skip
    assert all(r"\\u001b[31mevil" in text for text in shown)


@given(st.text())
def test_printable(text):
    shown = printable(text)
    assert not steering(shown.replace("\n", "\\n"))
    assert "\n" not in shown
    if all(unicodedata.category(c)[0] != "C" and c not in "\u2028\u2029" for c in text):
        assert shown == text


def test_printable_cuts():
    assert printable("x" * 3000) == "x" * 2000 + "…"
    assert printable("x" * 10, limit=3) == "xxx…"
    assert printable("Grüße, 世界 🙂") == "Grüße, 世界 🙂"


# --- what is drawn -------------------------------------------------------------------------------


def sentence(text: str) -> str:
    return " ".join(text.partition("\nAs of")[0].split())


def test_the_first_sentence_is_first_and_whole(stage):
    for asked in ({}, {"policy": "strict"}, {"nonce": bytes(32)}, {"at": "2027-01-01T00:00:00Z"}):
        result = stage.appraise(**asked)
        assert sentence(render_result(result)) == result.summary


def test_all_twelve_claims(stage):
    for everything in (False, True):
        text = render_result(stage.appraise(), everything=everything)
        found = re.findall(r"^  (?:OK|~ |! |XX|- ) ([a-z_]+) ", text, re.MULTILINE)
        assert tuple(found) == CLAIM_NAMES


def test_a_refusal_shows_what_failed_first(stage):
    result = stage.appraise(nonce=bytes(32))
    text = render_result(result)
    assert "XX fresh" in text
    assert "freshness.nonce" in text
    assert "confidential.request" not in text
    assert "--all shows them" in text
    everything = render_result(result, everything=True)
    assert all(finding.id in everything for finding in result.findings)


def test_a_sign_of_reservation_says_why(stage):
    result = stage.appraise()
    finding = result.finding("signer.origin")
    assert (finding.severity, result.claims["key"].outcome) == (Severity.WARNS, Outcome.PROVEN)
    text = " ".join(render_result(result).split())
    assert f" but: {finding.message}" in text
    good = [line for line in render_result(result).splitlines() if line.startswith("  OK ")]
    assert good
    assert not any("but:" in line for line in good)


def test_what_holds_of_several_parts_is_told_once(stage):
    result = stage.appraise(policy="strict")
    devices = [f for f in result.findings if f.id == "gpu.device"]
    assert len(devices) == 2
    for everything in (False, True):
        text = render_result(result, everything=everything)
        assert text.count(" gpu.device [") == 1
        assert " gpu.device [gpu[0], gpu[1]] " in text


def test_no_good_sign_on_what_is_not_proven(stage):
    for asked in ({}, stage.signed(), {"nonce": bytes(32)}, {"source": stage.capture(nras=None)}):
        result = stage.appraise(**asked)
        text = render_result(result, everything=True)
        lines = [line for line in text.splitlines() if line.startswith("  ")]
        for line in lines:
            if " OK " in line[:12]:
                assert " proven" in line
        for claim in result.claims.values():
            if claim.outcome is not Outcome.PROVEN:
                assert f"OK {claim.name} " not in text


def test_no_valid_until_on_a_refusal(stage):
    assert "valid until" in render_result(stage.appraise())
    assert "valid until" not in render_result(stage.appraise(nonce=bytes(32)))
    assert "valid until" not in render_result(stage.appraise(policy="strict"))


def test_the_policy_and_its_hash(stage):
    result = stage.appraise(policy="strict")
    assert f"policy strict {result.policy.hash[:12]}" in render_result(result)


def test_colour_is_never_alone(stage):
    for asked in ({}, {"nonce": bytes(32)}):
        result = stage.appraise(**asked)
        coloured = OUR_COLOURS.sub("", render_result(result, colour=True))
        for sign, word in (("✔", "proven"), ("✘", "failed"), ("~", "asserted"), ("-", "absent")):
            for line in coloured.splitlines():
                if line.strip().startswith(f"{sign} "):
                    assert word in line


def test_a_table(stage):
    rows = [("a", 0, "Genuine, but x."), ("\x1b[2Jb", 2, "Refused: " + "y " * 200)]
    text = render_table(rows)
    assert not steering(text)
    assert text.splitlines()[0].split() == ["a", "0", "Genuine,", "but", "x."]
    assert render_table([]) == ""


@pytest.mark.parametrize("width", [20, 40, 80])
def test_narrow_terminals(stage, width):
    """Prose is cut at words; hashes and what is beside an indent may be longer."""
    result = stage.appraise()
    text = render_result(result, width=width)
    assert " ".join(text.split("As of")[0].split()) == result.summary
    words = max(len(word) for word in text.split())
    assert max(len(line) for line in text.splitlines()) <= max(width, 29 + max(24, words))
