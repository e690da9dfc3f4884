"""Raw vLLM, and the same vLLM behind the reference server: the two targets of a benchmark."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from teeverify.errors import ConfigurationError, EndpointUnavailable

__all__ = ["Pair", "bring_up"]

_OFFLINE = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
_STOP_SECONDS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two base URLs of one engine, and the test roots of the server before the second."""

    raw: str
    served: str
    roots: Path


@contextlib.contextmanager
def bring_up(
    model: Path,
    *,
    command: str = "vllm serve",
    timeout: float = 900.0,
    say: Callable[[str], None],
) -> Iterator[Pair]:
    """Start vLLM, then the server before it, on a simulated machine; stop both at the end.

    Args:
        model: A folder with ``config.json`` and a tokenizer.
        command: What starts vLLM, with its own flags; the model is added after ``serve``, and the
            address at the end.
        timeout: Seconds that vLLM may take to start.
        say: Told of progress, a line each.

    Raises:
        ConfigurationError: There is no such model or command.
        EndpointUnavailable: One of them ended, or was not ready in time; its output is kept.
    """
    if not (model / "config.json").is_file():
        raise ConfigurationError("there is no such model", id="usage.bench", got=str(model))
    folder = Path(tempfile.mkdtemp(prefix="teeverify-bench-"))
    port = _free_port()
    raw = f"http://127.0.0.1:{port}/v1"
    engine = _with_model(shlex.split(command), model)
    engine += ["--host", "127.0.0.1", "--port", str(port), "--served-model-name", "default"]
    with _child(engine, folder / "vllm.log") as vllm:
        say(f"vLLM starts; its output is in {folder / 'vllm.log'}")
        _wait(vllm, f"http://127.0.0.1:{port}/health", folder / "vllm.log", timeout)
        roots = folder / "test-roots.pem"
        serve = [sys.executable, "-m", "teeverify.cli.main", "serve", "--simulated"]
        serve += ["--upstream", raw, "--port", str(_free_port()), "--roots-file", str(roots)]
        with _child(serve, folder / "server.log") as server:
            served = f"http://127.0.0.1:{serve[serve.index('--port') + 1]}"
            _wait(server, f"{served}/health", folder / "server.log", 60.0)
            yield Pair(raw=raw, served=f"{served}/v1", roots=roots)


def _with_model(command: Sequence[str], model: Path) -> list[str]:
    """The command with the model before any flag, where vLLM wants it."""
    place = command.index("serve") + 1 if "serve" in command else len(command)
    return [*command[:place], str(model), *command[place:]]


@contextlib.contextmanager
def _child(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, so that its children end with it."""
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 -- the operator's own command
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**_OFFLINE, **os.environ},
            )
    except OSError as error:
        raise ConfigurationError(
            f"{command[0]} cannot be started",
            id="usage.bench",
            got=error.strerror,
            hint="Give --vllm-command.",
        ) from None
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(url, timeout=2).close()  # noqa: S310 -- of this machine
            return
        time.sleep(0.2)
    why = "is not ready in time" if process.poll() is None else "ended at its start"
    *_, last = ["", *log.read_text(errors="replace").strip().splitlines()]
    raise EndpointUnavailable(
        f"{log.stem} {why}", id="endpoint.unreachable", got=last[-200:], hint=f"See {log}."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
