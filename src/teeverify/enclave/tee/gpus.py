"""NVIDIA GPUs, through NVML (package ``nvidia-ml-py``), or through NVIDIA's SDK.

NVML gives the SPDM request and response as one report, and the attestation certificate chain as
PEM. Evidence of all GPUs or of none: a GPU that gives none is an error of the whole.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from teeverify.enclave.collectors import DeviceEvidence
from teeverify.enclave.devices import SdkDevices
from teeverify.enclave.tee.machine import Device
from teeverify.errors import ConfigurationError, EndpointUnavailable

__all__ = ["NvmlGpus", "SdkGpus"]

_ARCHITECTURES = {9: "HOPPER", 10: "BLACKWELL"}
_UNKNOWN = 999
_PROTECTED_PCIE = 1


class NvmlGpus:
    """The GPUs of this machine.

    Raises:
        ConfigurationError: ``nvidia-ml-py`` is not installed.
        EndpointUnavailable: There is no driver or no GPU, or confidential computing is off.
    """

    def __init__(self) -> None:
        self._nvml = _binding()
        with self._session() as nvml:
            self._require_confidential(nvml)
            self._count = nvml.nvmlDeviceGetCount()
        if self._count == 0:
            raise _missing("there is no NVIDIA GPU", "0 GPUs")

    @property
    def mode(self) -> str:
        """How the GPUs are protected.

        Raises:
            EndpointUnavailable: They are not, or not any more.
        """
        with self._session() as nvml:
            return self._require_confidential(nvml)

    def reports(self, nonce: bytes) -> Sequence[Device]:
        """See :class:`~teeverify.enclave.tee.machine.DeviceSource`."""
        with self._session() as nvml:
            self._require_confidential(nvml)
            count = nvml.nvmlDeviceGetCount()
            if count != self._count:
                # A part of the machine is never shown as the whole.
                raise _fewer(count, self._count)
            return [self._report(nvml, index, nonce) for index in range(count)]

    def _report(self, nvml: Any, index: int, nonce: bytes) -> Device:  # noqa: ANN401 -- untyped
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        number = nvml.nvmlDeviceGetArchitecture(handle)
        arch = _ARCHITECTURES.get(number)
        if arch is None:
            raise _missing(f"GPU {index} is of an architecture without attestation", str(number))
        report = nvml.nvmlDeviceGetConfComputeGpuAttestationReport(handle, nonce)
        chain = nvml.nvmlDeviceGetConfComputeGpuCertificate(handle)
        evidence = bytes(report.attestationReport)[: report.attestationReportSize]
        certificates = bytes(chain.attestationCertChain)[: chain.attestationCertChainSize]
        certificates = certificates.rstrip(b"\0")  # some drivers count the text's closing NUL
        if not evidence or not certificates:
            raise _missing(f"GPU {index} gives no report", "an empty report or certificate")
        return Device(
            certificate=base64.b64encode(certificates).decode("ascii"),
            evidence=base64.b64encode(evidence).decode("ascii"),
            arch=arch,
        )

    def _require_confidential(self, nvml: Any) -> str:  # noqa: ANN401 -- untyped
        state = nvml.nvmlSystemGetConfComputeState()
        if state.devToolsMode:
            raise _missing(
                "the GPUs are in developer mode: what they compute can be read", "devtools on"
            )
        if state.ccFeature:
            return "CC on"
        if _protected_pcie(nvml):
            return "protected PCIe"
        raise _missing(
            "confidential computing is switched off on the GPUs",
            "CC off",
            hint="Switch it on from the host (nvidia_gpu_tools --set-cc-mode=on), and reboot.",
        )

    @contextlib.contextmanager
    def _session(self) -> Iterator[Any]:
        nvml = self._nvml
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise _missing("NVIDIA's driver does not answer", str(error)) from None
        try:
            yield nvml
        except nvml.NVMLError as error:
            raise _translated(error) from None
        finally:
            with contextlib.suppress(nvml.NVMLError):
                nvml.nvmlShutdown()


class SdkGpus:
    """The same by way of NVIDIA's SDK, which asks NVSwitches too.

    Args:
        sdk: The SDK in an environment of its own.
    """

    def __init__(self, sdk: SdkDevices) -> None:
        self._sdk = sdk
        self._kinds: Sequence[int] | None = None

    def reports(self, nonce: bytes) -> Sequence[DeviceEvidence]:
        """See :class:`~teeverify.enclave.tee.machine.DeviceSource`."""
        found = self._sdk.collect(nonce)
        kinds = [one.kind for one in found]
        if self._kinds is None:
            self._kinds = kinds
        if kinds != self._kinds:
            raise _fewer(len(kinds), len(self._kinds))
        return found


def _protected_pcie(nvml: Any) -> bool:  # noqa: ANN401 -- untyped
    """Whether the GPUs of this machine work as one behind protected PCIe; older drivers: no."""
    try:
        settings = nvml.c_nvmlSystemConfComputeSettings_v1_t()
        # The binding gives the return code of this one call instead of raising it.
        code = nvml.nvmlSystemGetConfComputeSettings(ctypes.byref(settings))
    except (nvml.NVMLError, AttributeError):
        return False
    return not code and bool(settings.multiGpuMode == _PROTECTED_PCIE)


def _fewer(count: int, at_start: int) -> EndpointUnavailable:
    return _missing(
        "there are not the GPUs any more that there were at the start",
        str(count),
        want=str(at_start),
    )


def _translated(error: Any) -> EndpointUnavailable:  # noqa: ANN401 -- untyped
    if getattr(error, "value", None) == _UNKNOWN:
        # What a GPU answers that cannot attest in the state that it is in.
        return _missing(
            "a GPU gives no attestation report",
            "NVML error 999",
            hint="Confidential computing is off, the driver is too old, or the GPU needs a reset.",
        )
    return _missing("NVML gives no evidence", str(error))


def _missing(
    what: str, got: str, *, want: str | None = None, hint: str | None = None
) -> EndpointUnavailable:
    return EndpointUnavailable(what, id="endpoint.devices", got=got[:120], want=want, hint=hint)


def _binding() -> ModuleType:
    try:
        import pynvml  # noqa: PLC0415 -- an extra
    except ImportError:
        raise ConfigurationError(
            "nvidia-ml-py is not installed",
            id="usage.extra",
            hint="pip install 'teeverify[server]'",
        ) from None
    module: ModuleType = pynvml
    return module
