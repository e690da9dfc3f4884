"""vLLM, started and supervised: its weights digested, on a socket of its own.

It is started again when it dies. While it is down, requests are answered with an error, and never
with anything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from teeverify.enclave.engines.upstream import Upstream
from teeverify.enclave.metrics import Metrics
from teeverify.errors import ConfigurationError, EndpointUnavailable

__all__ = ["Vllm", "digest_of_weights"]

logger = logging.getLogger("teeverify.enclave")

_START_SECONDS = 3600.0
_STOP_SECONDS = 20.0
_PAUSE_SECONDS = 0.25
_BACKOFF = (1.0, 5.0, 15.0, 60.0)
# One that ran for so long has not failed at its start.
_STEADY_SECONDS = 600.0
_BLOCK = 4 * 1024 * 1024
# No key of ours, and nothing that would make it talk to anybody.
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def digest_of_weights(folder: Path) -> str:
    """The hash of a model's folder: of what ``sha256sum`` prints of its files, sorted by name.

    The same as ``(cd FOLDER && find -L . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum)``.

    Raises:
        ConfigurationError: There is no such folder, or a file cannot be read.
    """
    try:
        files = sorted(
            (Path(place, name) for place, _, names in os.walk(folder) for name in names),
            key=lambda path: os.fsencode(path.relative_to(folder)),
        )
        if not files:
            raise ConfigurationError(
                "there is no such folder with a model",
                id="usage.serve",
                got=str(folder)[:200],
                hint="A name of a hub is not taken: it says too little of what is loaded.",
            )
        with ThreadPoolExecutor() as pool:
            hashes = list(pool.map(_hash_of, files))
    except OSError as error:
        raise ConfigurationError(
            f"a file of the model cannot be read: {error.strerror}",
            id="usage.serve",
            got=str(error.filename)[:200],
        ) from None
    whole = hashlib.sha256()
    for path, digest in zip(files, hashes, strict=True):
        whole.update(
            f"{digest}  ./".encode("ascii") + os.fsencode(path.relative_to(folder)) + b"\n"
        )
    return f"sha256:{whole.hexdigest()}"


def _hash_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        Path(path).unlink()


class Vllm(Upstream):
    """A :class:`~teeverify.enclave.engines.backend.Backend` that owns its engine.

    Args:
        model: The model's folder.
        name: The name under which it is served.
        command: The program ``vllm``.
        arguments: Further arguments.
        silence: Seconds for which the engine may send nothing while it makes an answer.
        metrics: Where restarts are counted.

    Raises:
        ConfigurationError: No such program or folder.
    """

    def __init__(
        self,
        model: Path,
        *,
        name: str,
        command: str,
        arguments: Sequence[str],
        silence: float,
        metrics: Metrics,
    ) -> None:
        program = shutil.which(command)
        if program is None:
            raise ConfigurationError(
                "there is no such program", id="usage.serve", got=command[:200], want="vllm"
            )
        weights = digest_of_weights(model)
        logger.info("weights of %s: %s", name, weights)
        # Private to this user: nobody else of this machine speaks to the engine.
        self._folder = tempfile.mkdtemp(prefix="teeverify-vllm-")
        self._place = place = str(Path(self._folder) / "engine.sock")
        super().__init__(
            f"unix:{place}",
            silence=silence,
            description={
                "kind": "vllm",
                "location": "supervised",
                "model": name,
                "weights": weights,
            },
        )
        # Ours come last, where they win.
        ours = ("--uds", place, "--served-model-name", name)
        self._command = (program, "serve", str(model), *arguments, *ours)
        self._metrics = metrics
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            EndpointUnavailable: It ended, or does not answer within an hour.
        """
        await super().start()
        await self._launch()
        self._watch = asyncio.create_task(self._supervise())

    async def close(self) -> None:
        """Stop it, with all its processes."""
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        await super().close()
        await self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def health(self) -> str | None:
        """What is wrong; see :class:`Backend`."""
        if self._process is None or self._process.returncode is not None:
            return "the engine is down, and is started again"
        return await super().health()

    async def _launch(self) -> None:
        keep = {k: v for k, v in os.environ.items() if not k.startswith("TEEVERIFY_")}
        _remove(self._place)  # of the one before
        process = await asyncio.create_subprocess_exec(
            *self._command,
            env={**keep, **_OFFLINE},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        )
        self._process = process
        ends = time.monotonic() + _START_SECONDS
        while await super().health() is not None:
            if process.returncode is not None or time.monotonic() > ends:
                code = process.returncode
                await self._stop()
                raise EndpointUnavailable(
                    "vLLM did not start; its own messages stand above",
                    id="endpoint.engine",
                    got="silence" if code is None else f"exit code {code}",
                )
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _supervise(self) -> None:
        """Start it again whenever it ends, after pauses that grow while it does not hold."""
        failures = 0
        while True:
            started = time.monotonic()
            if self._process is not None:
                code = await self._process.wait()
                logger.error("the engine ended with code %s", code)
                await self._stop()  # what is left of its processes
            failures = 0 if time.monotonic() - started > _STEADY_SECONDS else failures + 1
            await asyncio.sleep(_BACKOFF[min(failures, len(_BACKOFF)) - 1] if failures else 0)
            self._metrics.engine_restarts.add()
            try:
                await self._launch()
            except (EndpointUnavailable, OSError) as error:
                logger.error("the engine did not start again: %s", error)  # noqa: TRY400
                self._process = None

    async def _stop(self) -> None:
        """End its whole group of processes: its workers outlive it otherwise."""
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
