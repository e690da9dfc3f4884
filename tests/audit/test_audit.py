"""Many receipts: each verified, none lost, and held against each other."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest

from teeverify.appraisal import Policy
from teeverify.audit import Records, Report, Row, audit, is_records, on_ray, write_records
from teeverify.client.receipts import Receipt
from teeverify.errors import ConfigurationError, MalformedEvidence
from teeverify.responses.receipt import Kept
from teeverify.simulator.receipts import ReceiptForge


@pytest.fixture
def lines(tmp_path, receipts):
    path = tmp_path / "many.jsonl"
    write_records(path, receipts, bodies=True)
    return path


def forged(receipt):
    """The same receipt with another answer under the signature."""
    parts = dataclasses.replace(receipt.parts, response=Kept.of(b'{"id": "x"}'))
    return Receipt(parts)


def test_lines(lines, settings):
    report = audit([lines], settings, workers=1)
    assert (report.exit_code, report.counts) == (0, {0: 7})
    assert [row.name for row in report.rows] == [f"many.jsonl:{n}" for n in range(2, 9)]
    assert all(row.simulated and row.tier == "warning" for row in report.rows)
    assert report.duplicates == report.equivocations == ()


def test_parts_are_written_once(lines, receipts):
    texts = lines.read_bytes().splitlines()
    assert len(texts) == 1 + len(receipts)
    assert len(texts[0]) > 10 * max(map(len, texts[1:]))


def test_on_all_cores_the_same(lines, settings):
    alone = audit([lines], settings, workers=1)
    told = []
    assert audit([lines], settings, workers=2, batch=3, progress=told.append) == alone
    assert sum(told) == 7


def test_one_bad_one_is_found(tmp_path, receipts, settings):
    path = tmp_path / "some.jsonl"
    write_records(path, [*receipts[:3], forged(receipts[3]), *receipts[4:]], bodies=True)
    report = audit([path], settings, workers=1)
    assert (report.exit_code, report.counts) == (2, {2: 1, 0: 6})
    (bad,) = [row for row in report.rows if row.exit_code]
    assert bad.cause == "response.hash-equal"
    assert report.causes() == [("response.hash-equal", 1)]


@pytest.mark.parametrize(
    "line", [b"{}", b"not json", b'{"schema": "teeverify.receipt/9"}', b"\xff\xfe", b"[" * 9000]
)
def test_a_line_that_is_no_receipt_is_refused_and_the_others_are_not(lines, settings, line):
    lines.write_bytes(lines.read_bytes() + line + b"\n")
    report = audit([lines], settings, workers=1)
    assert report.counts == {2: 1, 0: 7}
    assert report.rows[-1].cause == "receipt"


def test_a_part_that_nobody_gave(lines, settings, tmp_path):
    path = tmp_path / "without.jsonl"
    path.write_bytes(b"\n".join(lines.read_bytes().splitlines()[1:]))
    report = audit([path], settings, workers=1)
    assert report.counts == {2: 7}
    assert "attachment is missing" in report.rows[0].summary


def test_a_part_that_was_changed(lines, settings):
    text = lines.read_bytes()
    lines.write_bytes(text.replace(b'": "eyJ', b'": "eyK', 1))
    with pytest.raises(MalformedEvidence):
        audit([lines], settings, workers=1)


def test_a_directory(tmp_path, receipts, settings):
    for number, receipt in enumerate(receipts[:3]):
        receipt.save(tmp_path / f"{number}.json", include="bytes")
    write_records(tmp_path / "more.jsonl", receipts[3:], bodies=True)
    (tmp_path / "notes.txt").write_text("x")
    assert is_records(tmp_path)
    assert audit([tmp_path], settings, workers=1).counts == {0: 7}


def test_parquet(tmp_path, lines, settings):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra 'audit' is not installed")
    from pyarrow import parquet

    texts = lines.read_bytes().decode().splitlines()
    path = tmp_path / "many.parquet"
    parquet.write_table(pyarrow.table({"receipt": texts, "note": ["x"] * len(texts)}), path)
    assert audit([path], settings, workers=1).counts == {0: 7}
    parquet.write_table(pyarrow.table({"receipt": [1, None]}), path)
    assert audit([path], settings, workers=1).counts == {2: 2}
    parquet.write_table(pyarrow.table({"other": texts}), path)
    with pytest.raises(ConfigurationError):
        audit([path], settings, workers=1)
    path.write_bytes(b"no parquet")
    with pytest.raises(ConfigurationError):
        audit([path], settings, workers=1)


def test_nothing_there(tmp_path, settings):
    for source in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(ConfigurationError):
            audit([source], settings, workers=1)
    assert not is_records(tmp_path)
    assert not is_records(tmp_path / "none")


def test_duplicates(tmp_path, receipts, settings):
    path = tmp_path / "twice.jsonl"
    write_records(path, [*receipts, receipts[2]], bodies=True)
    report = audit([path], settings, workers=1)
    assert report.exit_code == 0
    assert report.duplicates == (("twice.jsonl:4", "twice.jsonl:9"),)


def test_one_secret_number_for_two_texts_gives_the_key_away(tmp_path, tee, settings, capsys):
    forge = ReceiptForge(tee)
    forge.key.repeats = True
    made = [Receipt(forge.receipt(f"question {number}")) for number in range(3)]
    forge.key.repeats = False
    made += [Receipt(forge.receipt(f"question {number}")) for number in range(3, 5)]
    path = tmp_path / "leaked.jsonl"
    write_records(path, made, bodies=True)
    report = audit([path], settings, workers=1, batch=2)
    assert report.counts == {0: 5}, "each alone is good"
    assert report.leaked == (("leaked.jsonl:2", "leaked.jsonl:3", "leaked.jsonl:4"),)
    assert report.exit_code == 2
    assert report.to_dict()["leaked"] == [list(report.leaked[0])]


def test_the_same_signature_again_gives_nothing_away(tmp_path, receipts, settings):
    path = tmp_path / "twice.jsonl"
    write_records(path, [receipts[0], receipts[0]], bodies=True)
    assert audit([path], settings, workers=1).leaked == ()


def test_one_number_of_two_signers_gives_nothing_away(tmp_path, tee, settings):
    """Two keys with one number share no equation, as far as this looks."""
    forges = [ReceiptForge(tee), ReceiptForge(tee)]
    for forge in forges:
        forge.key.repeats = True
    path = tmp_path / "two.jsonl"
    write_records(path, [Receipt(forge.receipt("x")) for forge in forges], bodies=True)
    assert audit([path], settings, workers=1).leaked == ()


def test_equivocation(tmp_path, forge, settings):
    """One signer, one id, two answers: each is signed, and one of them cannot be the answer."""
    path = tmp_path / "two.jsonl"
    pair = [
        Receipt(forge.receipt("x", answer_id="chatcmpl-1", answer=text)) for text in ("Yes.", "No.")
    ]
    write_records(path, pair, bodies=True)
    report = audit([path], settings, workers=1)
    assert report.counts == {0: 2}
    assert report.equivocations == (("two.jsonl:2", "two.jsonl:3"),)
    assert report.exit_code == 2


def test_what_was_not_verified_contradicts_nothing():
    rows = [
        Row(name=str(n), exit_code=2, tier="contraindicated", summary="", answer_id="x",
            response=str(n))
        for n in range(2)
    ]  # fmt: skip
    assert Report.of(rows).equivocations == ()


def test_hashes_only(tmp_path, receipts, settings):
    path = tmp_path / "hashes.jsonl"
    write_records(path, receipts)
    assert b"question 3" not in path.read_bytes()
    report = audit([path], settings, workers=1)
    assert report.counts == {1: 7}
    assert {row.cause for row in report.rows} == {"response.hash-equal"}


def test_the_readers_policy_and_roots(lines, settings):
    strict = dataclasses.replace(settings, policy=Policy.strict())
    assert audit([lines], strict, workers=1).counts == {1: 7}
    vendors = dataclasses.replace(settings, roots=None)
    assert audit([lines], vendors, workers=1).counts == {2: 7}
    with pytest.raises(ConfigurationError):
        audit([lines], dataclasses.replace(settings, endorsements=("/none",)), workers=1)


def test_two_attestations_do_not_mix(tmp_path, tee, receipts, settings):
    other = ReceiptForge(tee)
    path = tmp_path / "mixed.jsonl"
    mixed = [Receipt(other.receipt("other")), *receipts, Receipt(other.receipt("again"))]
    write_records(path, mixed, bodies=True)
    report = audit([path], settings, workers=1)
    assert report.counts == {0: 9}
    signers = {row.signer for row in report.rows}
    assert signers == {str(other.key.key), report.rows[1].signer}
    swapped = dataclasses.replace(mixed[0].parts, report=receipts[0].parts.report,
                                  nonce=receipts[0].parts.nonce, query=receipts[0].parts.query,
                                  challenge=None)  # fmt: skip
    write_records(path, [Receipt(swapped)], bodies=True)
    assert audit([path], settings, workers=1).rows[0].cause == "key.attested"


def test_batches_hold_only_the_parts_that_they_name(tmp_path, tee, receipts):
    path = tmp_path / "mixed.jsonl"
    other = Receipt(ReceiptForge(tee).receipt("other"))
    write_records(path, [*receipts, other], bodies=True)
    first, second = Records([path]).batches(7)
    assert set(first.shared) != set(second.shared)
    assert len(first.shared) == len(second.shared) == 1


def test_the_report_as_json(lines, settings):
    shown = json.loads(json.dumps(audit([lines], settings, workers=1).to_dict()))
    assert shown["schema"] == "teeverify.audit/1-simulated"
    assert shown["receipts"] == len(shown["results"]) == 7


@pytest.mark.network
def test_on_a_ray_cluster(lines, settings, monkeypatch):
    """The same function on several workers: raw receipts go out, rows come back."""
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    path = os.environ.get("PYTHONPATH", "")
    ray.init(
        num_cpus=2, include_dashboard=False, log_to_driver=False, ignore_reinit_error=True,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )  # fmt: skip
    try:
        report = audit([lines], settings, mapper=on_ray(), batch=2)
    finally:
        ray.shutdown()
    assert report == audit([lines], settings, workers=1)


@pytest.mark.parametrize(
    "text", ["", "\n\n", '{"schema":"teeverify.attachments/1","attachments":{}}\n']
)
def test_no_receipt_at_all_satisfies_nobody(tmp_path, settings, text):
    """A log from which every receipt was removed is no good log."""
    path = tmp_path / "empty.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        audit([path], settings, workers=1)
    assert Report.of([]).exit_code == 3
