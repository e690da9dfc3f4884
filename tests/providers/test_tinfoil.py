"""Tinfoil: documents of two versions, and bundles."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace

import pytest

from teeverify.errors import BindingMismatch, MalformedEvidence, SignatureInvalid
from teeverify.simulator.authority import Authority, new_key

from .conftest import failed, outcome


def document(shown):
    return json.loads(shown.body)


# --- version 3 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", ["tdx", "sev-snp"])
def test_good(field, platform):
    result = field.appraise(field.channels.tinfoil(platform=platform))
    assert (result.exit_code, result.kind, result.scope) == (0, "tinfoil", "endpoint")
    assert outcome(result, "binding.report-data") == "proven"
    assert outcome(result, "freshness.nonce") == "asserted"
    assert outcome(result, "gpu.binding") == "proven"
    assert result.finding("gpu.binding").got == "hash-in-quote"
    assert outcome(result, "endpoint.bound") == "asserted"
    assert outcome(result, "answer.unsigned") == "absent"
    for word in ("TLS key", "encryption key", "tinfoil-v3"):
        assert word in result.claims["key"].text


def test_with_a_nonce_of_ones_own(field):
    shown = field.channels.tinfoil()
    result = field.appraise(shown, asked={"nonce": field.channels.nonce})
    assert outcome(result, "freshness.nonce") == "proven"
    result = field.appraise(shown, asked={"nonce": bytes(32)})
    assert "freshness.nonce" in failed(result)


def test_w12_another_nonce(field):
    """Version 3 binds a nonce; one that is stated but not bound is refused too."""
    other = "11" * 32
    result = field.appraise(field.channels.tinfoil(), nonce_hex=other)
    assert "freshness.nonce" in failed(result)
    stale = field.channels.tinfoil(bound={"nonce": bytes.fromhex(other)})
    assert "binding.report-data" in failed(field.appraise(stale))


@pytest.mark.parametrize("name", ["tls_spki_sha256", "hpke_key", "gpu_evidence_sha256"])
def test_what_the_quote_binds_counts(field, name):
    shown = field.channels.tinfoil(bound={name: bytes(32)})
    assert failed(field.appraise(shown)) == {"binding.report-data", "gpu.binding"}


def test_an_hpke_key_that_the_quote_does_not_bind(field):
    """EHBP and OHTTP keys: whoever swaps the key in the document reads the requests."""
    shown = field.channels.tinfoil(stated={"hpke_key": "22" * 32})
    assert "binding.report-data" in failed(field.appraise(shown))


def test_gpu_evidence_that_the_quote_does_not_bind(field):
    shown = field.channels.tinfoil(bound={"gpu_evidence_sha256": None})
    assert "binding.report-data" in failed(field.appraise(shown))
    with pytest.raises(BindingMismatch, match="not the one whose hash it names"):
        field.appraise(field.channels.tinfoil(stated={"gpu_evidence_hash": None}))
    with pytest.raises(BindingMismatch):
        field.appraise(field.channels.tinfoil(stated={"gpu_evidence_hash": "11" * 32}))
    with pytest.raises(BindingMismatch):  # stated and bound, and not shown
        field.appraise(field.channels.tinfoil(gpu=False, stated={"gpu_evidence_hash": "11" * 32}))


def test_gpu_evidence_that_was_written_again(field):
    """The hash is over the exact text."""
    shown = field.channels.tinfoil()
    text = json.dumps(document(shown)).encode()
    with pytest.raises((BindingMismatch, SignatureInvalid)):
        field.read(shown, body=text)


def test_gpus_that_answered_another_nonce(field):
    devices = {"evidences": field.channels.nvidia.evidence_list(bytes(32), 2)}
    with pytest.raises((SignatureInvalid, BindingMismatch)):
        field.appraise(_swapped(field, devices))


def _swapped(field, devices):
    """GPU evidence put in the place of the document's own."""
    shown = field.channels.tinfoil()
    own = json.dumps(document(shown)["gpu"], separators=(",", ":")).encode()
    other = json.dumps(devices, separators=(",", ":")).encode()
    first = replace(shown.exchanges[0], body=shown.body.replace(own, other))
    return replace(shown, exchanges=(first,))


