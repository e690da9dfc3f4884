"""Signed answers of each form: Phala's own serialisation, 0G, nilAI's DER, OpenGradient's RSA."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.appraisal import Outcome
from teeverify.crypto.ethereum import address_of, keccak256
from teeverify.providers import DIALECTS
from teeverify.responses import (
    NILAI,
    OPENGRADIENT,
    PHALA_TEXT,
    TEXT,
    UNSIGNED,
    ZEROG_TEXT,
    examine_answer,
)

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
PLAIN = {"id": "1", "created": 1780404899, "model": "m", "text": "Grüße", "n": [1, 2.5]}
COMPACT = json.dumps(PLAIN, separators=(",", ":"), ensure_ascii=False).encode()


def seen(examined, check):
    (found,) = [o for o in examined.observations if o.id == check]
    return found


def outcome(examined, check):
    return seen(examined, check).outcome


# --- Phala ---------------------------------------------------------------------------------------


def phala(stage, answer: bytes, signed: bytes, form=PHALA_TEXT):
    signature = stage.endpoint.sign(stage.request, signed, model=None)
    return examine_answer(signature=signature, answer=answer, request=stage.request, form=form)


def test_phala_signs_its_own_serialisation_and_that_is_what_is_believed(stage):
    signed = json.dumps(PLAIN).encode()
    examined = phala(stage, COMPACT, signed)
    found = seen(examined, "response.hash-equal")
    assert (found.outcome, found.concern) == (Outcome.PROVEN, True)
    assert examined.signed_form == signed
    assert examined.sha256 == hashlib.sha256(signed).hexdigest()
    assert outcome(examined, "answer.complete") is Outcome.PROVEN


@pytest.mark.parametrize("form", [TEXT, ZEROG_TEXT])
def test_only_under_phalas_name(stage, form):
    examined = phala(stage, COMPACT, json.dumps(PLAIN).encode(), form)
    assert outcome(examined, "response.hash-equal") is Outcome.FAILED
    assert "only in JSON layout" in seen(examined, "response.hash-equal").hint
    assert examined.signed_form is None


def test_exact_bytes_need_no_other_form(stage):
    for raw in (COMPACT, json.dumps(PLAIN).encode(), stage.answer):
        examined = phala(stage, raw, raw)
        found = seen(examined, "response.hash-equal")
        assert (found.outcome, found.concern, examined.signed_form) == (
            Outcome.PROVEN, False, None,
        )  # fmt: skip


@pytest.mark.parametrize(
    "signed",
    [
        json.dumps(PLAIN, sort_keys=True).encode(),
        json.dumps(PLAIN, indent=2).encode(),
        json.dumps(PLAIN, ensure_ascii=False).encode(),
        json.dumps(PLAIN).encode() + b"\n",
        json.dumps({**PLAIN, "model": "other"}).encode(),
    ],
)
def test_no_other_serialisation_is_phalas(stage, signed):
    examined = phala(stage, COMPACT, signed)
    assert outcome(examined, "response.hash-equal") is Outcome.FAILED


@pytest.mark.parametrize(
    "raw", [b"[]", b'"x"', b"1", b'{"a":1,"a":2}', b'{"a":NaN}', b"data: {}\n\n", b"\xff"]
)
def test_what_is_no_object_has_no_serialisation(stage, raw):
    examined = phala(stage, raw, b'{"a": 2}')
    assert outcome(examined, "response.hash-equal") is Outcome.FAILED


def test_the_request_is_the_endpoints_word(stage):
    examined = phala(stage, COMPACT, COMPACT)
    assert outcome(examined, "request.bound") is Outcome.ASSERTED


# --- 0G ------------------------------------------------------------------------------------------


def zerog(stage, **changes: Any):
    arguments = stage.signed(model=None, signing_address=None, signing_algo=None)
    return examine_answer(**{**arguments, **changes}, form=ZEROG_TEXT)


def test_a_signer_that_nobody_names_is_recovered(stage):
    examined = zerog(stage)
    assert examined.signer == stage.endpoint.model.key.key
    assert outcome(examined, "response.hash-equal") is Outcome.PROVEN
    with_address = zerog(stage, **stage.signed(model=None))
    assert with_address.signer == examined.signer


def test_the_hashes_are_compared(stage):
    """W8: any earlier text of the same key must not pass."""
    assert outcome(zerog(stage, answer=b"{}"), "response.hash-equal") is Outcome.FAILED
    assert outcome(zerog(stage, request=b"{}"), "request.bound") is Outcome.FAILED


def test_a_changed_text_gives_another_signer(stage):
    signature = json.loads(stage.signed(model=None, signing_address=None)["signature"])
    other = hashlib.sha256(b"{}").hexdigest()
    signature["text"] = f"{signature['text'][:64]}:{other}"
    examined = zerog(stage, signature=json.dumps(signature).encode(), answer=b"{}")
    assert examined.signer != stage.endpoint.model.key.key


@pytest.mark.parametrize(
    "words", [{"provider_type": "centralized"}, {"provider_identity": "somebody"}]
)
def test_a_proof_of_routing_is_no_signed_answer(stage, words):
    signature = stage.endpoint.sign(stage.request, stage.answer, model=None, **words)
    found = seen(zerog(stage, signature=signature), "answer.signature")
    assert (found.outcome, found.error.exit_code) == (Outcome.FAILED, 2)
    assert "unsupported evidence format" in found.message


def test_a_routing_text_of_five_parts(stage):
    key = stage.endpoint.model.key
    hashes = [hashlib.sha256(raw).hexdigest() for raw in (stage.request, stage.answer)]
    text = ":".join([*hashes, "centralized", "somebody", "ab" * 32])
    signature = json.dumps({"text": text, "signature": key.sign(text)}).encode()
    assert outcome(zerog(stage, signature=signature), "answer.signature") is Outcome.FAILED


def test_the_other_dialects_want_a_named_signer(stage):
    for form in (TEXT, PHALA_TEXT):
        arguments = stage.signed(model=None, signing_address=None)
        examined = examine_answer(**arguments, form=form)
        assert outcome(examined, "answer.signature") is Outcome.FAILED


# --- nilAI ---------------------------------------------------------------------------------------


class Nilai:
    """A server of nilAI: it signs its answer while ``signature`` is empty."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256K1())
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
        self.public = json.dumps(base64.b64encode(point).decode()).encode()
        xy = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
        self.address = address_of(xy)

    def sign(self, message: bytes, *, high: bool = False) -> str:
        r, s = decode_dss_signature(self.key.sign(message, ec.ECDSA(hashes.SHA256())))
        low = min(s, ORDER - s)
        return base64.b64encode(encode_dss_signature(r, ORDER - low if high else low)).decode()

    def answer(self, value: Any = None, **changes: Any) -> bytes:
        body = {**PLAIN, "signature": "", "sources": None, **(value or {})}
        empty = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        signature = self.sign(empty, **changes)
        return empty.replace(b'"signature":""', b'"signature":"%b"' % signature.encode())

    def examine(self, answer: bytes | None, **changes: Any):
        arguments = {"signature": self.public, "answer": answer, "request": None, **changes}
        return examine_answer(**arguments, form=NILAI)


