"""``teeverify.OpenAI``: what it returns was verified, and what is not raises."""

from __future__ import annotations

import gzip
import json
import logging
import subprocess
import sys
import threading

import pytest

import teeverify
from teeverify import (
    AppraisalFailed,
    ConfigurationError,
    EndpointUnavailable,
    EvidenceError,
    ResponseNotVerified,
    SignatureUnavailable,
    TeeVerifyError,
)
from teeverify.client.session import signature
from teeverify.simulator.keys import SimulatedKey

openai = pytest.importorskip("openai", reason="the extra 'openai' is not installed")
pytestmark = pytest.mark.network
WORDS = ["Fo", "ur."]


def read(stream):
    return [chunk.choices[0].delta.content for chunk in stream]


# --- what works ----------


def test_a_plain_answer(enclave, openai_client, ask):
    client = openai_client()
    reply = ask(client)
    assert reply.choices[0].message.content == "Four."
    receipt = client.receipts[reply.id]
    assert client.receipts.last is receipt
    assert receipt.id == reply.id
    ((_, _, _, sent),) = enclave.of("/chat/")
    assert receipt.parts.request.raw == sent
    assert receipt.result.satisfied


def test_a_streamed_answer(enclave, openai_client, ask):
    client = openai_client()
    assert read(ask(client, stream=True)) == WORDS
    receipt = client.receipts.last
    assert receipt.parts.response.raw.endswith(b"data: [DONE]\n\n")
    assert receipt.parts.request.raw == enclave.of("/chat/")[0][3]


def test_text_flows_before_the_verdict(enclave, openai_client, ask):
    """The signature cannot be there yet when the first words are."""
    client = openai_client()
    enclave.cut = lambda body: body.splitlines(keepends=True)
    enclave.pause = 0.02
    stream = ask(client, stream=True)
    assert next(stream).choices[0].delta.content == "Fo"
    assert enclave.of("/signature/") == []
    assert len(client.receipts) == 0
    assert read(stream) == ["ur."]
    assert len(client.receipts) == 1


def test_streams_can_be_held_until_they_are_verified(enclave, openai_client, ask):
    client = openai_client(hold_until_verified=True)
    stream = ask(client, stream=True)
    assert len(client.receipts) == 1
    assert read(stream) == WORDS
    enclave.change_answer = lambda body: body.replace(b"ur.", b"rk.")
    with pytest.raises(ResponseNotVerified):
        ask(client, stream=True)


def test_one_attestation_serves_many_answers(enclave, openai_client, ask):
    client = openai_client()
    for _ in range(5):
        ask(client)
    assert len(enclave.of("/report")) == 1
    assert len(client.receipts) == len(set(client.receipts)) == 5


def test_each_model_is_attested(enclave, openai_client, ask):
    client = openai_client()
    for model in ("one", "two", "one"):
        ask(client, model=model)
    assert ["model=one" in path for _, path, _, _ in enclave.of("/report")] == [True, False]


def test_the_list_of_models_passes_without_a_receipt(enclave, openai_client):
    client = openai_client()
    assert [model.id for model in client.models.list()] == ["default"]
    assert len(client.receipts) == 0
    assert len(enclave.of("/report")) == 1  # the key is not shown to whoever answers there


def test_raw_and_streaming_responses_of_the_sdk(enclave, openai_client):
    client = openai_client()
    asked = {"model": "default", "messages": []}
    raw = client.chat.completions.with_raw_response.create(**asked)
    assert raw.parse().choices[0].message.content == "Four."
    with client.chat.completions.with_streaming_response.create(**asked) as response:
        assert response.parse().id in client.receipts
    assert len(client.receipts) == 2


def test_a_receipt_goes_to_a_file_and_back(openai_client, ask, roots, tmp_path):
    client = openai_client()
    reply = ask(client)
    client.receipts[reply.id].save(tmp_path / "receipt.json", include="bytes")
    again = teeverify.Receipt.load(tmp_path / "receipt.json")
    assert again.verify(roots=roots).scope == "answer"
    with pytest.raises(EvidenceError):
        again.verify()


