"""What is wrong is refused: relayed GPUs, old answers, errors, other routes, moved boundaries."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import pytest

from teeverify import Verifier
from teeverify.appraisal import appraise_examined
from teeverify.appraisal.evidence import Evidence
from teeverify.appraisal.observation import Outcome
from teeverify.clock import now
from teeverify.enclave.engines.embedded import Embedded
from teeverify.errors import BindingMismatch, MalformedEvidence, TeeVerifyError
from teeverify.providers.dialect import Recorded
from teeverify.providers.dstack import DSTACK
from teeverify.providers.teeverify import TEEVERIFY
from teeverify.responses.statement import parse_signed, read_header, read_trailer, write_signed
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.tee import SimulatedDevice, SimulatedTee

from .conftest import CHALLENGE, CHAT, NONCE, Server, examine, question, read, seen_of, signed_by


def appraised(body, roots, *, dialect=TEEVERIFY, nonce=NONCE, query=None):
    """A live endpoint's report, appraised."""
    recorded = Recorded(path="", query=query or {}, body=body, peer_spki_sha256=None)
    enclosed = dialect.enclosed(body)
    evidence = Evidence(
        kind="endpoint",
        provider=dialect.id,
        source="https://enclave.example/v1",
        machines=dialect.read(recorded),
        nonce=bytes.fromhex(nonce),
        tdx_endorsements=enclosed.tdx,
        nvidia_endorsements=enclosed.nvidia,
        live=True,
    )
    verifier = Verifier(roots=roots, offline=True)
    examined = verifier.examine(evidence, at=now())
    return appraise_examined(examined, None, verifier.policy, verified_at=now())


def roots_of(*tees):
    return UnsafeTestRoots([b"".join(tee.roots_pem() for tee in tees)])


def test_an_honest_machine(server):
    result = appraised(server.report().body, roots_of(server.tee))
    link = next(f for f in result.findings if f.id == "gpu.binding")
    assert (link.got, link.outcome) == ("mutual", Outcome.PROVEN)
    result.require()


def test_another_nonce(server):
    result = appraised(server.report().body, roots_of(server.tee), nonce="ac" * 32)
    with pytest.raises(TeeVerifyError) as caught:
        result.require()
    assert caught.value.id == "freshness.nonce"


@pytest.mark.parametrize(("place", "good"), [("supervised", True), ("loopback", False)])
def test_the_place_of_the_engine(place, good):
    """One that the server itself started; another one within the machine is a warning."""
    pytest.importorskip("numpy", reason="the extra 'server' is not installed")
    from teeverify.enclave.engines.tiny import TinyEngine

    class Placed(Embedded):
        def __init__(self):
            super().__init__(TinyEngine(), model="default")
            self.description = {**self.description, "location": place}

    server = Server(gpus=1, backend=Placed())
    try:
        result = appraised(server.report().body, roots_of(server.tee))
        found = next(f for f in result.findings if f.id == "engine.location")
        assert (found.got, found.severity.value) == (place, "informs" if good else "warns")
    finally:
        server.close()


# --- the relay attack ----------------------------------------------------------------------------


class Lying(SimulatedTee):
    """A machine without GPUs of its own, that shows those of an honest machine elsewhere."""

    def __init__(self, honest, ask):
        super().__init__(gpus=1)
        self.nvidia = honest.tee.nvidia  # the endorsements, too, are the honest one's
        self._gpus = honest.tee._gpus
        self._ask = ask

    def devices(self, nonce):
        return self._ask(nonce)


def relayed(honest, dialect):
    """Ask an honest server for evidence under whatever nonce is wanted; take its devices."""

    def ask(nonce):
        path = f"/v1/attestation/report?nonce={nonce.hex()}&dialect={dialect}"
        report = json.loads(honest.request("GET", path).body)
        if dialect == "dstack":
            entries = json.loads(report["nvidia_payload"])["evidence_list"]
        else:
            entries = report["devices"]
        return [
            SimulatedDevice(certificate=one["certificate"], evidence=one["evidence"], arch="HOPPER")
            for one in entries
        ]

    return ask


