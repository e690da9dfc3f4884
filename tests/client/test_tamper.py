"""Somebody between client and server changes something: what the client says, as a table.

Every row is one kind of change, done at every place where it can be done. A change of what was
signed must raise; one of the framing alone must pass.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pytest

import teeverify
from teeverify import TeeVerifyError
from teeverify.client.session import signature

openai = pytest.importorskip("openai", reason="the extra 'openai' is not installed")
pytestmark = pytest.mark.network
TEXT = "What is two and two?"


@pytest.fixture(scope="module", autouse=True)
def table():
    rows: list[tuple[str, str, Counter]] = []
    yield rows
    width = max((len(name) for name, _, _ in rows), default=0)
    print(f"\n{'change':{width}}  {'answer':8}  verdicts")  # noqa: T201 -- the table that it is about
    for name, kind, verdicts in rows:
        shown = ", ".join(f"{verdict} x{count}" for verdict, count in sorted(verdicts.items()))
        print(f"{name:{width}}  {kind:8}  {shown}")  # noqa: T201


@pytest.fixture
def between(enclave, openai_client, middle, monkeypatch):
    """A client whose way to the enclave leads through somebody else."""
    monkeypatch.setattr(signature, "_PAUSES", (0.001,))
    relay = middle(enclave.url)
    enclave.next_id = "chatcmpl-" + "ab" * 16
    relay.client = openai_client(base_url=relay.url, max_retries=0)
    return relay


def ask(relay, *, stream, text=TEXT):
    """The verdict: ``verified``, or the id of the error; and what the user saw."""
    relay.client._gate._verifier.replays._seen.clear()
    relay.client.receipts._seen.clear()
    relay.client.receipts._receipts.clear()
    try:
        answer = relay.client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": text}], stream=stream
        )
        for _ in answer:
            pass
    except TeeVerifyError as error:
        assert len(relay.client.receipts) == 0
        return error.id
    except (openai.OpenAIError, ValueError) as error:  # the SDK could not even read it
        assert len(relay.client.receipts) == 0
        return f"SDK: {type(error).__name__}"
    assert len(relay.client.receipts) == 1
    return "verified"


def body_of(relay, *, stream):
    """One answer's exact bytes, which later ones with the same id differ from in nothing else."""
    seen = []
    relay.change_answer = lambda body: seen.append(body) or body
    assert ask(relay, stream=stream) == "verified"
    return seen[0]


KINDS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


def names(stream):
    return "streamed" if stream else "plain"


@KINDS
def test_every_byte_of_the_answer(between, table, stream):
    length = len(body_of(between, stream=stream))
    verdicts = Counter()
    for place in range(length):

        def flip(body, place=place):
            at = place % len(body)
            return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]

        between.change_answer = flip
        verdicts[ask(between, stream=stream)] += 1
    table.append(("a bit of any byte of the answer", names(stream), verdicts))
    # Ours, also where the SDK cannot read the stream that it was handed.
    assert set(verdicts) <= {"response.hash-equal", "answer.complete", "answer.signature"}


@KINDS
def test_every_byte_of_the_request(between, table, stream):
    sent = []
    between.change_request = lambda body: sent.append(body) or body
    assert ask(between, stream=stream) == "verified"
    verdicts = Counter()
    for place in range(len(sent[0])):

        def flip(body, place=place):
            at = place % len(body)
            return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]

        between.change_request = flip
        verdicts[ask(between, stream=stream)] += 1
    table.append(("a bit of any byte of the request", names(stream), verdicts))
    assert "verified" not in verdicts


@KINDS
def test_cut_into_other_pieces(between, table, stream):
    verdicts = Counter()
    for size in (1, 2, 3, 7, 16, 64, 1000):
        between.cut = lambda body, size=size: [
            body[i : i + size] for i in range(0, len(body), size)
        ]
        verdicts[ask(between, stream=stream)] += 1
    table.append(("other chunks (must pass)", names(stream), verdicts))
    assert set(verdicts) == {"verified"}


@KINDS
def test_cut_short_at_every_byte(between, table, stream):
    length = len(body_of(between, stream=stream))
    verdicts = Counter()
    for whole in (True, False):
        between.whole = whole
        for place in range(length):
            between.change_answer = lambda body, place=place: body[:place]
            verdicts[ask(between, stream=stream)] += 1
    table.append(("cut short at every byte", names(stream), verdicts))
    assert "verified" not in verdicts


SERIALISED = {
    "compact": lambda value: json.dumps(value, separators=(",", ":")),
    "indented": lambda value: json.dumps(value, indent=1),
    "keys sorted": lambda value: json.dumps(value, sort_keys=True) + " ",
    "escapes": lambda value: json.dumps(value).replace("F", "\\u0046"),
    "slashes": lambda value: json.dumps(value).replace("chat", "ch\\u0061t"),
    "a final line break": lambda value: json.dumps(value) + "\n",
    "a byte order mark": lambda value: "\ufeff" + json.dumps(value),
    "spaces": lambda value: " " + json.dumps(value),
    "floats": lambda value: json.dumps({**value, "created": float(value["created"])}),
    "a key twice": lambda value: '{"id":"x",' + json.dumps(value)[1:],
    "a key more": lambda value: json.dumps({**value, "extra": None}),
}


def test_serialised_anew(between, table):
    verdicts = Counter()
    for change in SERIALISED.values():
        between.change_answer = lambda body, change=change: change(json.loads(body)).encode()
        verdicts[ask(between, stream=False)] += 1
    table.append((f"serialised anew, {len(SERIALISED)} ways", "plain", verdicts))
    assert "verified" not in verdicts


