"""The relay attack: two enclaves in processes of their own, and a client that asks the lying one.

The honest one has genuine GPUs; the lying one has none, and shows those.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

import teeverify
from teeverify import UnsafeTestRoots
from teeverify.appraisal.observation import Outcome
from teeverify.testing.server import _environment, running

pytestmark = pytest.mark.network
LIAR = Path(__file__).with_name("liar.py")


@pytest.fixture(scope="module")
def honest():
    """Enclaves by the dialect that the liar asks them in; the second one speaks that one too."""
    pytest.importorskip("uvicorn", reason="the extra 'server' is not installed")
    both = ("--dialect", "teeverify/1", "--dialect", "dstack")
    with running(gpus=2) as ours, running(gpus=2, arguments=both) as flat:
        yield {"teeverify/1": ours, "dstack": flat}


@contextlib.contextmanager
def lying(honest, dialect, tmp_path):
    """The lying enclave: its URL, and roots under which both machines' hardware is genuine."""
    roots = tmp_path / "liar.pem"
    command = [sys.executable, str(LIAR), dialect, honest[dialect].url, str(roots)]
    with subprocess.Popen(
        command, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            url = process.stdout.readline().strip()
            assert url, process.stderr.read()
            process.stdout.readline()
            pems = (roots, honest[dialect].roots_file)
            yield url, UnsafeTestRoots([path.read_bytes() for path in pems])
        finally:
            process.kill()


def test_an_honest_enclave_lends_nothing(honest, tmp_path):
    """It has its GPUs answer what follows from its own keys, whatever it is asked."""
    with lying(honest, "teeverify/1", tmp_path) as (url, roots):
        with pytest.raises(teeverify.TeeVerifyError) as caught:
            teeverify.connect(url, roots=roots)
        assert caught.value.id == "gpu.nonce"
        assert caught.value.result.tier == "contraindicated"
        assert teeverify.connect(honest["teeverify/1"].url, roots=roots).result.satisfied


def test_one_that_answers_any_nonce_lends_its_gpus(honest, tmp_path):
    """The limit: whoever speaks a dialect of the field answers for others; nobody claims more."""
    with lying(honest, "dstack", tmp_path) as (url, roots):
        result = teeverify.connect(url, roots=roots).result
        found = {one.id: one.outcome for one in result.findings}
        assert found["gpu.binding"] is Outcome.PROVEN
        assert found["gpu.attachment"] is Outcome.ASSERTED
        assert result.claims["gpu_link"].outcome is not Outcome.PROVEN
