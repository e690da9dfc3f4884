"""Keys and signatures of NRAS answers: who may sign, and with what."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import timedelta

import pytest

from teeverify.errors import (
    BindingMismatch,
    ChainInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TeeVerifyError,
)
from teeverify.simulator.authority import Authority, new_key, sign_raw
from teeverify.simulator.nras import ABSENT_CLAIM, FakeNras, base64url


def parts(answer: bytes) -> tuple[str, dict[str, str]]:
    (_, overall), tokens = json.loads(answer)
    return overall, tokens


# --- signatures ---------------------------------------------------------------------------------


def said(value: object) -> str:
    """What a case attacks with, as its name."""
    if value is ABSENT_CLAIM:
        return "absent"
    if isinstance(value, bytes):
        return f"{len(value)} bytes {value[:12]!r}"
    try:
        return json.dumps(value)[:48]
    except TypeError:
        return ",".join(f"{k}={said(v)}" for k, v in value.items())


@pytest.mark.parametrize("size", [0, 1, 64, 95, 97, 132])
def test_signature_of_another_length(no, size):
    no(SignatureInvalid, "nras.key", signature=bytes([1] * size))


@pytest.mark.parametrize("value", [bytes(96), b"\xff" * 96])
def test_signature_out_of_range(no, value):
    no(SignatureInvalid, "nras.key", signature=value)


def test_signature_by_another_key(no):
    no(SignatureInvalid, "nras.key", signer=new_key("p384"))


def test_signature_in_der(vendor, entries, nonce, at, check):
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    answer, jwks = vendor.nras_answer(entries, nonce, at)
    overall, tokens = parts(answer)
    text, _, signature = overall.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    der = encode_dss_signature(int.from_bytes(raw[:48], "big"), int.from_bytes(raw[48:], "big"))
    with pytest.raises(SignatureInvalid):
        check(json.dumps([["JWT", f"{text}.{base64url(der)}"], tokens]).encode(), jwks)


def test_every_part_of_every_token_is_signed(vendor, entries, nonce, at, check):
    answer, jwks = vendor.nras_answer(entries, nonce, at)
    overall, tokens = parts(answer)
    for position in range(0, len(overall), 37):
        changed = "A" if overall[position] != "A" else "B"
        text = overall[:position] + changed + overall[position + 1 :]
        with pytest.raises(TeeVerifyError):
            check(json.dumps([["JWT", text], tokens]).encode(), jwks)
    token = tokens["GPU-1"]
    for position in range(0, len(token), 61):
        changed = "A" if token[position] != "A" else "B"
        text = token[:position] + changed + token[position + 1 :]
        with pytest.raises(TeeVerifyError):
            check(json.dumps([["JWT", overall], tokens | {"GPU-1": text}]).encode(), jwks)


def test_token_of_a_device_signed_by_another_key(vendor, entries, nonce, at, check):
    """The digest in the overall token is right, the device's own signature is not."""
    same = {"header": {"kid": "k"}, "jwk": {"kid": "k"}}
    answer, _ = vendor.nras_answer(entries, nonce, at, **same)
    text = parts(answer)[1]["GPU-1"].rpartition(".")[0]
    forged = f"{text}.{base64url(sign_raw(new_key('p384'), text.encode()))}"
    digest = ["DIGEST", ["SHA-256", hashlib.sha256(forged.encode()).hexdigest()]]
    with pytest.raises(SignatureInvalid) as caught:
        check(
            *vendor.nras_answer(
                entries, nonce, at, tokens={"GPU-1": forged}, digests={"GPU-1": digest}, **same
            )
        )
    assert caught.value.id == "nras.key"


@pytest.mark.parametrize("text", ["", ".", "..", "a.b", "a.b.c.d", "a b.c.d", "=.=.="])
def test_not_a_token(vendor, entries, nonce, at, check, text):
    answer, jwks = vendor.nras_answer(entries, nonce, at)
    overall, tokens = parts(answer)
    for shape in ([["JWT", text], tokens], [["JWT", overall], tokens | {"GPU-0": text}]):
        with pytest.raises(MalformedEvidence):
            check(json.dumps(shape).encode(), jwks)


@pytest.mark.parametrize("end", ["=", "==", "\n", " ", "."])
def test_something_after_a_token(vendor, entries, nonce, at, check, end):
    answer, jwks = vendor.nras_answer(entries, nonce, at)
    overall, tokens = parts(answer)
    with pytest.raises(MalformedEvidence):
        check(json.dumps([["JWT", overall + end], tokens]).encode(), jwks)


# --- keys ---------------------------------------------------------------------------------------


def test_jwks_of_ones_own(vendor, entries, nonce, at, check):
    """The same ids and names, under an intermediate of one's own."""
    own = FakeNras()
    with pytest.raises(ChainInvalid) as caught:
        check(*own.answer(entries, nonce.hex(), at))
    assert caught.value.id == "nras.key"


def test_jwks_of_ones_own_under_the_same_name(vendor, entries, nonce, at, check):
    own = FakeNras()
    subject = vendor.nras.intermediate.certificate.subject
    own.intermediate = Authority.root("x", curve="rsa", subject=subject)
    with pytest.raises(ChainInvalid) as caught:
        check(*own.answer(entries, nonce.hex(), at))
    assert caught.value.id == "nras.key"


