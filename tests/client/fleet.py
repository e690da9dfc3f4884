"""Runs ``teeverify serve`` several times on machines of the same vendors: a program for tests.

    python fleet.py FOLDER

Its first line says where the test roots are. Then each line that it reads is a command, a list in
JSON, and each that it writes is the answer to it:

    ["start", MACHINE, CODE, [ARGUMENTS OF serve]]   the process's number, and a server's URL
    ["stop", PROCESS]                                its exit status, once it has ended

A server that starts anew has the keys of a new process on the same machine, as in the field; so the
machines live here, and each server is a child that came into the world with them. Each value of
CODE is another image.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

from teeverify.cli.main import main
from teeverify.simulator import tee as simulated
from teeverify.simulator.dstack import Dstack

_START_SECONDS = 60


class Fleet:
    """Machines of the same vendors, and what runs on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._first = simulated.SimulatedTee(gpus=1)
        self._machines: dict[int, list[object]] = {}
        self._running: set[int] = set()
        self._first.write_roots(folder / "roots.pem")

    def machine(self, number: int, code: str) -> simulated.SimulatedTee:
        """One of the machines, booted with this code."""
        found = simulated.SimulatedTee.__new__(simulated.SimulatedTee)
        found.__dict__.update(self._first.__dict__)
        # The same machine has the same GPUs, whatever it is booted with.
        found._gpus = self._machines.setdefault(number, [self._first.nvidia.gpu(number)])
        digest = hashlib.sha256(code.encode("ascii")).hexdigest()
        found.guest = Dstack(images=[f"teeverify/{code}@sha256:{digest}"])
        return found

    def start(self, number: int, code: str, arguments: list[str]) -> tuple[int, str]:
        """Start a server on a machine, and wait until it answers."""
        shown = self.folder / f"{time.monotonic_ns()}.out"
        machine = self.machine(number, code)
        process = os.fork()
        if process == 0:
            self._serve(machine, shown, arguments)
        self._running.add(process)
        ends = time.monotonic() + _START_SECONDS
        while time.monotonic() < ends:
            lines = shown.read_text("utf-8").splitlines() if shown.exists() else []
            if len(lines) > 1:
                return process, lines[0]
            if os.waitpid(process, os.WNOHANG)[0]:
                break
            time.sleep(0.02)
        raise SystemExit(shown.with_suffix(".log").read_text("utf-8"))

    def _serve(self, machine: simulated.SimulatedTee, shown: Path, arguments: list[str]) -> None:
        """Be a server, from here on."""
        for stream, path in ((1, shown), (2, shown.with_suffix(".log"))):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), stream)
        simulated.SimulatedTee = lambda **_: machine
        command = ["serve", "--simulated", "--even-on-a-tee", *arguments]
        os._exit(main([*command, "--roots-file", str(shown.with_suffix(".pem"))]))

    def stop(self, process: int) -> int:
        """End a server in the way of whoever updates one."""
        self._running.discard(process)
        os.kill(process, signal.SIGTERM)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

    def close(self) -> None:
        """End whatever still runs: who started it may be gone."""
        for process in list(self._running):
            self.stop(process)


def run(folder: Path, kind: type[Fleet] = Fleet) -> None:
    """Do as told, until there is nothing more to read."""
    fleet = kind(folder)
    say(str(folder / "roots.pem"))
    for line in sys.stdin:
        verb, *rest = json.loads(line)
        say(json.dumps(getattr(fleet, verb)(*rest)))
    fleet.close()


def say(line: str) -> None:
    """Write one line."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run(Path(sys.argv[1]))
