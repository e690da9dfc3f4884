"""Receipts: verified again from the file alone, and never once anything in them was changed."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import stat
import subprocess
import sys
from datetime import datetime, timedelta

import pytest

import teeverify
from teeverify import AppraisalFailed, ConfigurationError, EvidenceError, Receipt, TeeVerifyError
from teeverify.client.receipts import Receipts
from teeverify.errors import (
    EndorsementUnavailable,
    MalformedEvidence,
    ResponseNotVerified,
    StaleEvidence,
)

pytestmark = pytest.mark.network
# What nothing signs: its holder's word, which the verdict says, and which strict does not take.
HOLDERS_WORD = {
    "core.attestation.endpoint",
    "core.attestation.path",
    "core.attestation.query.signing_algo",
    "core.attestation.attested_at",
    "core.answer.answered_at",
    "informative.summary",
    "informative.tier",
    "informative.policy",
    "informative.policy_hash",
    "informative.schema",
    "informative.notice",
    *(f"core.answer.{name}" for name in ("method", "target", "request_type", "response_type",
                                         "status")),
    *(f"core.challenge.{name}" for name in ("nonce_random", "challenge", "challenge_random",
                                            "beacon", "beacon_source")),
    "core.attestation.peer_spki_sha256",
}  # fmt: skip


@pytest.fixture
def pair(enclave, roots, openai_client, ask):
    """Two genuine receipts of two attestations, each with a key of its own."""
    made = []
    for text in ("one question", "another question"):
        client = openai_client()
        reply = ask(client, text=text)
        made.append(json.loads(client.receipts[reply.id].to_bytes(include="bytes")))
        enclave.restart()
    return made


@pytest.fixture
def verify(roots):
    def run(value, **options):
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return teeverify.verify(raw, roots=roots, offline=True, **options)

    return run


def leaves(value, path=()):
    if isinstance(value, dict):
        for name, member in value.items():
            yield from leaves(member, (*path, name))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from leaves(member, (*path, index))
    else:
        yield path


def nodes(value, path=()):
    if path:
        yield path
    if isinstance(value, (dict, list)):
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for name, member in members:
            yield from nodes(member, (*path, name))


def at(value, path):
    for name in path:
        value = value[name]
    return value


def changed(value, path, new):
    result = copy.deepcopy(value)
    at(result, path[:-1])[path[-1]] = new
    return result


def without(value, path):
    result = copy.deepcopy(value)
    del at(result, path[:-1])[path[-1]]
    return result


def signed_anew(value):
    """What a forger does: the id and the names of all parts are right again."""
    text = json.dumps(value["core"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {**value, "receipt_id": hashlib.sha256(text.encode()).hexdigest()}


def with_part(value, path, raw):
    """Another part in the place of the one at this path of ``core``."""
    result = copy.deepcopy(value)
    old = at(result, path)
    del result["attachments"][old]
    new = hashlib.sha256(raw).hexdigest()
    result["attachments"][new] = base64.b64encode(raw).decode()
    at(result, path[:-1])[path[-1]] = new
    return signed_anew(result)


def part(value, path):
    return base64.b64decode(value["attachments"][at(value, path)])


def flip(text):
    if isinstance(text, int):
        return text + 1
    if not text:
        return "x"
    last = "1" if text[-1] == "0" else "0"
    return text[:-1] + last


REPORT = ("core", "attestation", "report")
REQUEST = ("core", "answer", "request")
RESPONSE = ("core", "answer", "response")
SIGNATURE = ("core", "answer", "signature")

# --- good ones ----------


def test_a_receipt_verifies_from_its_file_alone(pair, verify):
    for value in pair:
        result = verify(value)
        assert result.scope == "answer"
        assert result.tier == "warning"
        assert result.finding("time").outcome.value == "asserted"
        assert result.finding("freshness.nonce").outcome.value == "asserted"


def test_in_a_new_process_on_the_command_line(pair, tmp_path, tee):
    receipt, roots = tmp_path / "receipt.json", tmp_path / "roots.pem"
    receipt.write_text(json.dumps(pair[0]))
    tee.write_roots(roots)
    command = [sys.executable, "-m", "teeverify.cli.main", "verify", str(receipt), "--offline"]

    def run(*more):
        return subprocess.run([*command, *more], capture_output=True, text=True, check=False)

    good = run("--unsafe-test-roots", str(roots))
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith("SIMULATED.")
    assert run().returncode == 2


def test_the_http_exchange_is_kept_and_asserted(pair, verify):
    answer = pair[0]["core"]["answer"]
    assert answer["method"] == "POST"
    assert answer["target"] == "/v1/chat/completions"
    assert (answer["status"], answer["request_type"]) == (200, "application/json")
    assert answer["response_type"] == "application/json"
    assert verify(pair[0]).finding("http.semantics").outcome.value == "absent"


def test_load_save_and_load(pair, tmp_path, roots):
    receipt = Receipt.load(json.dumps(pair[0]).encode())
    assert receipt.result is None
    assert "unverified" in repr(receipt)
    path = tmp_path / "receipt.json"
    receipt.save(path, include="bytes")
    again = Receipt.load(path)
    assert again.parts == receipt.parts
    assert again.to_bytes(include="bytes") == receipt.to_bytes(include="bytes")
    assert again.id == receipt.id
    assert again.signer == receipt.signer
    assert again.time == receipt.time
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert again.verify(roots=roots).satisfied


def test_the_key_is_the_readers_not_the_makers(pair, roots, other_tee):
    receipt = Receipt.load(json.dumps(pair[0]).encode())
    with pytest.raises(EvidenceError):
        receipt.verify()
    with pytest.raises(EvidenceError):
        receipt.verify(roots=teeverify.UnsafeTestRoots([other_tee.roots_pem()]))
    with pytest.raises(AppraisalFailed):
        receipt.verify(roots=roots, policy="strict")
    with pytest.raises(StaleEvidence):
        receipt.verify(roots=roots, nonce="ab" * 32)
    with pytest.raises(EndorsementUnavailable):
        receipt.verify(roots=roots, at="2040-01-01T00:00:00Z")


def test_the_callers_own_nonce_proves_freshness(pair, verify):
    nonce = pair[0]["core"]["challenge"]["nonce"]
    result = verify(pair[0], nonce=nonce)
    assert result.finding("freshness.nonce").outcome.value == "proven"


# --- hashes only ----------


def test_hashes_hide_the_text_and_prove_nothing_without_it(enclave, openai_client, ask, verify):
    client = openai_client()
    reply = ask(client, text="prompt-canary")
    raw = client.receipts[reply.id].to_bytes(include="hashes")
    whole = client.receipts[reply.id].parts
    assert base64.b64encode(whole.response.raw) not in raw
    assert b"canary" not in raw
    value = json.loads(raw)
    texts = b"".join(base64.b64decode(text) for text in value["attachments"].values())
    assert b"canary" not in texts
    with pytest.raises(AppraisalFailed) as refused:
        verify(raw)
    assert refused.value.id == "response.hash-equal"
    result = verify(raw, answer=whole.response.raw, request=whole.request.raw)
    assert result.satisfied
    assert verify(raw, answer=whole.response.raw).finding("request.bound").outcome.value == "absent"
    for wrong in ({"answer": b"{}"}, {"answer": whole.response.raw, "request": b"{}"}):
        with pytest.raises(ResponseNotVerified):
            verify(raw, **wrong)
    bytes_one = json.loads(client.receipts[reply.id].to_bytes(include="bytes"))
    assert bytes_one["receipt_id"] == value["receipt_id"]


@pytest.mark.parametrize("field", ["request", "response"])
def test_a_hash_that_was_not_signed(enclave, openai_client, ask, verify, field):
    client = openai_client()
    receipt = client.receipts[ask(client).id]
    value = json.loads(receipt.to_bytes(include="hashes"))
    value["core"]["answer"][field] = "ab" * 32
    with pytest.raises(MalformedEvidence):
        verify(signed_anew(value))


def test_no_other_form(pair, tmp_path):
    receipt = Receipt.load(json.dumps(pair[0]).encode())
    with pytest.raises(ConfigurationError):
        receipt.save(tmp_path / "x", include="text")
    with pytest.raises(ConfigurationError):
        receipt.save(tmp_path / "no" / "such" / "folder")
    with pytest.raises(ConfigurationError):
        receipt.save("\0")
    with pytest.raises(ConfigurationError):
        Receipt.load(tmp_path / "nothing")


# --- endorsements of the caller's own ----------


def test_endorsements_that_the_caller_gave_go_with_it(enclave, roots, ask, verify, tmp_path):
    pytest.importorskip("openai", reason="the extra 'openai' is not installed")
    from teeverify import OpenAI

    given = json.loads(enclave.report({"nonce": "00" * 32}))["endorsements"]["tdx"]
    (tmp_path / "collateral.json").write_text(json.dumps(given))

    def bare(report):
        value = json.loads(report)
        del value["endorsements"]["tdx"]
        return json.dumps(value).encode()

    enclave.change_report = bare
    collateral = tmp_path / "collateral.json"
    with OpenAI(base_url=enclave.url, api_key="x", roots=roots, endorsements=collateral) as client:
        receipt = client.receipts[ask(client).id]
    value = json.loads(receipt.to_bytes(include="bytes"))
    assert len(value["core"]["endorsements"]["tdx"]) == 4
    assert verify(value).satisfied
    lacking = copy.deepcopy(value)
    for name in lacking["core"]["endorsements"]["tdx"]:
        del lacking["attachments"][name]
    lacking["core"]["endorsements"]["tdx"] = []
    with pytest.raises(EndorsementUnavailable):
        verify(signed_anew(lacking))
    assert verify(signed_anew(lacking), endorsements=collateral).satisfied


def test_no_endorsement_is_fetched_in_place_of_a_missing_one(enclave, pair, verify):
    value = json.loads(part(pair[0], REPORT))
    del value["endorsements"]
    enclave.seen.clear()
    with pytest.raises(EndorsementUnavailable):
        verify(with_part(pair[0], REPORT, json.dumps(value).encode()))
    assert enclave.seen == []


# --- changed ones: accidents ----------


def _of_the_maker(path):
    """The maker's view is shown and never used; only its form is read."""
    return path[0] == "informative" and len(path) > 1


