"""Clients for whatever is built on httpx2 or httpx, and the verifier of event loops."""

from __future__ import annotations

import importlib.util
import json
import sys
from types import SimpleNamespace

import pytest

import teeverify
from teeverify import AsyncVerifier, ConfigurationError, EvidenceError, ResponseNotVerified

anyio = pytest.importorskip("anyio", reason="the extra 'openai' is not installed")
httpx2 = pytest.importorskip("httpx2", reason="the extra 'openai' is not installed")
pytestmark = pytest.mark.network
PLAIN = {"model": "default", "messages": [{"role": "user", "content": "What is two and two?"}]}
TOOLS = [{"type": "function", "function": {"name": "pay", "parameters": {}}}]


def change(body):
    return body.replace(b"ur.", b"rk.")


@pytest.fixture
def clients(enclave, roots):
    """Makes pairs of clients, and closes them."""
    made = []

    def make(**wishes):
        made.append(teeverify.http_clients(enclave.url, **{"roots": roots, **wishes}))
        return made[-1]

    yield make
    for pair in made:
        pair["http_client"].close()


def test_both_clients(clients, enclave):
    pair = clients()
    answer = pair["http_client"].post(f"{enclave.url}/chat/completions", json=PLAIN)
    assert answer.json()["id"] in pair["http_client"].receipts

    async def main():
        client = pair["http_async_client"]
        answer = await client.post(f"{enclave.url}/chat/completions", json=PLAIN)
        assert answer.json()["id"] in client.receipts
        await client.aclose()

    anyio.run(main)
    enclave.change_answer = change
    with pytest.raises(ResponseNotVerified):
        pair["http_client"].post(f"{enclave.url}/chat/completions", json=PLAIN)


def test_they_go_into_the_sdks_own_clients(clients, enclave):
    openai = pytest.importorskip("openai", reason="the extra 'openai' is not installed")
    pair = clients()
    client = openai.OpenAI(base_url=enclave.url, api_key="x", http_client=pair["http_client"])
    reply = client.chat.completions.create(**PLAIN)
    assert reply.id in pair["http_client"].receipts
    enclave.change_answer = change
    with pytest.raises(ResponseNotVerified):
        client.chat.completions.create(**PLAIN)


@pytest.fixture
def imported(need):
    """Imports an SDK; CI has them in an environment of their own."""

    def get(name):
        if importlib.util.find_spec(name) is None:
            need("sdks", f"{name} is not installed (dependency group sdks)")
        return importlib.import_module(name)

    return get


def test_langchain(clients, enclave, imported):
    langchain = imported("langchain_openai")
    pair = clients()
    chat = langchain.ChatOpenAI(base_url=enclave.url, api_key="x", model="default", **pair)
    assert chat.invoke("What is two and two?").content == "Four."
    assert len(pair["http_client"].receipts) == 1
    enclave.change_answer = change
    with pytest.raises(ResponseNotVerified):
        chat.invoke("What is two and two?")


@pytest.mark.parametrize("stream", [False, True])
def test_anthropics_sdk(clients, enclave, imported, stream):
    """No dialect of an honest server here signs its route: nothing is sent, and it says why."""
    anthropic = imported("anthropic")
    pair, base = clients(), enclave.url.removesuffix("/v1")
    client = anthropic.Anthropic(base_url=base, api_key="x", http_client=pair["http_client"])
    with pytest.raises(ConfigurationError) as refused:
        client.messages.create(**PLAIN, max_tokens=8, stream=stream)
    assert refused.value.id == "usage.route"
    assert enclave.seen == []

    async def main():
        given = {"base_url": base, "api_key": "x", "http_client": pair["http_async_client"]}
        async with anthropic.AsyncAnthropic(**given) as client:
            with pytest.raises(ConfigurationError):
                await client.messages.create(**PLAIN, max_tokens=8, stream=stream)

    anyio.run(main)
    assert enclave.seen == []


class _SdkError(Exception):
    """What Anthropic's SDK lets pass, in its place."""