def test_without_gpus(field):
    shown = field.channels.tinfoil(gpu=False)
    result = field.appraise(shown)
    assert (result.exit_code, failed(result)) == (1, {"gpu.required"})
    assert field.appraise(shown, policy=field.policy(gpu={"required": False})).exit_code == 0


@pytest.mark.parametrize(("host", "role"), [("inference.tinfoil.sh", "gateway"),
                                            ("tiny.tinfoil.sh", "model")])  # fmt: skip
def test_the_router_is_no_machine_that_runs_a_model(field, host, role):
    result = field.appraise(field.channels.tinfoil(host=host, gpu=False))
    assert [identity.role for identity in result.identities] == [role]
    assert "gpu.required" in failed(result)
    (machine,) = field.read(field.channels.tinfoil(host=host), host=host)
    assert machine.role == role


def test_another_tls_connection(field):
    """Somebody between: the document is genuine, and the connection does not end there."""
    other = Authority.root("other", curve="p384").certificate.public_key()
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    spki = other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    result = field.appraise(field.channels.tinfoil(peer=spki))
    assert failed(result) == {"endpoint.bound"}
    assert result.exit_code == 2


def test_a_document_that_another_key_signed(field):
    with pytest.raises(SignatureInvalid):
        field.appraise(field.channels.tinfoil(signer=new_key("p384")))
    with pytest.raises(SignatureInvalid):
        field.appraise(field.channels.tinfoil(signer=new_key("p256")))


def test_a_certificate_of_another_key(field):
    pem = Authority.root("other", curve="p384").pem.decode()
    with pytest.raises(BindingMismatch):
        field.appraise(field.channels.tinfoil(certificate=pem))


@pytest.mark.parametrize("place", range(0, 2000, 97))
def test_each_byte_of_the_document_is_signed(field, place):
    shown = field.channels.tinfoil(gpu=False)
    body = bytearray(shown.body)
    body[place % (len(body) - 200)] ^= 1
    with pytest.raises((SignatureInvalid, BindingMismatch, MalformedEvidence)):
        field.read(shown, body=bytes(body))


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "https://tinfoil.sh/predicate/attestation/v4"},
        {"format": None},
        {"format": 1},
        {"report_data": None},
        {"report_data": {}},
        {"cpu": None},
        {"cpu": {"platform": "tdx"}},
        {"cpu": {"platform": "sgx", "report": "AA=="}},
        {"certificate": None},
        {"certificate": "x"},
    ],
    ids=str,
)
def test_members_of_another_form(field, changes):
    with pytest.raises((MalformedEvidence, BindingMismatch)):
        field.appraise(field.channels.tinfoil(**changes))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"format":"x","format":"x"}'])
def test_no_document(field, body):
    for shown in (field.channels.tinfoil(), field.channels.tinfoil_v2()):
        with pytest.raises(MalformedEvidence):
            field.read(shown, body=body)


@pytest.mark.parametrize("signature", [b"", b"AA==", b"?"])
def test_a_signature_that_is_none(field, signature):
    body = field.channels.tinfoil().body
    start = body.index(b'"signature":"') + len(b'"signature":"')
    with pytest.raises((SignatureInvalid, MalformedEvidence)):
        field.read(field.channels.tinfoil(), body=body[:start] + signature + b'"}\n')


def test_a_debug_vm(field):
    shown = field.channels.tinfoil(fields={"debug": True})
    assert "tdx.debug-disabled" in failed(field.appraise(shown))
    shown = field.channels.tinfoil(platform="sev-snp", fields={"policy": 0xB0000})
    assert "snp.debug-disabled" in failed(field.appraise(shown))


def test_w04_the_reports_signature_is_checked(field):
    """A peer believed an AMD report that nobody had signed."""
    shown = field.channels.tinfoil(platform="sev-snp", fields={"signature": bytes(512)})
    assert "snp.report-signature" in failed(field.appraise(shown))


