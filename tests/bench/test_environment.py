"""What a result says of its machine, with a GPU and without one."""

from __future__ import annotations

import sys
import types

import pytest

from teeverify.bench.environment import describe_host, describe_model


class NVMLError(Exception):
    """As nvidia-ml-py's."""


def _raise(*_):
    raise NVMLError("Unknown Error")


@pytest.fixture
def nvml(monkeypatch):
    """An nvidia-ml-py with one GPU, whose functions may be replaced."""

    def make(**changed):
        functions = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlDeviceGetCount": lambda: 1,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda _handle: b"NVIDIA H100",
            "nvmlSystemGetDriverVersion": lambda: "580.1",
            "nvmlSystemGetCudaDriverVersion": lambda: 13000,
            "nvmlSystemGetConfComputeState": lambda: types.SimpleNamespace(ccFeature=0),
        }
        module = types.SimpleNamespace(NVMLError=NVMLError, **{**functions, **changed})
        monkeypatch.setitem(sys.modules, "pynvml", module)
        return describe_host()

    return make


def test_without_nvml_there_is_no_gpu_and_it_says_why(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    host = describe_host()
    assert host["gpus"] == []
    assert host["gpu_note"] == "nvidia-ml-py is not installed"
    assert "confidential_computing" not in host


@pytest.mark.parametrize("name", ["nvmlInit", "nvmlDeviceGetName"])
def test_a_driver_that_does_not_answer_is_no_gpu(nvml, name):
    host = nvml(**{name: _raise})
    assert host["gpus"] == []
    assert host["gpu_note"] == "NVML: Unknown Error"


def test_a_gpu_and_its_driver(nvml):
    host = nvml()
    assert host["gpus"] == ["NVIDIA H100"]
    assert (host["driver"], host["cuda"]) == ("580.1", 13.0)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (lambda: types.SimpleNamespace(ccFeature=1, devToolsMode=0), "on"),
        (lambda: types.SimpleNamespace(ccFeature=0, devToolsMode=0), "off"),
        (lambda: types.SimpleNamespace(ccFeature=1, devToolsMode=1), "on, in developer mode"),
        (_raise, "not said (Unknown Error)"),
    ],
)
def test_confidential_computing_is_nvmls_word(nvml, state, said):
    assert nvml(nvmlSystemGetConfComputeState=state)["confidential_computing"] == said


def test_a_model_is_its_shape_its_weights_and_its_engine():
    config = {"hidden_size": 8, "secret": "x"}
    assert describe_model(config, weights="dummy") == {"weights": "dummy", "hidden_size": 8}
    assert describe_model({}, weights="real", engine="vllm")["engine"] == "vllm"
