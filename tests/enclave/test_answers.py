"""Answers: the exact bytes are hashed, signed and stored before the end leaves, or it does not."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time

import pytest

from teeverify.appraisal.observation import Outcome
from teeverify.enclave import relay as module
from teeverify.enclave.chat import DONE
from teeverify.enclave.engines import EngineBusy, embedded
from teeverify.enclave.store import StoreError
from teeverify.responses import examine_answer

STREAM = {"stream": True}
ALGORITHMS = ("ecdsa", "ed25519")


def ask(world, members=None, **arguments):
    return asyncio.run(world.client.chat(members, **arguments))


def signature(world, answer_id, algorithm="ecdsa"):
    return asyncio.run(world.client.signature(answer_id, algorithm))


def assert_signed(world, reply, request):
    """Both signatures verify with the client's own code, over exactly these bytes."""
    answer_id = world.answer_id(reply.body)
    for algorithm in ALGORITHMS:
        found = signature(world, answer_id, algorithm)
        assert found.status == 200
        signed = found.json()
        hashes = [hashlib.sha256(raw).hexdigest() for raw in (request, reply.body)]
        assert signed["text"] == ":".join(hashes)
        seen = examine_answer(signature=found.body, answer=reply.body, request=request)
        assert seen.signer == world.keys.identities[algorithm]
        failed = [one.id for one in seen.observations if one.outcome is not Outcome.PROVEN]
        assert failed in ([], ["request.bound"]), "this one is the endpoint's word"


def assert_unsigned(world, reply):
    answer_id = world.answer_id(reply.body)
    for algorithm in ALGORITHMS:
        assert signature(world, answer_id, algorithm).status == 404


# --- what a good answer is -----------------------------------------------------------------------


def test_a_plain_answer(world):
    reply = ask(world)
    assert reply.status == 200
    assert reply.headers[b"content-type"] == b"application/json"
    assert int(reply.headers[b"content-length"]) == len(reply.body)
    answer = reply.json()
    assert answer["object"] == "chat.completion"
    assert (answer["model"], answer["system_fingerprint"]) == ("default", "scripted")
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello!", "refusal": None}
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert answer["usage"] == {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    assert_signed(world, reply, world.body())


def test_a_streamed_answer(world):
    reply = ask(world, STREAM)
    assert reply.status == 200
    assert reply.complete
    assert reply.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert reply.parts[-1] == DONE
    events = [json.loads(part.removeprefix(b"data: ")) for part in reply.parts[:-1]]
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in events}) == 1
    choices = [event["choices"][0] for event in events]
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert [choice["delta"].get("content") for choice in choices[1:-1]] == ["Hel", "lo", "!"]
    assert [choice["finish_reason"] for choice in choices] == [None] * 4 + ["stop"]
    assert_signed(world, reply, world.body(**STREAM))


def test_a_stream_with_usage(world):
    reply = ask(world, STREAM | {"stream_options": {"include_usage": True}})
    events = [json.loads(part.removeprefix(b"data: ")) for part in reply.parts[:-1]]
    assert all(event["usage"] is None for event in events[:-1])
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["total_tokens"] == 13


SEVERAL = {"n": 3}
AS_JSON = {"response_format": {"type": "json_object"}}
TOOL = {
    "tools": [{"type": "function", "function": {"name": "look_up"}}],
    "tool_choice": "required",
}


def said_by(reply, *, stream):
    """Content, tool arguments and reason of every choice."""
    if not stream:
        return {
            one["index"]: (
                one["message"]["content"],
                "".join(c["function"]["arguments"] for c in one["message"].get("tool_calls", ())),
                one["finish_reason"],
            )
            for one in reply.json()["choices"]
        }
    found = {}
    for part in reply.parts[:-1]:
        for one in json.loads(part.removeprefix(b"data: "))["choices"]:
            content, arguments, _ = found.get(one["index"], (None, "", None))
            delta = one["delta"]
            if delta.get("content") is not None:
                content = (content or "") + delta["content"]
            for call in delta.get("tool_calls", ()):
                arguments += call["function"]["arguments"]
            found[one["index"]] = (content, arguments, one["finish_reason"])
    return found


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    ("members", "said"),
    [
        (SEVERAL, dict.fromkeys(range(3), ('Hel"lo!', "", "stop"))),
        (AS_JSON, {0: ('{"text": "Hel\\"lo!"}', "", "stop")}),
        (TOOL, {0: (None, '{"text": "Hel\\"lo!"}', "tool_calls")}),
        (SEVERAL | AS_JSON, dict.fromkeys(range(3), ('{"text": "Hel\\"lo!"}', "", "stop"))),
    ],
    ids=["choices", "json", "tool", "json-choices"],
)
def test_choices_json_and_tools(world, members, said, stream):
    world.engine.script = ["Hel", '"lo', "!"]
    members = members | {"stream": stream}
    reply = ask(world, members)
    assert said_by(reply, stream=stream) == said
    assert_signed(world, reply, world.body(**members))


