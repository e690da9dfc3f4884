"""The benchmark, as a user runs it, against the reference server."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from teeverify.bench.attest import measure_attestation
from teeverify.bench.load import Lane, Load, Target
from teeverify.bench.pool import Pool
from teeverify.bench.up import bring_up
from teeverify.bench.verification import AnswerVerifier
from teeverify.bench.workload import words_of
from teeverify.cli.bench import add_bench
from teeverify.cli.bench_plan import targets_of
from teeverify.cli.main import main
from teeverify.errors import ConfigurationError, EndpointUnavailable, EvidenceError
from teeverify.testing.server import running

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def server():
    pytest.importorskip("uvicorn", reason="needs teeverify[server]")
    with running(gpus=1) as ready:
        yield ready


@pytest.fixture
def target(server):
    return Target(name="served", url=server.url, model=server.model)


def test_every_answer_is_verified_and_a_changed_one_is_counted(server, target, pool):
    verifier = AnswerVerifier("genuine", server.roots)
    assert verifier.attest(target)["simulated"] is True
    asks = [words_of(5, number) for number in range(4)]
    lane = Lane(target=target, asks=asks, keep=True)
    (samples,) = pool.generate([lane], Load(batch=2), timeout=30.0)
    found = verifier(target, samples[:2])
    assert (found["verified"], found["refused"]) == (2.0, 0.0)
    assert found["p50_ms"] > 0
    assert (found["cpu"], found["gpu"]) == (0.0, 0.0)  # test roots prove nothing
    changed = replace(samples[2], response=samples[2].response.replace(b"data: ", b"data:  ", 1))
    found = verifier(target, [changed, samples[3]])
    assert (found["verified"], found["refused"]) == (1.0, 1.0)
    assert len(verifier.refused) == 1


def test_without_the_test_roots_nothing_is_attested(target):
    with pytest.raises(EvidenceError):
        AnswerVerifier().attest(target)


def test_attestation_is_timed(server, target):
    costs = measure_attestation(target, rounds=3, roots=server.roots)
    names = [cost.name for cost in costs]
    assert names[:3] == ["evidence", "session, cold", "session, warm"]
    assert names[-1] == "answer verified"
    assert all(0 < cost.least <= cost.median <= cost.most for cost in costs)


def test_the_command_line_from_run_to_report(server, tmp_path, capsys, pool):
    pytest.importorskip("matplotlib", reason="needs teeverify[bench]")
    out = tmp_path / "bench"
    run = [
        "bench", "run", "--target", f"raw={server.url}", "--target", f"served={server.url}",
        "--verify", "served", "--unsafe-test-roots", str(server.roots_file), "--workload", "5+8",
        "--batch", "2", "--budget", "0", "--block", "0.05", "--min-blocks", "2", "--processes",
        "1", "--weights", "dummy", "--out", str(out),
    ]  # fmt: skip
    assert main(run) == 0
    result = out / "result.json"
    document = json.loads(result.read_text())
    assert document["targets"]["served"]["attestation"]["simulated"] is True
    assert "TEE on" not in document["tee"]
    assert all(
        block["verified"]["refused"] == 0
        for block in document["blocks"]
        if block["target"] == "served"
    )
    assert "overhead" in (out / "report.md").read_text().lower()
    assert (out / "report.html").stat().st_size > 1000
    assert "--api-key" not in json.dumps(document)
    assert main(["bench", "report", str(result), str(result), "--out", str(tmp_path / "r")]) == 0
    assert len(json.loads((tmp_path / "r" / "report.json").read_text())["results"]) == 2
    assert main(["bench", "report", str(result), "--out", str(result)]) == 64
    assert main(["bench", "compare", str(result), str(result), "--target", "raw"]) == 0
    assert "Not interleaved" in capsys.readouterr().out
    assert main(run) == 0  # everything is there already
    assert "measured before" in capsys.readouterr().err
    assert document["ended"] == {"5+8, batch 2": "budget"}
    assert main([*run, "--min-blocks", "3"]) == 64
    assert "another plan" in capsys.readouterr().err


def test_an_answer_that_is_not_verified_ends_with_exit_code_2(tmp_path, capsys):
    pytest.importorskip("uvicorn", reason="needs teeverify[server]")
    pytest.importorskip("aiohttp", reason="needs teeverify[bench]")
    pytest.importorskip("matplotlib", reason="needs teeverify[bench]")
    with running(gpus=1, fault="other-key") as faulty:
        run = [
            "bench", "run", "--target", f"served={faulty.url}", "--verify", "served",
            "--unsafe-test-roots", str(faulty.roots_file), "--workload", "5+8", "--batch", "1",
            "--budget", "0", "--block", "0.05", "--min-blocks", "2", "--processes", "1", "--out",
            str(tmp_path),
        ]  # fmt: skip
        assert main(run) == 2
        assert "not verified: served: " in capsys.readouterr().err
        assert main(run) == 2  # nothing is measured again, and it is not forgotten


def test_a_run_that_breaks_off_reports_what_it_has(server, tmp_path, capsys, monkeypatch, pool):
    pytest.importorskip("matplotlib", reason="needs teeverify[bench]")
    generate, calls = Pool.generate, []

    def breaks_off(self, lanes, load, **options):
        calls.append(lanes)
        if len(calls) > 12:
            raise EndpointUnavailable("served does not answer", id="endpoint.unreachable")
        return generate(self, lanes, load, **options)

    monkeypatch.setattr(Pool, "generate", breaks_off)
    run = [
        "bench", "run", "--target", f"raw={server.url}", "--target", f"served={server.url}",
        "--workload", "5+8", "--batch", "2", "--budget", "0", "--block", "0.05", "--processes",
        "1", "--out", str(tmp_path),
    ]  # fmt: skip
    assert main(run) == 3
    assert "served does not answer" in capsys.readouterr().err
    document = json.loads((tmp_path / "result.json").read_text())
    assert 0 < len(document["blocks"]) < 10
    assert "Not finished" in (tmp_path / "report.md").read_text()


def test_each_target_has_its_own_model_and_key(monkeypatch):
    parser = argparse.ArgumentParser()
    add_bench(parser)
    names = ["--target", "a=http://a/v1", "--target", "b=http://b/v1"]
    models = ["--model", "big", "--model", "b=org/small"]
    monkeypatch.setenv("TEEVERIFY_BENCH_API_KEY", "for one target only")
    monkeypatch.setenv("TEEVERIFY_BENCH_API_KEY_B", "of b")
    options = parser.parse_args(["run", *names, *models, "--out", "x"])
    first, second = targets_of(options)
    assert (first.model, first.api_key) == ("big", None)
    assert (second.model, second.api_key) == ("org/small", "of b")
    (alone,) = targets_of(parser.parse_args(["run", *names[:2], "--out", "x"]))
    assert (alone.model, alone.api_key) == ("default", "for one target only")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--target", "nonsense"],
        ["--target", "raw=ftp://x/v1"],
        ["--target", "raw=http://127.0.0.1:9/v1", "--batch", "0"],
        ["--target", "raw=http://127.0.0.1:9/v1", "--rate", "-1"],
        ["--target", "raw=http://127.0.0.1:9/v1", "--workload", "tall"],
        ["--target", "raw=http://127.0.0.1:9/v1", "--verify", "other"],
        ["--target", "raw=http://127.0.0.1:9/v1", "--target", "raw=http://127.0.0.1:9/v1"],
        ["--target", "raw=http://127.0.0.1:9/v1", "--model-config", "/nowhere.json"],
        *(
            ["--target", "raw=http://127.0.0.1:9/v1", *wrong.split()]
            for wrong in (
                "--narrow -3", "--narrow nan", "--total nan", "--total -1", "--total 0",
                "--total inf", "--budget -5", "--budget nan", "--block 0", "--block -1",
                "--processes 0", "--processes -2", "--min-blocks 0", "--rate nan", "--rate 0",
                "--model b=x", "--model raw=", "--model raw=x --model raw=y",
                "--model x --model y", "--workload short --workload short",
            )
        ),
    ],
)  # fmt: skip
def test_wrong_use(arguments, tmp_path, capsys):
    code = main(["bench", "run", *arguments, "--out", str(tmp_path)])
    error = capsys.readouterr().err
    if "/nowhere.json" in arguments:
        assert code in {3, 64}  # nothing listens there either
    else:
        assert code == 64
    assert error.startswith("teeverify: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["attest", "http://127.0.0.1:9/v1", "--rounds", "-1"],
        ["attest", "http://127.0.0.1:9/v1", "--rounds", "1"],
        ["up", "nowhere", "--timeout", "nan"],
        ["up", "nowhere", "--timeout", "0"],
    ],
)
def test_wrong_use_of_the_other_verbs(arguments, capsys):
    assert main(["bench", *arguments]) == 64
    error = capsys.readouterr().err
    assert " is out of range; got " in error
    assert error.count("\n") == 1


@pytest.fixture
def other_model():
    """An endpoint that knows another model than the one it is asked for."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(200 if self.path == "/v1/models" else 404)

        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(404)

        def answer(self, status):
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}/v1"
        http.shutdown()