def test_every_field_changed(pair, verify):
    for path in leaves(pair[0]):
        if _of_the_maker(path):
            continue
        with pytest.raises(TeeVerifyError):
            verify(changed(pair[0], path, flip(at(pair[0], path))))


def test_every_field_of_another_kind(pair, verify):
    for path in nodes(pair[0]):
        for new in (None, 7, True, [], {}, ["x"], {"x": "y"}, ""):
            of_the_maker = path[0] == "informative" and type(new) in (str, dict)
            if new != at(pair[0], path) and not (
                of_the_maker and type(at(pair[0], path)) is type(new)
            ):
                with pytest.raises(TeeVerifyError):
                    verify(changed(pair[0], path, new))


def test_every_field_deleted(pair, verify):
    for path in nodes(pair[0]):
        if _of_the_maker(path):
            continue
        with pytest.raises(TeeVerifyError):
            verify(without(pair[0], path))


def test_every_field_of_the_other_receipt(pair, verify):
    one, two = pair
    for path in nodes(one):
        try:
            other = at(two, path)
        except (KeyError, IndexError):
            continue
        if other != at(one, path) and path[0] != "informative":
            with pytest.raises(TeeVerifyError):
                verify(changed(one, path, other))


@pytest.mark.parametrize("where", [(), ("core",), ("core", "answer"), ("attachments",)])
def test_a_field_more(pair, verify, where):
    value = copy.deepcopy(pair[0])
    at(value, where)["more"] = "x"
    with pytest.raises(MalformedEvidence):
        verify(signed_anew(value))


