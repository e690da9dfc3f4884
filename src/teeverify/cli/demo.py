"""``teeverify demo``: a real server on simulated hardware, an answer verified, attacks refused.

The cryptography is real in every step; only the keys at the top are not the vendors'.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from teeverify.client import Verifier
from teeverify.errors import EXIT_BUG, EXIT_SATISFIED, ConfigurationError, TeeVerifyError
from teeverify.render import printable, render_result
from teeverify.render.terminal import wrap
from teeverify.testing import start

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionUserMessageParam

    from teeverify.testing.server import RunningServer

__all__ = ["demo"]

_QUESTION = "What is two and two?"
_MESSAGE: ChatCompletionUserMessageParam = {"role": "user", "content": _QUESTION}
# A fault of the server (teeverify.testing.FAULTS), and what it means.
_ATTACKS = {
    "tampered-answer": "One byte of the answer is changed on its way.",
    "other-answer": "The signature of another answer is given for this one.",
    "stale-gpu-nonce": "One GPU's report was made for an older question.",
    "debug-td": "The VM runs in debug mode.",
}


def demo(out: TextIO, *, colour: bool) -> int:
    """Start a simulated server, ask it, verify, and try to cheat.

    Args:
        out: Where to write.
        colour: Whether to use colours.

    Returns:
        0 if the good answers were accepted and every attack was refused.

    Raises:
        ConfigurationError: The packages of the server or of the client are not installed.
    """
    stage = _Stage(out, colour=colour)
    with start() as server, tempfile.TemporaryDirectory(prefix="teeverify-demo-") as folder:
        good = [_ask(stage, server, Path(folder)), _vendors_roots(stage, server)]
    good += [_attack(stage, fault, title) for fault, title in _ATTACKS.items()]
    stage.say("What the lines mean: teeverify explain ID, and docs/verdicts.md.", before=1)
    return EXIT_SATISFIED if all(good) else EXIT_BUG


class _Stage:
    """Where the demo is shown."""

    def __init__(self, out: TextIO, *, colour: bool) -> None:
        self.out = out
        self.colour = colour

    def say(self, text: str, *, before: int = 0, indent: str = "") -> None:
        lines = [f"{indent}{line}" for line in wrap(text)]
        self.out.write("\n" * before + "\n".join(lines) + "\n")
        self.out.flush()

    def refusal(self, title: str, error: TeeVerifyError | None) -> bool:
        """Show how an attack ended; refused is good."""
        self.say(f"* {title}", before=1)
        if error is None:
            self.say("NOT REFUSED. This is a bug of ours.", indent="    ")
            return False
        sentence = error.result.summary if error.result is not None else str(error)
        self.say(sentence, indent="    ")
        self.say(f"{type(error).__name__} [{error.id}], exit code {error.exit_code}", indent="    ")
        return True


def _ask(stage: _Stage, server: RunningServer, folder: Path) -> bool:
    """Ask plainly and streamed; keep the receipt, and verify it in another process."""
    stage.say(
        f"A server runs at {server.url}, on a simulated Intel TDX machine with 8 simulated NVIDIA "
        "GPUs. Its model is a toy that makes up words; its signatures are real."
    )
    client = server.openai()
    chat = client.chat.completions
    plain = chat.create(model=server.model, messages=[_MESSAGE], max_tokens=40)
    stage.say(f"> {_QUESTION}", before=1)
    stage.say(f"plain:    {printable(plain.choices[0].message.content or '')}")
    stream = chat.create(model=server.model, messages=[_MESSAGE], max_tokens=40, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    stage.say(f"streamed: {printable(text)}")
    receipt = client.receipts.last
    if receipt is None or receipt.result is None:
        return False
    stage.out.write("\n" + render_result(receipt.result, colour=stage.colour) + "\n")
    file = folder / "receipt.json"
    receipt.save(file, include="bytes")
    return _again(stage, file, server.roots_file)


def _again(stage: _Stage, receipt: Path, roots: Path) -> bool:
    """Verify a receipt offline, in a process that knows nothing of this one."""
    command = ["verify", str(receipt), "--offline", "--unsafe-test-roots", str(roots)]
    program = "import sys; from teeverify.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(  # noqa: S603 -- our own
        [sys.executable, "-c", program, *command], capture_output=True, text=True, check=False
    )
    stage.say(
        "The receipt holds the question, the answer, its signature and the evidence. Anybody can "
        "verify it again, offline, in another process:",
        before=1,
    )
    stage.say("$ teeverify verify receipt.json --offline --unsafe-test-roots ROOTS", before=1)
    first = done.stdout.split("\n\n")[0].splitlines()
    stage.out.write("\n".join([*first, f"exit code {done.returncode}"]) + "\n")
    return done.returncode == EXIT_SATISFIED


def _vendors_roots(stage: _Stage, server: RunningServer) -> bool:
    stage.say("Now somebody cheats, in one way at a time.", before=1)
    title = "Simulated evidence is shown to somebody who trusts the vendors' roots only."
    return stage.refusal(title, _error_of(lambda: Verifier().verify(server.url)))


def _attack(stage: _Stage, fault: str, title: str) -> bool:
    with start(fault=fault) as server:
        client = server.openai(max_retries=0)

        def ask() -> object:
            return client.chat.completions.create(model=server.model, messages=[_MESSAGE])

        return stage.refusal(title, _error_of(ask))


def _error_of(action: Callable[[], object]) -> TeeVerifyError | None:
    """How an attack was refused; ``None`` if it was not."""
    try:
        action()
    except ConfigurationError:
        raise
    except TeeVerifyError as error:
        return error
    return None