# --- nothing before the policy is satisfied ----------


@pytest.mark.parametrize(
    "options",
    [{"roots": None}, {"policy": "strict"}],
    ids=["embedded roots", "strict"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_nothing_leaves_before_the_policy_is_satisfied(
    enclave, openai_client, ask, options, stream
):
    client = openai_client(**options)
    for call in (lambda: ask(client, stream=stream, text="the-prompt"), client.models.list):
        with pytest.raises(TeeVerifyError):
            call()
    assert {path.partition("?")[0] for _, path, _, _ in enclave.seen} == {"/v1/attestation/report"}
    seen = repr(enclave.seen)
    assert "the-prompt" not in seen
    assert "sk-canary" not in seen
    assert "authorization" not in seen.lower()


def test_a_refused_attestation_is_not_remembered_as_good(enclave, openai_client, ask):
    client = openai_client()
    enclave.change_report = lambda report: report.replace(b'"0x', b'"0X')
    for _ in range(2):
        with pytest.raises(TeeVerifyError):
            ask(client)
    enclave.change_report = lambda report: report
    assert ask(client).id in client.receipts


def test_a_dead_server(enclave, openai_client, ask):
    client = openai_client()
    enclave.stop()
    with pytest.raises(EndpointUnavailable):
        ask(client)


def test_a_server_that_dies_in_mid_session(enclave, openai_client, ask):
    client = openai_client(max_retries=1)
    ask(client)
    enclave.stop()
    with pytest.raises((openai.APIConnectionError, TeeVerifyError)):
        ask(client)
    assert len(client.receipts) == 1


def test_a_server_that_dies_before_its_signature(enclave, openai_client, ask, monkeypatch):
    monkeypatch.setattr(signature, "_PAUSES", (0.01,))
    client = openai_client()
    stream = ask(client, stream=True)
    next(stream)
    enclave.stop()
    with pytest.raises(TeeVerifyError):
        read(stream)
    assert len(client.receipts) == 0


# --- answers that are not good ----------


CHANGES = {
    "one byte": lambda body: body.replace(b"Fo", b"No"),
    "an event less": lambda body: body.replace(body.split(b"\n\n")[0] + b"\n\n", b"", 1),
    "an event twice": lambda body: body.split(b"\n\n")[0] + b"\n\n" + body,
    "a comment more": lambda body: b": hello\n\n" + body,
    "other line breaks": lambda body: body.replace(b"\n", b"\r\n"),
    "a byte order mark": lambda body: b"\xef\xbb\xbf" + body,
    "something after the end": lambda body: body + b": more\n\n",
    "an early end": lambda body: body.split(b"\n\n")[0] + b"\n\ndata: [DONE]\n\n",
    "another end": lambda body: body.replace(b"[DONE]", b"[DONE]!"),
    "an end without a space": lambda body: body.replace(b"data: [DONE]", b"data:[DONE]"),
    "an end with a name": lambda body: body.replace(b"data: [DONE]", b"event: x\ndata: [DONE]"),
    "no blank line at the end": lambda body: body[:-1] + b"",
    "no end": lambda body: body.replace(b"data: [DONE]\n\n", b""),
    "nothing": lambda body: b"",
    "only the end": lambda body: b"data: [DONE]\n\n",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("hold", [False, True], ids=["flowing", "held"])
def test_a_changed_stream_never_ends_well(enclave, openai_client, ask, change, hold):
    client = openai_client(hold_until_verified=hold)
    ask(client)
    enclave.change_answer = change
    with pytest.raises(ResponseNotVerified):
        read(ask(client, stream=True))
    assert len(client.receipts) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"Four", b"Five"),
        lambda body: json.dumps(json.loads(body), separators=(",", ":")).encode(),
        lambda body: body + b"\n",
        lambda body: body.replace(b"default", b"another"),
        lambda body: b"{}",
        lambda body: b"",
        lambda body: b"data: [DONE]\n\n",
    ],
)
def test_a_changed_answer_is_never_returned(enclave, openai_client, ask, change):
    client = openai_client()
    enclave.change_answer = change
    with pytest.raises(ResponseNotVerified):
        ask(client)
    assert len(client.receipts) == 0
    assert len(enclave.of("/chat/")) == 1  # and it was not asked again


