"""What a result was measured on. Nothing here is evidence: an operating system's word."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from teeverify import __version__
from teeverify.clock import now

__all__ = ["describe_host", "describe_model"]

_PACKAGES = ("vllm", "torch", "transformers", "aiohttp", "uvicorn", "uvloop")
_CPUINFO, _LOADAVG = Path("/proc/cpuinfo"), Path("/proc/loadavg")
_TEE_FLAGS = {"tdx_guest": "Intel TDX guest", "sev_snp": "AMD SEV-SNP guest"}
_SHAPE = (
    "architectures", "num_hidden_layers", "hidden_size", "num_attention_heads",
    "num_key_value_heads", "intermediate_size", "vocab_size", "torch_dtype", "dtype",
    "quantization_config",
)  # fmt: skip


def describe_host() -> dict[str, object]:
    """This host: CPU, kernel, load, packages, and its GPUs where NVML answers."""
    model, flags = _cpu()
    return {
        "time": now().isoformat(timespec="seconds"),
        "cpu": model,
        "cores": os.cpu_count(),
        "tee_by_cpu_flags": [name for flag, name in _TEE_FLAGS.items() if flag in flags],
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": _load(),
        "packages": _versions(),
        **_gpus(),
    }


def describe_model(
    config: dict[str, object], *, weights: str, engine: str = ""
) -> dict[str, object]:
    """The shape of a model, from its ``config.json``, whether its weights are real, its engine."""
    shape = {key: config[key] for key in _SHAPE if key in config}
    return {"weights": weights, **shape, **({"engine": engine} if engine else {})}


def _cpu() -> tuple[str, frozenset[str]]:
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or "unknown", frozenset()
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    return fields.get("model name", "unknown"), frozenset(fields.get("flags", "").split())


def _load() -> list[float] | None:
    try:
        return [float(x) for x in _LOADAVG.read_text(encoding="utf-8").split()[:3]]
    except (OSError, ValueError):
        return None


def _versions() -> dict[str, str]:
    found = {name: _version(name) for name in _PACKAGES}
    return {"teeverify": __version__} | {name: v for name, v in found.items() if v is not None}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _gpus() -> dict[str, object]:
    """GPUs, driver, CUDA and the confidential-computing state, as NVML says."""
    try:
        import pynvml  # noqa: PLC0415 -- an extra
    except ImportError:
        return {"gpus": [], "gpu_note": "nvidia-ml-py is not installed"}
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return {"gpus": [], "gpu_note": f"NVML: {error}"}
    try:
        names = [
            _text(pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(index)))
            for index in range(pynvml.nvmlDeviceGetCount())
        ]
        return {
            "gpus": names,
            "driver": _text(pynvml.nvmlSystemGetDriverVersion()),
            "cuda": pynvml.nvmlSystemGetCudaDriverVersion() / 1000,
            "confidential_computing": _cc_state(),
        }
    except pynvml.NVMLError as error:
        return {"gpus": [], "gpu_note": f"NVML: {error}"}
    finally:
        pynvml.nvmlShutdown()


def _cc_state() -> str:
    """NVML's word on confidential computing: on, off or why it does not say."""
    import pynvml  # noqa: PLC0415 -- an extra

    try:
        state = pynvml.nvmlSystemGetConfComputeState()
    except (pynvml.NVMLError, AttributeError) as reason:
        return f"not said ({reason})"
    if not getattr(state, "ccFeature", 0):
        return "off"
    return "on, in developer mode" if getattr(state, "devToolsMode", 0) else "on"


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