@pytest.fixture(scope="module")
def nilai() -> Nilai:
    return Nilai()


def test_nilais_answer(nilai):
    examined = nilai.examine(nilai.answer())
    assert examined.signer.identifier == nilai.address
    assert outcome(examined, "response.hash-equal") is Outcome.PROVEN
    assert outcome(examined, "request.bound") is Outcome.ABSENT
    assert (examined.response_model, examined.signed_form) == ("m", None)
    bare = json.loads(nilai.public).encode()
    assert nilai.examine(nilai.answer(), signature=bare).signer == examined.signer


def test_each_byte_of_nilais_answer_counts(nilai):
    answer = nilai.answer()
    for index in range(len(answer)):
        changed = bytearray(answer)
        changed[index] ^= 1
        assert outcome(nilai.examine(bytes(changed)), "answer.signature") is Outcome.FAILED


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw.replace(b'"signature":', b'"signature": '),
        lambda raw: raw + b"\n",
        lambda raw: json.dumps(json.loads(raw)).encode(),
        lambda raw: raw.replace(b'"sources":null', b'"sources":[]'),
        lambda raw: b"[" + raw + b"]",
        lambda raw: b"data: " + raw + b"\n\ndata: [DONE]\n\n",
        lambda raw: b"",
    ],
)
def test_nilais_answer_written_otherwise(nilai, change):
    assert outcome(nilai.examine(change(nilai.answer())), "answer.signature") is Outcome.FAILED


def test_a_signature_that_stands_twice(nilai):
    """Which of two equal members was emptied would be a guess."""
    raw = nilai.answer({"choices": [{"signature": "x"}]})
    signature = json.loads(raw)["signature"].encode()
    doubled = raw.replace(b'"signature":"x"', b'"signature":"%b"' % signature)
    assert outcome(nilai.examine(doubled), "answer.signature") is Outcome.FAILED


def test_a_quoted_signature_is_only_text(nilai):
    answer = nilai.answer({"text": 'say "signature":"" and \\"signature\\":\\"x\\"'})
    assert nilai.examine(answer).signer is not None


def test_nilais_signature_has_one_form(nilai):
    assert outcome(nilai.examine(nilai.answer(high=True)), "answer.signature") is Outcome.FAILED
    raw = nilai.answer()
    der = base64.b64decode(json.loads(raw)["signature"])
    for other in (der + b"\0", der[:-1], b"\x30\x81" + der[1:], b"", bytes(64), b"\x30\0"):
        text = base64.b64encode(other)
        changed = raw.replace(base64.b64encode(der), text)
        assert outcome(nilai.examine(changed), "answer.signature") is Outcome.FAILED


