"""No prompt, answer, key or token in any log, error, repr, result or file, unless asked for."""

from __future__ import annotations

import json
import logging
import os
import traceback
from pathlib import Path

import pytest

import teeverify
from teeverify import TeeVerifyError
from teeverify.client.session import signature
from teeverify.simulator.keys import SimulatedKey

openai = pytest.importorskip("openai", reason="the extra 'openai' is not installed")
pytestmark = pytest.mark.network
PROMPT, ANSWER, TOKEN = "prompt-canary-1", "answer-canary-2", "sk-canary-3"
FAULTS = {
    "nothing": lambda stub: None,
    "another key": lambda stub: setattr(stub, "signer", SimulatedKey()),
    "a changed answer": lambda stub: setattr(stub, "change_answer", lambda b: b + b" "),
    "a changed request": lambda stub: setattr(stub, "change_request", lambda b: b + b" "),
    "no signature": lambda stub: setattr(stub, "missing_signatures", 1000),
    "a broken report": lambda stub: setattr(stub, "change_report", lambda b: b[:-9]),
    "a stale report": lambda stub: setattr(
        stub, "change_report", lambda b: b.replace(b'"intel_quote": "04', b'"intel_quote": "05')
    ),
    "half an answer": lambda stub: setattr(stub, "whole", False),
    "a redirect": lambda stub: setattr(stub, "statuses", [302] * 9),
    "an error": lambda stub: setattr(stub, "statuses", [400]),
    "a compressed answer": lambda stub: setattr(stub, "headers", {"Content-Encoding": "gzip"}),
    "a dead server": lambda stub: stub.stop(),
}


def looked_at(error):
    """Everything that an error shows, with its causes, but not the lines of the program."""
    shown = []
    while error is not None:
        shown += [str(error), repr(error)]
        if isinstance(error, TeeVerifyError):
            shown.append(repr(vars(error)))
            if error.result is not None:
                shown.append(error.result.to_json())
        shown += traceback.format_exception_only(type(error), error)
        error = error.__cause__ or error.__context__
    return "".join(shown)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_nothing_is_said(  # noqa: PLR0917 -- fixtures
    enclave, openai_client, caplog, capfd, monkeypatch, fault, stream
):
    monkeypatch.setattr(signature, "_PAUSES", (0.001,))
    caplog.set_level(logging.DEBUG)
    logging.getLogger("openai").setLevel(logging.WARNING)  # the SDK's own, which shows requests
    for name in ("httpcore2", "httpx2"):
        logging.getLogger(name).setLevel(logging.INFO)
    enclave.words = [ANSWER]
    fault(enclave)
    client = openai_client(api_key=TOKEN, max_retries=0)
    shown = []
    try:
        answer = client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": PROMPT}], stream=stream
        )
        for _ in answer:
            pass
    except (TeeVerifyError, openai.OpenAIError, ValueError) as error:
        shown.append(looked_at(error))
    shown += [repr(client.receipts), caplog.text, *capfd.readouterr()]
    for name in client.receipts:
        receipt = client.receipts[name]
        shown += [repr(receipt), receipt.result.to_json(), repr(receipt.result)]
        shown += [receipt.result.summary, receipt.to_bytes(include="hashes").decode()]
        assert PROMPT in json.dumps(receipt.parts.request.raw.decode())
    kept = Path(os.environ["TEEVERIFY_CACHE"])
    shown += [file.read_bytes().decode() for file in kept.rglob("*") if file.is_file()]
    text = "".join(shown)
    assert [canary for canary in (PROMPT, ANSWER, TOKEN) if canary in text] == []


def test_a_receipt_holds_them_only_where_asked(enclave, openai_client, ask):
    enclave.words = [ANSWER]
    client = openai_client(api_key=TOKEN)
    receipt = client.receipts[ask(client, text=PROMPT).id]
    import base64

    whole = json.loads(receipt.to_bytes(include="bytes"))
    decoded = b"".join(base64.b64decode(raw) for raw in whole["attachments"].values())
    assert PROMPT.encode() in decoded
    assert TOKEN.encode() not in decoded
    hashes = json.loads(receipt.to_bytes(include="hashes"))
    decoded = b"".join(base64.b64decode(raw) for raw in hashes["attachments"].values())
    assert PROMPT.encode() not in decoded
    assert ANSWER.encode() not in decoded
    assert teeverify.Receipt.load(receipt.to_bytes(include="hashes")).id is None
