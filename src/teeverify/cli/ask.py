"""``teeverify ask``: one question to an endpoint, its answer, and the verdict."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from teeverify.cli.faces import use_colour
from teeverify.errors import EXIT_SATISFIED, ConfigurationError
from teeverify.render import printable, render_result
from teeverify.roots import UnsafeTestRoots

if TYPE_CHECKING:
    from openai import Stream
    from openai.types.chat import ChatCompletionChunk

__all__ = ["add_ask", "ask"]

_KEYS = ("TEEVERIFY_API_KEY", "OPENAI_API_KEY")
_MAX_PROMPT = 1024 * 1024


def add_ask(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags to its parser."""
    parser.add_argument("url", metavar="URL", help="the endpoint, for example https://host/v1")
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="?", default="-", help="the question; - reads stdin"
    )
    parser.add_argument("--model", metavar="M", required=True)
    parser.add_argument(
        "--hold", action="store_true", help="show nothing of the answer until it is verified"
    )
    parser.add_argument("--save", metavar="F", help="write the receipt, with question and answer")
    parser.add_argument("--policy", default="genuine", metavar="genuine|strict|F.toml")
    parser.add_argument("--endorsements", action="append", default=[], metavar="PATH")
    parser.add_argument("--dialect", metavar="NAME", help="see 'teeverify providers'")
    parser.add_argument(
        "--unsafe-test-roots", metavar="F", help="PEM file of test roots: proves nothing"
    )


def ask(options: argparse.Namespace) -> int:
    """Attest the endpoint, ask, show the answer, and then the verdict.

    The API key is read from the environment: ``TEEVERIFY_API_KEY`` or ``OPENAI_API_KEY``.

    Raises:
        TeeVerifyError: The endpoint or the answer is not verified.
    """
    from teeverify import OpenAI  # noqa: PLC0415 -- loads the SDK

    prompt = _prompt(options.prompt)
    roots = options.unsafe_test_roots
    key = next((os.environ[name] for name in _KEYS if os.environ.get(name)), "none")
    client = OpenAI(
        base_url=options.url,
        api_key=key,
        policy=options.policy,
        roots=UnsafeTestRoots.load(roots) if roots else None,
        endorsements=options.endorsements,
        dialect=options.dialect,
        hold_until_verified=options.hold,
    )
    with client:
        if not options.hold:
            print("teeverify: nothing is verified until the verdict below", file=sys.stderr)
        stream = client.chat.completions.create(
            model=options.model, messages=[{"role": "user", "content": prompt}], stream=True
        )
        _show(stream)
        receipt = client.receipts.last
    if options.save is not None:
        receipt.save(options.save, include="bytes")
        print(f"teeverify: the receipt is in {printable(options.save)}", file=sys.stderr)
    if receipt.result is not None:
        print(render_result(receipt.result, colour=use_colour(sys.stdout)))
    return EXIT_SATISFIED


def _show(stream: Stream[ChatCompletionChunk]) -> None:
    """Show an answer as it comes; what it holds must not steer the terminal."""
    for chunk in stream:
        text = (chunk.choices[0].delta.content or "") if chunk.choices else ""
        lines = [printable(line, limit=len(line)) for line in text.split("\n")]
        print("\n".join(lines), end="", flush=True)
    print("\n")


def _prompt(given: str) -> str:
    text = sys.stdin.read(_MAX_PROMPT + 1) if given == "-" else given
    if not text.strip() or len(text) > _MAX_PROMPT:
        raise ConfigurationError(
            "there is no question", id="usage.arguments", want="PROMPT, or text on stdin"
        )
    return text
