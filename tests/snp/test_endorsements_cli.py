"""``teeverify endorsements`` for AMD's chips: fetch, show, export, import, prune."""

from __future__ import annotations

from datetime import timedelta

import pytest

from teeverify.cli import endorsements_amd
from teeverify.cli.main import main
from teeverify.clock import now
from teeverify.simulator.amd import Amd
from teeverify.simulator.amd_service import KeyService, Reply
from teeverify.simulator.google import Google
from teeverify.snp.kds import firmware_questions

from .key_service import TlsService

pytestmark = pytest.mark.network
MEASUREMENT = b"\x05" * 48
ROOT = "/cloud_integrity/GCE-cc-tcb-root_1.crt"


class Stage:
    """A fake AMD and Google behind a socket, a report, and the command line."""

    def __init__(self, amd, google, folder, capsys):
        self.amd, self.google, self.folder, self.capsys = amd, google, folder, capsys
        self.report = folder / "report.bin"
        self.report.write_bytes(amd.report(measurement=MEASUREMENT, policy=0x20000))
        self.roots = folder / "roots.pem"
        self.roots.write_bytes(amd.roots_pem() + google.roots_pem())
        endorsement, root = firmware_questions(MEASUREMENT, base="", root_url=ROOT)
        self.kds = KeyService([amd], replies={
            endorsement.url: Reply(status=200, body=google.endorsement({2: MEASUREMENT})),
            root.url: Reply(status=200, body=google.root),
        })  # fmt: skip
        self.tls = TlsService(self.kds, folder)

    def run(self, *arguments):
        self.capsys.readouterr()
        try:
            code = main([*map(str, arguments)])
        except SystemExit as stop:
            code = stop.code
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    def endorsements(self, verb, *arguments):
        return self.run("endorsements", verb, *arguments, "--cache", self.folder / "cache")

    def fetch(self, *arguments):
        where = ("--kds", self.tls.base, "--ca-file", self.tls.ca_file, "--timeout", "10")
        return self.endorsements("fetch", *arguments, *where)

    def verify(self, *arguments):
        return self.run("verify", self.report, "--for", "evidence", "--offline",
                        "--unsafe-test-roots", self.roots, *arguments)  # fmt: skip


@pytest.fixture(scope="module")
def amd(keys):
    return Amd(at=now(), keys=keys)


@pytest.fixture(scope="module")
def google():
    return Google(at=now())


@pytest.fixture
def stage(amd, google, tmp_path, capsys, monkeypatch):
    made = Stage(amd, google, tmp_path, capsys)

    def questions(measurement):
        base = made.tls.base
        return firmware_questions(measurement, base=base, root_url=base + ROOT)

    monkeypatch.setattr(endorsements_amd, "firmware_questions", questions)
    with made.tls:
        yield made


def test_by_report(stage):
    bundle = stage.folder / "amd.json"
    code, out, _ = stage.fetch(stage.report, "--to", bundle)
    assert code == 0
    for what in ("VCEK of Milan", "CA SEV-Milan", "CA ARK-Milan", "revocation list, 0 revoked",
                 "3 answers written"):  # fmt: skip
        assert what in out
    assert "in force" in out
    assert stage.verify()[0] == 3  # nothing is found by itself offline
    assert stage.verify("--endorsements", bundle)[0] == 0


def test_a_cached_answer_is_verified_again(stage, make_forge):
    """What is kept is no more trusted than what is fetched."""
    bundle = stage.folder / "amd.json"
    stage.fetch(stage.report, "--to", bundle)
    stranger = make_forge().amd.vcek
    stage.kds._replies[f"/vcek/v1/Milan/{stage.amd.hwid.hex()}"] = Reply(status=200, body=stranger)
    assert stage.fetch(stage.report, "--to", bundle)[0] == 0
    assert stage.verify("--endorsements", bundle)[0] == 2


