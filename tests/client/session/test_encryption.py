"""Requests sealed to the attested key: enclaves that open them, and hosts that interfere."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest

from teeverify import ConfigurationError, Receipt, ResponseNotVerified, TeeVerifyError, connect
from teeverify.appraisal import Policy
from teeverify.appraisal.presets import ROWS
from teeverify.client.session.encryption import Sealer
from teeverify.client.transports.clients import http_clients
from teeverify.errors import AppraisalFailed
from teeverify.providers import registry
from teeverify.responses import PHALA_TEXT
from teeverify.simulator.keys import SimulatedKey
from teeverify.simulator.sealing import FieldSealing, KeyRefused

openai = pytest.importorskip("openai", reason="the extra 'openai' is not installed")
pytestmark = pytest.mark.network

SCHEMES = ("near-v2", "phala-v2", "venice")
QUESTION = "What is two and two?"


class Sealed:
    """Makes a stub enclave open what it is sent, and seal what it answers; signs what it sends."""

    def __init__(self, enclave, scheme, key=None) -> None:
        self.enclave = enclave
        enclave.key = key or enclave.key
        self.scheme = scheme
        self.asked: list[bytes] = []  # as the enclave read it
        self.change_headers = lambda headers: headers  # what the host does to the request's
        self.change_sealed = lambda answer: answer  # what it does before the enclave signs
        self._answer = enclave.answer
        enclave.answer = self.answer

    @property
    def sealing(self) -> FieldSealing:
        return FieldSealing(scheme=self.scheme, key=self.enclave.key)

    def answer(self, request):
        headers = self.change_headers(dict(self.enclave.of("/chat/")[-1][2]))
        try:
            opened = self.sealing.open(headers, request)
        except KeyRefused:
            raise ValueError from None  # to the stub, which answers 400
        if opened is None:
            return self._answer(request)
        self.asked.append(opened.body)
        self.enclave.headers = dict(opened.headers)
        name, answer, stream = self._answer(opened.body)
        return name, self.change_sealed(opened.seal(answer, stream)), stream


@pytest.fixture(params=SCHEMES)
def scheme(request, monkeypatch):
    """The local dialect, with each provider's way to encrypt."""
    known = registry.DIALECTS["dstack"]
    monkeypatch.setitem(registry.DIALECTS, "dstack", replace(known, encryption=request.param))
    return request.param


@pytest.fixture
def sealed(enclave, scheme):
    return Sealed(enclave, scheme)


@pytest.fixture
def client(sealed, openai_client):
    return lambda **options: openai_client(**{"encrypt": True, **options})


def words(stream):
    return [c.choices[0].delta.content for c in stream if c.choices]


# --- what works ----------


def test_a_plain_answer(sealed, enclave, client, ask):
    reply = ask(client())
    assert reply.choices[0].message.content == "Four."
    ((_, _, _, sent),) = enclave.of("/chat/")
    assert QUESTION.encode() not in sent
    assert QUESTION in json.loads(sealed.asked[0])["messages"][0]["content"]


def test_a_streamed_answer(sealed, enclave, client, ask):
    enclave.cut = lambda body: [body[at : at + 7] for at in range(0, len(body), 7)]
    one = client()
    assert words(ask(one, stream=True)) == ["Fo", "ur."]
    assert b"Fo" not in one.receipts.last.parts.response.raw


def test_a_stream_that_is_held_back(sealed, client, ask):
    one = client(hold_until_verified=True)
    stream = ask(one, stream=True)
    assert len(one.receipts) == 1
    assert words(stream) == ["Fo", "ur."]


def test_in_an_event_loop(sealed, enclave, roots):
    from teeverify import AsyncOpenAI

    async def main():
        given = {"base_url": enclave.url, "api_key": "k", "roots": roots, "encrypt": True}
        async with AsyncOpenAI(**given) as one:
            asked = {"model": "default", "messages": [{"role": "user", "content": QUESTION}]}
            reply = await one.chat.completions.create(**asked)
            stream = await one.chat.completions.create(**asked, stream=True)
            return reply.choices[0].message.content, [
                c.choices[0].delta.content async for c in stream
            ]

    assert asyncio.run(main()) == ("Four.", ["Fo", "ur."])


def test_with_requests(sealed, enclave, roots):
    import requests

    from teeverify import RequestsAdapter

    with requests.Session() as session:
        adapter = RequestsAdapter(enclave.url, roots=roots, encrypt=True)
        session.mount("http://", adapter)
        body = {"model": "default", "messages": [{"role": "user", "content": QUESTION}]}
        reply = session.post(f"{enclave.url}/chat/completions", json=body)
    assert reply.json()["choices"][0]["message"]["content"] == "Four."
    assert QUESTION.encode() not in enclave.of("/chat/")[0][3]


