"""Tests of a program that uses verified answers, against a simulated enclave server.

Usage: pytest examples/test_my_app.py  (with teeverify[openai,server]; the fixture comes with it)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import teeverify
import teeverify.testing

if TYPE_CHECKING:
    from teeverify.testing.server import RunningServer


def my_app(client: teeverify.OpenAI, model: str, question: str) -> str:
    """The program under test: it asks, and uses what it gets."""
    message = {"role": "user", "content": question}
    reply = client.chat.completions.create(model=model, messages=[message])
    return reply.choices[0].message.content


def test_it_answers(teeverify_server: RunningServer) -> None:
    """On a sound server the program gets its answer, and there is a receipt of it."""
    client = teeverify_server.openai()
    assert my_app(client, teeverify_server.model, "What is two and two?")
    assert client.receipts.last.result.simulated


@pytest.mark.parametrize("fault", ["tampered-answer", "debug-td"])
def test_it_refuses(fault: str) -> None:
    """On a server that does something wrong the program gets the right exception, and no text."""
    wanted = teeverify.testing.FAULTS[fault]
    with teeverify.testing.start(fault=fault, gpus=1) as server:
        client = server.openai(max_retries=0)
        with pytest.raises(teeverify.TeeVerifyError) as refused:
            my_app(client, server.model, "What is two and two?")
    assert refused.value.id == wanted.finding