def test_relayed_gpus_are_refused():
    """An honest second enclave, asked for GPU evidence by a lying first one, is of no use to it."""
    honest = Server(gpus=2, flat=False)
    liar = Server(tee=Lying(honest, relayed(honest, "teeverify/1")), flat=False)
    try:
        result = appraised(liar.report().body, roots_of(liar.tee, honest.tee))
        with pytest.raises(TeeVerifyError) as caught:
            result.require()
        assert caught.value.id == "gpu.nonce"
        assert result.tier == "contraindicated"
    finally:
        honest.close()
        liar.close()


def test_where_the_nonce_alone_ties_them_they_are_not():
    """The same attack on the field's dialect, against which only a warning helps."""
    honest = Server(gpus=2)
    liar = Server(tee=Lying(honest, relayed(honest, "dstack")), flat=True)
    try:
        reply = liar.request("GET", f"/v1/attestation/report?nonce={NONCE}&dialect=dstack")
        result = appraised(reply.body, roots_of(liar.tee, honest.tee), dialect=DSTACK)
        result.require()
        link = next(f for f in result.findings if f.id == "gpu.binding")
        assert (link.got, link.outcome) == ("same-nonce", Outcome.ASSERTED)
    finally:
        honest.close()
        liar.close()


# --- changed reports -----------------------------------------------------------------------------


def changed(server, **members):
    report = json.loads(server.report().body)
    for name, value in members.items():
        if value is ...:
            del report[name]
        else:
            report[name] = value(report.get(name)) if callable(value) else value
    return json.dumps(report).encode()


def _binding(place, bits):
    def change(text):
        raw = bytearray(base64.urlsafe_b64decode(text + "=="))
        raw[place] ^= bits
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    return change


def _config(**members):
    def change(text):
        config = {**json.loads(base64.urlsafe_b64decode(text + "==")), **members}
        raw = json.dumps(config, sort_keys=True, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    return change


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"type": "teeverify/0 attestation"}, MalformedEvidence),
        ({"type": ...}, MalformedEvidence),
        ({"more": 1}, MalformedEvidence),
        ({"binding": _binding(15, 1)}, MalformedEvidence),
        ({"binding": _binding(48, 1)}, MalformedEvidence),
        ({"binding": _binding(49, 0x20)}, MalformedEvidence),
        ({"binding": _binding(50, 1)}, BindingMismatch),
        ({"binding": _binding(166, 1)}, BindingMismatch),
        ({"binding": _binding(198, 1)}, BindingMismatch),
        ({"binding": _binding(230, 1)}, BindingMismatch),
        ({"devices": lambda found: found[::-1]}, BindingMismatch),
        ({"devices": lambda found: found[:1]}, BindingMismatch),
        ({"devices": lambda found: [found[0], found[0]]}, BindingMismatch),
        ({"devices": lambda found: [{**one, "kind": 2} for one in found]}, BindingMismatch),
        ({"devices": lambda found: [{**one, "kind": 3} for one in found]}, MalformedEvidence),
        ({"devices": lambda found: [{**one, "arch": "H"} for one in found]}, MalformedEvidence),
        ({"devices": []}, BindingMismatch),
        ({"secp256k1_public_key": ...}, BindingMismatch),
        ({"secp256k1_public_key": "11" * 64}, BindingMismatch),
        ({"platform": "sgx"}, MalformedEvidence),
        ({"config": _config(type="teeverify/2 config")}, MalformedEvidence),
        ({"config": _config(more=1)}, MalformedEvidence),
        ({"config": _config(key_origin="kms")}, MalformedEvidence),
        ({"config": _config(routes=[])}, BindingMismatch),
        ({"config": _config(engine={
            "kind": "upstream", "location": "remote", "model": "", "name": "x", "weights": "",
        })}, BindingMismatch),
    ],
)  # fmt: skip
def test_changed_reports_are_refused(server, members, error):
    with pytest.raises(error):
        read(changed(server, **members))


def test_a_report_of_another_dialect_says_what_to_name(server):
    """A host in no table is taken for this protocol's; what it shows decides nothing."""
    flat = server.request("GET", f"/v1/attestation/report?nonce={NONCE}&dialect=dstack")
    assert flat.status == 200
    with pytest.raises(MalformedEvidence, match="--dialect"):
        read(flat.body)