@pytest.mark.parametrize("stream", [False, True])
def test_a_changed_request_is_found_out(enclave, openai_client, ask, stream):
    client = openai_client()
    enclave.change_request = lambda body: body.replace(b"two and two", b"two and one")
    with pytest.raises(ResponseNotVerified) as refused:
        read(ask(client, stream=stream))
    assert refused.value.id == "request.bound"


@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_key(enclave, openai_client, ask, stream):
    client = openai_client()
    enclave.signer = SimulatedKey()
    with pytest.raises(ResponseNotVerified) as refused:
        read(ask(client, stream=stream))
    assert refused.value.id == "key.attested"
    assert len(enclave.of("/chat/")) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_no_signature(enclave, openai_client, ask, stream, monkeypatch):
    monkeypatch.setattr(signature, "_PAUSES", (0.01, 0.01))
    client = openai_client()
    enclave.missing_signatures = 1000
    with pytest.raises(SignatureUnavailable):
        read(ask(client, stream=stream))
    assert len(enclave.of("/chat/")) == 1
    assert len(client.receipts) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_compressed_answer(enclave, openai_client, ask, stream):
    client = openai_client()
    enclave.change_answer = gzip.compress
    enclave.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(ResponseNotVerified) as refused:
        read(ask(client, stream=stream))
    assert refused.value.id == "answer.encoding"


