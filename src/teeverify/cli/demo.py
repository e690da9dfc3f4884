"""``teeverify demo``: a real server on simulated hardware, an answer verified, attacks refused.

The cryptography is real in every step; only the keys at the top are not the vendors'.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from teeverify.cli.faces import print_result, width_of
from teeverify.cli.files import write_output
from teeverify.client import Verifier
from teeverify.errors import EXIT_BUG, EXIT_SATISFIED, ConfigurationError, TeeVerifyError
from teeverify.render import printable, wrap
from teeverify.testing import start

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionUserMessageParam

    from teeverify.testing.server import RunningServer

__all__ = ["add_demo", "demo"]

_RECEIPT, _ROOTS = "receipt.json", "test-roots.pem"
_NEEDED = ("openai", "httpx2", "numpy", "starlette", "uvicorn")
_QUESTION = "What is two and two?"
_MESSAGE: ChatCompletionUserMessageParam = {"role": "user", "content": _QUESTION}
# A fault of the server (teeverify.testing.FAULTS), and what it means.
_ATTACKS = {
    "tampered-answer": "One byte of the answer is changed on its way.",
    "other-answer": "The signature of another answer is given for this one.",
    "stale-gpu-nonce": "One GPU's report was made for an older question.",
    "debug-td": "The VM runs in debug mode.",
}


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags to its parser."""
    parser.add_argument(
        "--keep", metavar="DIR", help="leave the receipt and the test roots there, to play with"
    )


def demo(options: argparse.Namespace) -> int:
    """Start a simulated server, ask it, verify, and try to cheat.

    Returns:
        0 if the good answers were accepted and every attack was refused.

    Raises:
        ConfigurationError: The packages of the server or of the client are not installed, or the
            folder cannot be written.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            "the demo needs packages that are not installed",
            id="usage.extra",
            got=", ".join(missing),
            hint="Run: pip install 'teeverify[openai,server]'",
        )
    with tempfile.TemporaryDirectory(prefix="teeverify-demo-") as scratch:
        folder = _made(Path(scratch if options.keep is None else options.keep))
        with start() as server:
            write_output(folder / _ROOTS, server.roots_file.read_bytes())
            good = [_ask(server, folder), _vendors_roots(server)]
    good += [_attack(fault, title) for fault, title in _ATTACKS.items()]
    _say("What the lines mean: teeverify explain ID, and docs/verdicts.md.", before=1)
    if options.keep is not None:
        _say("Yours to play with: verify, show, explain ID, diff; or change a byte of it.")
        print(f"  teeverify {shlex.join(_again(folder))}")
    return EXIT_SATISFIED if all(good) else EXIT_BUG


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the folder cannot be made: {error.strerror}",
            id="usage.output",
            got=ascii(str(folder))[:200],
        ) from None
    return folder


def _again(folder: Path) -> list[str]:
    """How the receipt of a folder is verified."""
    files = [str(folder / name) for name in (_RECEIPT, _ROOTS)]
    return ["verify", files[0], "--offline", "--unsafe-test-roots", files[1]]


def _say(text: str, *, before: int = 0, indent: str = "") -> None:
    lines = wrap(text, width_of(sys.stdout), first=indent, indent=indent)
    print("\n" * before + "\n".join(lines), flush=True)


def _ask(server: RunningServer, folder: Path) -> bool:
    """Ask plainly and streamed; keep the receipt, and verify it in another process."""
    _say(
        f"A server runs at {server.url}, on a simulated Intel TDX machine with 8 simulated NVIDIA "
        "GPUs. Its model is a toy that makes up words; its signatures are real."
    )
    client = server.openai()
    chat = client.chat.completions
    plain = chat.create(model=server.model, messages=[_MESSAGE], max_tokens=40)
    _say(f"> {_QUESTION}", before=1)
    _say(f"plain:    {printable(plain.choices[0].message.content or '')}")
    stream = chat.create(model=server.model, messages=[_MESSAGE], max_tokens=40, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    _say(f"streamed: {printable(text)}")
    receipt = client.receipts.last
    if receipt.result is None:
        return False
    print()
    print_result(receipt.result)
    receipt.save(folder / _RECEIPT, include="bytes")
    return _verify_again(folder)


def _verify_again(folder: Path) -> bool:
    """Verify the receipt offline, in a process that knows nothing of this one."""
    command = [sys.executable, "-m", "teeverify", *_again(folder)]
    done = subprocess.run(  # noqa: S603 -- our own
        command, capture_output=True, text=True, check=False
    )
    _say(
        "The receipt holds the question, the answer, its signature and the evidence. Anybody can "
        "verify it again, offline, in another process:",
        before=1,
    )
    _say(f"$ teeverify {' '.join(_again(Path()))}", before=1)
    first = done.stdout.split("\n\n")[0]
    print(f"{first}\nexit code {done.returncode}", flush=True)
    return done.returncode == EXIT_SATISFIED


def _vendors_roots(server: RunningServer) -> bool:
    _say("Now somebody cheats, in one way at a time.", before=1)
    title = "Simulated evidence is shown to somebody who trusts the vendors' roots only."
    return _is_refused(title, lambda: Verifier().verify(server.url))


def _attack(fault: str, title: str) -> bool:
    with start(fault=fault) as server:
        client = server.openai(max_retries=0)

        def ask() -> object:
            return client.chat.completions.create(model=server.model, messages=[_MESSAGE])

        return _is_refused(title, ask)


def _is_refused(title: str, action: Callable[[], object]) -> bool:
    """Show how an attack ends; refused is good."""
    _say(f"* {title}", before=1)
    try:
        action()
    except ConfigurationError:
        raise
    except TeeVerifyError as error:
        sentence = error.result.summary if error.result is not None else str(error)
        _say(sentence, indent="    ")
        _say(f"{type(error).__name__} [{error.id}], exit code {error.exit_code}", indent="    ")
        return True
    _say("NOT REFUSED. This is a bug of ours.", indent="    ")
    return False