def test_errors_are_also_of_the_sdk_that_would_hide_them(clients, enclave, monkeypatch):
    monkeypatch.setitem(sys.modules, "anthropic", SimpleNamespace(AnthropicError=_SdkError))
    enclave.change_answer = change
    for _ in range(2):
        with pytest.raises(ResponseNotVerified) as refused:
            clients()["http_client"].post(f"{enclave.url}/chat/completions", json=PLAIN)
        assert isinstance(refused.value, _SdkError)
        assert type(refused.value).__name__ == "ResponseNotVerified"
        assert refused.value.id == "response.hash-equal"
    monkeypatch.delitem(sys.modules, "anthropic")
    with pytest.raises(ResponseNotVerified) as refused:
        clients()["http_client"].post(f"{enclave.url}/chat/completions", json=PLAIN)
    assert type(refused.value) is ResponseNotVerified


def test_another_host_is_refused(clients, enclave):
    with pytest.raises(ConfigurationError):
        clients()["http_client"].post("http://127.0.0.1:1/v1/chat/completions", json=PLAIN)
    assert enclave.seen == []


@pytest.mark.parametrize("arguments", [{"tools": TOOLS}, {"functions": TOOLS}])
def test_answers_that_may_call_tools_are_held_back(clients, enclave, arguments):
    client = clients()["http_client"]
    asked = {**PLAIN, "stream": True, **arguments}
    with client.stream("POST", f"{enclave.url}/chat/completions", json=asked):
        assert len(client.receipts) == 1
    enclave.change_answer = change
    with pytest.raises(ResponseNotVerified):
        client.send(client.build_request("POST", f"{enclave.url}/chat/completions", json=asked),
                    stream=True)  # fmt: skip


def test_strict_holds_back_and_salts(enclave, roots):
    """Strict accepts nothing simulated, so a policy that starts from it, and accepts more."""
    from teeverify.appraisal.presets import ROWS

    policy = teeverify.Policy.strict().replace(
        require={row.id: row.floor for row in ROWS},
        verdict={"accept": "warning"},
        gpu={"count_required": False},
        session={"clock_skew_seconds": 600},
    )
    pair = teeverify.http_clients(enclave.url, roots=roots, policy=policy)
    client = pair["http_client"]
    asked = {**PLAIN, "stream": True}
    with client.stream("POST", f"{enclave.url}/chat/completions", json=asked):
        assert len(client.receipts) == 1
    ((_, _, _, sent),) = enclave.of("/chat/")
    assert len(sent) - len(sent.rstrip()) == 128
    client.close()


def test_holding_back_is_bounded(clients, enclave, monkeypatch):
    from teeverify.client.transports import gate

    monkeypatch.setattr(gate, "MAX_HELD_SECONDS", 0.1)
    enclave.cut = lambda body: [body[i : i + 20] for i in range(0, len(body), 20)]
    enclave.pause = 0.02
    with pytest.raises(ResponseNotVerified) as refused:
        clients(hold_until_verified=True)["http_client"].post(
            f"{enclave.url}/chat/completions", json={**PLAIN, "stream": True}
        )
    assert refused.value.id == "answer.size"


# --- in an event loop ----------


def test_the_verifier_of_event_loops(enclave, roots):
    async def main():
        verifier = AsyncVerifier(roots=roots)
        assert (await verifier.verify(enclave.url)).satisfied
        session = await verifier.connect(enclave.url, model="default")
        async with session, httpx2.AsyncClient(trust_env=False) as client:
            assert session.result.satisfied
            answer = await client.post(
                f"{enclave.url}/chat/completions",
                content=json.dumps(PLAIN).encode(),
                headers={"Accept-Encoding": "identity"},
            )
            receipt = await session.verify_response(response=answer)
            assert receipt.signer == session.signer
            with pytest.raises(ResponseNotVerified) as refused:
                await session.verify_response(response=answer)
            assert refused.value.id == "answer.replayed"
        with pytest.raises(EvidenceError):
            await AsyncVerifier().connect(enclave.url)

    anyio.run(main)


def test_an_answer_counts_once_in_all_sessions_of_a_verifier(enclave, roots):
    import requests

    verifier = teeverify.Verifier(roots=roots)
    answer = requests.post(f"{enclave.url}/chat/completions", json=PLAIN, timeout=10)
    verifier.connect(enclave.url).verify_response(response=answer)
    with pytest.raises(ResponseNotVerified) as refused:
        verifier.connect(enclave.url).verify_response(response=answer)
    assert refused.value.id == "answer.replayed"
    teeverify.Verifier(roots=roots).connect(enclave.url).verify_response(response=answer)