@pytest.mark.parametrize("members", [SEVERAL, SEVERAL | STREAM], ids=["plain", "streamed"])
def test_one_choice_that_breaks_off_breaks_the_answer(world, members):
    world.engine.script, world.engine.ends = ["Hel", "lo"], False
    reply = ask(world, members)
    assert DONE not in reply.body
    assert (reply.status, reply.complete) in ((502, True), (200, False))


@pytest.mark.parametrize("members", [{}, STREAM], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    "text",
    ['"quotes" and \\', "ünïcödé 鍵 🔑", "\n\r\t\0\x1b", "data: [DONE]\n\n", "\u2028", "</script>"],
)
def test_any_text_is_carried_and_signed(world, members, text):
    world.engine.script = ["<", text, ">"]
    reply = ask(world, members)
    assert_signed(world, reply, world.body(**members))
    parts = [part for part in reply.body.split(b"\n\n") if part and b"[DONE]" not in part[:12]]
    events = [json.loads(part.removeprefix(b"data: ")) for part in parts]
    said = [c for e in events for c in (_content(choice) for choice in e["choices"]) if c]
    assert "".join(said) == f"<{text}>"


def _content(choice):
    return (choice.get("message") or choice["delta"]).get("content")


@pytest.mark.parametrize(
    "raw",
    [
        b' {"messages": [ {"role":"user","content":"x"}] ,\r\n "model":"default"}\n ',
        b'{"model":"default","messages":[{"role":"user","content":"\\u00e9\\/"}]}',
        '{"model":"default","messages":[{"role":"user","content":"é 鍵"}]}'.encode(),
    ],
)
def test_the_request_is_hashed_as_received(world, raw):
    reply = ask(world, raw)
    assert_signed(world, reply, raw)


def test_however_the_request_is_cut(world):
    raw = world.body()
    for size in (1, 7, len(raw)):
        parts = [raw[start : start + size] for start in range(0, len(raw), size)]
        assert_signed(world, asyncio.run(world.client.chat([*parts, b""])), raw)


@pytest.mark.parametrize(
    "size", [embedded._PARSED_INLINE - 200, embedded._PARSED_INLINE + 1, 2**20]
)
def test_large_requests(world, size):
    raw = world.body(messages=[{"role": "user", "content": "x" * size}])
    assert_signed(world, ask(world, raw), raw)


def test_a_hash_from_the_caller_is_never_signed(world):
    headers = {b"x-request-hash": b"0" * 64, b"teeverify-challenge": b"0" * 64}
    assert_signed(world, ask(world, headers=headers), world.body())


def test_ids_are_ours_and_new(world):
    replies = [ask(world, {"id": "mine", "request_id": "mine"}) for _ in range(20)]
    ids = {world.answer_id(reply.body) for reply in replies}
    assert len(ids) == 20
    assert all(len(answer_id) == 41 and answer_id.startswith("chatcmpl-") for answer_id in ids)


def test_answers_at_the_same_time_do_not_mix(world):
    world.engine.pause = 0.002

    async def together():
        bodies = [world.body(stream=number % 2 == 0, seed=number) for number in range(20)]
        return bodies, await asyncio.gather(*map(world.client.chat, bodies))

    bodies, replies = asyncio.run(together())
    for body, reply in zip(bodies, replies, strict=True):
        assert_signed(world, reply, body)


# --- when it is stored ---------------------------------------------------------------------------


@pytest.mark.parametrize("members", [{}, STREAM], ids=["plain", "streamed"])
def test_the_signature_is_there_when_the_last_byte_is(world, members):
    seen = []

    async def look(part):
        if not members or part == DONE:
            answer_id = world.answer_id(part) if not members else seen[0]
            seen.append((await world.client.signature(answer_id)).status)
        elif not seen:
            seen.append(world.answer_id(part))

    ask(world, members, on_part=look)
    assert seen[-1] == 200


def test_only_the_terminal_event_waits(world, monkeypatch):
    """What came before it has left when the signature is stored."""
    sent, before = [], []
    put = world.store.put

    async def slow_put(records):
        before.append(b"".join(sent))
        await put(records)

    async def note(part):
        sent.append(part)

    monkeypatch.setattr(world.store, "put", slow_put)
    reply = ask(world, STREAM, on_part=note)
    assert before == [reply.body.removesuffix(DONE)]


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "status"),
    [({"model": "other"}, 404), ({"messages": []}, 400), ({"stream": 1}, 400)],
)
def test_a_bad_request_is_not_asked_of_the_engine(world, members, status):
    reply = ask(world, members)
    assert reply.status == status
    assert reply.complete
    assert reply.json()["error"]["message"]
    assert not world.engine.asked


def test_a_body_that_says_it_is_too_large(world):
    for declared in (b"16777217", b"9" * 40):
        reply = ask(world, headers={b"content-length": declared})
        assert reply.status == 413


def test_a_body_that_is_too_large(world):
    part = bytes(2**20)
    reply = ask(world, [part] * 17)
    assert reply.status == 413
    assert not world.engine.asked


def test_a_body_as_large_as_allowed(world, monkeypatch):
    monkeypatch.setattr(module, "MAX_BODY", 1000)
    raw = world.body().ljust(1000)
    assert ask(world, raw).status == 200
    assert ask(world, raw + b" ").status == 413