def test_compression_is_never_asked_for(enclave, openai_client, ask):
    client = openai_client(default_headers={"Accept-Encoding": "gzip"})
    ask(client)
    assert {headers["accept-encoding"] for _, _, headers, _ in enclave.seen} == {"identity"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
@pytest.mark.parametrize("route", ["/report", "/chat/", "/signature/", "/models"])
def test_redirects_are_refused(enclave, openai_client, ask, status, route, monkeypatch):
    monkeypatch.setattr(signature, "_PAUSES", (0.01,))
    client = openai_client()

    def raw(handler, path):
        if route not in path:
            return False
        handler._json(status, b"", {"Location": f"{enclave.url}/elsewhere"})
        return True

    enclave.raw = raw
    with pytest.raises(EndpointUnavailable) as refused:
        client.models.list() if route == "/models" else ask(client)
    assert refused.value.id == "endpoint.redirect"
    assert enclave.of("/elsewhere") == []


def test_an_answer_is_not_given_twice(enclave, openai_client, ask):
    """Same request, same bytes, a true signature: but it was made for the first request."""
    client = openai_client()
    first = ask(client)
    kept = client.receipts[first.id].parts.response.raw
    enclave.sign = lambda *parts: None
    enclave.change_answer = lambda body: kept
    with pytest.raises(ResponseNotVerified) as refused:
        ask(client)
    assert refused.value.id == "answer.replayed"
    assert len(client.receipts) == 1


def test_a_key_that_repeats_its_secret_number_is_believed_no_more(enclave, openai_client, ask):
    """Anybody can compute it from two such signatures: so could the host."""
    client = openai_client()
    ask(client)
    enclave.key.repeats = True
    first = ask(client, text="one question")
    with pytest.raises(ResponseNotVerified) as refused:
        ask(client, text="another question")
    assert (refused.value.id, refused.value.exit_code) == ("key.leaked", 2)
    enclave.key.repeats = False
    with pytest.raises(ResponseNotVerified) as refused:
        ask(client)
    assert refused.value.id == "key.leaked"
    assert list(client.receipts)[1:] == [first.id]
    enclave.restart()
    assert ask(client).id in client.receipts, "another key may be a secret"


def test_two_answers_swapped(enclave, openai_client, ask):
    client = openai_client()
    kept = []
    enclave.change_answer = lambda body: kept.append(body) or kept[0]
    ask(client, text="one question")
    with pytest.raises(ResponseNotVerified):
        ask(client, text="another question")


# --- streams that do not end ----------


def test_an_abandoned_stream_is_neither_good_nor_bad(enclave, openai_client, ask):
    client = openai_client()
    enclave.change_answer = CHANGES["one byte"]
    for leave in (lambda stream: stream.close(), lambda stream: None):
        stream = ask(client, stream=True)
        for _ in stream:
            break
        leave(stream)
        del stream
    with ask(client, stream=True) as stream:
        next(stream)
    assert len(client.receipts) == 0
    assert enclave.of("/signature/") == []


def test_all_words_read_but_not_the_end_is_abandoned(enclave, openai_client, ask):
    client = openai_client()
    stream = ask(client, stream=True)
    assert [next(stream).choices[0].delta.content for _ in WORDS] == WORDS
    stream.close()
    assert len(client.receipts) == 0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_a_stream_that_breaks_off(enclave, openai_client, ask, share):
    client = openai_client()
    enclave.whole = False
    end = b"data: [DONE]\n\n"
    enclave.change_answer = lambda body: body[: round((len(body) - len(end)) * share)]
    with pytest.raises(ResponseNotVerified) as refused:
        read(ask(client, stream=True))
    assert refused.value.id == "answer.complete"
    assert len(enclave.of("/chat/")) == 1


def test_a_plain_answer_that_breaks_off_is_asked_for_again(enclave, openai_client, ask):
    """Nothing of it was shown, so the SDK's own retry is right."""
    client = openai_client(max_retries=1)
    enclave.whole = False
    with pytest.raises(openai.APIConnectionError):
        ask(client)
    assert len(enclave.of("/chat/")) == 2
    assert len(client.receipts) == 0


def test_a_connection_that_stays_open_after_the_end(enclave, openai_client, ask, monkeypatch):
    """What was signed is all there: whether the connection ends too is of no account."""
    from teeverify.client.transports import httpx as transport

    monkeypatch.setattr(transport, "MAX_DRAIN_SECONDS", 0.2)
    client = openai_client()
    closed = enclave.stay_open()
    assert read(ask(client, stream=True)) == WORDS
    assert len(client.receipts) == 1
    closed.set()


def test_an_endless_tail_is_refused(enclave, openai_client, ask):
    client = openai_client()
    enclave.change_answer = lambda body: body + b": x\n\n" * 50_000
    enclave.cut = lambda body: [body[i : i + 4096] for i in range(0, len(body), 4096)]
    with pytest.raises(ResponseNotVerified):
        read(ask(client, stream=True))


def test_an_answer_that_is_too_large(enclave, openai_client, ask, monkeypatch):
    from teeverify.client.transports import stream as answers

    monkeypatch.setattr(answers, "MAX_ANSWER", 400)
    client = openai_client()
    enclave.words = ["x" * 1000]
    for stream in (False, True):
        with pytest.raises(ResponseNotVerified) as refused:
            read(ask(client, stream=stream))
        assert refused.value.id == "answer.size"


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_how_the_bytes_are_cut_is_of_no_account(enclave, openai_client, ask, size):
    client = openai_client()
    enclave.cut = lambda body: [body[i : i + size] for i in range(0, len(body), size)]
    assert read(ask(client, stream=True)) == WORDS
    assert len(client.receipts) == 1


# --- retries, threads, restarts ----------


def test_errors_are_the_sdks_own_and_leave_no_receipt(enclave, openai_client, ask):
    client = openai_client(max_retries=0)
    for status, error in (
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ):
        enclave.statuses = [status]
        with pytest.raises(error):
            ask(client, stream=status % 2 == 0)
    assert len(client.receipts) == 0


def test_each_attempt_is_captured_by_itself(enclave, openai_client, ask):
    client = openai_client(max_retries=2)
    enclave.statuses = [500, 503]
    reply = ask(client)
    attempts = enclave.of("/chat/")
    counts = [headers["x-stainless-retry-count"] for _, _, headers, _ in attempts]
    assert counts == ["0", "1", "2"]
    assert len(client.receipts) == 1
    assert client.receipts[reply.id].parts.request.raw == attempts[-1][3]


def test_two_in_parallel(enclave, openai_client, ask):
    client = openai_client()
    enclave.cut = lambda body: body.splitlines(keepends=True)
    enclave.pause = 0.005
    found: dict[str, str] = {}
    failed: list[BaseException] = []

    def work(number):
        try:
            for _ in range(3):
                reply = ask(client, text=f"question {number}")
                found[reply.id] = f"question {number}"
                read(ask(client, stream=True, text=f"question {number}"))
        except BaseException as error:  # noqa: BLE001 -- shown below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(client.receipts) == 24
    assert len(enclave.of("/report")) == 1
    for name, text in found.items():
        assert text.encode() in client.receipts[name].parts.request.raw


def test_a_server_that_was_started_anew(enclave, openai_client, ask):
    client = openai_client()
    first = client.receipts[ask(client).id]
    enclave.restart()
    second = client.receipts[ask(client).id]
    read(ask(client, stream=True))
    assert first.signer != second.signer == client.receipts.last.signer
    assert len(enclave.of("/report")) == 2


def test_the_session_is_renewed_before_sending(enclave, openai_client, ask):
    policy = teeverify.Policy.genuine().replace(session={"max_age_seconds": 0})
    client = openai_client(policy=policy)
    for _ in range(2):
        ask(client)
    order = [path.split("/")[2].partition("?")[0] for _, path, _, _ in enclave.seen]
    assert order == ["attestation", "chat", "signature"] * 2


# --- side doors ----------


def test_copies_share_sessions_receipts_and_policy(enclave, openai_client, ask):
    client = openai_client()
    copy = client.with_options(max_retries=0, timeout=5)
    reply = ask(copy)
    assert reply.id in client.receipts
    assert copy.receipts is client.receipts
    ask(client)
    assert len(enclave.of("/report")) == 1


def test_a_copy_opens_no_side_door(enclave, openai_client):
    import httpx2

    client = openai_client()
    with httpx2.Client() as other:
        for options in (
            {"http_client": other},
            {"base_url": "http://127.0.0.1:1/v1"},
            {"websocket_base_url": "ws://127.0.0.1:1"},
            {"data_residency": "eu"},
        ):
            for copy in (client.with_options, client.copy):
                with pytest.raises((ConfigurationError, openai.OpenAIError)):
                    copy(**options)
    assert enclave.seen == []


@pytest.mark.parametrize(
    "options",
    [
        {"http_client": object()},
        {"websocket_base_url": "wss://elsewhere.example"},
        {"data_residency": "eu"},
        {"provider": object()},
        {"workload_identity": {"x": 1}},
        {"policy": "no-such-policy.toml"},
        {"roots": "roots.pem"},
        {"dialect": "dstakc"},
        {"base_url": "http://enclave.example.com/v1"},
        {"base_url": "https://enclave.example.com"},
        {"attestation_timeout": -1},
    ],
)
def test_wrong_arguments(openai_client, ask, options):
    with pytest.raises(ConfigurationError):
        ask(openai_client(**options))


def test_a_copy_does_not_take_another_policy(openai_client, roots):
    client = openai_client()
    for wish in ({"policy": "strict"}, {"roots": roots}, {"hold_until_verified": True}):
        with pytest.raises(ConfigurationError):
            client.copy(_extra_kwargs=wish)


def test_a_base_url_is_needed(monkeypatch, roots, enclave, openai_client, ask):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigurationError):
        openai_client(base_url=None)
    monkeypatch.setenv("OPENAI_BASE_URL", enclave.url)
    assert ask(openai_client(base_url=None))


