"""``teeverify serve --tee auto``, the command itself, with a machine's interfaces at their paths."""

from __future__ import annotations

import contextlib
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
def around(tmp_path, nvml_library, serve):
    """Runs commands on a fake machine."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0:
        pytest.skip("mounting needs root and /dev/fuse")
    pytest.importorskip("mfusepy", reason="mfusepy is not installed")
    tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"no mounts of our own here: {tried.stderr.decode()}")
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


@pytest.mark.parametrize("kind", ["tsm-tdx", "dstack"])
def test_a_client_verifies_answers_of_a_machine(around, tmp_path, kind):
    pytest.importorskip("openai", reason="the extra 'openai' is not installed")
    with around(kind, "--tee", "auto") as process:
        url = process.stdout.readline().strip()
        assert url.startswith("http://"), process.stderr.read()
        client = teeverify.OpenAI(
            base_url=url,
            api_key="unused",
            roots=UnsafeTestRoots.load(tmp_path / "roots.pem"),
            endorsements=tmp_path / "endorsements.json",
            policy="genuine",
        )
        messages = [{"role": "user", "content": "Say hello."}]
        answer = client.chat.completions.create(model="default", messages=messages)
        assert answer.choices[0].message.content
        result = client.last_result if hasattr(client, "last_result") else None
        print(result)