def test_a_report_that_the_host_asked_for(field):
    shown = field.channels.tinfoil(platform="sev-snp", fields={"vmpl": 0xFFFFFFFF})
    assert "snp.report" in failed(field.appraise(shown))


def test_an_answer_is_never_verified_by_a_channel(field):
    """No key of the evidence signs: an answer without a signature is refused, whatever it is."""
    shown = field.channels.tinfoil()
    result = field.appraise(shown, asked={"answer": b"{}", "request": b"{}"})
    assert (result.satisfied, result.scope) == (False, "answer")
    assert result.claims["answer"].outcome.value in ("absent", "failed")


# --- version 2 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("platform", ["tdx", "sev-snp"])
def test_version_2(field, platform):
    policy = field.policy(gpu={"required": False})
    result = field.appraise(field.channels.tinfoil_v2(platform=platform), policy=policy)
    assert result.exit_code == 0
    assert outcome(result, "binding.report-data") == "proven"
    assert outcome(result, "freshness.nonce") == "absent"
    assert "gpu.required" in failed(field.appraise(field.channels.tinfoil_v2(platform=platform)))


def test_w12_version_2_answers_no_nonce(field):
    """It carries none: a recorder's proves nothing, and one of yours is not answered."""
    policy = field.policy(gpu={"required": False})
    shown = field.channels.tinfoil_v2()
    recorded = field.appraise(shown, policy=policy, nonce_hex="11" * 32)
    assert (recorded.exit_code, outcome(recorded, "freshness.nonce")) == (0, "absent")
    asked = field.appraise(shown, policy=policy, asked={"nonce": bytes(32)})
    assert (asked.exit_code, failed(asked)) == (2, {"freshness.nonce"})


def test_an_hpke_key_of_version_2_that_is_not_bound(field):
    result = field.appraise(field.channels.tinfoil_v2(hpke_key=bytes(32)))
    assert "binding.report-data" in failed(result)


def test_version_2_without_the_keys_it_binds(field):
    shown = field.channels.tinfoil_v2()
    no_keys = replace(shown, exchanges=shown.exchanges[:1])
    assert "binding.report-data" in failed(field.appraise(no_keys))
    nowhere = tuple(replace(each, peer_spki=None) for each in shown.exchanges)
    assert "binding.report-data" in failed(field.appraise(replace(shown, exchanges=nowhere)))


@pytest.mark.parametrize(
    "keys",
    [b"", b"\0", b"\0\x05abcde", bytes(41), b"\0\x29" + bytes(41), b"\0\x29\0\0\x20" + bytes(30)],
)
def test_no_list_of_hpke_keys(field, keys):
    with pytest.raises(MalformedEvidence):
        field.read(field.channels.tinfoil_v2(), beside={"keys": keys})


def test_two_hpke_keys(field):
    shown = field.channels.tinfoil_v2()
    keys = shown.exchanges[1].body
    with pytest.raises(MalformedEvidence):
        field.read(shown, beside={"keys": keys + keys})


@pytest.mark.parametrize(
    "body",
    [b"", b"not gzip", gzip.compress(b"x")[:-1], gzip.compress(b"x") + b"y",
     gzip.compress(bytes(10_000_000))],
    ids=["empty", "other", "cut", "more", "bomb"],
)  # fmt: skip
def test_a_body_that_is_not_gzip(field, body):
    changed = {**document(field.channels.tinfoil_v2()), "body": base64.b64encode(body).decode()}
    with pytest.raises(MalformedEvidence):
        field.read(field.channels.tinfoil_v2(), body=json.dumps(changed).encode())


@pytest.mark.parametrize(("made", "read"), [("tinfoil", "tinfoil-v2"), ("tinfoil_v2", "tinfoil")])
def test_no_version_is_read_as_the_other(field, made, read):
    """Which version it must be follows from what was asked, so there is no way down."""
    shown = getattr(field.channels, made)()
    with pytest.raises(MalformedEvidence, match="unsupported evidence format"):
        field.appraise(shown, dialect=read)


