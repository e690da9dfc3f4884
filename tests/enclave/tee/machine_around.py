"""Runs a command in a private view of the file system that has a confidential machine's interfaces.

``python machine_around.py FOLDER KIND GPUS COMMAND...``; KIND is ``tsm-tdx``, ``tsm-snp``,
``dstack``, ``dstack-cc-off`` or ``none``. Everything stands at its real path; quotes and
reports are the simulator's. FOLDER gets ``roots.pem`` and the vendors' endorsements. Needs root.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

CLONE_NEWNS, PR_SET_PDEATHSIG = 0x20000, 1
REPORTS = Path("/sys/kernel/config/tsm/report")
MOST_SECONDS = 100


def private_view(kind, gpus):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    mount("--make-rprivate", "/")
    mount("-t", "tmpfs", "run", "/run")
    mount("-t", "tmpfs", "tsm", "/sys/kernel")
    if kind.startswith("tsm"):
        REPORTS.mkdir(parents=True)
    if gpus:
        mount("-t", "tmpfs", "driver", "/proc/driver")
        Path("/proc/driver/nvidia").mkdir()
        Path("/proc/driver/nvidia/version").write_text("NVRM version: 580.95.05\n")


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def machine(folder, kind, gpus, ready):
    """The hardware; lives until its parent has ended."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.alarm(MOST_SECONDS)
    from teeverify.simulator.tee import SimulatedTee

    tee = SimulatedTee(gpus=max(gpus, 1))
    tee.write_roots(folder / "roots.pem")
    write_endorsements(folder, tee.endorsements())
    with contextlib.ExitStack() as stack:
        if gpus:
            import nvml

            gpus = [tee.nvidia.gpu(number) for number in range(gpus)]
            driver = nvml.Driver(os.environ[nvml.ENVIRONMENT], gpus)
            driver.state["feature"] = int(not kind.endswith("cc-off"))
        if kind.startswith("dstack"):
            from agent import Agent

            Agent("/run/dstack.sock", tee)
        if kind.startswith("tsm"):
            stack.enter_context(tsm(folder, kind, tee))
        os.write(ready, b"1")
        while True:
            time.sleep(1)


def write_endorsements(folder, endorsements):
    """As the vendors' services give them: the machine has none."""
    (folder / "intel.json").write_text(json.dumps(endorsements["tdx"]))
    kept = folder / "nvidia"
    kept.mkdir(exist_ok=True)
    for name, xml in endorsements["nvidia"]["rims"].items():
        (kept / f"{name}.xml").write_text(xml)
    for number, answer in enumerate(endorsements["nvidia"]["ocsp"]):
        (kept / f"{number}.ocsp").write_bytes(base64.b64decode(answer))


def tsm(folder, kind, tee):
    from configfs import TsmFileSystem
    from mounts import Mounted

    if kind == "tsm-tdx":
        return Mounted(
            REPORTS, TsmFileSystem("tdx_guest", lambda data: (tee.quote(data).quote, b""))
        )
    from teeverify.clock import now
    from teeverify.simulator.amd import Amd, AmdKeys

    amd = Amd(at=now(), keys=AmdKeys.new())
    (folder / "roots.pem").write_bytes(amd.roots_pem() + tee.roots_pem())
    kept = folder / "amd"
    kept.mkdir(exist_ok=True)
    for name, content in amd.files().items():
        (kept / name).write_bytes(content)
    return Mounted(
        REPORTS,
        TsmFileSystem("sev_guest", lambda data: (amd.report(report_data=data), b"")),
    )


def main():
    folder, kind, gpus = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    private_view(kind, gpus)
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        machine(folder, kind, gpus, writing)
    os.close(writing)
    if os.read(reading, 1) != b"1":
        raise SystemExit("the machine did not start")
    os.execvp(sys.argv[4], sys.argv[4:])  # noqa: S606 -- that is its purpose


if __name__ == "__main__":
    main()