def test_another_base_url_set_later_is_refused(enclave, openai_client, ask):
    client = openai_client()
    client.base_url = "http://127.0.0.1:1/v1"
    with pytest.raises(ConfigurationError):
        ask(client)
    assert enclave.seen == []


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.responses.create(model="default", input="the-prompt"),
        lambda client: client.embeddings.create(model="default", input="the-prompt"),
        lambda client: client.responses.retrieve("resp_1"),
        lambda client: client.files.content("file_1"),
        lambda client: client.chat.completions.retrieve("chatcmpl-1"),
        lambda client: client.get("http://127.0.0.1:1/v1/models", cast_to=object),
        lambda client: client.post("/models", cast_to=object, body={"x": "the-prompt"}),
    ],
)
def test_what_nobody_signs_is_not_sent(enclave, openai_client, call):
    with pytest.raises(ConfigurationError):
        call(openai_client())
    assert enclave.seen == []


@pytest.mark.parametrize(
    "connect",
    [
        lambda client: client.realtime.connect(model="default"),
        lambda client: client.responses.connect(),
    ],
)
def test_no_websocket_is_opened(enclave, openai_client, connect):
    pytest.importorskip("websockets")
    with pytest.raises(ConfigurationError), connect(openai_client()):
        pytest.fail("a WebSocket was opened")
    assert enclave.seen == []


