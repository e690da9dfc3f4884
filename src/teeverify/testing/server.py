"""A simulated enclave server in a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import teeverify
from teeverify.errors import ConfigurationError
from teeverify.roots import UnsafeTestRoots

if TYPE_CHECKING:
    from teeverify import OpenAI

__all__ = ["RunningServer", "running"]

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_PROGRAM = "import sys; from teeverify.cli.main import main; sys.exit(main(sys.argv[1:]))"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A server that answers.

    Attributes:
        url: Its base URL, with ``/v1``.
        roots: Its test roots, which are random in every run.
        roots_file: The same in a PEM file, for ``--unsafe-test-roots``.
        policy: A policy that a sound server of this kind satisfies.
        model: The name of its model.
        log: The file with its log.
        process: The process.
    """

    url: str
    roots: UnsafeTestRoots
    roots_file: Path
    policy: str
    model: str
    log: Path
    process: subprocess.Popen[str] = field(repr=False)

    def openai(self, **arguments: Any) -> OpenAI:  # noqa: ANN401 -- whatever OpenAI's client takes
        """A verifying OpenAI client for this server.

        Args:
            **arguments: Further arguments of :class:`teeverify.OpenAI`, or others for these.
        """
        from teeverify import OpenAI  # noqa: PLC0415 -- loads the SDK

        defaults = {"api_key": "unused", "roots": self.roots, "policy": self.policy}
        return OpenAI(base_url=self.url, **{**defaults, **arguments})


@contextlib.contextmanager
def running(
    *,
    fault: str | None = None,
    model: str = "default",
    gpus: int = 8,
    arguments: tuple[str, ...] = (),
) -> Iterator[RunningServer]:
    """Start a server, and stop it at the end.

    Args:
        fault: What is wrong with it.
        model: The name of its model.
        gpus: How many GPUs it simulates.
        arguments: Further arguments of ``teeverify serve``.

    Raises:
        ConfigurationError: It did not start.
    """
    command = [sys.executable, "-c", _PROGRAM, "serve", "--simulated", "--even-on-a-tee"]
    command += ["--model", model, "--gpus", str(gpus), *arguments]
    command += ["--fault", fault] if fault is not None else []
    with tempfile.TemporaryDirectory(prefix="teeverify-") as folder:
        roots_file = Path(folder) / "test-roots.pem"
        log = Path(folder) / "server.log"
        command += ["--roots-file", str(roots_file)]
        with (
            log.open("w", encoding="utf-8") as errors,
            subprocess.Popen(  # noqa: S603 -- our own
                command, env=_environment(), stdout=subprocess.PIPE, stderr=errors, text=True
            ) as process,
        ):
            try:
                url = _first_lines(process, log)
                yield RunningServer(
                    url=url,
                    roots=UnsafeTestRoots.load(roots_file),
                    roots_file=roots_file,
                    policy="genuine",
                    model=model,
                    log=log,
                    process=process,
                )
            finally:
                _stop(process)


def _environment() -> dict[str, str]:
    """Ours, in which the process finds the very package that runs here."""
    package = str(Path(teeverify.__file__).parent.parent)
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{package}{os.pathsep}{known}" if known else package}


def _first_lines(process: subprocess.Popen[str], log: Path) -> str:
    """Wait for the two lines that say that it answers; give the URL."""
    timer = threading.Timer(_START_SECONDS, process.kill)
    timer.start()
    try:
        lines = [process.stdout.readline().strip() for _ in range(2)] if process.stdout else []
    finally:
        timer.cancel()
    if not all(lines):
        process.wait()
        raise ConfigurationError(
            "the simulated server did not start",
            id="usage.serve",
            got=log.read_text(encoding="utf-8")[-2000:].strip() or f"exit {process.returncode}",
        )
    return lines[0]


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