def test_a_model_that_the_endpoint_does_not_know_is_named(other_model, tmp_path, capsys, pool):
    run = ["bench", "run", "--target", f"raw={other_model}", "--model", "mistyped"]
    fast = ["--total", "0.01", "--processes", "1", "--batch", "1", "--workload", "5+8"]
    assert main([*run, *fast, "--out", str(tmp_path)]) == 3
    error = capsys.readouterr().err
    assert "teeverify: raw answers HTTP 404 to model 'mistyped'; got " in error
    assert "Give --model the name that it serves." in error
    assert main([*run, *fast, "--verify", "raw", "--out", str(tmp_path / "verified")]) == 3
    assert "for model 'mistyped'" in capsys.readouterr().err
    assert main(["bench", "attest", other_model, "--model", "mistyped"]) == 3
    assert "for model 'mistyped'" in capsys.readouterr().err


def test_the_corrected_command_is_no_other_plan(
    other_model, server, tmp_path, capsys, pool, monkeypatch
):
    """A first URL that answers nobody leaves nothing behind that binds."""
    monkeypatch.setattr("teeverify.bench.run._WAIT_SECONDS", 0.0)
    pytest.importorskip("matplotlib", reason="needs teeverify[bench]")
    for url, code in (("http://127.0.0.1:9/v1", 3), (other_model, 3), (server.url, 0)):
        run = [
            "bench", "run", "--target", f"raw={url}", "--workload", "5+8", "--batch", "1",
            "--budget", "0", "--block", "0.05", "--min-blocks", "1", "--processes", "1",
            "--out", str(tmp_path),
        ]  # fmt: skip
        assert main(run) == code
    assert "another plan" not in capsys.readouterr().err


