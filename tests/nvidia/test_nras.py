"""NRAS answers: a corpus of attacks on tokens, keys, claims, nesting, digests, times, headers."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import pickle
from datetime import timedelta

import pytest

from teeverify import nvidia
from teeverify.errors import (
    BindingMismatch,
    ConfigurationError,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    StaleEvidence,
)
from teeverify.nvidia.statements import _RULES
from teeverify.simulator.nras import ABSENT_CLAIM, FakeNras, base64url

OTHER = bytes(32)
HOUR = timedelta(hours=1)


def parts(answer: bytes) -> tuple[str, dict[str, str]]:
    (_, overall), tokens = json.loads(answer)
    return overall, tokens


# --- what passes --------------------------------------------------------------------------------


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


@pytest.mark.parametrize(("version", "revocation"), [("2.0", False), ("3.0", True)])
def test_good_answer(ask, devices, nonce, at, version, revocation):
    claims = ask(claims_version=version)
    assert claims.version == version
    assert claims.revocation_checked is revocation
    assert claims.nonce == nonce
    assert (claims.issued_at, claims.expires_at) == (at, at + HOUR)
    assert [item.ueid for item in claims.devices] == [device.ueid for device in devices]
    assert [item.name for item in claims.devices] == ["GPU-0", "GPU-1"]
    assert {item.driver_version for item in claims.devices} == {"570.172.08"}
    assert claims.roots_kind == "simulated"
    assert claims.warnings == ()


def test_order_of_the_devices_is_ours(ask, devices):
    claims = ask({"devices": devices[::-1]})
    assert [item.name for item in claims.devices] == ["GPU-1", "GPU-0"]


def test_warning_is_kept_and_shown(ask):
    claims = ask(submods={"GPU-1": {"x-nvidia-attestation-warning": "CERTIFICATE_HOLD\x1b[2J"}})
    assert claims.warnings == ("GPU-1: 'CERTIFICATE_HOLD\\x1b[2J'",)


def test_digest_name_of_the_local_tools(ask):
    assert ask(digest_name="SHA256")


def test_blackwell_and_switches(vendor, verify, check, nonce, at):
    for chip in ("GB100", "GB20X", "LS_10"):
        entries = vendor.evidence_list(nonce, 2, chip=chip)
        devices = verify(entries).devices
        answer = vendor.nras_answer(entries, nonce, at, claims_version="3.0")
        claims = check(*answer, devices=devices)
        assert claims.revocation_checked
        assert (claims.devices[0].driver_version is None) == (chip == "LS_10")


# --- algorithm ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "alg",
    ["none", "None", "HS256", "HS384", "ES256", "ES512", "RS256", "PS384", "es384", "", "EdDSA"],
)
def test_algorithm(no, alg):
    no(MalformedEvidence, "nras.token", header={"alg": alg})
    no(MalformedEvidence, "nras.token", overall_header={"alg": alg})


@pytest.mark.parametrize("alg", [ABSENT_CLAIM, None, 384, ["ES384"], {"alg": "ES384"}], ids=said)
def test_algorithm_of_another_type(no, alg):
    no(MalformedEvidence, "nras.token", header={"alg": alg})


def test_hmac_with_the_public_key_as_secret(vendor, entries, nonce, at, check):
    answer, jwks = vendor.nras_answer(entries, nonce, at)
    overall, tokens = parts(answer)
    head = base64url(b'{"alg":"HS384","kid":"x"}')
    body = f"{head}.{overall.split('.')[1]}"
    mac = base64url(hashlib.sha384(jwks + body.encode()).digest())
    with pytest.raises(MalformedEvidence):
        check(json.dumps([["JWT", f"{body}.{mac}"], tokens]).encode(), jwks)


# --- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "member",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"jku": "https://nras.attestation.nvidia.com/.well-known/jwks.json"},
        {"jwk": {"kty": "EC"}},
        {"x5u": "https://example.invalid"},
        {"x5c": []},
        {"b64": False},
        {"zip": "DEF"},
    ],
    ids=lambda member: next(iter(member)),
)
def test_header_that_brings_a_key_or_changes_the_meaning(no, member):
    no(MalformedEvidence, "nras.token", header=member)
    no(MalformedEvidence, "nras.token", overall_header=member)


@pytest.mark.parametrize("kid", [ABSENT_CLAIM, None, 5, ["x"]], ids=said)
def test_no_key_id(no, kid):
    no(MalformedEvidence, "nras.token", overall_header={"kid": kid})


@pytest.mark.parametrize("kid", ["", "nv-eat-kid-prod", "../jwks", "' OR 1=1"])
def test_unknown_key_id_is_undecided(no, kid):
    """Trap 8: keys rotate daily, so a key that is not listed may be one that was."""
    no(EndorsementUnavailable, "nras.key", overall_header={"kid": kid})
    no(EndorsementUnavailable, "nras.key", header={"kid": kid})


# --- issuer, subject, version -------------------------------------------------------------------


@pytest.mark.parametrize(
    "issuer",
    [
        "https://nras.attestation-stg.nvidia.com",
        "https://nras.attestation.nvidia.com/",
        "HTTPS://nras.attestation.nvidia.com",
        "nras.attestation.nvidia.com",
        "LOCAL_GPU_VERIFIER",
        "",
    ],
)
def test_issuer(no, issuer):
    no(EndorsementInvalid, "nras.token", overall={"iss": issuer})
    no(EndorsementInvalid, "nras.token", submod={"iss": issuer})


@pytest.mark.parametrize("issuer", [ABSENT_CLAIM, None, ["https://nras.attestation.nvidia.com"]])
def test_issuer_of_another_type(no, issuer):
    no(MalformedEvidence, "nras.token", overall={"iss": issuer})


def test_subject_and_version(no):
    no(EndorsementInvalid, "nras.claims", overall={"sub": "NVIDIA-GPU-ATTESTATION"})
    no(MalformedEvidence, "nras.claims", overall={"sub": ABSENT_CLAIM})
    for version in ("1.0", "4.0", "2", ""):
        no(EndorsementInvalid, "nras.claims", overall={"x-nvidia-ver": version})
    no(MalformedEvidence, "nras.claims", overall={"x-nvidia-ver": 2.0})


def test_version_that_the_tokens_do_not_have(no):
    no(MalformedEvidence, "nras.claims", overall={"x-nvidia-ver": "3.0"})
    no(
        MalformedEvidence,
        "nras.claims",
        claims_version="3.0",
        overall={"x-nvidia-ver": "2.0"},
    )


def test_switches_in_claims_that_were_never_seen(vendor, verify, check, nonce, at):
    entries = vendor.evidence_list(nonce, 1, chip="LS_10")
    devices = verify(entries).devices
    with pytest.raises(EndorsementInvalid) as caught:
        check(*vendor.nras_answer(entries, nonce, at, claims_version="2.0"), devices=devices)
    assert caught.value.id == "nras.claims"


# --- result -------------------------------------------------------------------------------------


def test_overall_false(no):
    """Trap 8: NRAS answers 200 also where attestation failed."""
    no(EndorsementInvalid, "nras.claims", overall={"x-nvidia-overall-att-result": False})


@pytest.mark.parametrize("value", ["true", "PASS", 1, [True], None, ABSENT_CLAIM, {}], ids=said)
def test_overall_true_is_only_true(no, value):
    no(MalformedEvidence, "nras.claims", overall={"x-nvidia-overall-att-result": value})


def test_error_details_are_told(no):
    error = {"code": 4010, "message": "NONCE_NOT_MATCHING\n\x1b", "httpStatus": "400"}
    found = no(EndorsementInvalid, "nras.claims", error=error)
    assert "4010 NONCE_NOT_MATCHING" in found.got
    assert "\x1b" not in found.got
    # Also where the overall token claims success.
    overall = {"x-nvidia-overall-att-result": True}
    found = no(EndorsementInvalid, "nras.claims", error=error, overall=overall)
    assert "4010" in found.got


@pytest.mark.parametrize("version", ["2.0", "3.0"])
def test_every_true_claim_is_demanded(no, version):
    for claim in ("secboot", *_RULES["GPU", version].true):
        for value, error in (
            (False, EndorsementInvalid),
            (ABSENT_CLAIM, MalformedEvidence),
            (None, MalformedEvidence),
            ("true", MalformedEvidence),
            (1, MalformedEvidence),
        ):
            submods = {"GPU-1": {claim: value}}
            no(error, "nras.claims", claims_version=version, submods=submods)


@pytest.mark.parametrize("version", ["2.0", "3.0"])
def test_claims_that_nras_leaves_out_at_times(no, ask, version):
    """NVIDIA writes of its own service that it does; where they are, they must say yes."""
    described = _RULES["GPU", version].described
    assert len(described) == 2
    for claim in described:
        for value in (ABSENT_CLAIM, None):
            assert ask(claims_version=version, submods={"GPU-1": {claim: value}})
        refused = {"claims_version": version, "submods": {"GPU-1": {claim: False}}}
        no(EndorsementInvalid, "nras.claims", **refused)
        for value in ("true", 1):
            no(MalformedEvidence, "nras.claims", claims_version=version,
               submods={"GPU-1": {claim: value}})  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "value"),
    [("measres", "fail"), ("measres", "comparison-successful"), ("dbgstat", "enabled")],
)
def test_result_of_a_device(no, claim, value):
    no(EndorsementInvalid, "nras.claims", submods={"GPU-1": {claim: value}})
    no(MalformedEvidence, "nras.claims", submods={"GPU-1": {claim: ABSENT_CLAIM}})


@pytest.mark.parametrize(
    ("member", "value", "error"),
    [
        ("x-nvidia-cert-status", "expired", EndorsementInvalid),
        ("x-nvidia-cert-status", "revoked", EndorsementInvalid),
        ("x-nvidia-cert-status", None, MalformedEvidence),
        ("x-nvidia-cert-ocsp-status", "unknown", EndorsementInvalid),
        ("x-nvidia-cert-ocsp-status", "revoked", EndorsementInvalid),
        ("x-nvidia-cert-ocsp-status", None, MalformedEvidence),
        ("x-nvidia-cert-revocation-reason", "certificateHold", EndorsementInvalid),
        ("x-nvidia-cert-ocsp-nonce-matches", False, EndorsementInvalid),
    ],
)
def test_chains_of_claims_3(no, member, value, error):
    good = {"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good"}
    for claim in _RULES["GPU", "3.0"].certified:
        submods = {"GPU-0": {claim: good | {member: value}}}
        no(error, "nras.claims", claims_version="3.0", submods=submods)
    no(MalformedEvidence, "nras.claims", claims_version="3.0", submods={"GPU-0": {claim: "good"}})


def test_unknown_claim_that_says_no(no, ask):
    no(EndorsementInvalid, "nras.claims", submods={"GPU-0": {"x-nvidia-gpu-new-check": False}})
    assert ask(submods={"GPU-0": {"x-nvidia-gpu-new-check": True}})


# --- times --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "good"),
    [(0, True), (3600, True), (3659, True), (3660, False), (-60, True), (-61, False)],
)
def test_times_with_a_minute_of_leeway(ask, no, at, seconds, good):
    arguments = {"at": at + timedelta(seconds=seconds)}
    if good:
        assert ask(arguments)
    else:
        no(EndorsementUnavailable, "nras.claims", arguments)


@pytest.mark.parametrize("claim", ["iat", "nbf", "exp"])
@pytest.mark.parametrize("value", [ABSENT_CLAIM, None, "1782698812", 1.5e9, True, [1]])
def test_times_of_another_type(no, claim, value):
    no(MalformedEvidence, "nras.claims", overall={claim: value})
    no(MalformedEvidence, "nras.claims", submods={"GPU-1": {claim: value}})


@pytest.mark.parametrize(
    ("claim", "value"), [("exp", -1), ("exp", 0), ("iat", 10**30), ("nbf", 10**12)]
)
def test_times_out_of_range(no, claim, value):
    no(EndorsementUnavailable, "nras.claims", overall={claim: value})
    no(EndorsementUnavailable, "nras.claims", submods={"GPU-1": {claim: value}})


def test_expired_token_of_one_device(no, at):
    past = int((at - HOUR).timestamp())
    no(EndorsementUnavailable, "nras.claims", submods={"GPU-1": {"exp": past}})


# --- nonce --------------------------------------------------------------------------------------


def test_another_nonce(no):
    no(StaleEvidence, "nras.nonce", overall={"eat_nonce": OTHER.hex()})
    no(StaleEvidence, "nras.nonce", submods={"GPU-1": {"eat_nonce": OTHER.hex()}})
    no(StaleEvidence, "nras.nonce", {"nonce": OTHER})


@pytest.mark.parametrize(
    "value", [ABSENT_CLAIM, None, "", "00", 5, "zz" * 32, ["00" * 32]], ids=said
)
def test_nonce_of_another_form(no, value):
    no(MalformedEvidence, "nras.nonce", overall={"eat_nonce": value})
    no(MalformedEvidence, "nras.nonce", submods={"GPU-1": {"eat_nonce": value}})


# --- devices ------------------------------------------------------------------------------------


def test_answer_about_other_devices(no, vendor, verify, nonce):
    others = verify([vendor.gpu(i).evidence(nonce) for i in (5, 6)]).devices
    no(BindingMismatch, "nras.devices", {"devices": others})


def test_answer_about_more_or_fewer_devices(no, vendor, verify, nonce, devices):
    no(BindingMismatch, "nras.devices", {"devices": devices[:1]})
    more = verify(vendor.evidence_list(nonce, 3)).devices
    no(BindingMismatch, "nras.devices", {"devices": more})
    no(EndorsementInvalid, "nras.claims", {"devices": ()})


def test_one_device_named_twice(no, devices):
    no(BindingMismatch, "nras.devices", submods={"GPU-1": {"ueid": devices[0].ueid}})
    no(BindingMismatch, "nras.devices", {"devices": [devices[0]] * 2})


def test_one_device_asked_about_twice(vendor, entries, nonce, at, check, devices):
    """Two tokens about one GPU are no statement about two."""
    answer = vendor.nras_answer([entries[0]] * 2, nonce, at)
    for asked in (devices, devices[:1]):
        with pytest.raises(BindingMismatch) as caught:
            check(*answer, devices=asked)
        assert caught.value.id == "nras.devices"


@pytest.mark.parametrize(
    "claim",
    [
        {"ueid": "1"},
        {"x-nvidia-gpu-driver-version": "570.172.09"},
        {"x-nvidia-gpu-vbios-version": "96.00.CF.00.03"},
        {"hwmodel": "GB100"},
        {"hwmodel": "GH100 A02 GSP BROM"},
    ],
    ids=said,
)
def test_claim_that_is_not_what_the_device_signed(no, claim):
    no(BindingMismatch, "nras.devices", submods={"GPU-1": claim})


@pytest.mark.parametrize(
    "claim", ["ueid", "hwmodel", "x-nvidia-gpu-driver-version", "x-nvidia-gpu-vbios-version"]
)
def test_claim_that_is_missing(no, claim):
    for value in (ABSENT_CLAIM, None, 5):
        no(MalformedEvidence, "nras.devices", submods={"GPU-1": {claim: value}})


def test_switches_and_gpus_are_asked_about_apart(no, vendor, verify, nonce, entries):
    mixed = verify([*entries, vendor.gpu(0, chip="LS_10").evidence(nonce)]).devices
    no(EndorsementInvalid, "nras.claims", {"devices": mixed})


# --- submodules and digests ---------------------------------------------------------------------


def test_foreign_tokens_under_the_same_names(vendor, entries, nonce, at, check):
    one, _ = vendor.nras_answer(entries, nonce, at)
    other, jwks = vendor.nras_answer(entries, nonce, at)
    answer = json.dumps([["JWT", parts(other)[0]], parts(one)[1]]).encode()
    with pytest.raises(BindingMismatch) as caught:
        check(answer, jwks)
    assert caught.value.id == "nras.token"


def test_two_tokens_swapped(vendor, entries, nonce, at, check):
    answer, jwks = vendor.nras_answer(entries, nonce, at)
    overall, tokens = parts(answer)
    swapped = {"GPU-0": tokens["GPU-1"], "GPU-1": tokens["GPU-0"]}
    with pytest.raises(BindingMismatch):
        check(json.dumps([["JWT", overall], swapped]).encode(), jwks)


def test_token_that_is_not_listed_or_not_sent(vendor, entries, nonce, at, check):
    answer, jwks = vendor.nras_answer(entries, nonce, at)
    overall, tokens = parts(answer)
    for sent in (
        {"GPU-0": tokens["GPU-0"]},
        {**tokens, "GPU-2": tokens["GPU-0"]},
        {"GPU-0": tokens["GPU-0"], "GPU-2": tokens["GPU-1"]},
    ):
        with pytest.raises(BindingMismatch) as caught:
            check(json.dumps([["JWT", overall], sent]).encode(), jwks)
        assert caught.value.id == "nras.token"


@pytest.mark.parametrize(
    "names",
    [("overall", "GPU-1"), ("GPU-0", "GPU-01"), ("GPU-0", "CPU-1"), ("GPU-0", "gpu-1"), ("", "x")],
    ids=said,
)
def test_names_of_tokens(no, names):
    no(MalformedEvidence, "nras.token", names=names)


def test_device_token_named_like_the_overall_one(vendor, entries, nonce, at, check):
    """A forged overall token may not hide behind a genuine one of the same name."""
    answer, jwks = vendor.nras_answer(entries, nonce, at)
    genuine = parts(answer)[0]
    forged, _ = FakeNras().answer(entries, nonce.hex(), at, names=["overall", "GPU-1"])
    (_, token), tokens = json.loads(forged)
    with pytest.raises(MalformedEvidence):
        check(json.dumps([["JWT", token], tokens | {"overall": genuine}]).encode(), jwks)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        [],
        ["DIGEST"],
        ["DIGEST", []],
        ["DIGEST", ["SHA-256"]],
        ["DIGEST", ["SHA-1", "00" * 20]],
        ["DIGEST", ["SHA-512", "00" * 32]],
        ["DIGEST", ["SHA-256", "00" * 31]],
        ["DIGEST", ["SHA-256", 5]],
        ["DIGEST", ["SHA-256", "00" * 32], "more"],
        ["JWT", ["SHA-256", "00" * 32]],
        "00" * 32,
    ],
    ids=said,
)
def test_digest_of_another_form(no, entry):
    no(MalformedEvidence, "nras.token", digests={"GPU-1": entry})


def test_digest_differs(no):
    no(BindingMismatch, "nras.token", digests={"GPU-1": ["DIGEST", ["SHA-256", "00" * 32]]})


def test_digest_of_the_claims_instead_of_the_token(vendor, entries, nonce, at, no):
    """As nv-local-gpu-verifier computes it."""
    token = parts(vendor.nras_answer(entries, nonce, at)[0])[1]["GPU-1"]
    claims = base64.urlsafe_b64decode(token.split(".")[1] + "==")
    digest = ["DIGEST", ["SHA-256", hashlib.sha256(claims).hexdigest()]]
    no(BindingMismatch, "nras.token", digests={"GPU-1": digest})


@pytest.mark.parametrize("value", [ABSENT_CLAIM, None, [], "x"], ids=said)
def test_no_digests(no, value):
    no(MalformedEvidence, "nras.token", overall={"submods": value})


# --- shape and nesting --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        lambda token, sent: token,
        lambda token, sent: [],
        lambda token, sent: [["JWT", token]],
        lambda token, sent: [["JWT", token], sent, {}],
        lambda token, sent: [token, sent],
        lambda token, sent: [["JWS", token], sent],
        lambda token, sent: [["JWT", token, token], sent],
        lambda token, sent: [["JWT"], sent],
        lambda token, sent: [["JWT", None], sent],
        lambda token, sent: [["JWT", token], {}],
        lambda token, sent: [["JWT", token], list(sent.values())],
        lambda token, sent: [["JWT", token], dict.fromkeys(sent)],
        lambda token, sent: [["JWT", token], {k: [v] for k, v in sent.items()}],
        lambda token, sent: [["JWT", token], {f"GPU-{n}": token for n in range(33)}],
        lambda token, sent: {"JWT": token, **sent},
        lambda token, sent: [sent, ["JWT", token]],
    ],
    ids=[
        "the overall token alone",
        "nothing",
        "no tokens of devices",
        "a third part",
        "the overall token without its kind",
        "JWS in place of JWT",
        "two overall tokens",
        "a kind without a token",
        "no overall token",
        "no devices",
        "tokens in a list",
        "devices without tokens",
        "a list in place of a token",
        "too many devices",
        "an object",
        "the wrong order",
    ],
)
def test_shape_of_an_answer(no, shape):
    no(MalformedEvidence, "nras.token", shape=shape)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"true",
        b"\xff",
        b"[" * 10_000,
        b"[" * 33 + b"]" * 33,
        b" " * 600_000,
        bytes(10_000_000),
        b'[["JWT", "\\ud800.a.b"], {"GPU-0": "a.b.c"}]',
        b'[["JWT", "a.b.c"], {"GPU-0": "a.b.c", "GPU-0": "a.b.c"}]',
    ],
    ids=said,
)
def test_not_an_answer(check, raw):
    with pytest.raises(MalformedEvidence) as caught:
        check(raw, b'{"keys": []}')
    assert caught.value.id == "nras.token"


@pytest.mark.parametrize(
    "payload", [b"[]", b"null", b'{"a":1,"a":2}', b"[" * 100, b'{"a":NaN}', b"\xff"], ids=said
)
def test_payload_of_a_token(vendor, entries, nonce, at, check, payload):
    answer, jwks = vendor.nras_answer(entries, nonce, at)
    overall, tokens = parts(answer)
    head, _, signature = overall.split(".")
    token = f"{head}.{base64url(payload)}.{signature}"
    with pytest.raises(MalformedEvidence):
        check(json.dumps([["JWT", token], tokens]).encode(), jwks)


def test_claims_nested_in_another_claim_do_not_count(no):
    hidden = {"claims": {"measres": "success"}, "measres": ABSENT_CLAIM}
    no(MalformedEvidence, "nras.claims", submods={"GPU-0": hidden})


# --- arguments ----------------------------------------------------------------------------------


def test_claims_are_made_by_verifying_only(ask):
    claims = ask()
    for action in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(ConfigurationError):
            action(claims)


@pytest.mark.parametrize(
    "arguments", [{"nonce": b"x"}, {"nonce": ""}, {"at": "now"}, {"roots": []}]
)
def test_callers_mistakes(vendor, entries, nonce, at, check, arguments):
    with pytest.raises(ConfigurationError):
        check(*vendor.nras_answer(entries, nonce, at), **arguments)


def test_arguments_of_another_type(vendor, entries, nonce, at, check):
    answer, jwks = vendor.nras_answer(entries, nonce, at)
    for arguments in ((None, jwks), (answer, None), ("[]", jwks), (answer, 5)):
        with pytest.raises(ConfigurationError):
            check(*arguments)
    with pytest.raises(ConfigurationError):
        check(answer, jwks, devices=["x"])
    for wrong in ({"jwks": (None,)}, {"nras_answers": ("[]",)}):
        with pytest.raises(ConfigurationError):
            nvidia.Endorsements(**wrong)
