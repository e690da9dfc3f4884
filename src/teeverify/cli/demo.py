"""``teeverify demo``: an answer verified, and attacks refused, on simulated hardware.

The cryptography is real in every step; only the keys at the top are not the vendors'.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from teeverify.appraisal import AttestationResult
from teeverify.client import Verifier
from teeverify.clock import now
from teeverify.errors import EXIT_BUG, EXIT_SATISFIED
from teeverify.render import render_result
from teeverify.render.terminal import wrap

if TYPE_CHECKING:
    from teeverify.simulator.endpoint import Endpoint

__all__ = ["demo"]


def demo(out: TextIO, *, colour: bool) -> int:
    """Forge an endpoint, verify an answer of it, and try to cheat.

    Args:
        out: Where to write.
        colour: Whether to use colours.

    Returns:
        0 if the good answer was accepted and every attack refused.
    """
    # The simulator is loaded by this command only: the verifier never imports it.
    from teeverify.simulator.endpoint import Endpoint  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="teeverify-demo-") as name:
        endpoint = Endpoint(at=now())
        scene = _Scene(endpoint, Path(name), out, colour=colour)
        good = scene.play_good()
        refused = [scene.play(title, attack) for title, attack in _attacks()]
    out.write(
        "\nWhat a verdict does not say: docs/verdicts.md. Every line: teeverify explain ID.\n"
    )
    return EXIT_SATISFIED if good and all(refused) else EXIT_BUG


class _Scene:
    """One simulated endpoint, and the stage it is shown on."""

    def __init__(self, endpoint: Endpoint, folder: Path, out: TextIO, *, colour: bool) -> None:
        self.endpoint = endpoint
        self.folder = folder
        self.out = out
        self.colour = colour
        self.verifier = Verifier(roots=endpoint.roots(), offline=True)
        self.request = endpoint.request()
        self.answer = endpoint.answer()
        self.signature = endpoint.sign(self.request, self.answer)

    def say(self, text: str) -> None:
        self.out.write("\n".join(wrap(text)) + "\n")

    def play_good(self) -> bool:
        self.say(
            "A simulated Intel TDX machine with 8 simulated NVIDIA GPUs is made, with random keys "
            "for Intel and NVIDIA. It is asked a question, and signs its answer."
        )
        self.out.write("\n")
        result = self.verify(self.endpoint.capture(self.folder / "good"))
        self.out.write(render_result(result, colour=self.colour) + "\n\n")
        self.say("Now somebody cheats, in one way at a time:")
        return result.satisfied

    def play(self, title: str, attack: Callable[[_Scene], AttestationResult]) -> bool:
        result = attack(self)
        self.out.write(f"\n* {title}\n")
        for line in wrap(result.summary):
            self.out.write(f"    {line}\n")
        self.out.write(f"    exit code {result.exit_code}\n")
        return not result.satisfied

    def verify(self, source: Path, **changes: bytes) -> AttestationResult:
        parts = {"request": self.request, "answer": self.answer, "signature": self.signature}
        parts |= changes
        return self.verifier.appraise(
            source,
            request=parts["request"],
            answer=parts["answer"],
            signature=parts["signature"],
        )


def _attacks() -> Iterator[tuple[str, Callable[[_Scene], AttestationResult]]]:
    yield "One byte of the answer is changed.", _changed
    yield "The signature of another answer is shown.", _other_signature
    yield "A GPU's report answers an older nonce.", _old_gpu_report
    yield "The VM runs in debug mode.", _debug
    yield "The same evidence, verified with the vendors' roots.", _real_roots


def _changed(scene: _Scene) -> AttestationResult:
    return scene.verify(scene.folder / "good", answer=scene.answer.replace(b"ur.", b"ive", 1))


def _other_signature(scene: _Scene) -> AttestationResult:
    other = scene.endpoint.sign(scene.request, scene.endpoint.answer(stream=False))
    return scene.verify(scene.folder / "good", signature=other)


def _old_gpu_report(scene: _Scene) -> AttestationResult:
    endpoint = scene.endpoint
    report = endpoint.near_report(model={"nvidia_payload": endpoint.stale_gpu(3)})
    return scene.verify(endpoint.capture(scene.folder / "old", report=report))


def _debug(scene: _Scene) -> AttestationResult:
    report = scene.endpoint.near_report(model={"quote": {"debug": True}})
    return scene.verify(scene.endpoint.capture(scene.folder / "debug", report=report))


def _real_roots(scene: _Scene) -> AttestationResult:
    return Verifier(offline=True).appraise(scene.folder / "good")