def test_own_key_with_genuine_certificates(no, vendor, entries, nonce, at):
    _, jwks = vendor.nras_answer(entries, nonce, at)
    genuine = json.loads(jwks)["keys"][0]["x5c"]
    no(BindingMismatch, "nras.key", x5c=genuine)


def test_genuine_intermediate_pasted_over_ones_own_leaf(no, vendor, entries, nonce, at):
    own = FakeNras()
    _, jwks = own.answer(entries, nonce.hex(), at)
    leaf = json.loads(jwks)["keys"][0]["x5c"][0]
    genuine = base64.b64encode(vendor.nras.intermediate.der).decode()
    no(SignatureInvalid, "nras.key", x5c=[leaf, genuine])


def test_simulated_key_under_the_embedded_roots(no):
    no(ChainInvalid, "nras.key", {"roots": None})


def b64(authority: Authority) -> str:
    return base64.b64encode(authority.der).decode()


def test_number_and_order_of_certificates(no, vendor):
    intermediate = b64(vendor.nras.intermediate)
    for x5c in ([], [intermediate], [intermediate] * 3):
        no(ChainInvalid, "nras.key", x5c=x5c)
    no(ChainInvalid, "nras.key", x5c=[intermediate, intermediate])


@pytest.mark.parametrize("x5c", [ABSENT_CLAIM, None, "x", 5, [5, 6]], ids=said)
def test_certificates_of_another_type(no, x5c):
    no(MalformedEvidence, "nras.key", jwk={"x5c": x5c})


@pytest.mark.parametrize("text", ["", "!", "QUJD", "MIIB"])
def test_certificates_that_cannot_be_read(no, text):
    no(MalformedEvidence, "nras.key", jwk={"x5c": [text, text]})


@pytest.mark.parametrize(
    "change",
    [
        {"ca": True},
        {"ca": True, "key_usage": ("digital_signature",)},
        {"key_usage": ("key_agreement",)},
        {"key_usage": None},
        {"common_name": "NVIDIA Attestation Service"},
        {"common_name": "GH100 A01 GSP FMC LF"},
        {"common_name": ""},
    ],
    ids=said,
)
def test_certificate_of_another_role(no, change):
    if not change.get("common_name", "x"):
        change = {"common_name": " "}
    no(ChainInvalid, "nras.key", leaf=change)


def test_certificate_signed_by_another_key(no):
    no(SignatureInvalid, "nras.key", leaf={"signer": new_key("rsa")})


def test_certificate_that_lives_two_days(no, at):
    """Trap 8: the leaf expires long before anybody looks at a recording."""
    no(EndorsementUnavailable, "nras.key", leaf={"not_after": at - timedelta(seconds=1)})
    no(EndorsementUnavailable, "nras.key", leaf={"not_before": at + timedelta(seconds=1)})
    no(EndorsementUnavailable, "nras.key", {"at": at + timedelta(days=365)})


def test_expiry_is_that_of_the_certificate_if_earlier(ask, at):
    end = at + timedelta(minutes=5)
    assert ask(leaf={"not_after": end}).expires_at == end


@pytest.mark.parametrize(
    "member",
    [
        {"kty": "RSA"},
        {"kty": ABSENT_CLAIM},
        {"crv": "P-256"},
        {"crv": ABSENT_CLAIM},
        {"alg": "ES256"},
        {"use": "enc"},
        {"x": ABSENT_CLAIM},
        {"x": base64url(bytes(47))},
        {"y": base64url(bytes(49))},
        {"y": "!"},
        {"x": 5},
    ],
    ids=said,
)
def test_key_of_another_form(no, member):
    no(MalformedEvidence, "nras.key", jwk=member)


@pytest.mark.parametrize(
    "member", [{"x": base64url(bytes(48))}, {"y": base64url(bytes([7] * 48))}], ids=["x", "y"]
)
def test_key_that_was_not_certified(no, member):
    no(BindingMismatch, "nras.key", jwk=member)


def test_key_on_another_curve(no):
    no(MalformedEvidence, "nras.key", leaf={"curve": "p256"})


def test_key_id_twice(no, vendor, entries, nonce, at, check):
    answer, jwks = vendor.nras_answer(entries, nonce, at)
    key = json.loads(jwks)["keys"][0]
    with pytest.raises(MalformedEvidence) as caught:
        check(answer, json.dumps({"keys": [key, key]}).encode())
    assert caught.value.id == "nras.key"


def test_other_keys_beside_it_do_not_matter(ask):
    assert ask(more_keys=[{"kid": "other", "kty": "RSA"}, {"kty": "oct"}])


@pytest.mark.parametrize(
    "jwks",
    [
        b"",
        b"{}",
        b"[]",
        b'{"keys": null}',
        b'{"keys": {}}',
        b'{"keys": [5]}',
        b'{"keys": [' + b",".join([b"{}"] * 257) + b"]}",
        b" " * 600_000,
    ],
    ids=said,
)
def test_not_a_list_of_keys(vendor, entries, nonce, at, check, jwks):
    answer, _ = vendor.nras_answer(entries, nonce, at)
    with pytest.raises(MalformedEvidence) as caught:
        check(answer, jwks)
    assert caught.value.id == "nras.key"


def test_empty_list_of_keys_is_undecided(vendor, entries, nonce, at, check):
    answer, _ = vendor.nras_answer(entries, nonce, at)
    with pytest.raises(EndorsementUnavailable):
        check(answer, b'{"keys": []}')