def test_an_old_sdk_is_refused(openai_client, monkeypatch):
    monkeypatch.setattr(openai, "__version__", "3.10.0")
    with pytest.raises(ConfigurationError, match=r"openai>=3\.15"):
        openai_client()


# --- what it says, and what it does not ----------


def test_prompts_and_keys_are_in_no_log_and_no_error(enclave, openai_client, ask, caplog):
    caplog.set_level(logging.DEBUG, logger="teeverify")
    caplog.set_level(logging.DEBUG, logger="httpx2")
    client = openai_client()
    ask(client, text="prompt-canary")
    enclave.change_answer = lambda body: body.replace(b"Four", b"Five")
    with pytest.raises(ResponseNotVerified) as refused:
        ask(client, text="prompt-canary")
    enclave.stop()
    client = openai_client()
    with pytest.raises(EndpointUnavailable) as unreachable:
        ask(client, text="prompt-canary")
    for error in (refused.value, unreachable.value):
        shown = f"{error!s}{error!r}{vars(error)}{error.__cause__}"
        assert "canary" not in shown
    assert "canary" not in caplog.text
    assert "canary" not in repr(client) + repr(client.receipts)


def test_ours_are_not_the_sdks_errors():
    for error in (TeeVerifyError, ResponseNotVerified, AppraisalFailed, EndpointUnavailable):
        assert not issubclass(error, (openai.OpenAIError, OSError))


def test_the_sdk_is_loaded_on_first_use():
    code = (
        "import sys, teeverify; teeverify.connect, teeverify.Receipt, teeverify.AttestedSession;"
        "heavy = ('openai', 'httpx2', 'httpx', 'requests', 'anyio');"
        "print([name for name in heavy if name in sys.modules]);"
        "teeverify.OpenAI; print('openai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "True"]


def test_without_the_sdk_the_error_says_what_to_install():
    code = (
        "import sys; sys.modules['openai'] = None\n"
        "import teeverify\n"
        "try: teeverify.OpenAI\n"
        "except teeverify.ConfigurationError as error: print(error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "teeverify[openai]" in done.stdout


def test_receipts_that_are_not_there(openai_client):
    receipts = openai_client().receipts
    with pytest.raises(ConfigurationError):
        receipts["chatcmpl-1"]
    with pytest.raises(ConfigurationError):
        _ = receipts.last
    assert "chatcmpl-1" not in receipts