def test_a_part_that_nothing_names(pair, verify):
    value = copy.deepcopy(pair[0])
    raw = b"stowaway"
    value["attachments"][hashlib.sha256(raw).hexdigest()] = base64.b64encode(raw).decode()
    with pytest.raises(MalformedEvidence, match="names"):
        verify(value)


def test_another_version(pair, verify):
    for schema in (
        "teeverify.receipt/0",
        "teeverify.receipt/2",
        "teeverify.receipt/",
        "teeverify.receipt/00",
    ):
        with pytest.raises(MalformedEvidence):
            verify(signed_anew({**pair[0], "schema": schema}))


@pytest.mark.parametrize("cut", [1, 100, 1000])
def test_half_a_file(pair, verify, cut):
    with pytest.raises(TeeVerifyError):
        verify(json.dumps(pair[0]).encode()[:-cut])


def test_too_many_parts(pair, verify):
    value = copy.deepcopy(pair[0])
    for number in range(200):
        raw = str(number).encode()
        value["attachments"][hashlib.sha256(raw).hexdigest()] = base64.b64encode(raw).decode()
    with pytest.raises(MalformedEvidence):
        verify(value)


# --- changed ones: forgeries, whose id and names are right ----------


def test_the_forgers_tools_change_nothing_by_themselves(pair, verify):
    assert signed_anew(pair[0]) == pair[0]
    assert with_part(pair[0], REPORT, part(pair[0], REPORT)) == pair[0]
    assert verify(signed_anew(pair[0])).satisfied


def test_every_field_of_the_core_forged(pair, verify):
    good = set()
    for path in leaves({"core": pair[0]["core"], "informative": pair[0]["informative"]}):
        value = signed_anew(changed(pair[0], path, flip(at(pair[0], path))))
        try:
            verify(value)
        except TeeVerifyError:
            continue
        good.add(".".join(map(str, path)))
    assert good <= HOLDERS_WORD


