"""Flags, exit codes and streams of the command line."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys

import pytest

from teeverify import errors
from teeverify.appraisal import Policy
from teeverify.appraisal.checks import CATALOG
from teeverify.appraisal.checks.problems import PROBLEMS
from teeverify.appraisal.observation import CLAIM_QUESTIONS
from teeverify.cli.commands import COMMANDS
from teeverify.cli.faces import use_colour, width_of
from teeverify.cli.parser import build_parser
from teeverify.endorsements.store import default_folder
from teeverify.providers import DIALECTS
from teeverify.roots import EMBEDDED
from teeverify.testing import FAULTS

USAGE = 64


# --- wrong use -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["verfy"],
        ["verify"],
        ["verify", "--offline"],
        ["verify", "--json"],
        ["verify", "GOOD", "--no-such-flag"],
        ["verify", "GOOD", "--strict"],
        ["verify", "GOOD", "--polic", "strict"],
        ["verify", "GOOD", "--un", "ROOTS"],
        ["verify", "GOOD", "--unsafe-test-root", "ROOTS"],
        ["verify", "GOOD", "--policy"],
        ["verify", "GOOD", "--policy", "lax"],
        ["verify", "GOOD", "--policy", ""],
        ["verify", "GOOD", "--for", "anything"],
        ["verify", "GOOD", "--for", ""],
        ["verify", "GOOD", "--nonce", ""],
        ["verify", "GOOD", "--nonce", "00"],
        ["verify", "GOOD", "--nonce", "0x" + "00" * 32],
        ["verify", "GOOD", "--nonce", "00" * 31 + "zz"],
        ["verify", "GOOD", "--nonce", " " + "00" * 32],
        ["verify", "GOOD", "--at", ""],
        ["verify", "GOOD", "--at", "now"],
        ["verify", "GOOD", "--at", "2026-06-29"],
        ["verify", "GOOD", "--at", "2026-06-29T02:06:57"],
        ["verify", "GOOD", "--at", "1782698817"],
        ["verify", "GOOD", "--dialect", "openai"],
        ["verify", "GOOD", "--dialect", ""],
        ["verify", "GOOD", "--endorsements", "/no/such/path"],
        ["verify", "GOOD", "--endorsements", "EMPTY"],
        ["verify", "GOOD", "--unsafe-test-roots", "/no/such/path"],
        ["verify", "GOOD", "--allow-attested-later", "-1"],
        ["verify", "GOOD", "--allow-attested-later", "1.5"],
        ["verify", "GOOD", "--allow-attested-later", "\u0661"],
        ["verify", "GOOD", "--allow-attested-later", "100000"],
        ["verify", "GOOD", "--allow-attested-later", "forever"],
        ["verify", "GOOD", "--attestation", "GOOD"],
        ["verify", "GOOD", "--answer", "/no/such/file"],
        ["verify", "GOOD", "--request", "/no/such/file"],
        ["verify", "GOOD", "--signature", "/no/such/file"],
        ["verify", "/no/such/file"],
        ["verify", "http://example.com/v1"],
        ["ask"],
        ["ask", "http://127.0.0.1:1/v1", "hello"],
        ["ask", "http://127.0.0.1:1/v1", " ", "--model", "m"],
        ["diff", "GOOD"],
        ["timestamp"],
        ["timestamp", "/no/such/file"],
        ["doctor", "x"],
        ["show"],
        ["show", "/no/such/file"],
        ["explain"],
        ["explain", "gpu.magic"],
        ["explain", ""],
        ["explain", "gpu_link", "/no/such/file"],
        ["explain", "gpu_link", "https://example.com/v1"],
        ["policy"],
        ["policy", "show", "lax"],
        ["policy", "check"],
        ["policy", "check", "/no/such/file"],
        ["policy", "pin"],
        ["policy", "pin", "/no/such/file"],
        ["providers", "extra"],
        ["serve", "--port", "abc"],
        ["verify", "--no\nsuch"],
        ["no-such-command"],
    ],
    ids=" ".join,
)
def test_wrong_use(cli, stage, tmp_path, arguments):
    """Exit 64, never argparse's own 2, which means 'wrong, do not use'; and no verdict."""
    (tmp_path / "empty").mkdir()
    names = {"GOOD": stage.good, "ROOTS": stage.roots_file, "EMPTY": tmp_path / "empty"}
    ran = cli(*(names.get(each, each) for each in arguments))
    assert (ran.code, ran.out) == (USAGE, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("teeverify")


def test_help_and_version(cli):
    assert cli("--version").out.startswith("teeverify ")
    for command in ([], ["policy", "pin"], ["endorsements", "fetch"], *([c] for c in COMMANDS)):
        ran = cli(*command, "--help")
        assert (ran.code, ran.err) == (0, "")
        assert "exit codes: 0 " in ran.out


def test_every_argument_says_what_it_is():
    unsaid = [each for each in _unsaid(build_parser(), "") if not each.startswith(" bench ")]
    assert unsaid == []


def _unsaid(parser, name):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb, inner in action.choices.items():
                yield from _unsaid(inner, f"{name} {verb}")
        elif action.help is None:
            yield f"{name} {action.dest}"


# --- verdicts ------------------------------------------------------------------------------------


def test_the_verdict_goes_to_stdout(cli, stage):
    for arguments, code in (
        ([], 0),
        (["--policy", "strict"], 1),
        (["--nonce", "00" * 32], 2),
        (["--at", "2027-01-01T00:00:00Z"], 3),
    ):
        ran = cli("verify", stage.good, "--unsafe-test-roots", stage.roots_file, *arguments)
        assert (ran.code, ran.err) == (code, "")
        assert ran.out.startswith("SIMULATED. ")


def test_json_is_one_object(cli, stage):
    for arguments in ([], ["--policy", "strict"], ["--nonce", "00" * 32], ["--all"]):
        ran = cli("verify", stage.good, "--unsafe-test-roots", stage.roots_file, "--json",
                  *arguments)  # fmt: skip
        shown = json.loads(ran.out)
        assert shown["exit_code"] == ran.code
        assert shown["schema"] == "teeverify.result/1-simulated"


def test_of_many_sources_the_worst(cli, stage, tmp_path):
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"rubbish")
    undecided = stage.capture(nras=None)
    refused = stage.near(model={"nvidia_payload": None})
    for sources, code in (
        ([stage.good, stage.good], 0),
        ([stage.good, refused], 1),
        ([refused, undecided, stage.good], 3),
        ([stage.good, undecided, rubbish], 2),
        ([rubbish, refused], 2),
    ):
        given = (*sources, "--unsafe-test-roots", stage.roots_file)
        ran = cli("verify", *given)
        assert ran.code == code
        assert all(str(source) in ran.out for source in sources)
        shown = json.loads(cli("verify", *given, "--json").out)
        assert shown["exit_code"] == code
        assert [each["source"] for each in shown["results"]] == [str(each) for each in sources]


