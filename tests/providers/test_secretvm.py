"""SecretVM: TLS key and GPUs' nonce in the quote, and no nonce of ours."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from teeverify.errors import MalformedEvidence

from .conftest import failed, outcome


@pytest.mark.parametrize("platform", ["tdx", "sev-snp"])
def test_good(field, platform):
    result = field.appraise(field.channels.secretvm(platform=platform))
    assert (result.exit_code, result.kind) == (0, "secretvm")
    assert outcome(result, "binding.report-data") == "proven"
    assert outcome(result, "gpu.nonce") == "proven"
    assert outcome(result, "freshness.nonce") == "absent"
    assert result.finding("gpu.binding").got == "same-nonce"
    assert outcome(result, "endpoint.bound") == "asserted"
    assert result.claims["key"].text.startswith("simulated: TLS key")


def test_w10_the_certificate_is_that_of_the_very_connection(field):
    """A peer fetched certificate and quote on two connections."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from teeverify.simulator.authority import Authority

    other = Authority.root("other").certificate.public_key()
    spki = other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    result = field.appraise(field.channels.secretvm(peer=spki))
    assert (result.exit_code, "binding.report-data" in failed(result)) == (2, True)


def test_a_recording_without_the_tls_key(field):
    shown = field.channels.secretvm()
    answers = tuple(replace(each, peer_spki=None) for each in shown.exchanges)
    result = field.appraise(replace(shown, exchanges=answers))
    assert result.exit_code == 2
    finding = next(f for f in result.findings if f.id == "binding.report-data")
    assert "there is none to compare" in finding.message


def test_w10_gpus_are_not_optional(field):
    """A machine that shows none, or says that it has none, is refused unless none is wanted."""
    shown = field.channels.secretvm(gpu=None)
    assert failed(field.appraise(shown)) >= {"binding.report-data", "gpu.required"}
    bare = field.channels.secretvm(gpu_nonce=bytes(32), gpu={"error": "no GPU"})
    result = field.appraise(bare)
    assert (result.exit_code, failed(result)) == (1, {"gpu.required"})
    assert field.appraise(bare, policy=field.policy(gpu={"required": False})).exit_code == 0
    hidden = field.channels.secretvm(gpu={"error": "no GPU"})  # it bound a nonce, so it has some
    assert "binding.report-data" in failed(field.appraise(hidden))


def test_w11_the_gpus_nonce_is_compared_whole_and_in_the_signed_reports(field):
    """A peer compared the shorter of two texts, and the JSON beside the signed report."""
    for nonce in ("", "0", "00", "00" * 31, "00" * 33):
        with pytest.raises(MalformedEvidence):
            field.appraise(field.channels.secretvm(gpu={"nonce": nonce}))
    other = field.channels.secretvm(gpu={"nonce": "11" * 32})
    assert "binding.report-data" in failed(field.appraise(other))
    devices = field.channels.nvidia.evidence_list(bytes(32), 2)
    relayed = field.channels.secretvm(gpu={"evidence_list": devices})
    assert "gpu.nonce" in failed(field.appraise(relayed))


def test_w11_the_key_is_bound_and_not_the_certificate(field):
    """So that a renewed certificate of the same key changes nothing; the old binding is refused."""
    import hashlib

    channels = field.channels
    nonce = bytes(range(32))
    data = hashlib.sha256(channels.tls.der).digest() + nonce
    shown = channels.secretvm(gpu_nonce=nonce)
    quote = replace(shown.exchanges[0], body=channels.cpu("tdx", data).hex().encode())
    result = field.appraise(replace(shown, exchanges=(quote, shown.exchanges[1])))
    assert "binding.report-data" in failed(result)


def test_a_nonce_of_ones_own_is_not_answered(field):
    result = field.appraise(field.channels.secretvm(), asked={"nonce": bytes(32)})
    assert failed(result) == {"freshness.nonce"}


@pytest.mark.parametrize(
    "body",
    [b"", b" ", b"<html><pre>04</pre>", b"{}", b"zz", b"\xff", b"040"],
)
def test_no_quote(field, body):
    shown = field.channels.secretvm()
    with pytest.raises(MalformedEvidence):
        field.read(shown, body=body)


@pytest.mark.parametrize("gpu", [b"", b"[]", b"{}", b'{"nonce":1}', b"<html>"])
def test_no_gpu_answer(field, gpu):
    with pytest.raises(MalformedEvidence):
        field.read(field.channels.secretvm(), beside={"gpu": gpu})


def test_texts_may_end_with_a_line_feed(field):
    shown = field.channels.secretvm()
    first = replace(shown.exchanges[0], body=shown.body.upper() + b"\n")
    assert field.appraise(replace(shown, exchanges=(first, shown.exchanges[1]))).exit_code == 0


def test_what_is_asked_of_a_live_endpoint():
    from teeverify.providers import DIALECTS
    from teeverify.providers.routes import Asking, Told

    steps = DIALECTS["secretvm"].questions(Asking(host="vm", nonce=bytes(32), model=None))
    first = next(steps)
    assert (first.path, first.json, dict(first.query)) == ("/cpu", False, {})
    assert steps.send(Told(body=b"04", peer_spki_sha256=b"p")).path == "/gpu"
    with pytest.raises(StopIteration) as done:
        steps.send(Told(body=json.dumps({"error": "none"}).encode(), peer_spki_sha256=b"p"))
    assert done.value.value.peer_spki_sha256 == b"p"