# --- bundles -------------------------------------------------------------------------------------


def bundle(field, raw, **policy):
    from teeverify.client import Verifier

    verifier = Verifier(
        roots=field.channels.roots(),
        offline=True,
        policy=field.policy(gpu={"required": False}, **policy),
        endorsements=[field.channels.amd.endorsements(vcek_der=None)],
    )
    return verifier.appraise(raw, dialect="tinfoil-bundle", at=field.channels.at)


def test_a_bundle(field):
    result = bundle(field, field.channels.tinfoil_bundle())
    assert result.exit_code == 0
    assert outcome(result, "binding.report-data") == "proven"
    assert outcome(result, "endpoint.bound") == "absent"


def test_a_certificate_outside_its_dates(field):
    """No connection checked it: then its dates must hold (exit 3, law 12)."""
    from datetime import timedelta

    channels = field.channels
    for first, last, code in ((-2, 2, 0), (-2, -1, 3), (1, 2, 3)):
        dates = {
            "not_before": channels.at + timedelta(days=first),
            "not_after": channels.at + timedelta(days=last),
        }
        result = bundle(field, channels.tinfoil_bundle(**dates))
        assert result.exit_code == code
        assert ("endpoint.certificate" in failed(result)) is (code == 3)


def test_a_certificate_of_another_document(field):
    channels = field.channels
    hpke = channels.labels("hpke", channels.hpke_key)
    for names in (
        [],
        hpke,
        [*hpke, *channels.labels("hatt", b"0" * 64)],
        channels.labels("hatt", b"0" * 64),
        [hpke[0], *channels.labels("hatt", b"0" * 64)],
        [*hpke, "00a.hpke.tinfoil.sh"],
    ):
        with pytest.raises((MalformedEvidence, BindingMismatch)):
            bundle(field, channels.tinfoil_bundle(names=list(names) or ["x.tinfoil.sh"]))


def test_an_hpke_key_of_a_certificate_that_is_not_bound(field):
    channels = field.channels
    raw = channels.tinfoil_bundle()
    stated = json.loads(raw)["enclaveAttestationReport"]
    import hashlib

    digest = hashlib.sha256((stated["format"] + stated["body"]).encode()).hexdigest()
    names = [*channels.labels("hpke", bytes(32)), *channels.labels("hatt", digest.encode())]
    certificate = Authority.root(
        "x", key=channels.tls.key, extensions=[channels.alternative_names(names)]
    )
    changed = {**json.loads(raw), "enclaveCert": certificate.pem.decode()}
    result = bundle(field, json.dumps(changed).encode())
    assert "binding.report-data" in failed(result)


def test_a_bundle_of_another_tls_key(field):
    channels = field.channels
    raw = json.loads(channels.tinfoil_bundle())
    own, channels.tls = channels.tls, Authority.root("other", curve="p384")
    try:
        other = json.loads(channels.tinfoil_bundle())
    finally:
        channels.tls = own
    with pytest.raises(BindingMismatch):
        bundle(field, json.dumps({**raw, "enclaveCert": other["enclaveCert"]}).encode())


# --- asking --------------------------------------------------------------------------------------


def test_what_is_asked_of_a_live_endpoint():
    from teeverify.providers import DIALECTS
    from teeverify.providers.routes import Asking, Told

    asking = Asking(host="inference.tinfoil.sh", nonce=b"\1" * 32, model=None)
    steps = DIALECTS["tinfoil"].questions(asking)
    assert next(steps).query == {"nonce": "01" * 32}
    with pytest.raises(StopIteration) as done:
        steps.send(Told(body=b"x", peer_spki_sha256=b"p"))
    assert done.value.value.peer_spki_sha256 == b"p"
    steps = DIALECTS["tinfoil-v2"].questions(asking)
    assert not next(steps).query
    steps.send(Told(body=b"x", peer_spki_sha256=b"p"))
    with pytest.raises(BindingMismatch, match="two machines"):
        steps.send(Told(body=b"keys", peer_spki_sha256=b"q"))