def test_a_body_that_does_not_arrive(world, monkeypatch):
    monkeypatch.setattr(module, "_BODY_SECONDS", 0.05)
    reply = ask(world, [b"{"], silent=True)
    assert reply.status == 408


def test_a_client_that_leaves_before_its_body_arrived(world):
    reply = ask(world, [], leave=lambda _: True)
    assert reply.status == 0


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"gzip, identity"])
def test_a_compressed_body(world, coding):
    assert ask(world, headers={b"content-encoding": coding}).status == 415
    assert ask(world, headers={b"content-encoding": b"identity"}).status == 200


@pytest.mark.parametrize("members", [{}, STREAM], ids=["plain", "streamed"])
def test_an_engine_that_is_busy(world, members):
    world.engine.script = [EngineBusy()]
    reply = ask(world, members)
    assert reply.status == 429
    assert reply.complete
    assert reply.headers[b"retry-after"] == b"1"


def test_an_engine_that_breaks_off(world):
    world.engine.script = ["Hel", world.engine_failed()]
    assert ask(world).status == 502
    reply = ask(world, STREAM)
    assert reply.status == 200
    assert not reply.complete, "the connection must break"
    assert DONE not in reply.body
    assert_unsigned(world, reply)


@pytest.mark.parametrize("script", [["Hel", "lo"], []], ids=["some", "nothing"])
def test_an_engine_that_stops_without_saying_why(world, script):
    """A clean close is no clean end."""
    world.engine.script, world.engine.ends = script, False
    assert ask(world).status == 502
    reply = ask(world, STREAM)
    assert DONE not in reply.body
    assert (reply.status, reply.complete) == ((200, False) if script else (502, True))
    if script:
        assert_unsigned(world, reply)


def test_an_engine_with_a_bug(world, log):
    world.engine.script = ["Hel", RuntimeError("canary")]
    assert ask(world).status == 500
    reply = ask(world, STREAM)
    assert not reply.complete
    assert_unsigned(world, reply)
    assert "canary" not in log.text


def test_a_store_that_fails(world, monkeypatch):
    async def broken(_):
        raise StoreError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "put", broken)
        plain, streamed = ask(world), ask(world, STREAM)
    assert plain.status == 503, "never an answer without its signature"
    assert not streamed.complete
    assert DONE not in streamed.body
    assert_unsigned(world, streamed)


def test_a_store_that_fails_altogether(world, monkeypatch, log):
    async def broken(_):
        raise StoreError("database or disk is full")

    monkeypatch.setattr(world.store, "put", broken)
    monkeypatch.setattr(world.store, "withdraw", broken)
    assert ask(world).status == 503
    assert "not taken back" in log.text


# --- clients that leave --------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_a_client_that_leaves_in_mid_stream(world, parts, log):
    world.engine.pause = 0.01
    reply = ask(world, STREAM, leave=lambda got: len(got.parts) >= parts)
    assert not reply.complete
    assert_unsigned(world, reply)
    assert world.engine.closed_early == 1, "the work stops"
    assert "aborted" in log.text


def test_a_client_that_leaves_while_a_plain_answer_is_made(world):
    world.engine.pause = 0.01
    reply = ask(world, leave=lambda _: bool(world.engine.asked))
    assert reply.status == 0
    assert world.engine.closed_early == 1


@pytest.mark.parametrize("members", [{}, STREAM], ids=["plain", "streamed"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_client_that_leaves_while_the_signature_is_stored(world, monkeypatch, members, when):
    """Nobody got the end, so nothing may say that the answer was whole."""
    left, stored = [], []
    commit, put = world.store._commit, world.store.put

    def slow_commit(batch):
        if when == "before" and batch[0].statement.startswith("INSERT"):
            left.append(True)
            time.sleep(0.05)
        commit(batch)

    async def slow_put(records):
        stored.append(records[0].id)
        await put(records)
        if when == "after":
            left.append(True)
            await asyncio.sleep(0.05)

    monkeypatch.setattr(world.store, "_commit", slow_commit)
    monkeypatch.setattr(world.store, "put", slow_put)
    reply = ask(world, members, leave=lambda _: bool(left))
    assert not reply.complete
    (answer_id,) = stored
    assert [signature(world, answer_id, algorithm).status for algorithm in ALGORITHMS] == [404, 404]


def test_a_server_that_is_stopped_in_mid_stream(world):
    world.engine.pause = 0.01

    async def stop():
        got = asyncio.Event()

        async def note(_):
            got.set()

        task = asyncio.create_task(world.client.chat(STREAM, on_part=note))
        await got.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(stop())
    assert world.engine.closed_early == 1


# --- logs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [{}, STREAM], ids=["plain", "streamed"])
def test_no_prompt_and_no_answer_is_logged(world, members, log):
    world.engine.script = ["canary answer"]
    messages = [{"role": "user", "content": "canary prompt"}]
    ask(world, {"messages": messages} | members)
    ask(world, {"messages": messages, "n": 3} | members)
    ask(world, b'{"canary": 1, "canary": 2}')
    ask(world, b"canary")
    assert log.records
    assert "canary" not in log.text