def test_devices_that_were_swapped_consistently(server):
    """Binding and devices agree with each other, but not with the quote."""
    other = Server(gpus=2, flat=False)
    try:
        theirs = json.loads(other.report().body)
        body = changed(server, devices=theirs["devices"], binding=theirs["binding"],
                       config=theirs["config"],
                       secp256k1_public_key=theirs["secp256k1_public_key"])  # fmt: skip
        result = appraised(body, roots_of(server.tee, other.tee))
        with pytest.raises(TeeVerifyError) as caught:
            result.require()
        assert caught.value.id == "binding.report-data"
    finally:
        other.close()


# --- changed answers -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def answered(server):
    body = question()
    reply = server.chat(body)
    raw = read_header(reply.headers["teeverify-statement"], reply.headers["teeverify-signature"])
    return body, reply, raw


SEEN = {
    "method": "POST",
    "target": CHAT,
    "status": 200,
    "request_type": "application/json",
    "response_type": "application/json",
    "challenge": bytes.fromhex(CHALLENGE),
}


def outcomes(server, answered, *, signature=None, answer=None, request=None, **seen):
    body, reply, raw = answered
    signed = examine(
        server,
        answer=answer or reply.body,
        request=request or body,
        signature=signature or raw,
        **{**SEEN, **seen},
    )
    return {one.id: one.outcome for one in signed.observations}


ALL = {
    "answer.signature",
    "response.hash-equal",
    "answer.complete",
    "request.bound",
    "http.semantics",
    "answer.fresh",
}


def test_everything_of_an_honest_answer_is_proven(server, answered):
    found = outcomes(server, answered)
    assert set(found) == ALL
    assert set(found.values()) == {Outcome.PROVEN}


@pytest.mark.parametrize(
    ("seen", "failed"),
    [
        ({"challenge": b"o" * 32}, "answer.fresh"),
        ({"method": "PUT"}, "http.semantics"),
        ({"target": "/v1/completions"}, "http.semantics"),
        ({"target": CHAT + "?n=1"}, "http.semantics"),
        ({"status": 201}, "http.semantics"),
        ({"request_type": "text/plain"}, "http.semantics"),
        ({"response_type": "text/event-stream"}, "http.semantics"),
        ({"answer": b"{}"}, "response.hash-equal"),
        ({"request": b"{}"}, "request.bound"),
    ],
)
def test_what_was_seen_must_be_what_was_signed(server, answered, seen, failed):
    found = outcomes(server, answered, **seen)
    assert [name for name, outcome in found.items() if outcome is Outcome.FAILED] == [failed]


@pytest.mark.parametrize(
    ("members", "failed"),
    [
        ({"challenge": None}, "answer.fresh"),
        ({"end": "aborted"}, "answer.complete"),
        ({"status": 400}, "http.semantics"),
        ({"status": 204}, "http.semantics"),
        ({"request_hash": None}, "request.bound"),
        ({"request_length": 1}, "request.bound"),
        ({"response_length": 1}, "response.hash-equal"),
    ],
)
def test_what_an_enclave_signs_as_no_answer_is_none(server, answered, members, failed):
    statement = replace(parse_signed(answered[2]).statement, **members)
    found = outcomes(server, answered, signature=signed_by(server, statement))
    assert [name for name, outcome in found.items() if outcome is Outcome.FAILED] == [failed]


@pytest.mark.parametrize("text", ["hmac-sha256:" + "0" * 64, "sha512:" + "0" * 128, "0" * 64])
def test_hashes_of_another_kind(server, answered, text):
    statement = replace(parse_signed(answered[2]).statement, request_hash=text)
    signatures = dict.fromkeys(("secp256k1", "ed25519"), bytes(65))
    raw = write_signed(statement, {**signatures, "ed25519": bytes(64)})
    assert refused(server, answered, raw)["answer.signature"] is Outcome.FAILED


def refused(server, answered, raw):
    found = outcomes(server, answered, signature=raw)
    assert Outcome.PROVEN not in found.values()
    return found


def test_another_engine_than_the_attested_one(server, answered):
    statement = parse_signed(answered[2]).statement
    other = replace(statement, engine={**statement.engine, "weights": "others"})
    assert refused(server, answered, signed_by(server, other))["model.signed"] is Outcome.FAILED


def test_another_instance(server, answered):
    statement = replace(parse_signed(answered[2]).statement, instance=b"i" * 32)
    found = refused(server, answered, signed_by(server, statement))
    assert found["key.attested"] is Outcome.FAILED


