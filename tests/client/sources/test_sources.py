"""What a source is: worked out from its form, never from what would suit it."""

from __future__ import annotations

import base64
import json
import textwrap

import pytest

from teeverify import Evidence
from teeverify.errors import ConfigurationError, MalformedEvidence


@pytest.fixture(scope="module")
def quote(stage) -> bytes:
    return stage.endpoint.model.quote(bytes(64))


@pytest.fixture(scope="module")
def gpus(stage) -> dict:
    return json.loads(stage.endpoint.nvidia.payload(stage.endpoint.nonce, 2))


def kind(source, **options):
    evidence = Evidence.load(source, **options)
    return evidence.kind, evidence.provider


def test_forms(stage, quote, gpus):
    log = stage.endpoint.model.guest.event_log_text
    component = ("component", "a TDX quote")
    text = quote.hex()
    for raw in (
        quote,
        text.encode(),
        f"0x{text.upper()}".encode(),
        f"0X{text}".encode(),
        f" {text}\r\n".encode(),
        "\n".join(textwrap.wrap(text, 60)).encode(),
        f'"{text}"\n'.encode(),
        base64.encodebytes(quote),
        base64.urlsafe_b64encode(quote).rstrip(b"="),
        json.dumps({"quote": text}).encode(),
        json.dumps({"platform": "tdx", "evidence": {"quote": text}}).encode(),
        json.dumps({"quote": base64.b64encode(quote).decode(), "cc_eventlog": None}).encode(),
        json.dumps({"quote": text, "event_log": log}).encode(),
        json.dumps({"quote": f"0x{text}", "event_log": log}).encode(),
    ):
        assert kind(raw) == component
    for value in (gpus, gpus["evidence_list"], {"evidence_list": gpus["evidence_list"]}):
        assert kind(json.dumps(value).encode()) == ("component", "NVIDIA GPU evidence")
    assert kind(stage.good) == ("endpoint", "near")
    assert kind(str(stage.good)) == ("endpoint", "near")
    assert kind(stage.capture(provider="venice")) == ("endpoint", "venice")


@pytest.mark.parametrize("tail", ["!", "=", "A====", "\u00e9", "A"])
def test_text_that_begins_like_a_quote(quote, tail):
    for text in (quote.hex(), base64.b64encode(quote[:1200]).decode()):
        with pytest.raises(MalformedEvidence):
            Evidence.load((text + tail).encode())
        with pytest.raises(MalformedEvidence):
            Evidence.load(json.dumps({"quote": text + tail}).encode())


@pytest.mark.parametrize(
    "text", ["", '"', '""', "0x", "QUFB", "BAACAIEA", "04000200", "0600020081000000"]
)
def test_text_that_is_no_quote(text):
    for raw in (text.encode(), json.dumps({"quote": text}).encode()):
        with pytest.raises(MalformedEvidence):
            Evidence.load(raw)


@pytest.mark.parametrize("evidence", [None, [], {}, "x", {"platform": "tdx", "evidence": {}}])
def test_an_envelope_with_nothing_known_inside(evidence):
    with pytest.raises(MalformedEvidence):
        Evidence.load(json.dumps({"platform": "tdx", "evidence": evidence}).encode())


def test_a_form_that_matches_twice(stage, quote, gpus):
    both = {**gpus, "quote": quote.hex(), "event_log": []}
    with pytest.raises(MalformedEvidence) as caught:
        Evidence.load(json.dumps(both).encode())
    assert "more than one form" in str(caught.value)


def test_a_report_without_its_url_is_not_guessed(stage):
    raw = json.dumps(stage.endpoint.model_report()).encode()
    with pytest.raises(MalformedEvidence):
        Evidence.load(raw)
    assert kind(raw, dialect="dstack") == ("endpoint", "dstack")
    for dialect in ("near",):
        with pytest.raises(MalformedEvidence):
            Evidence.load(raw, dialect=dialect)


@pytest.mark.parametrize("dialect", ["", "DSTACK", "openai", "\0", 5, []])
def test_a_dialect_that_does_not_exist(stage, dialect):
    for source in (stage.good, b"{}"):
        with pytest.raises(ConfigurationError):
            Evidence.load(source, dialect=dialect)


def test_the_caller_chooses_the_dialect_of_an_unknown_host(stage):
    folder = stage.capture(provider="dstack")
    with pytest.raises(MalformedEvidence):
        Evidence.load(folder)
    assert kind(folder, dialect="dstack") == ("endpoint", "dstack")


@pytest.mark.parametrize("source", ["http://localhost/v1", "https://cloud-api.near.ai/v1"])
def test_an_address_is_nothing_that_can_be_loaded(source):
    with pytest.raises(ConfigurationError):
        Evidence.load(source)


@pytest.mark.parametrize("source", ["/no/such/file", "", "\0", 5, None.__class__, object()])
def test_no_source(source):
    with pytest.raises((ConfigurationError, MalformedEvidence)):
        Evidence.load(source)


@pytest.mark.parametrize("size", [4 * 1024 * 1024 + 1, 10_000_000])
def test_too_large(tmp_path, size):
    file = tmp_path / "large"
    file.write_bytes(b"\0" * size)
    for source in (file, file.read_bytes()):
        with pytest.raises(MalformedEvidence) as caught:
            Evidence.load(source)
        assert (caught.value.field, caught.value.offset) == ("source", 0)


def test_evidence_says_that_nothing_was_verified(stage):
    for source in (stage.good, stage.near(model={"quote": {"debug": True}})):
        evidence = Evidence.load(source)
        assert "unverified" in repr(evidence)
        assert "NOTHING HERE WAS VERIFIED" in evidence.show()
        assert "genuine" not in evidence.show().lower()
        assert any("GPU evidence" in part for part in evidence.parts)


def test_what_a_folder_does_not_hold(tmp_path, stage):
    with pytest.raises((ConfigurationError, MalformedEvidence)):
        Evidence.load(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(MalformedEvidence) as caught:
        Evidence.load(tmp_path)
    assert "exactly one provider's report" in str(caught.value)
