"""``teeverify ask``: one question to an endpoint, its answer, and the verdict."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from teeverify.cli.faces import print_result, summary_of
from teeverify.cli.flags import add_dialect, add_endorsements_path, add_policy, add_test_roots
from teeverify.errors import EXIT_SATISFIED, ConfigurationError, TeeVerifyError
from teeverify.render import printable
from teeverify.roots import UnsafeTestRoots

if TYPE_CHECKING:
    from openai import Stream
    from openai.types.chat import ChatCompletionChunk

    from teeverify.client.receipts import Receipt
    from teeverify.client.transports.openai import OpenAI

__all__ = ["add_ask", "ask"]

_KEYS = ("TEEVERIFY_API_KEY", "OPENAI_API_KEY")
_MAX_PROMPT = 1024 * 1024


def add_ask(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags to its parser."""
    parser.add_argument("url", metavar="URL", help="the endpoint, for example https://host/v1")
    parser.add_argument(
        "prompt", metavar="PROMPT", nargs="?", default="-", help="the question; - reads stdin"
    )
    parser.add_argument("--model", metavar="M", required=True, help="the model to ask for")
    parser.add_argument(
        "--hold", action="store_true", help="show nothing of the answer until it is verified"
    )
    parser.add_argument("--save", metavar="F", help="write the receipt, with question and answer")
    add_policy(parser)
    add_endorsements_path(parser)
    add_dialect(parser)
    add_test_roots(parser)


def ask(options: argparse.Namespace) -> int:
    """Attest the endpoint, ask, show the answer, and then the verdict.

    The API key is read from the environment: ``TEEVERIFY_API_KEY`` or ``OPENAI_API_KEY``.

    Raises:
        TeeVerifyError: The endpoint or the answer is not verified.
    """
    import teeverify  # noqa: PLC0415 -- gives the client, which loads the SDK

    prompt = _prompt(options.prompt)
    roots = options.unsafe_test_roots
    key = next((os.environ[name] for name in _KEYS if os.environ.get(name)), "none")
    client = teeverify.OpenAI(
        base_url=options.url,
        api_key=key,
        policy=options.policy,
        roots=UnsafeTestRoots.load(roots) if roots else None,
        endorsements=options.endorsements,
        dialect=options.dialect,
        hold_until_verified=options.hold,
    )
    with client:
        try:
            receipt = _answer(client, options.model, prompt, held=options.hold)
        except ConfigurationError:
            raise
        except TeeVerifyError as error:
            # What was shown of an answer stands on stdout, so its verdict must follow it there.
            print(summary_of(error))
            return error.exit_code
    if options.save is not None:
        receipt.save(options.save, include="bytes")
        print(f"teeverify: the receipt is in {printable(options.save)}", file=sys.stderr)
    if receipt.result is not None:
        print_result(receipt.result)
    return EXIT_SATISFIED


def _answer(client: OpenAI, model: str, prompt: str, *, held: bool) -> Receipt:
    """Show the answer as it comes, and give its receipt."""
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}], stream=True
    )
    if not held:
        print("teeverify: nothing is verified until the verdict below", file=sys.stderr)
    try:
        _show(stream)
    finally:
        print("\n")
    return client.receipts.last


def _show(stream: Stream[ChatCompletionChunk]) -> None:
    """Show an answer as it comes; what it holds must not steer the terminal."""
    for chunk in stream:
        text = (chunk.choices[0].delta.content or "") if chunk.choices else ""
        lines = [printable(line, limit=len(line)) for line in text.split("\n")]
        print("\n".join(lines), end="", flush=True)


def _prompt(given: str) -> str:
    text = sys.stdin.read(_MAX_PROMPT + 1) if given == "-" else given
    if not text.strip() or len(text) > _MAX_PROMPT:
        raise ConfigurationError(
            "there is no question", id="usage.arguments", want="PROMPT, or text on stdin"
        )
    return text
