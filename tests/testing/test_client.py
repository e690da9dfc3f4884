"""The verifying OpenAI client against a sound server, and against every fault."""

from __future__ import annotations

import pytest

import teeverify
from teeverify.testing import FAULTS

pytestmark = pytest.mark.network

ASK = {"messages": [{"role": "user", "content": "Say something."}], "max_tokens": 20}


@pytest.fixture(autouse=True)
def _sdk():
    pytest.importorskip("openai", reason="the extra 'openai' is not installed")


def text_of(client, *, stream):
    answer = client.chat.completions.create(model="default", stream=stream, **ASK)
    if not stream:
        return answer.choices[0].message.content
    return "".join(c.delta.content or "" for event in answer for c in event.choices)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_a_sound_server(teeverify_server, stream):
    with teeverify_server.openai() as client:
        assert text_of(client, stream=stream)


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_refused_with_its_own_finding(serve, fault):
    stream = fault in ("truncated-stream", "missing-chunk")
    with serve(fault=fault, gpus=2) as server, server.openai(max_retries=0) as client:
        with pytest.raises(teeverify.TeeVerifyError) as caught:
            text_of(client, stream=stream)
        assert (caught.value.id, type(caught.value).__name__) == FAULTS[fault]