def test_every_field_of_the_core_from_the_other_receipt(pair, verify):
    one, two = pair
    for path in nodes({"core": one["core"], "informative": one["informative"]}):
        try:
            other = at(two, path)
        except (KeyError, IndexError):
            continue
        name = ".".join(map(str, path))
        if other == at(one, path) or name in HOLDERS_WORD or path == ("informative",):
            continue
        value = changed(one, path, other)
        value["attachments"] = {**two["attachments"], **one["attachments"]}
        named = json.dumps(value["core"])
        value["attachments"] = {k: v for k, v in value["attachments"].items() if k in named}
        if name == "core":
            continue  # then it is the other receipt
        with pytest.raises(TeeVerifyError):
            verify(signed_anew(value))


@pytest.mark.parametrize("where", [REQUEST, RESPONSE, SIGNATURE])
def test_every_byte_of_the_answer_is_load_bearing(pair, verify, where):
    raw = part(pair[0], where)
    for place in range(0, len(raw), 7):
        forged = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        if where == SIGNATURE and _means_the_same(forged, raw):
            continue
        with pytest.raises(TeeVerifyError):
            verify(with_part(pair[0], where, forged))


def _means_the_same(forged, raw):
    """White space, and the letter case of an address, carry nothing."""
    try:
        return [str(v).lower() for v in json.loads(forged).values()] == [
            str(v).lower() for v in json.loads(raw).values()
        ]
    except (ValueError, AttributeError):
        return False


def test_every_member_of_the_report_is_load_bearing(pair, verify):
    one, two = (json.loads(part(value, REPORT)) for value in pair)
    unsigned = {"vm_config"}
    # What the vendors signed about the same machine serves both.
    common = {"endorsements"}
    for name in sorted(one.keys() - unsigned):
        if two[name] != one[name] and name not in common:
            with pytest.raises(TeeVerifyError):
                verify(with_part(pair[0], REPORT, json.dumps({**one, name: two[name]}).encode()))
        forged = {**one, name: flip(one[name]) if isinstance(one[name], str) else None}
        with pytest.raises(TeeVerifyError):
            verify(with_part(pair[0], REPORT, json.dumps(forged).encode()))


def test_the_evidence_of_another_answer(pair, verify):
    one, two = pair
    value = copy.deepcopy(one)
    for name in ("attestation", "challenge"):
        value["core"][name] = two["core"][name]
    value["attachments"].pop(at(one, REPORT))
    value["attachments"][at(two, REPORT)] = two["attachments"][at(two, REPORT)]
    with pytest.raises(AppraisalFailed) as refused:
        verify(signed_anew(value))
    assert refused.value.id == "key.attested"


def test_a_time_of_the_holders_choice_is_said_to_be_his(pair, verify):
    value = copy.deepcopy(pair[0])
    stated = datetime.fromisoformat(value["core"]["attestation"]["attested_at"])
    for shift in (timedelta(days=-400), timedelta(days=400)):
        moved = copy.deepcopy(value)
        moved["core"]["attestation"]["attested_at"] = (stated + shift).isoformat(
            timespec="microseconds"
        )
        with pytest.raises(TeeVerifyError):
            verify(signed_anew(moved))
    moved = copy.deepcopy(value)
    moved["core"]["attestation"]["attested_at"] = (stated + timedelta(seconds=5)).isoformat(
        timespec="microseconds"
    )
    result = verify(signed_anew(moved))
    assert result.finding("time").outcome.value == "asserted"
    assert "recorder's word" in result.summary
    with pytest.raises(TeeVerifyError):
        verify(signed_anew(moved), policy="strict")


def test_the_makers_view_is_never_used(pair, verify):
    value = copy.deepcopy(pair[0])
    value["informative"] = {"tier": "affirming", "summary": "Verified:", "policy": "x"}
    assert verify(signed_anew(value)).tier == "warning"


def test_a_dialect_of_the_holders_choice(pair, verify):
    for dialect in ("near", "near-direct", "venice", "x"):
        with pytest.raises(TeeVerifyError):
            verify(signed_anew(changed(pair[0], ("core", "dialect"), dialect)))


# --- many ----------


def test_only_the_newest_are_kept(pair, monkeypatch):
    from teeverify.client.receipts import kept as module

    monkeypatch.setattr(module, "_MAX_RECEIPTS", 1)
    kept = Receipts()
    made = [Receipt.load(json.dumps(value).encode()) for value in pair]
    for receipt in made:
        kept.add(receipt)
    assert list(kept) == [made[1].id]
    assert made[0].id not in kept
    with pytest.raises(ResponseNotVerified):
        kept.add(made[0])


def test_a_receipt_is_never_larger_than_what_is_read(pair):
    from dataclasses import replace

    from teeverify.responses.receipt import Kept

    receipt = Receipt.load(json.dumps(pair[0]).encode())
    large = Receipt(replace(receipt.parts, response=Kept.of(b"x" * 4 * 1024 * 1024)))
    with pytest.raises(ConfigurationError, match="large"):
        large.to_bytes(include="bytes")
    assert large.to_bytes(include="hashes")