def test_a_run_that_measured_nothing_does_not_end_well(server, tmp_path, capsys, monkeypatch, pool):
    monkeypatch.setattr("teeverify.bench.run.run_plan", lambda *_, **__: None)
    run = ["bench", "run", "--target", f"raw={server.url}", "--processes", "1"]
    assert main([*run, "--out", str(tmp_path)]) == 64
    assert "the time was up before anything was measured" in capsys.readouterr().err


def test_an_endpoint_that_is_not_there(tmp_path, capsys):
    code = main(["bench", "run", "--target", "raw=http://127.0.0.1:9/v1", "--out", str(tmp_path)])
    assert code == 3
    assert "raw does not answer" in capsys.readouterr().err


def test_bringing_up_what_cannot_start(tmp_path):
    with pytest.raises(ConfigurationError, match="no such model"), bring_up(tmp_path, say=print):
        pass
    (tmp_path / "config.json").write_text("{}")
    with (
        pytest.raises(ConfigurationError, match="cannot be started"),
        bring_up(tmp_path, command="/nowhere/vllm serve", say=print),
    ):
        pass
    with (
        pytest.raises(EndpointUnavailable, match="ended at its start"),
        bring_up(tmp_path, command="false", say=print),
    ):
        pass
    with (
        pytest.raises(EndpointUnavailable, match="is not ready in time"),
        bring_up(tmp_path, command="sh -c 'sleep 30'", timeout=0.5, say=print),
    ):
        pass


def test_what_was_brought_up_ends_with_the_command(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    ready = f"echo $CUDA_VISIBLE_DEVICES > {tmp_path / 'gpu'}; echo $$ > {tmp_path / 'pid'}"
    command = f"env CUDA_VISIBLE_DEVICES=1 sh -c '{ready}; exec sleep 60' serve"
    up = [sys.executable, "-m", "teeverify.cli.main", "bench", "up", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([*up, "--vllm-command", command], env=environment) as process:
        engine = None
        for _ in range(600):
            time.sleep(0.05)
            engine = (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else ""
            if engine.endswith("\n"):
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
    assert not Path(f"/proc/{int(engine)}").exists()
    assert (tmp_path / "gpu").read_text() == "1\n"
