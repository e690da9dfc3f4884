"""The verifying OpenAI client against a sound server, and against every fault."""

from __future__ import annotations

import ssl
from urllib.parse import urlsplit

import pytest

import teeverify
from teeverify import Policy
from teeverify.simulator.host import RESTART
from teeverify.testing import FAULTS

pytestmark = pytest.mark.network

STREAM_ONLY = ("truncated-stream", "missing-chunk")
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


# --- which of our clients reads which server: the table of docs/server.md -------------------------


def refusal(server, **options):
    """Id and text of what refuses; empty where nothing does."""
    try:
        with server.openai(max_retries=0, **options) as client:
            assert text_of(client, stream=False)
    except teeverify.TeeVerifyError as error:
        return error.id, str(error)
    return "", ""


@pytest.mark.parametrize("dialect", ["dstack", "phala", "near"])
def test_clients_of_the_flat_dialects(serve, monkeypatch, tmp_path, dialect):
    direct = {
        "dialect": "near-direct",
        "policy": Policy.genuine().replace(require={"code.compose-manager": "warn"}),
    }
    with serve(gpus=1, arguments=("--dialect", dialect)) as server:
        name, text = refusal(server, **direct)
        assert name == "endpoint.report"
        assert "this server speaks plain HTTP: it has no TLS key to attest" in text
        assert "dialect is not spoken here" in refusal(server)[1]
        for reads in ("dstack", "phala"):
            assert refusal(server, dialect=reads) == ("", "")
    with serve(gpus=1, arguments=("--dialect", dialect, "--tls")) as server:
        where = urlsplit(server.url)
        certificate = tmp_path / "server.pem"
        certificate.write_text(ssl.get_server_certificate((where.hostname, where.port)))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        name, text = refusal(server, dialect="near")
        assert name == "report"
        assert "gateway_attestation: missing" in text
        assert "It was read in the dialect near" in text
        assert refusal(server, dialect="near-direct")[0] == "code.compose-manager"
        assert refusal(server, **direct) == ("", "")
        for reads in ("dstack", "phala"):
            assert refusal(server, dialect=reads) == ("", "")


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_refused_with_its_own_finding(serve, fault):
    streams = [True, False]
    if fault in STREAM_ONLY or fault == RESTART:  # which is over with the first client
        streams = [True]
    with serve(fault=fault, gpus=2) as server:
        for stream in streams:
            with (
                server.openai(max_retries=0) as client,
                pytest.raises(teeverify.TeeVerifyError) as caught,
            ):
                text_of(client, stream=stream)
            got = (caught.value.id, type(caught.value).__name__)
            assert got == FAULTS[fault], "streamed" if stream else "plain"