def test_a_source_that_is_no_evidence_keeps_its_verdict(cli, tmp_path):
    """Where a report was asked for too, of which there is none."""
    rubbish, page, key = tmp_path / "rubbish", tmp_path / "report.html", tmp_path / "key.pem"
    rubbish.write_bytes(b"rubbish")
    ran = cli("verify", rubbish, "--html", page, "--ear", tmp_path / "ear", "--ear-key", key)
    assert ran.code == 2
    assert ran.out.startswith("Refused: ")
    assert "no report is written" in ran.err
    assert not page.exists()


def test_one_wrong_argument_stops_all_sources(cli, stage):
    ran = cli("verify", stage.good, "/no/such/file", "--unsafe-test-roots", stage.roots_file)
    assert (ran.code, ran.out) == (USAGE, "")


def set_command(monkeypatch, run):
    """What ``verify`` does instead."""
    monkeypatch.setitem(COMMANDS, "verify", COMMANDS["verify"]._replace(run=run))


def test_a_bug_of_ours_is_no_verdict(cli, stage, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    set_command(monkeypatch, broken)
    ran = cli("verify", stage.good)
    assert (ran.code, ran.out) == (70, "")
    assert "nothing was verified" in ran.err


def test_interrupted(cli, stage, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    set_command(monkeypatch, interrupted)
    ran = cli("verify", stage.good)
    assert (ran.code, ran.out) == (130, "")


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as POSIX has them")
def test_interrupted_while_it_still_loads():
    program = (
        "import os, signal, sys\n"
        "from teeverify.cli.main import main\n"
        "class Loading:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'teeverify.cli.commands':\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.meta_path.insert(0, Loading())\n"
        "sys.exit(main(['--version']))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (ran.returncode, ran.stdout) == (130, b"")
    assert ran.stderr == b"teeverify: interrupted\n"


def test_as_a_module(stage):
    command = [sys.executable, "-m", "teeverify", "verify", str(stage.good), "--offline"]
    ran = subprocess.run(command, capture_output=True, check=False)
    assert ran.returncode == 2
    assert ran.stdout.startswith(b"Refused: ")


class Terminal(io.StringIO):
    """A terminal that can show what its encoding can."""

    def __init__(self, encoding):
        super().__init__()
        self._encoding = encoding

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return True


def test_colours_and_signs_only_where_they_can_be_seen(monkeypatch):
    """On a terminal without Unicode both signs would be a question mark."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert use_colour(Terminal("utf-8"))
    assert not use_colour(Terminal("ascii"))
    assert not use_colour(Terminal("cp1252"))
    assert not use_colour(Terminal("no-such-encoding"))
    assert not use_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not use_colour(Terminal("utf-8"))


def test_lines_are_as_long_as_the_terminal_is_wide(monkeypatch):
    for columns, width in (("60", 60), ("300", 100)):
        monkeypatch.setenv("COLUMNS", columns)
        assert width_of(Terminal("utf-8")) == width
        assert width_of(io.StringIO()) == 100


def test_a_terminal_without_unicode_still_gets_its_verdict(stage):
    command = [sys.executable, "-m", "teeverify.cli.main", "verify", str(stage.good),
               "--unsafe-test-roots", str(stage.roots_file)]  # fmt: skip
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    ran = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert ran.returncode == 0
    assert ran.stdout.isascii()
    assert b"Genuine, but" in ran.stdout


def test_a_reader_who_leaves(stage):
    command = [sys.executable, "-m", "teeverify.cli.main", "verify", str(stage.good), "--all",
               "--unsafe-test-roots", str(stage.roots_file)]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        process.wait()
        assert b"Traceback" not in process.stderr.read()


# --- the other commands --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [*CLAIM_QUESTIONS, *CATALOG, *PROBLEMS, *FAULTS, *errors.__all__, "[tdx.tcb]"]
)
def test_explain(cli, name):
    ran = cli("explain", name)
    assert (ran.code, ran.err) == (0, "")
    assert name.strip("[]") in ran.out
    assert "proves" in ran.out or "means" in ran.out
    assert "to do" in ran.out


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("GPU_LINK", "gpu_link"),
        ("gpulink", "gpu_link"),
        ("tdx.debug", "tdx.debug-disabled"),
        ("usage.polcy", "usage.policy"),
        ("endorsementunavailable", "EndorsementUnavailable"),
        ("debug td", "debug-td"),
    ],
)
def test_a_name_that_is_nearly_right(cli, name, nearest):
    ran = cli("explain", name)
    assert ran.code == USAGE
    assert f"want {nearest}" in ran.err


def test_explain_says_what_was_found_in_a_source(cli, stage):
    roots = ("--unsafe-test-roots", stage.roots_file)
    ran = cli("explain", "freshness.nonce", stage.good, "--nonce", "00" * 32, *roots)
    assert ran.code == 2
    assert ran.out.startswith("SIMULATED. ")
    assert "freshness.nonce" in ran.out
    assert f"want {'00' * 32}" in ran.out
    assert "proves" in ran.out
    claim = cli("explain", "gpu_link", stage.good, *roots)
    assert claim.code == 0
    assert "got  same-nonce" in claim.out
    unseen = cli("explain", "answer.fresh", stage.good, *roots)
    assert "Nothing was found there about answer.fresh" in unseen.out
    assert cli("explain", "gpu_link", stage.good).code == 2  # the vendors' roots
    assert cli("explain", "gpu_link", stage.good, *roots, "--policy", "strict").code == 1


def test_doctor(cli, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret-canary@proxy.example:3128")
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    ran = cli("doctor")
    assert (ran.code, ran.err) == (0, "")
    assert "proxy.example:3128" in ran.out
    assert "secret-canary" not in ran.out
    for anchor in EMBEDDED.intel + EMBEDDED.amd:
        assert anchor.fingerprint in ran.out
    shown = json.loads(cli("doctor", "--json").out)
    assert shown["good"] is True
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
    odd = cli("doctor")
    assert odd.code == 1
    assert "ODD: there is nothing at this path" in odd.out


def test_doctor_sees_a_wrong_clock_and_an_open_cache(tmp_path, monkeypatch):
    from datetime import datetime, timezone

    from teeverify.cli.doctor import examine

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = default_folder()
    folder.mkdir(parents=True)
    (folder / "x").write_text("x")
    folder.chmod(0o777)
    lines = list(examine(datetime(2020, 1, 1, tzinfo=timezone.utc)))
    problems = {line.name: line.problem for line in lines if line.problem}
    assert set(problems) == {"now", "folder", "newest file"}
    folder.chmod(0o700)


@pytest.mark.parametrize("there", [True, False])
def test_doctor_sees_a_cache_that_cannot_be_written(tmp_path, monkeypatch, there):
    from datetime import datetime, timezone

    from teeverify.cli.doctor import examine

    monkeypatch.setenv("TEEVERIFY_CACHE", str(tmp_path if there else tmp_path / "a" / "b"))
    lines = list(examine(datetime.now(timezone.utc)))
    assert not [line for line in lines if line.topic == "cache" and line.problem]
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    odd = [line for line in examine(datetime.now(timezone.utc)) if line.topic == "cache"]
    assert "TEEVERIFY_CACHE" in odd[0].problem
    monkeypatch.undo()
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("TEEVERIFY_CACHE", str(tmp_path / "file" / "cache"))
    blocked = [line for line in examine(datetime.now(timezone.utc)) if line.topic == "cache"]
    assert "cannot be made" in blocked[0].problem


@pytest.mark.parametrize("name", ["genuine", "strict"])
def test_a_policy_that_is_shown_can_be_used(cli, tmp_path, name):
    ran = cli("policy", "show", name)
    assert ran.code == 0
    assert Policy.of(name).hash in ran.out
    file = tmp_path / "policy.toml"
    file.write_text(ran.out)
    checked = cli("policy", "check", file)
    assert checked.code == 0
    assert Policy.of(name).hash in checked.out
    assert f"extends {name}" in checked.out


def test_providers(cli):
    ran = cli("providers")
    assert ran.code == 0
    assert all(name in ran.out for name in DIALECTS)


def test_show_verifies_nothing_and_says_so(cli, stage):
    for folder in (stage.good, stage.near(model={"quote": {"debug": True}})):
        ran = cli("show", folder)
        assert (ran.code, ran.err) == (0, "")
        assert "nothing here was verified" in ran.out
        assert "genuine" not in ran.out.lower()
        for part in ("TDX quote", "event log", "GPU evidence", "Intel endorsements"):
            assert part in ran.out


def test_diff_names_the_source_that_cannot_be_read(cli, stage, tmp_path):
    file = tmp_path / "rubbish"
    file.write_bytes(b"rubbish")
    ran = cli("diff", stage.good, file, "--unsafe-test-roots", stage.roots_file)
    assert ran.code == 2
    assert ran.out.startswith("- SIMULATED. ")
    assert "\n+ Refused: unsupported evidence format" in ran.out


def test_show_refuses_what_cannot_be_read(cli, tmp_path):
    file = tmp_path / "rubbish"
    file.write_bytes(b"rubbish")
    assert cli("show", file).code == 2