@pytest.mark.parametrize(
    "key", [None, b"", b'""', b"AAAA", b"[]", b"\xff", b'"' + b"A" * 44 + b'"']
)
def test_nilais_key_that_is_none(nilai, key):
    assert (
        outcome(nilai.examine(nilai.answer(), signature=key), "answer.signature") is Outcome.FAILED
    )


def test_nilais_answer_by_another_key(nilai):
    examined = nilai.examine(nilai.answer(), signature=Nilai().public)
    assert outcome(examined, "answer.signature") is Outcome.FAILED
    assert outcome(nilai.examine(None), "answer.signature") is Outcome.FAILED


# --- OpenGradient --------------------------------------------------------------------------------


REQUEST = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "What is two and two?"},
    ],
    "temperature": 1,
    "max_tokens": 5,
}
CANONICAL = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is two and two?"},
    ],
    "temperature": 1.0,
    "max_tokens": 5,
}


class Gateway:
    """A gateway of OpenGradient, with a key that its registry would hold."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = self.key.public_key()
        self.der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def words(self, text: str, canonical: Any = None, *, salt: int = 32) -> dict[str, Any]:
        asked = json.dumps(canonical or CANONICAL, sort_keys=True).encode()
        parts = [keccak256(asked), keccak256(text.encode())]
        digest = keccak256(b"".join(parts) + (1780404899).to_bytes(32, "big"))
        pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=salt)
        signature = self.key.sign(digest, pss, hashes.SHA256())
        return {
            "tee_signature": base64.b64encode(signature).decode(),
            "tee_request_hash": parts[0].hex(),
            "tee_output_hash": "0x" + parts[1].hex(),
            "tee_timestamp": 1780404899,
            "tee_id": "0x" + keccak256(self.der).hex(),
        }

    def answer(self, text: str = "Four.", **changes: Any) -> bytes:
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return json.dumps({**PLAIN, "choices": [choice], **self.words(text), **changes}).encode()

    def stream(self, *parts: str) -> bytes:
        events = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in parts]
        events.append({"choices": [], **self.words("".join(parts))})
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        return "".join([*lines, "data: [DONE]\n\n"]).encode()

    def examine(self, answer: bytes | None, request: Any = None, **changes: Any):
        raw = json.dumps(REQUEST if request is None else request).encode()
        arguments = {"signature": self.pem, "answer": answer, "request": raw, **changes}
        return examine_answer(**arguments, form=OPENGRADIENT)


@pytest.fixture(scope="module")
def gradient() -> Gateway:
    return Gateway()


@pytest.mark.parametrize("key", ["pem", "der"])
def test_a_gateways_answer(gradient, key):
    examined = gradient.examine(gradient.answer(), signature=getattr(gradient, key))
    assert (examined.signer.algorithm, examined.signer.identifier) == (
        "rsa-pss", keccak256(gradient.der),
    )  # fmt: skip
    found = seen(examined, "response.hash-equal")
    assert (found.outcome, found.concern, examined.signed_form) == (
        Outcome.PROVEN, True, b"Four.",
    )  # fmt: skip
    assert outcome(examined, "request.bound") is Outcome.PROVEN
    assert (examined.by_gateway, examined.response_model) == (True, None)


def test_a_gateways_stream(gradient):
    raw = gradient.stream("Fo", "ur.")
    assert gradient.examine(raw).signed_form == b"Four."
    assert outcome(gradient.examine(raw.replace(b'"Fo"', b'"fo"')), "response.hash-equal") is (
        Outcome.FAILED
    )
    assert outcome(gradient.examine(raw[:-10]), "answer.complete") is Outcome.FAILED


@pytest.mark.parametrize(
    "changes",
    [
        {"tee_timestamp": 1780404900},
        {"tee_timestamp": -1},
        {"tee_timestamp": True},
        {"tee_timestamp": 2**64},
        {"tee_id": "00" * 32},
        {"tee_id": None},
        {"tee_signature": ""},
        {"tee_signature": base64.b64encode(bytes(256)).decode()},
        {"tee_output_hash": "11" * 32},
        {"tee_request_hash": "11" * 32},
        {"tee_request_hash": "zz"},
        {"choices": [{"index": 0, "message": {"content": "Four."}}] * 2},
        {"choices": [{"index": 1, "message": {"content": "Four."}}]},
        {"choices": ["x"]},
    ],
)
def test_a_gateways_answer_with_one_word_changed(gradient, changes):
    examined = gradient.examine(gradient.answer(**changes))
    assert outcome(examined, "answer.signature") is Outcome.FAILED


def test_another_text_than_the_signed_one(gradient):
    raw = gradient.answer().replace(b"Four.", b"Five.")
    assert outcome(gradient.examine(raw), "response.hash-equal") is Outcome.FAILED


def test_another_salt_is_another_scheme(gradient):
    raw = gradient.answer(**gradient.words("Four.", salt=20))
    assert outcome(gradient.examine(raw), "answer.signature") is Outcome.FAILED


@pytest.mark.parametrize("key", [None, b"", b"x", b"-----BEGIN PUBLIC KEY-----"])
def test_a_registrys_key_that_is_none(gradient, key):
    examined = gradient.examine(gradient.answer(), signature=key)
    assert outcome(examined, "answer.signature") is Outcome.FAILED
    assert outcome(gradient.examine(None), "answer.signature") is Outcome.FAILED
    other = Gateway()
    examined = gradient.examine(gradient.answer(), signature=other.pem)
    assert outcome(examined, "answer.signature") is Outcome.FAILED


def test_what_the_gateway_leaves_out_of_a_request_is_said(gradient):
    for more in ({"top_p": 1}, {"tool_choice": "none"}):
        examined = gradient.examine(gradient.answer(), {**REQUEST, **more})
        assert outcome(examined, "request.bound") is Outcome.ASSERTED
    parts = [{"type": "text", "text": "See."},
             {"type": "file", "file": {"filename": "a.txt", "data": "secret"}}]  # fmt: skip
    asked = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    kept = [parts[0], {"type": "file", "filename": "a.txt"}]
    canonical = {"model": "m", "messages": [{"role": "user", "content": kept}], "temperature": 0.0}
    raw = gradient.answer(**gradient.words("Four.", canonical))
    examined = gradient.examine(raw, asked)
    found = seen(examined, "request.bound")
    assert found.outcome is Outcome.ASSERTED
    assert "attachments" in found.message


@pytest.mark.parametrize(
    "request_",
    [
        {**REQUEST, "model": "larger"},
        {**REQUEST, "temperature": 0},
        {**REQUEST, "max_tokens": 6},
        {**REQUEST, "messages": REQUEST["messages"][1:]},
        {**REQUEST, "stop": ["x"]},
        {**REQUEST, "temperature": "hot"},
        {**REQUEST, "temperature": 10**400},
        {**REQUEST, "messages": [{"role": "evil", "content": "x"}]},
        {**REQUEST, "messages": "x"},
        [],
        {},
    ],
)
def test_another_request(gradient, request_):
    examined = gradient.examine(gradient.answer(), request_)
    assert outcome(examined, "request.bound") is Outcome.FAILED


def test_tool_calls_are_signed_in_their_own_way(gradient):
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    text = json.dumps(calls, sort_keys=True)
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    choice = {"index": 0, "finish_reason": "tool_calls", "message": message}
    raw = json.dumps({"choices": [choice], **gradient.words(text)}).encode()
    assert gradient.examine(raw).signed_form == text.encode()
    asked = {"model": "m", "temperature": None, "tools": [{"type": "function"}], "messages": [
        {"role": "assistant", "tool_calls": calls, "content": None},
        {"role": "tool", "content": "4", "tool_call_id": "1"},
    ]}  # fmt: skip
    canonical = {"model": "m", "temperature": 0.0, "tools": [{"type": "function"}], "messages": [
        {"role": "assistant", "content": "", "tool_calls": calls},
        {"role": "tool", "content": "4", "tool_call_id": "1"},
    ]}  # fmt: skip
    raw = json.dumps({"choices": [choice], **gradient.words(text, canonical)}).encode()
    assert outcome(gradient.examine(raw, asked), "request.bound") is Outcome.PROVEN


# --- all of them ---------------------------------------------------------------------------------


def test_answers_that_nobody_signs(stage):
    found = seen(examine_answer(**stage.signed(), form=UNSIGNED), "answer.signature")
    assert (found.outcome, found.error.exit_code) == (Outcome.FAILED, 1)


def test_every_dialect_says_how_its_answers_are_signed():
    for dialect in DIALECTS.values():
        assert dialect.form is None or dialect.form.signs
        assert dialect.cannot, dialect.id


@pytest.mark.parametrize("form", [TEXT, PHALA_TEXT, ZEROG_TEXT, NILAI, OPENGRADIENT])
@pytest.mark.parametrize("raw", [b"", b"\xff", b"{}", b"[]", b"null", b"{" * 99, b"data: x\n\n"])
def test_nothing_but_refusals_for_rubbish(form, raw):
    for signature in (None, b"", raw):
        examined = examine_answer(signature=signature, answer=raw, request=raw, form=form)
        assert examined.signer is None
        assert outcome(examined, "answer.signature") in (Outcome.FAILED, Outcome.ABSENT)
