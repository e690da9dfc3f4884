"""``teeverify doctor --enclave``: whether this machine can serve, and what gives its evidence."""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Iterator

from teeverify.cli.doctor import Line, version_of
from teeverify.enclave.tee.find import Interface, has_nvidia_driver, kernel_interfaces
from teeverify.enclave.tee.gpus import NvmlGpus
from teeverify.enclave.tee.machine import Machine
from teeverify.errors import TeeVerifyError

__all__ = ["examine_enclave"]

_TOPIC = "enclave"
_PACKAGES = {
    "starlette": "server",
    "uvicorn": "server",
    "aiohttp": "server",
    "numpy": "server",
    "nvidia-ml-py": "server",
    "redis": "redis",
}


def examine_enclave() -> Iterator[Line]:
    """Ask each interface of this machine for a quote, and each GPU for a report."""
    yield Line(_TOPIC, "kernel", f"{platform.system()} {platform.release()}")
    yield Line(_TOPIC, "user", _user())
    yield from _interfaces()
    yield from _gpus()
    for name, extra in _PACKAGES.items():
        version = version_of(name)
        missing = "" if version or extra != "server" else "the server needs it"
        how = f"not installed (pip install 'teeverify[{extra}]')"
        yield Line(_TOPIC, name, version or how, missing)


def _user() -> str:
    number = getattr(os, "geteuid", lambda: None)()
    return "root" if number == 0 else f"uid {number}"


def _interfaces() -> Iterator[Line]:
    answers = 0
    for one in kernel_interfaces():
        name = f"{one.name}: {one.path}"
        if not one.exists():
            yield Line(_TOPIC, name, "not here")
            continue
        value, problem = _ask(one)
        answers += not problem
        yield Line(_TOPIC, name, value, problem)
    problem = "" if answers else "'serve --tee auto' stops here: see docs/hardware.md"
    yield Line(_TOPIC, "interfaces that give quotes", str(answers), problem)


def _ask(interface: Interface) -> tuple[str, str]:
    started = time.perf_counter()
    try:
        source = interface.open()
        found = Machine(source, None).quote(secrets.token_bytes(64))
    except TeeVerifyError as error:
        return "gives no quote", str(error)
    spent = (time.perf_counter() - started) * 1000
    beside = f", {len(found.event_log)} events" if found.event_log else ""
    beside += f", {len(found.certificates)} bytes of certificates" if found.certificates else ""
    return f"{source.platform}, {len(found.quote)} bytes in {spent:.0f} ms{beside}", ""


def _gpus() -> Iterator[Line]:
    if not has_nvidia_driver():
        yield Line(_TOPIC, "GPUs", "NVIDIA's driver is not loaded")
        return
    started = time.perf_counter()
    try:
        gpus = NvmlGpus()
        reports = gpus.reports(secrets.token_bytes(32))
    except TeeVerifyError as error:
        yield Line(_TOPIC, "GPUs", "give no evidence", str(error))
        return
    spent = (time.perf_counter() - started) * 1000
    kinds = ", ".join(sorted({one.arch for one in reports}))
    yield Line(_TOPIC, "GPUs", f"{len(reports)} ({kinds}), {gpus.mode}, in {spent:.0f} ms")