EVENTS = {
    "twice": lambda events: [events[0], *events],
    "in another order": lambda events: [events[1], events[0], *events[2:]],
    "one less": lambda events: events[1:],
    "one of the middle less": lambda events: [events[0], *events[2:]],
    "one more": lambda events: [*events[:-1], events[0], events[-1]],
    "the end first": lambda events: [events[-1], *events[:-1]],
    "the end twice": lambda events: [*events, events[-1]],
    "a comment": lambda events: [b": hello\n\n", *events],
    "a name": lambda events: [b"event: x\n" + events[0], *events[1:]],
    "something after the end": lambda events: [*events, events[0]],
    "CRLF": lambda events: [event.replace(b"\n", b"\r\n") for event in events],
    "two in one": lambda events: [events[0][:-1], *events[1:]],
}


def test_events(between, table):
    verdicts = Counter()
    for change in EVENTS.values():

        def changed(body, change=change):
            parts = body.split(b"\n\n")[:-1]
            return b"".join(change([part + b"\n\n" for part in parts]))

        between.change_answer = changed
        verdicts[ask(between, stream=True)] += 1
    table.append((f"events changed, {len(EVENTS)} ways", "streamed", verdicts))
    assert "verified" not in verdicts


@KINDS
@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd", "gzip, gzip", "deflate"])
def test_compressed(between, table, stream, encoding):
    between.change_answer = gzip.compress
    between.headers = {"Content-Encoding": encoding}
    verdicts = Counter([ask(between, stream=stream)])
    table.append((f"compressed ({encoding})", names(stream), verdicts))
    assert set(verdicts) == {"answer.encoding"}


@KINDS
def test_compressed_without_saying_so(between, table, stream):
    between.change_answer = gzip.compress
    verdicts = Counter([ask(between, stream=stream)])
    table.append(("compressed, and not said", names(stream), verdicts))
    assert "verified" not in verdicts


@KINDS
def test_the_answers_of_two_users(between, table, stream, enclave):
    """The first user's answer goes to the second, with its own true signature."""
    kept = []
    between.change_answer = lambda body: kept.append(body) or kept[0]
    assert ask(between, stream=stream, text="my question") == "verified"
    signature = dict(enclave.signatures)
    enclave.sign = lambda *parts: enclave.signatures.update(signature)
    verdicts = Counter([ask(between, stream=stream, text="your question")])
    table.append(("another user's answer", names(stream), verdicts))
    assert set(verdicts) == {"request.bound"}


@KINDS
def test_an_answer_repeated_to_the_same_request(between, table, stream, enclave):
    kept = []
    between.change_answer = lambda body: kept.append(body) or kept[0]
    client = between.client

    def once():
        answer = client.chat.completions.create(
            model="default", messages=[{"role": "user", "content": TEXT}], stream=stream
        )
        for _ in answer:
            pass

    once()
    signature = dict(enclave.signatures)
    enclave.sign = lambda *parts: enclave.signatures.update(signature)
    with pytest.raises(teeverify.ResponseNotVerified) as refused:
        once()
    table.append(("the same answer once more", names(stream), Counter([refused.value.id])))
    assert refused.value.id == "answer.replayed"


@KINDS
def test_another_type_of_content(between, table, stream):
    """What is a stream is then read as a whole, and the other way round; the bytes are signed."""
    other = "application/json" if stream else "text/event-stream"
    between.headers = {"Content-Type": other}
    verdicts = Counter([ask(between, stream=False)])
    table.append((f"sent as {other}", names(stream), verdicts))
    assert set(verdicts) <= {"verified", "SDK: APIResponseValidationError"}


def test_a_stream_that_cannot_be_read_in_an_event_loop(between, table, roots):
    """What the SDK could not decode was not signed so, which is what its user is told."""
    anyio = pytest.importorskip("anyio")
    between.change_answer = lambda body: b'"delta'.join(body.rsplit(b'"delta"', 1))

    async def main():
        given = {"base_url": between.url, "api_key": "x", "roots": roots, "max_retries": 0}
        async with teeverify.AsyncOpenAI(**given) as client:
            asked = {"model": "default", "messages": [{"role": "user", "content": TEXT}]}
            with pytest.raises(teeverify.ResponseNotVerified) as refused:
                async for _ in await client.chat.completions.create(**asked, stream=True):
                    pass
            assert len(client.receipts) == 0
            return refused.value.id

    verdicts = Counter([anyio.run(main)])
    table.append(("an event that is no JSON, in a loop", "streamed", verdicts))
    assert set(verdicts) == {"response.hash-equal"}


@KINDS
@pytest.mark.usefixtures("tls_dialect")
def test_a_rogue_tls_key(tee, table, stub, new_tls, roots, stream):
    """Whoever ends the connection has a certificate that all believe, and a key of his own."""
    enclave = stub(tee)
    enclave.tls, rogue = new_tls(), new_tls()
    enclave.start()
    given = {"api_key": "x", "roots": roots, "max_retries": 0, "dialect": "near-direct"}
    verdicts = Counter()
    try:
        for shown in (None, rogue):
            enclave.attested_tls = shown  # the enclave's own; the connection ends before it
            with teeverify.OpenAI(base_url=enclave.url, **given) as client:
                try:
                    for _ in client.chat.completions.create(
                        model="default", messages=[{"role": "user", "content": TEXT}], stream=stream
                    ):
                        pass
                    verdicts["verified"] += 1
                except TeeVerifyError as error:
                    verdicts[error.id] += 1
        assert len(enclave.of("/chat/")) == 1
    finally:
        enclave.stop()
    table.append(("a rogue TLS key, after the true one", names(stream), verdicts))
    assert verdicts == {"verified": 1, "endpoint.bound": 1}
