"""Receipts of every version of the format verify in this one, and their schema is the published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from teeverify.client.receipts import Receipt
from teeverify.errors import AppraisalFailed, EvidenceError
from teeverify.roots import TimestampRoots, UnsafeTestRoots

REPOSITORY = Path(__file__).resolve().parents[3]
CORPUS = REPOSITORY / "tests/corpus/receipts"
VERSIONS = sorted(folder.name for folder in CORPUS.iterdir())


@pytest.fixture(params=VERSIONS)
def folder(request):
    return CORPUS / request.param


def test_there_is_one_of_this_version():
    from teeverify.responses.receipt import SCHEMA

    assert SCHEMA.rpartition("/")[2] in VERSIONS


def test_it_still_verifies(folder):
    roots = UnsafeTestRoots.load(folder / "roots.pem")
    result = Receipt.load(folder / "bytes.json").verify(roots=roots)
    assert (result.tier, result.scope) == ("warning", "answer")
    with pytest.raises(EvidenceError):
        Receipt.load(folder / "bytes.json").verify()


def test_hashes_with_the_bytes_of_the_other(folder):
    roots = UnsafeTestRoots.load(folder / "roots.pem")
    parts = Receipt.load(folder / "bytes.json").parts
    hashes = Receipt.load(folder / "hashes.json")
    assert hashes.receipt_id == Receipt(parts).receipt_id
    with pytest.raises(AppraisalFailed):
        hashes.verify(roots=roots)
    result = hashes.verify(roots=roots, answer=parts.response.raw, request=parts.request.raw)
    assert result.satisfied


def test_its_timestamp_still_counts(folder):
    roots = UnsafeTestRoots.load(folder / "roots.pem")
    stamps = TimestampRoots.load(folder / "timestamp-roots.pem")
    receipt = Receipt.load(folder / "timestamped.json")
    result = receipt.verify(roots=roots, timestamp_roots=stamps)
    assert result.finding("receipt.time").outcome.value == "proven"
    assert result.finding("time").outcome.value == "proven"


def test_it_is_written_as_it_was_read(folder):
    for name in ("bytes", "timestamped"):
        raw = (folder / f"{name}.json").read_bytes()
        assert Receipt.load(raw).to_bytes(include="bytes") == raw
    raw = (folder / "hashes.json").read_bytes()
    assert Receipt.load(raw).to_bytes() == raw


def test_the_published_schema_describes_it(folder):
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads((REPOSITORY / f"docs/receipt-{folder.name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for name in ("bytes", "hashes", "timestamped"):
        value = json.loads((folder / f"{name}.json").read_text())
        jsonschema.validate(value, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**value, "more": 1}, schema)


def test_the_published_schema_names_what_is_read():
    from teeverify.responses import receipt_reader as reader

    schema = json.loads((REPOSITORY / "docs/receipt-1.schema.json").read_text())
    core = schema["properties"]["core"]["properties"]
    assert set(schema["required"]) == reader._MEMBERS
    assert set(core) == reader._CORE
    for name, members in (
        ("challenge", reader._CHALLENGE),
        ("attestation", reader._ATTESTATION),
        ("endorsements", reader._ENDORSEMENTS),
        ("answer", reader._ANSWER),
    ):
        optional = reader._OPTIONAL if name == "attestation" else set()
        assert set(core[name]["required"]) == members
        assert set(core[name]["properties"]) == members | optional
