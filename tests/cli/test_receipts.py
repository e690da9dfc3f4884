"""Receipts on the command line: one, many, timestamps, reports, differences."""

from __future__ import annotations

import json
import shutil
from base64 import b64decode

import pytest

from teeverify.audit import write_records
from teeverify.client.receipts import Receipt
from teeverify.clock import now
from teeverify.simulator.receipts import ReceiptForge
from teeverify.simulator.tee import SimulatedTee
from teeverify.simulator.timestamps import TimestampAuthority

CANARY = "canary-of-a-prompt"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with receipts, roots, and a timestamping authority."""
    folder = tmp_path_factory.mktemp("receipts")
    tee = SimulatedTee(gpus=1)
    tee.write_roots(folder / "roots.pem")
    forge = ReceiptForge(tee)
    made = [Receipt(forge.receipt(f"{CANARY} {n}", answer=f"{CANARY} {n}")) for n in range(4)]
    made[0].save(folder / "one.json", include="bytes")
    made[0].save(folder / "hashes.json")
    made[1].save(folder / "two.json", include="bytes")
    (folder / "answer.bin").write_bytes(made[0].parts.response.raw)
    (folder / "request.bin").write_bytes(made[0].parts.request.raw)
    write_records(folder / "many.jsonl", made, bodies=True)
    authority = TimestampAuthority()
    (folder / "tsa.pem").write_bytes(authority.roots_pem())
    (folder / "token.tsr").write_bytes(authority.stamp(made[0].parts.digest, now()))
    return folder


@pytest.fixture
def trusting(place):
    return ("--offline", "--unsafe-test-roots", place / "roots.pem")


def test_then_and_now_are_both_printed(cli, place, trusting):
    ran = cli("verify", place / "one.json", *trusting)
    assert ran.code == 0
    assert "says its holder" in ran.out
    assert "Not compared with today's revocations" in ran.out
    assert json.loads(cli("verify", place / "one.json", *trusting, "--json").out)["receipt"]


def test_hashes_need_the_bytes(cli, place, trusting):
    assert cli("verify", place / "hashes.json", *trusting).code == 1
    given = ("--answer", place / "answer.bin", "--request", place / "request.bin")
    assert cli("verify", place / "hashes.json", *given, *trusting).code == 0
    assert cli("verify", place / "hashes.json", "--answer", place / "roots.pem",
               *trusting).code == 2  # fmt: skip


def test_a_timestamp_is_added_later(cli, place, trusting, tmp_path):
    kept = tmp_path / "kept.json"
    shutil.copy(place / "one.json", kept)
    asked = cli("timestamp", kept)
    assert asked.out.strip() == Receipt.load(kept).receipt_id
    added = cli("timestamp", kept, place / "token.tsr")
    assert (added.code, added.err) == (0, "")
    assert "nothing was verified" in added.out
    ran = cli("verify", kept, *trusting, "--timestamp-roots", place / "tsa.pem")
    assert ran.code == 0
    assert "Made before" in ran.out
    assert cli("verify", kept, *trusting).code == 0
    assert cli("timestamp", place / "two.json", place / "token.tsr").code == 2
    assert cli("timestamp", kept, place / "roots.pem").code == 2
    assert cli("verify", kept, *trusting, "--timestamp-roots", "/none").code == 64


def test_show_a_receipt(cli, place):
    ran = cli("show", place / "one.json")
    assert ran.code == 0
    assert "nothing here was verified" in ran.out
    assert Receipt.load(place / "one.json").receipt_id in ran.out
    assert CANARY not in ran.out


def test_a_report_that_is_verified_again(cli, place, trusting, tmp_path):
    page = tmp_path / "report.html"
    first = cli("verify", place / "one.json", *trusting, "--html", page)
    again = cli("verify", page, *trusting)
    assert (first.code, again.code) == (0, 0)
    assert first.out.splitlines()[0] == again.out.splitlines()[0]
    third = tmp_path / "third.html"
    assert cli("verify", page, *trusting, "--html", third).code == 0
    assert cli("verify", third, *trusting).code == 0
    assert cli("verify", place / "one.json", *trusting, "--html", "/no/such/file").code == 64
    assert cli("verify", place / "one.json", place / "two.json", *trusting,
               "--html", page).code == 64  # fmt: skip


def test_a_report_of_what_is_no_receipt_holds_none(cli, stage, tmp_path):
    page = tmp_path / "report.html"
    assert cli("verify", stage.good, "--unsafe-test-roots", stage.roots_file, "--html", page,
               "--offline").code == 0  # fmt: skip
    assert cli("verify", page, "--offline").code == 2


def test_an_ear(cli, place, trusting, tmp_path):
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = tmp_path / "key.pem"
    private = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    token = tmp_path / "result.jwt"
    one = place / "one.json"
    assert cli("verify", one, *trusting, "--ear", token, "--ear-key", key).code == 0
    assert token.read_text().count(".") == 2
    assert CANARY not in token.read_text()
    assert cli("verify", one, *trusting, "--ear", token).code == 64


def test_many(cli, place, trusting, monkeypatch):
    ran = cli("verify", place / "many.jsonl", *trusting, "--workers", 1)
    assert ran.code == 0
    assert ran.out.startswith("SIMULATED. 4 receipts")
    shown = json.loads(cli("verify", place / "many.jsonl", *trusting, "--workers", 1,
                           "--json").out)  # fmt: skip
    assert shown["schema"] == "teeverify.audit/1-simulated"
    assert cli("verify", place / "many.jsonl", "--offline", "--workers", 1).code == 2
    everything = cli("verify", place / "many.jsonl", *trusting, "--workers", 1, "--all")
    assert "many.jsonl:5" in everything.out
    for wrong in (("--answer", place / "answer.bin"), ("--nonce", "00" * 32), ("--html", "x")):
        assert cli("verify", place / "many.jsonl", *trusting, *wrong).code == 64
    for number in ("0", "x", "-1", "9999999"):
        assert cli("verify", place / "many.jsonl", "--workers", number).code == 64


def test_a_directory_of_receipts(cli, place, trusting, tmp_path):
    for name in ("one.json", "two.json"):
        shutil.copy(place / name, tmp_path / name)
    ran = cli("verify", tmp_path, *trusting, "--workers", 1)
    assert (ran.code, ran.out.splitlines()[0]) == (0, "SIMULATED. 2 receipts")


def test_receipts_and_recordings_do_not_mix(cli, place, stage, trusting):
    ran = cli("verify", place / "many.jsonl", stage.good, *trusting, "--workers", 1)
    assert ran.code == 64
    both = cli("verify", place / "many.jsonl", place / "one.json", *trusting, "--workers", 1)
    assert (both.code, both.out.splitlines()[0]) == (0, "SIMULATED. 5 receipts")
    assert "the same signed answer" in both.out


def test_diff(cli, place):
    roots = ("--unsafe-test-roots", place / "roots.pem")
    same = cli("diff", place / "one.json", place / "one.json", *roots)
    assert same.code == 0
    assert "Nothing differs." in same.out
    other = cli("diff", place / "one.json", place / "two.json", *roots)
    assert other.code == 0
    assert "response.hash-equal" in other.out
    assert "model mr_td" not in other.out
    assert cli("diff", place / "one.json", place / "two.json").code == 2
    assert cli("diff", place / "one.json", "/none").code == 64


def test_no_prompt_and_no_answer_in_any_output(cli, place, trusting, tmp_path):
    """T67: but in a report, which was asked for, and in receipts that were saved with bytes."""
    seen = []
    for arguments in (
        ("verify", place / "one.json", *trusting, "--all"),
        ("verify", place / "one.json", *trusting, "--json"),
        ("verify", place / "one.json", "--offline"),
        ("verify", place / "many.jsonl", *trusting, "--workers", 1, "--all"),
        ("verify", place / "many.jsonl", *trusting, "--workers", 1, "--json"),
        ("show", place / "one.json"),
        ("diff", place / "one.json", place / "two.json", *trusting[1:]),
        ("verify", place / "hashes.json", *trusting, "--all"),
        ("timestamp", place / "one.json"),
    ):
        ran = cli(*arguments)
        seen += [ran.out, ran.err]
    seen.append((place / "hashes.json").read_text())
    assert not any(CANARY in text for text in seen)
    with_bytes = json.loads((place / "one.json").read_text())["attachments"].values()
    assert any(CANARY.encode() in b64decode(text) for text in with_bytes)
    without = json.loads((place / "hashes.json").read_text())["attachments"].values()
    assert not any(CANARY.encode() in b64decode(text) for text in without)


def test_a_receipt_of_a_recording(cli, stage, tmp_path):
    """An answer and the recording of its signer become a receipt that verifies by itself."""
    names = {}
    for name, raw in stage.signed().items():
        names[name] = tmp_path / name
        names[name].write_bytes(raw)
    saved = tmp_path / "receipt.json"
    roots = ("--unsafe-test-roots", stage.roots_file, "--offline")
    given = [each for name, path in names.items() for each in (f"--{name}", path)]
    made = cli("verify", "--attestation", stage.good, *given, "--save", saved, *roots)
    again = cli("verify", saved, *roots)
    assert (made.code, again.code) == (0, 0), made.err + again.err + again.out
    assert cli("verify", stage.good, "--save", saved, *roots).code == 64