@pytest.mark.parametrize("name", ["secp256k1", "ed25519"])
def test_every_bound_key_must_have_signed(server, answered, name):
    value = json.loads(answered[2])
    del value["signatures"][name]
    found = refused(server, answered, json.dumps(value).encode())
    assert found["answer.signature"] is Outcome.FAILED


@pytest.mark.parametrize("name", ["secp256k1", "ed25519"])
def test_every_signature_must_verify(server, answered, name):
    value = json.loads(answered[2])
    raw = bytearray.fromhex(value["signatures"][name])
    raw[40] ^= 1
    value["signatures"][name] = raw.hex()
    found = refused(server, answered, json.dumps(value).encode())
    assert found["answer.signature"] is Outcome.FAILED


def test_a_signature_has_no_second_form(server, answered):
    """The same signature with the other s (EIP-2)."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    value = json.loads(answered[2])
    raw = bytes.fromhex(value["signatures"]["secp256k1"])
    s = order - int.from_bytes(raw[32:64], "big")
    value["signatures"]["secp256k1"] = (
        raw[:32] + s.to_bytes(32, "big") + bytes([55 - raw[64]])
    ).hex()
    refused(server, answered, json.dumps(value).encode())


def test_a_signature_of_a_foreign_dialect(server, answered):
    reply = server.chat(challenge=None)
    answer_id = json.loads(reply.body)["id"]
    flat = server.request("GET", f"/v1/signature/{answer_id}?dialect=dstack")
    assert flat.status == 200
    refused(server, answered, flat.body)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b'{"signatures":{},"statement":"e30","type":"teeverify/1 signature"}',
        b'{"signatures":{"rsa":"00"},"statement":"e30","type":"teeverify/1 signature"}',
    ],
)
def test_signatures_that_are_none(server, answered, raw):
    refused(server, answered, raw or b" ")


def test_unknown_members_and_versions(server, answered):
    value = json.loads(answered[2])
    for wrong in ({**value, "more": 1}, {**value, "type": "teeverify/2 signature"}):
        refused(server, answered, json.dumps(wrong).encode())


def test_no_signature_at_all(server, answered):
    body, reply, _ = answered
    signed = examine(server, answer=reply.body, request=body, **SEEN)
    assert seen_of(signed)["answer.signature"].outcome is Outcome.FAILED


def test_without_evidence_nothing_is_proven(answered):
    class Nobody:
        @staticmethod
        def context(**seen):
            from teeverify.responses.form import Context

            return Context(**seen)

    body, reply, raw = answered
    signed = examine(Nobody, answer=reply.body, request=body, signature=raw, **SEEN)
    assert signed.signer is None
    assert seen_of(signed)["key.attested"].outcome is Outcome.FAILED


def test_a_recorded_stream_carries_its_own_signature(server):
    body = question(stream=True)
    reply = server.chat(body)
    signed = examine(server, answer=reply.body, request=body)
    assert signed.signed_form == read_trailer(reply.body)[0]
    assert seen_of(signed)["response.hash-equal"].outcome is Outcome.PROVEN
    assert seen_of(signed)["answer.fresh"].outcome is Outcome.ABSENT
    other = examine(server, answer=reply.body, request=body, signature=server.signature(
        server.chat().headers["teeverify-id"]).body)  # fmt: skip
    assert seen_of(other)["answer.signature"].outcome is Outcome.FAILED


def test_a_holders_challenge_is_none_of_yours(server, answered):
    """What refuses under 'strict' must not read as if it were proven."""
    body, reply, raw = answered
    signed = examine(
        server, answer=reply.body, request=body, signature=raw, **SEEN, challenge_by="its holder"
    )
    fresh = seen_of(signed)["answer.fresh"]
    assert (fresh.outcome, fresh.by) == (Outcome.ASSERTED, "its holder")
    assert "none of yours" in fresh.message
    assert "holder's word" in fresh.message


def test_a_clock_that_is_far_off_is_a_reservation(server, answered):
    at = now().replace(year=2099)
    body, reply, raw = answered
    signed = examine(server, answer=reply.body, request=body, signature=raw, **SEEN, at=at)
    fresh = seen_of(signed)["answer.fresh"]
    assert (fresh.outcome, fresh.concern) == (Outcome.PROVEN, True)