def test_what_the_result_says(sealed, client, ask):
    one = client()
    ask(one)
    result = one.receipts.last.result
    assert result.finding("confidential.request").outcome.value == "proven"
    assert result.finding("confidential.answer").outcome.value == "absent"
    assert result.finding("endpoint.bound").outcome.value == "proven"
    assert "passed it on could have read the answer" in result.summary
    assert "could read the request" not in result.summary


def test_without_encryption_the_result_says_so(enclave, openai_client, ask):
    one = openai_client()
    ask(one)
    result = one.receipts.last.result
    assert result.finding("confidential.request").outcome.value == "absent"
    assert result.finding("confidential.answer").outcome.value == "absent"
    assert "Whoever ends the TLS connection could read the request." in result.summary


def test_each_request_has_keys_of_its_own(sealed, enclave, client, ask):
    one = client()
    ask(one)
    ask(one)
    shown = [
        next(v for n, v in headers.items() if n.endswith("client-pub-key"))
        for _, _, headers, _ in enclave.of("/chat/")
    ]
    assert len(set(shown)) == 2


@pytest.mark.parametrize("scheme", ["near-v2", "phala-v2"], indirect=True)
@pytest.mark.parametrize("algorithm", ["ecdsa", "ed25519"])
def test_both_kinds_of_keys(enclave, scheme, openai_client, ask, algorithm):
    pytest.importorskip("nacl", reason="needs teeverify[e2ee]")
    Sealed(enclave, scheme, SimulatedKey(algorithm))
    one = openai_client(encrypt=True)
    assert ask(one).choices[0].message.content == "Four."
    assert enclave.of("/chat/")[0][2]["x-signing-algo"] == algorithm


def test_where_another_serialisation_is_signed(enclave, openai_client, ask, monkeypatch):
    """Phala signs its own JSON of plain answers: what has the signed hash is what is opened."""
    known = registry.DIALECTS["dstack"]
    phala = replace(known, encryption="phala-v2", form=PHALA_TEXT)
    monkeypatch.setitem(registry.DIALECTS, "dstack", phala)
    Sealed(enclave, "phala-v2")
    enclave.change_answer = lambda raw: json.dumps(json.loads(raw), separators=(",", ":")).encode()
    one = openai_client(encrypt=True)
    assert ask(one).choices[0].message.content == "Four."
    assert b'": "' in one.receipts.last.parts.response.raw


def test_a_machine_that_was_started_anew(sealed, enclave, client, ask):
    """It refuses what is sealed to the key that it had; the new one is attested, and asked once."""
    one = client()
    ask(one)
    enclave.restart()
    assert ask(one).choices[0].message.content == "Four."
    assert len(enclave.of("/attestation")) == 2
    assert len(enclave.of("/chat/")) == 3


def test_a_refusal_for_another_reason_is_the_sdks(sealed, enclave, client, ask):
    enclave.statuses = [400]
    with pytest.raises(openai.BadRequestError):
        ask(client())
    assert len(enclave.of("/chat/")) == 1


# --- what must not be sent ----------


@pytest.mark.parametrize(
    "more",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"stop": ["a word of mine"]},
        {"user": "me"},
    ],
    ids=["tools", "stop", "user"],
)
def test_what_would_stay_readable_is_not_sent(sealed, enclave, client, more):
    one = client()
    with pytest.raises(ConfigurationError) as caught:
        one.chat.completions.create(
            model="default", messages=[{"role": "user", "content": QUESTION}], **more
        )
    assert caught.value.id == "usage.e2ee"
    assert enclave.of("/chat/") == []


def test_a_route_that_is_not_encrypted(sealed, enclave, client):
    one = client()
    with pytest.raises(ConfigurationError):
        one.completions.create(model="default", prompt=QUESTION)
    assert [path for _, path, _, _ in enclave.seen if "completions" in path] == []


def test_no_public_key_no_request(sealed, enclave, client, ask):
    """An address is no key to encrypt to."""

    def without(raw):
        report = json.loads(raw)
        del report["signing_public_key"]
        return json.dumps(report).encode()

    enclave.change_report = without
    with pytest.raises(AppraisalFailed) as caught:
        ask(client())
    assert caught.value.id == "confidential.request"
    assert enclave.of("/chat/") == []


def test_w6_a_swapped_public_key(sealed, enclave, client, ask):
    """The host shows its own key beside the attested address."""

    def swapped(raw):
        report = json.loads(raw)
        return json.dumps(
            {**report, "signing_public_key": SimulatedKey().public_bytes.hex()}
        ).encode()

    enclave.change_report = swapped
    with pytest.raises(TeeVerifyError) as caught:
        ask(client())
    assert caught.value.id == "binding.report-data"
    assert enclave.of("/chat/") == []