def test_by_chip(stage):
    bundle = stage.folder / "amd.json"
    tcb = "bootloader=4 tee=0 snp=29 microcode=222"
    chip = ("--chip", stage.amd.hwid.hex(), "--product", "Milan", "--tcb", tcb, "--to", bundle)
    code, out, _ = stage.fetch(*chip)
    assert code == 0
    assert tcb in out
    assert stage.verify("--endorsements", bundle)[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--chip", "00" * 64),
        ("--chip", "00" * 64, "--product", "Milan"),
        ("--chip", "00" * 64, "--product", "Turin", "--tcb", "snp=1"),
        ("--chip", "xyz", "--product", "Milan", "--tcb", "bootloader=4 tee=0 snp=29 microcode=1"),
        ("--chip", "00" * 64, "--product", "Milan", "--tcb", "bootloader=4 tee=0 snp=29"),
        (
            "--chip",
            "00" * 64,
            "--product",
            "Milan",
            "--tcb",
            "snp=999 bootloader=4 tee=0 microcode=1",
        ),
        (
            "--chip",
            "00" * 64,
            "--product",
            "Milan",
            "--tcb",
            "snp=x bootloader=4 tee=0 microcode=1",
        ),
        ("--chip", "00" * 64, "--product", "Naples", "--tcb", "snp=1"),
        ("--chip", "00" * 64, "--fmspc", "00" * 6),
    ],
)
def test_wrong_use(stage, arguments):
    code, _, err = stage.fetch(*arguments)
    assert code == 64, err
    assert stage.kds.asked == []


def test_version_2_names_no_product(stage):
    stage.report.write_bytes(stage.amd.report(version=2))
    code, _, err = stage.fetch(stage.report)
    assert code == 3
    assert "--product" in err
    assert stage.fetch(stage.report, "--product", "Milan")[0] == 0
    assert stage.kds.asked[-1][1].startswith(f"/vcek/v1/Milan/{stage.amd.hwid.hex()}?")


def test_vlek(stage):
    """The cloud's certificate is not AMD's to give: the list and the CAs are."""
    stage.report.write_bytes(stage.amd.report(signer="VLEK"))
    code, out, _ = stage.fetch(stage.report)
    assert code == 0
    assert "CA SEV-VLEK-Milan" in out
    assert len(stage.kds.asked) == 2


def test_firmware(stage):
    bundle = stage.folder / "amd.json"
    code, out, _ = stage.fetch(stage.report, "--firmware", "--to", bundle)
    assert code == 0
    assert "Google's endorsement of firmware fdfdfdfdfdfdfdfd…, version 3" in out
    policy = stage.folder / "google.toml"
    policy.write_text('extends = "genuine"\n[snp]\nfirmware_by = ["Google"]\n')
    assert stage.verify("--endorsements", bundle, "--policy", policy)[0] == 0
    stage.fetch(stage.report, "--to", bundle)
    code, out, _ = stage.verify("--endorsements", bundle, "--policy", policy)
    assert code == 3
    assert "endorsement by Google is not at hand" in " ".join(out.split())


def test_show_export_import_prune(stage):
    assert "nothing here was verified" in stage.endorsements("show")[1]
    stage.fetch(stage.report, "--firmware")
    out = stage.endorsements("show")[1]
    for what in ("VCEK of Milan", "revocation list", "CA ARK-Milan", "Google's endorsement"):
        assert what in out
    bundle = stage.folder / "all.json"
    assert stage.endorsements("export", bundle)[0] == 0
    assert "VCEK of Milan" in stage.endorsements("show", bundle)[1]
    again = ("--cache", stage.folder / "again")
    code, out, _ = stage.run("endorsements", "import", bundle, *again)
    assert code == 0
    assert "VCEK of Milan" in out
    assert "0 answers forgotten" in stage.run("endorsements", "prune", *again)[1]
    later = (now() + timedelta(days=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert "1 answer forgotten" in stage.run("endorsements", "prune", "--at", later, *again)[1]
    out = stage.run("endorsements", "show", *again)[1]
    assert "revocation list" not in out
    assert "VCEK of Milan" in out


def test_an_answer_that_cannot_be_read_is_not_kept(stage):
    stage.kds._replies["/vcek/v1/Milan/crl"] = Reply(status=200, body=b"<html>busy</html>")
    code, _, _ = stage.fetch(stage.report)
    assert code == 2
    assert "revocation list" not in stage.endorsements("show")[1]


def test_busy(stage, monkeypatch):
    monkeypatch.setattr(endorsements_amd, "_BACKOFF", (0.01,))
    stage.kds.busy = 9
    code, _, err = stage.fetch(stage.report)
    assert code == 3
    assert "too many questions" in err


def test_a_source_without_any(stage):
    other = stage.folder / "other.json"
    other.write_text("[]")
    assert stage.fetch(other)[0] in (2, 64)
