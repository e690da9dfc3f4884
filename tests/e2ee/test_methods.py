"""Every scheme as one thing, as dialects name it."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from teeverify.e2ee import METHODS, SCHEMES
from teeverify.errors import ConfigurationError, MalformedEvidence, ResponseNotVerified
from teeverify.providers import DIALECTS
from teeverify.simulator.sealing import FrameSealing, KeyRefused

AT = datetime(2026, 11, 23, tzinfo=timezone.utc)
REQUEST = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hush"}]}).encode()


def test_which_dialects_have_which_scheme():
    named = {dialect.id: dialect.encryption for dialect in DIALECTS.values() if dialect.encryption}
    assert named == {
        "near": "near-v2",
        "near-direct": "near-v2",
        "phala": "phala-v2",
        "venice": "venice",
        "tinfoil": "ehbp",
        "tinfoil-v2": "ehbp",
        "chutes": "chutes",
    }
    assert set(named.values()) <= set(METHODS)


def test_what_protects_the_answer():
    """A key in a header does not, whoever wrote it there."""
    assert {name for name, method in METHODS.items() if method.both_ways} == {"ehbp", "chutes"}
    assert {name for name, method in METHODS.items() if not method.both_ways} == set(SCHEMES)


def test_only_signing_keys_take_fields():
    assert {name: METHODS[name].to for name in ("ehbp", "chutes")} == {
        "ehbp": "hpke_key",
        "chutes": "e2e_public_key",
    }
    assert {METHODS[name].to for name in SCHEMES} == {"key"}


@pytest.mark.parametrize("name", METHODS)
def test_a_key_of_another_kind(name):
    with pytest.raises(ConfigurationError) as caught:
        METHODS[name].seal("rsa", bytes(32), REQUEST, AT)
    assert caught.value.id == "usage.e2ee"


@pytest.mark.parametrize(("name", "kind"), [("ehbp", "hpke"), ("chutes", "ml-kem-768")])
def test_a_key_that_is_none(name, kind):
    if name == "chutes":
        pytest.importorskip(
            "cryptography.hazmat.primitives.asymmetric.mlkem", reason="cryptography has no ML-KEM"
        )
    with pytest.raises(MalformedEvidence) as caught:
        METHODS[name].seal(kind, bytes(31), REQUEST, AT)
    assert caught.value.id == "e2ee.key"


@pytest.mark.parametrize("request_", [b"{", b"[]"])
def test_chutes_takes_objects(request_):
    with pytest.raises(ConfigurationError):
        METHODS["chutes"].seal("ml-kem-768", bytes(1184), request_, AT)


class TestChutes:
    @pytest.fixture
    def instance(self):
        mlkem = pytest.importorskip(
            "cryptography.hazmat.primitives.asymmetric.mlkem", reason="no ML-KEM"
        )
        try:
            return mlkem.MLKEM768PrivateKey.generate()
        except Exception:  # noqa: BLE001 -- an OpenSSL without it
            pytest.skip("this OpenSSL has no ML-KEM")

    @pytest.mark.parametrize("stream", [False, True])
    def test_a_call(self, instance, stream):
        request = json.dumps({"messages": ["hush"], "stream": stream}).encode()
        key = instance.public_key().public_bytes_raw()
        sealed = METHODS["chutes"].seal("ml-kem-768", key, request, AT)
        assert b"hush" not in sealed.body
        assert "hush" not in repr(sealed)
        assert sealed.headers["X-E2E-Stream"] == str(stream).lower()
        assert (sealed.public, sealed.text) == (key, request)
        kind = {"Content-Type": "text/event-stream" if stream else "application/octet-stream"}
        plain = b'data: {"choices": []}\n\n' if stream else b'{"choices": []}'
        with pytest.raises(ResponseNotVerified):
            sealed.open(kind, plain)


class TestEhbp:
    @pytest.mark.parametrize("stream", [False, True])
    def test_there_and_back(self, stream):
        enclave = FrameSealing()
        sealed = METHODS["ehbp"].seal("hpke", enclave.public, REQUEST, AT)
        headers = {name.lower(): value for name, value in sealed.headers.items()}
        opened = enclave.open(headers, sealed.body)
        assert opened.body == REQUEST
        answer = b"data: {}\n\ndata: [DONE]\n\n" if stream else b"{}"
        kind = "text/event-stream" if stream else "application/json"
        found = sealed.open({**opened.headers, "content-type": kind}, opened.seal(answer, stream))
        assert found == answer

    def test_another_enclave(self):
        sealed = METHODS["ehbp"].seal("hpke", FrameSealing().public, REQUEST, AT)
        headers = {name.lower(): value for name, value in sealed.headers.items()}
        with pytest.raises(KeyRefused):
            FrameSealing().open(headers, sealed.body)
