"""NVML: the real binding, on a stub of NVIDIA's library, with GPUs of the simulator."""

from __future__ import annotations

import ctypes
import secrets
import subprocess
import sys

import pytest

from teeverify import nvidia
from teeverify.clock import now
from teeverify.enclave.tee.gpus import NvmlGpus
from teeverify.errors import ConfigurationError, EndpointUnavailable
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.nvidia import Nvidia

NONCE = secrets.token_bytes(32)


@pytest.fixture(scope="module")
def vendor():
    return Nvidia()


@pytest.fixture
def driver(nvml_library, vendor, tmp_path, monkeypatch):
    import nvml

    nvml.load(nvml_library)
    monkeypatch.setenv(nvml.ENVIRONMENT, str(tmp_path / "driver.sock"))
    made = nvml.Driver(tmp_path / "driver.sock", [vendor.gpu(0), vendor.gpu(1)])
    yield made
    made.close()


def listed(devices):
    return [
        {"arch": one.arch, "certificate": one.certificate, "evidence": one.evidence}
        for one in devices
    ]


def refusal(call, *arguments):
    with pytest.raises(EndpointUnavailable) as caught:
        call(*arguments)
    assert caught.value.id == "endpoint.devices"
    return caught.value


def test_all_gpus_report_and_verify(driver, vendor):
    gpus = NvmlGpus()
    roots = UnsafeTestRoots([vendor.roots_pem()])
    for nonce in (NONCE, secrets.token_bytes(32)):
        devices = gpus.reports(nonce)
        assert [(one.kind, one.arch) for one in devices] == [(1, "HOPPER")] * 2
        proved = nvidia.verify_evidence(listed(devices), nonce=nonce, at=now(), roots=roots)
        assert len(proved.gpus) == 2


def test_blackwell(driver):
    driver.architecture = 10
    assert {one.arch for one in NvmlGpus().reports(NONCE)} == {"BLACKWELL"}


@pytest.mark.parametrize("architecture", [8, 0xFFFFFFFF])
def test_an_architecture_without_attestation(driver, architecture):
    driver.architecture = architecture
    error = refusal(NvmlGpus().reports, NONCE)
    assert "GPU 0 is of an architecture without attestation" in error.message
    assert error.got == str(architecture)


def test_confidential_computing_off(driver):
    driver.state["feature"] = 0
    error = refusal(NvmlGpus)
    assert error.got == "CC off"
    assert "nvidia_gpu_tools" in error.hint


def test_confidential_computing_switched_off_later(driver):
    gpus = NvmlGpus()
    driver.state["feature"] = 0
    assert refusal(gpus.reports, NONCE).got == "CC off"


@pytest.mark.parametrize("multi", [0, 1])
def test_developer_mode_is_refused_behind_protected_pcie_too(driver, multi):
    driver.state |= {"devtools": 1, "multi": multi}
    assert refusal(NvmlGpus).got == "devtools on"


def test_protected_pcie(driver):
    driver.state |= {"feature": 0, "multi": 1}
    assert len(NvmlGpus().reports(NONCE)) == 2


@pytest.mark.parametrize("multi", [0, 2])
def test_another_way_to_join_gpus_is_not_protected_pcie(driver, multi):
    driver.state |= {"feature": 0, "multi": multi}
    assert refusal(NvmlGpus).got == "CC off"


@pytest.mark.parametrize("code", [3, 13, 25])
def test_a_driver_too_old_for_protected_pcie(driver, code):
    driver.state |= {"feature": 0, "multi": 1}
    driver.errors["settings"] = code
    assert refusal(NvmlGpus).got == "CC off"


def test_no_gpu(driver):
    driver.gpus.clear()
    assert "there is no NVIDIA GPU" in refusal(NvmlGpus).message


def test_all_gpus_gone_later(driver):
    gpus = NvmlGpus()
    driver.gpus.clear()
    assert "any more" in refusal(gpus.reports, NONCE).message


def test_fewer_gpus_than_at_the_start(driver):
    """Whoever removes one must not shrink the machine unseen."""
    gpus = NvmlGpus()
    driver.gpus.pop()
    error = refusal(gpus.reports, NONCE)
    assert (error.got, error.want) == ("1", "2")


def test_a_gpu_that_vanishes_between_two_calls(driver):
    gpus = NvmlGpus()

    def fall_off(question):
        if question[:2] == ["report", "1"]:
            driver.gpus.pop()

    driver.on_question = fall_off
    assert "NVML gives no evidence" in refusal(gpus.reports, NONCE).message


@pytest.mark.parametrize("call", ["report", "certificate", "state", "handle"])
def test_nvml_error_999(driver, call):
    gpus = NvmlGpus()
    driver.errors[call] = 999
    error = refusal(gpus.reports, NONCE)
    assert error.got == "NVML error 999"
    assert "reset" in error.hint


@pytest.mark.parametrize("call", ["report", "certificate", "architecture", "count", "state"])
@pytest.mark.parametrize("code", [4, 15, 16, 4711])
def test_other_errors(driver, call, code):
    gpus = NvmlGpus()
    driver.errors[call] = code
    error = refusal(gpus.reports, NONCE)
    assert error.message == "NVML gives no evidence"
    assert error.got


@pytest.mark.parametrize("certificate", [b"", b"\0", b"\0\0"])
def test_a_gpu_without_certificate(driver, certificate):
    driver.certificates[1] = certificate
    assert "GPU 1 gives no report" in refusal(NvmlGpus().reports, NONCE).message


def test_no_driver(driver, tmp_path, monkeypatch):
    gpus = NvmlGpus()
    monkeypatch.setenv("TEEVERIFY_TEST_NVML", str(tmp_path / "absent"))
    for call, arguments in ((NvmlGpus, ()), (gpus.reports, (NONCE,))):
        assert "driver does not answer" in refusal(call, *arguments).message


def test_no_library():
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed", exc_type=ImportError)
    program = (
        "from teeverify.enclave.tee.gpus import NvmlGpus\n"
        "try: NvmlGpus()\n"
        "except Exception as error: print(type(error).__name__, error.got)"
    )
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        pass
    else:
        # Ours, which another test loaded into this process, or the real one.
        found = subprocess.run(
            [sys.executable, "-c", "import ctypes; ctypes.CDLL('libnvidia-ml.so.1')"],
            capture_output=True,
            check=False,
        )
        if found.returncode == 0:
            pytest.skip("this machine has NVIDIA's library")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "EndpointUnavailable NVML Shared Library Not Found"


def test_no_binding(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(ConfigurationError) as caught:
        NvmlGpus()
    assert caught.value.id == "usage.extra"
