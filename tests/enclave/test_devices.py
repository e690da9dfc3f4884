"""Collecting GPU evidence through NVIDIA's SDK: only reports that answer our nonce count."""

from __future__ import annotations

import json
import os
import secrets
import stat
import sys
from pathlib import Path

import pytest

from teeverify import nvidia
from teeverify.clock import now
from teeverify.enclave.devices import SdkDevices
from teeverify.errors import ConfigurationError, EndpointUnavailable
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.nvidia import Nvidia

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the fake environment is a shell script")
NONCE = secrets.token_bytes(32)
REPOSITORY = Path(__file__).resolve().parents[2]
SWITCHES = "nv_attestation_sdk/verifiers/nv_switch_verifier"


@pytest.fixture(scope="module")
def vendor():
    return Nvidia()


@pytest.fixture
def sdk(tmp_path, vendor):
    """An environment whose SDK is ours: it writes logs and prints, as the real one does."""

    def make(gpus=None, switches=(), *, extra: str = "") -> Path:
        entries = vendor.evidence_list(NONCE, 2) if gpus is None else gpus
        packages = tmp_path / "packages"
        for folder in ("verifier", SWITCHES):
            (packages / folder).mkdir(parents=True, exist_ok=True)
            (packages / folder / "__init__.py").write_text("")
        noisy = "print('noise'); open('verifier.log', 'w').write('noise')\n"
        (packages / "verifier/cc_admin.py").write_text(
            f"import json, os, time\n{noisy}"
            f"def collect_gpu_evidence_remote(nonce, ppcie_mode):\n"
            f"    {extra or 'pass'}\n    return json.loads({json.dumps(entries)!r})\n"
        )
        bare = [{k: v for k, v in one.items() if k != "arch"} for one in switches]
        (packages / SWITCHES / "nvswitch_admin.py").write_text(
            f"import json\ndef collect_evidence_remote(nonce, ppcie_mode):\n"
            f"    return json.loads({json.dumps(bare)!r})\n"
        )
        python = tmp_path / "python"
        path = f"import sys; sys.path.insert(0, {str(packages)!r})"
        python.write_text(
            f'#!/bin/sh\nshift 2\np=$1\nshift\nexec {sys.executable} -c "{path}\n$p" "$@"\n'
        )
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        return python

    return make


def test_all_gpus_are_collected_and_verify(sdk, vendor, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    devices = SdkDevices(sdk()).collect(NONCE)
    assert [(one.kind, one.arch) for one in devices] == [(1, "HOPPER")] * 2
    roots = UnsafeTestRoots([vendor.roots_pem()])
    listed = [one.as_json() for one in devices]
    assert len(nvidia.verify_evidence(listed, nonce=NONCE, at=now(), roots=roots).gpus) == 2
    assert {one.name for one in tmp_path.iterdir()} - {one.name for one in before} == {
        "packages",
        "python",
    }


def test_switches_come_after_the_gpus(sdk, vendor):
    entries = vendor.protected_machine(NONCE, 2, 1)
    python = sdk(entries[:2], entries[2:])
    assert [one.kind for one in SdkDevices(python, switches=True).collect(NONCE)] == [1, 1, 2]
    assert [one.kind for one in SdkDevices(python).collect(NONCE)] == [1, 1]


def test_canned_sample_evidence_is_not_passed_on(sdk, vendor):
    python = sdk(vendor.evidence_list(bytes(32), 1))
    with pytest.raises(EndpointUnavailable, match="gave no evidence") as caught:
        SdkDevices(python).collect(NONCE)
    assert "another nonce" in caught.value.got


@pytest.mark.parametrize(
    ("gpus", "extra"),
    [
        ([], ""),
        (None, "raise RuntimeError('NVML: driver not loaded')"),
        (None, "os._exit(3)"),
        (None, "os._exit(0)"),
        ([{"arch": "HOPPER"}], ""),
        ([{"arch": 9, "certificate": "", "evidence": ""}], ""),
        ([{"arch": "HOPPER", "certificate": "QQ==", "evidence": "QQ=="}], ""),
    ],
    ids=["none", "error", "crash", "silence", "half", "number", "garbage"],
)
def test_no_evidence_is_no_evidence(sdk, gpus, extra):
    with pytest.raises(EndpointUnavailable) as caught:
        SdkDevices(sdk(gpus, extra=extra)).collect(NONCE)
    assert caught.value.id == "endpoint.devices"


def test_a_driver_that_hangs_is_not_waited_for(sdk):
    with pytest.raises(EndpointUnavailable) as caught:
        SdkDevices(sdk(extra="time.sleep(60)"), timeout=1.0).collect(NONCE)
    assert "no answer in 1 s" in caught.value.got


def test_callers_mistakes(sdk, tmp_path):
    with pytest.raises(ConfigurationError):
        SdkDevices(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError):
        SdkDevices(sdk()).collect(bytes(31))


def test_the_real_sdk_without_a_gpu_says_so(need):
    folder = REPOSITORY / os.environ.get("TEEVERIFY_NVIDIA_SDK", ".venv-nvidia")
    if not (folder / "bin/python").exists():
        need("nvidia-sdk", f"no environment with NVIDIA's SDK in {folder}; .ci/nvidia-sdk makes it")
    with pytest.raises(EndpointUnavailable) as caught:
        SdkDevices(folder / "bin/python", timeout=5.0).collect(NONCE)
    assert caught.value.got
