"""Which confidential machine this is. None is an error: nothing is ever simulated by itself."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from teeverify.enclave.tee import azure, dstack, sev, tdx, tpm, tsm
from teeverify.enclave.tee.gpus import NvmlGpus
from teeverify.enclave.tee.machine import CpuSource, DeviceSource, Machine
from teeverify.errors import ConfigurationError, EndpointUnavailable

__all__ = ["Interface", "find_machine", "has_nvidia_driver", "kernel_interfaces"]

_NVIDIA = Path("/proc/driver/nvidia/version")
_QUESTION = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One way to a quote.

    Attributes:
        name: What ``--tee`` calls it.
        path: Where it is, if it is there.
        open: Opens it.
        belongs: Whether what is there is a confidential machine's; other machines have a TPM too.
    """

    name: str
    path: Path
    open: Callable[[], CpuSource]
    belongs: Callable[[], bool] = lambda: True

    def exists(self) -> bool:
        """Whether this machine has it."""
        try:
            return self.path.exists() and self.belongs()
        except OSError:  # a folder on the way that cannot be searched
            return False


def kernel_interfaces() -> Sequence[Interface]:
    """Where quotes may come from, the best first.

    dstack's agent before the kernel: it knows the event log. The kernel's configfs before its
    devices: it needs no service on the host.
    """
    agents = [
        Interface(name="dstack", path=path, open=partial(dstack.DstackAgent, path))
        for path in dstack.SOCKETS
    ]
    return (
        *agents,
        Interface(name="tsm", path=tsm.REPORTS, open=tsm.Tsm),
        Interface(name="tdx", path=tdx.DEVICE, open=tdx.TdxDevice),
        Interface(name="sev", path=sev.DEVICE, open=sev.SevDevice),
        Interface(name="azure", path=tpm.DEVICE, open=azure.AzureVm, belongs=azure.is_here),
    )


def has_nvidia_driver() -> bool:
    """Whether NVIDIA's driver is loaded."""
    return _NVIDIA.exists()


def find_machine(
    name: str = "auto",
    *,
    gpus: DeviceSource | None = None,
    interfaces: Sequence[Interface] | None = None,
) -> Machine:
    """The machine that this process runs in; each part of it has answered once.

    Args:
        name: The interface to use; ``auto`` for the best that answers.
        gpus: Where device reports come from; by default NVML, where NVIDIA's driver is loaded.
        interfaces: Those to look at, instead of :func:`kernel_interfaces`.

    Raises:
        EndpointUnavailable: It is no confidential machine, or a part of it gives no evidence.
        ConfigurationError: There is no such interface, or a package is missing.
    """
    known = kernel_interfaces() if interfaces is None else interfaces
    names = ["auto", *dict.fromkeys(one.name for one in known)]
    if name not in names:
        raise ConfigurationError(
            "there is no such interface", id="usage.serve", got=name[:40], want=", ".join(names)
        )
    cpu = _find_cpu([one for one in known if name in {"auto", one.name}])
    if gpus is None and has_nvidia_driver():
        gpus = NvmlGpus()
    machine = Machine(cpu, gpus)
    machine.devices(secrets.token_bytes(32))
    return machine


def _find_cpu(interfaces: Sequence[Interface]) -> CpuSource:
    refusals = []
    for interface in interfaces:
        if not interface.exists():
            continue
        try:
            source = interface.open()
            Machine(source, None).quote(secrets.token_bytes(_QUESTION))
        except EndpointUnavailable as error:
            refusals.append(f"{interface.name}: {error.message} ({error.got})")
        else:
            return source
    looked = ", ".join(str(one.path) for one in interfaces)
    raise EndpointUnavailable(
        "this is no confidential machine, or its interface is not usable",
        id="endpoint.devices",
        got=" / ".join(refusals)[:400] or f"none of {looked}",
        hint="See docs/hardware.md; for tests, type --simulated.",
    )