def test_a_dialect_without_a_scheme(enclave, openai_client):
    with pytest.raises(ConfigurationError) as caught:
        openai_client(encrypt=True)
    assert caught.value.id == "usage.e2ee"


# --- a host that interferes ----------


def test_the_relay_strips_a_header(sealed, enclave, client, ask):
    """The machine then answers in plain text, and may even sign that: it is refused."""

    def strip(headers):
        return {n: v for n, v in headers.items() if not n.endswith("signing-algo")}

    sealed.change_headers = strip
    one = client()
    for stream in (False, True):
        with pytest.raises(ResponseNotVerified) as caught:
            words(ask(one, stream=True)) if stream else ask(one)
        assert caught.value.id == "e2ee.plaintext"
    assert len(one.receipts) == 0


def test_a_plain_answer_with_the_right_headers(sealed, enclave, client, ask):
    plain = json.dumps({"id": "a", "created": int(time.time()), "model": "default", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Four."}}]}).encode()  # fmt: skip
    sealed.change_sealed = lambda answer: plain
    enclave.next_id = "a"
    one = client()
    with pytest.raises(ResponseNotVerified) as caught:
        ask(one)
    assert caught.value.id == "e2ee.plaintext"
    assert len(one.receipts) == 0


def test_anothers_answer(sealed, enclave, client, ask):
    """Sealed to an earlier request's key, and signed for this one."""
    kept = []

    def replay(answer):
        kept.append(answer)
        return kept[0]

    sealed.change_sealed = replay
    enclave.next_id = "chatcmpl-1"
    one = client()
    ask(one)
    with pytest.raises(ResponseNotVerified) as caught:
        ask(one)
    assert caught.value.id == "e2ee.open"


def test_an_answer_that_the_relay_keyed_anew(sealed, enclave, client, ask):
    """He exchanged the asker's key, so he reads the answer, and seals one of his own: the asker
    can open it, and encryption shows nothing. The signature is over what the machine sent.
    """
    relay = SimulatedKey()
    kept = {}

    def exchange(headers):
        name = next(n for n in headers if n.endswith("client-pub-key"))
        kept["headers"] = dict(headers)
        return {**headers, name: relay.public_bytes.hex()}

    def again(answer):
        opened = sealed.sealing.open(kept["headers"], enclave.of("/chat/")[-1][3])
        message = {"role": "assistant", "content": "Five."}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return opened.seal(json.dumps({**json.loads(answer), "choices": choices}).encode(), False)

    sealed.change_headers = exchange
    enclave.change_answer = again
    one = client()
    with pytest.raises(ResponseNotVerified) as caught:
        ask(one)
    assert caught.value.id == "response.hash-equal"
    # Had the machine itself signed this, it would pass: encryption alone does not tell.
    enclave.change_answer = lambda answer: answer
    sealed.change_sealed = again
    assert ask(one).choices[0].message.content == "Five."


def test_the_relay_changes_the_sealed_request(sealed, enclave, client, ask):
    def changed(body):
        document = json.loads(body)
        document["temperature"] = 2.0
        return json.dumps(document).encode()

    enclave.change_request = changed
    with pytest.raises(ResponseNotVerified) as caught:
        ask(client())
    assert caught.value.id == "request.bound"


# --- sessions, receipts, strict ----------


@pytest.fixture
def session(sealed, enclave, roots):
    return connect(enclave.url, model="default", roots=roots, encrypt=True)


BODY = {"model": "default", "messages": [{"role": "user", "content": QUESTION}]}


def test_a_session_seals_and_opens(session, enclave):
    import requests

    one = session
    sealed = one.seal(json.dumps(BODY).encode())
    assert QUESTION not in repr(sealed)
    reply = requests.post(
        f"{enclave.url}/chat/completions",
        data=sealed.body,
        headers=dict(sealed.headers),
        timeout=10,
    )
    receipt = one.verify_response(response=reply, sealed=sealed)
    text = json.loads(sealed.open(reply.headers, reply.content))
    assert text["choices"][0]["message"]["content"] == "Four."
    assert receipt.result.finding("confidential.request").outcome.value == "proven"


def test_a_session_in_an_event_loop(sealed, enclave, roots):
    import httpx2

    from teeverify import AsyncVerifier

    async def main():
        verifier = AsyncVerifier(roots=roots)
        async with (
            await verifier.connect(enclave.url, model="default", encrypt=True) as session,
            httpx2.AsyncClient() as http,
        ):
            one = session.seal(json.dumps(BODY).encode())
            reply = await http.post(
                f"{enclave.url}/chat/completions", content=one.body, headers=dict(one.headers)
            )
            receipt = await session.verify_response(response=reply, sealed=one)
            return receipt, one.open(reply.headers, reply.content)

    receipt, text = asyncio.run(main())
    assert b"Four." in text
    assert receipt.result.finding("confidential.request").outcome.value == "proven"


def test_a_session_refuses_an_exchange_that_was_not_sealed(session, enclave):
    one = session
    with pytest.raises(ConfigurationError) as caught:
        one.verify_response(response=b"{}", request=json.dumps(BODY).encode())
    assert caught.value.id == "usage.e2ee"
    sealed = one.seal(json.dumps(BODY).encode())
    for request in (b"{}", None):  # other bytes than were sealed; no headers
        with pytest.raises(ConfigurationError) as caught:
            one.verify_response(response=b"{}", request=request, sealed=sealed)
        assert caught.value.id == "usage.e2ee"


def test_a_session_refuses_a_plain_answer_that_is_signed(session, enclave, sealed):
    import requests

    sealed.change_headers = lambda headers: {}
    one = session.seal(json.dumps(BODY).encode())
    reply = requests.post(
        f"{enclave.url}/chat/completions", data=one.body, headers=dict(one.headers), timeout=10
    )
    with pytest.raises(ResponseNotVerified) as caught:
        session.verify_response(response=reply, sealed=one)
    assert caught.value.id == "e2ee.plaintext"


def test_a_session_that_was_opened_without_encryption(enclave, roots):
    one = connect(enclave.url, model="default", roots=roots)
    with pytest.raises(ConfigurationError):
        one.seal(json.dumps(BODY).encode())


def test_a_receipt_keeps_what_was_signed(sealed, enclave, client, ask, roots, tmp_path):
    one = client()
    ask(one)
    receipt = one.receipts.last
    assert receipt.parts.request.raw == enclave.of("/chat/")[0][3]
    for include in ("hashes", "bytes"):
        path = tmp_path / f"{include}.json"
        receipt.save(path, include=include)
        assert QUESTION.encode() not in path.read_bytes()
        given = {} if include == "bytes" else {
            "answer": receipt.parts.response.raw, "request": receipt.parts.request.raw
        }  # fmt: skip
        result = Receipt.load(path).verify(roots=roots, **given)
        # How it travelled is the word of the one who sent it: no receipt shows it.
        assert result.satisfied
        assert result.finding("confidential.request").outcome.value == "absent"


def test_when_strict_encrypts():
    def intends(dialect, *, wanted, strict, bound):
        sealer = Sealer(registry.DIALECTS[dialect], wanted=wanted, strict=strict)
        return sealer.intends(bound=bound) is not None

    assert intends("phala", wanted=False, strict=True, bound=False)
    assert not intends("phala", wanted=False, strict=True, bound=True)
    assert not intends("phala", wanted=False, strict=False, bound=False)
    assert intends("phala", wanted=True, strict=False, bound=True)
    assert not intends("0g", wanted=False, strict=True, bound=False)


@pytest.fixture
def strict():
    """As strict of the channel as can be, and no stricter than a simulated machine can meet."""
    kept = ("endpoint.bound", "confidential.request")
    rows = {row.id: row.floor for row in ROWS if row.strict == "proven" and row.id not in kept}
    gpus = {"count": 2, "architectures": ["Hopper"]}
    changed = Policy.strict().replace(require=rows, verdict={"accept": "warning"}, gpu=gpus)
    assert changed.extends == "strict"
    return changed


def test_strict_encrypts_by_itself(sealed, enclave, client, ask, strict):
    """There is no argument that turns it off, and it is what strict asks of the channel."""
    one = client(encrypt=False, policy=strict)
    assert ask(one).choices[0].message.content == "Four."
    assert QUESTION.encode() not in enclave.of("/chat/")[0][3]
    assert one.receipts.last.result.finding("endpoint.bound").outcome.value == "proven"


def test_strict_without_a_scheme_sends_nothing(enclave, openai_client, ask, strict):
    with pytest.raises(AppraisalFailed) as caught:
        ask(openai_client(policy=strict))
    assert caught.value.id in ("endpoint.bound", "confidential.request")
    assert enclave.of("/chat/") == []


def test_http_clients(sealed, enclave, roots):
    made = http_clients(enclave.url, roots=roots, encrypt=True)
    with made["http_client"] as one:
        reply = one.post(f"{enclave.url}/chat/completions", json=BODY)
    assert reply.json()["choices"][0]["message"]["content"] == "Four."
    assert QUESTION.encode() not in enclave.of("/chat/")[0][3]


def test_the_enclave_refuses_what_is_sealed_to_another(sealed):
    from teeverify.clock import now
    from teeverify.e2ee import seal_request

    envelope = seal_request(
        sealed.scheme, "ecdsa", SimulatedKey().public_bytes, json.dumps(BODY).encode(), at=now()
    )
    headers = {name.lower(): value for name, value in envelope.headers.items()}
    with pytest.raises(KeyRefused):
        sealed.sealing.open(headers, envelope.body)
