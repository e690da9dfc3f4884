"""``serve --tee`` and ``doctor --enclave``, with a machine's interfaces at their real paths."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import teeverify
from teeverify.roots import UnsafeTestRoots

HERE = Path(__file__).parent
SERVE = (sys.executable, "-m", "teeverify.cli.main", "serve")
SECONDS = 60

pytestmark = pytest.mark.network


@pytest.fixture
def around(tmp_path, nvml_library, serve, need):
    """Runs commands on a fake machine."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0:
        need("tee", "mounting needs root and /dev/fuse")
    pytest.importorskip("mfusepy", reason="mfusepy is not installed")
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    if tried.returncode:
        need("tee", f"no mounts of our own here: {tried.stderr.decode()}")
    package = str(Path(teeverify.__file__).parent.parent)
    environment = {
        **os.environ,
        "PYTHONPATH": package,
        "LD_LIBRARY_PATH": str(nvml_library.parent),
        "TEEVERIFY_TEST_NVML": str(tmp_path / "driver.sock"),
    }

    @contextlib.contextmanager
    def run(kind, *arguments, gpus=2, command=SERVE):
        whole = [sys.executable, HERE / "machine_around.py", tmp_path, kind, str(gpus)]
        process = subprocess.Popen(
            [*whole, *command, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        late = threading.Timer(SECONDS, process.kill)
        late.start()
        try:
            yield process
        finally:
            late.cancel()
            process.terminate()
            process.communicate()

    return run


def finished(process):
    out, errors = process.communicate(timeout=SECONDS)
    return process.returncode, out, errors


@pytest.mark.parametrize(
    ("kind", "dialect"),
    [
        ("dstack", "dstack"),
        ("dstack", "phala"),
        ("dstack", "teeverify/1"),
        ("tsm-tdx", "teeverify/1"),
        ("tsm-snp", "teeverify/1"),
    ],
)
def test_a_client_verifies_answers_of_a_machine(around, tmp_path, kind, dialect):
    pytest.importorskip("openai", reason="the extra 'openai' is not installed")
    cpu = "amd" if kind == "tsm-snp" else "intel.json"
    with around(kind, "--tee", "auto", "--dialect", dialect) as process:
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), process.stderr.read()
        with teeverify.OpenAI(
            base_url=url,
            api_key="unused",
            dialect=dialect,
            roots=UnsafeTestRoots.load(tmp_path / "roots.pem"),
            endorsements=[tmp_path / cpu, tmp_path / "nvidia"],
            policy="genuine",
            max_retries=0,
        ) as client:
            messages = [{"role": "user", "content": "Say hello."}]
            answer = client.chat.completions.create(model="default", messages=messages)
            assert answer.choices[0].message.content
            assert client.receipts[answer.id].signer


@pytest.mark.parametrize(
    ("kind", "platform"), [("tsm-tdx", "tdx without dstack"), ("tsm-snp", "sev-snp")]
)
def test_a_dialect_that_no_client_would_accept_here(around, kind, platform):
    with around(kind, "--tee", "auto", "--dialect", "dstack", gpus=0) as process:
        code, out, errors = finished(process)
    assert (code, out) == (64, "")
    assert f"--dialect dstack on {platform}" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--tee", "auto"), "this is no confidential machine"),
        (("--tee", "sev"), "none of /dev/sev-guest"),
    ],
)
def test_no_tee_is_never_simulated(around, arguments, says):
    with around("none", *arguments, gpus=0) as process:
        code, out, errors = finished(process)
    assert (code, out) == (3, "")
    assert says in errors
    assert errors.count("\n") == 1


def test_gpus_that_give_no_evidence_stop_the_server(around, tmp_path):
    with around("dstack-cc-off", "--tee", "auto") as process:
        code, out, errors = finished(process)
    assert (code, out) == (3, "")
    assert "confidential computing is switched off on the GPUs; got CC off" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("kind", ["tsm-tdx", "dstack"])
def test_nothing_is_simulated_on_a_tee(around, kind):
    with around(kind, "--simulated", gpus=0) as process:
        code, out, errors = finished(process)
    assert (code, out) == (64, "")
    assert "this machine is a real TEE" in errors
    assert "--even-on-a-tee" in errors
    with around(kind, "--simulated", "--even-on-a-tee", "--gpus", "1", gpus=0) as process:
        assert process.stdout.readline().startswith("http://")


DOCTOR = (sys.executable, "-m", "teeverify.cli.main", "doctor", "--enclave", "--json")


@pytest.mark.parametrize(
    ("kind", "found", "odd"),
    [
        (
            "dstack",
            {
                "dstack: /run/dstack.sock": "tdx, ",
                "tsm: /sys/kernel/config/tsm/report": "not here",
                "interfaces that give quotes": "2",  # the socket is there under two names
                "GPUs": "2 (HOPPER), CC on, in ",
            },
            [],
        ),
        (
            "tsm-snp",
            {
                "dstack: /run/dstack.sock": "not here",
                "tsm: /sys/kernel/config/tsm/report": "sev-snp, 1184 bytes in ",
                "interfaces that give quotes": "1",
            },
            [],
        ),
        (
            "dstack-cc-off",
            {"GPUs": "give no evidence", "interfaces that give quotes": "2"},
            ["GPUs"],
        ),
        (
            "none",
            {"interfaces that give quotes": "0"},
            ["interfaces that give quotes"],
        ),
    ],
)
def test_the_doctor_says_what_this_machine_has(around, kind, found, odd):
    with around(kind, command=DOCTOR) as process:
        code, out, errors = finished(process)
    assert code == (1 if odd else 0), errors
    lines = [line for line in json.loads(out)["lines"] if line["topic"] == "enclave"]
    values = {line["name"]: line["value"] for line in lines}
    for name, value in found.items():
        assert values[name].startswith(value)
    assert [line["name"] for line in lines if line["problem"]] == odd


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--tee", "auto", "--simulated"), "say on which machine"),
        ((), "say on which machine"),
        (("--tee", "auto", "--fault", "debug-td"), "only a simulated machine"),
        (("--tee", "auto", "--nvidia-sdk", "/no/such/python"), "there is no such Python"),
        (("--tee", "azure2"), "invalid choice"),
    ],
)
def test_mistakes(arguments, says):
    done = subprocess.run([*SERVE, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert says in done.stderr
    assert "Traceback" not in done.stderr
