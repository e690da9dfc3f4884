"""Revocation: an answer counts for this certificate, from whom may give it, today."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from teeverify import nvidia
from teeverify.crypto.ocsp import build_request, parse_response, require_nonce
from teeverify.endorsements.remembered import Remembering
from teeverify.errors import (
    ChainInvalid,
    ConfigurationError,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    StaleEvidence,
    TeeVerifyError,
)
from teeverify.simulator.authority import Authority, new_key
from teeverify.simulator.ocsp import ocsp_answer, ocsp_answers

PRESENT, FORM, RESPONDER = "ocsp.present", "ocsp.form", "ocsp.responder"
CURRENT, STATUS = "ocsp.current", "ocsp.status"
HOLD = x509.ReasonFlags.certificate_hold
HOUR = timedelta(hours=1)


@pytest.fixture(scope="session")
def device(vendor):
    return vendor.gpu(0)


@pytest.fixture(scope="session")
def claims(verify, device, nonce):
    return verify([device.evidence(nonce)]).devices


@pytest.fixture(scope="session")
def check(claims, at):
    def run(answers, **arguments) -> nvidia.RevocationClaims:
        given = {"devices": claims, "responses": answers, "at": at, **arguments}
        return nvidia.verify_revocation(**given)

    return run


@pytest.fixture(scope="session")
def no(check):
    def run(answers, error: type[TeeVerifyError], check_id: str, **arguments) -> TeeVerifyError:
        with pytest.raises(TeeVerifyError) as caught:
            check(answers, **arguments)
        assert (type(caught.value), caught.value.id) == (error, check_id), caught.value
        assert check_id in {item.id for item in nvidia.OCSP_CHECKS}
        return caught.value

    return run


@pytest.fixture(scope="session")
def answers(device, at):
    """Answers about the device's certificates; the overrides are of one of them."""

    def run(which: int | None = None, **overrides) -> list[bytes]:
        path = device.authorities[1:]
        made = ocsp_answers(path, at)
        for place in range(3) if which is None else [which]:
            if overrides:
                made[place] = ocsp_answer(path[place], path[place + 1], at, **overrides)
        return made

    return run


def test_good(check, answers, claims):
    found = check(answers())
    assert [one.common_name for one in found.certificates] == [
        "GH100 A01 GSP BROM", "NVIDIA GH100 Provisioner ICA 1", "NVIDIA GH100 Identity",
    ]  # fmt: skip
    assert not found.signers_included
    assert found.expires_at == min(one.until for one in found.certificates)


@pytest.mark.parametrize("hash_name", ["sha1", "sha256", "sha384"])
@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("delegate", [None, {}])
def test_good_in_every_spelling(check, answers, hash_name, by_name, delegate):
    assert check(answers(hash_name=hash_name, by_name=by_name, delegate=delegate))


# --- who is asked about ---------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1, 2])
def test_no_answer_about_one(no, answers, which):
    made = answers()
    del made[which]
    assert no(made, EndorsementUnavailable, PRESENT).exit_code == 3


def test_no_answers(no):
    no([], EndorsementUnavailable, PRESENT)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("error", ["TRY_LATER", "INTERNAL_ERROR", "UNAUTHORIZED", "SIG_REQUIRED"])
def test_an_error_is_no_answer(no, answers, which, error):
    no(answers(which, error=error), EndorsementUnavailable, PRESENT)


def test_the_leaf_and_the_root_are_not_asked_about(claims, device):
    asked = [one.der for one, _ in nvidia.certificates_to_ask(claims)]
    assert asked == [one.der for one in device.authorities[1:4]]


def test_eight_gpus_share_their_cas(vendor, verify, nonce, check, at):
    devices = verify(vendor.evidence_list(nonce, 8)).devices
    assert len(nvidia.certificates_to_ask(devices)) == 8 + 2
    answers = vendor.ocsp_answers(at, *(vendor.gpu(index) for index in range(8)))
    assert len(check(answers, devices=devices).certificates) == 10


def test_the_signers_of_manifests_too(vendor, claims, at, roots, check, no):
    rims = vendor.rims()
    measurements = nvidia.compare_measurements(claims, rims.get, at=at, roots=roots)
    made = vendor.ocsp_answers(at, vendor.gpu(0))
    found = check(made, measurements=measurements)
    assert found.signers_included
    assert len(found.certificates) == 6
    no(made[:3], EndorsementUnavailable, PRESENT, measurements=measurements)
    revoked = vendor.ocsp_answers(at, vendor.gpu(0), status="revoked")
    error = no(made[:3] + revoked[3:], EndorsementInvalid, STATUS, measurements=measurements)
    assert "RIM L4 Signer" in error.message


# --- the status ---------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1, 2])
def test_revoked(no, answers, which):
    error = no(answers(which, status="revoked"), EndorsementInvalid, STATUS)
    assert error.exit_code == 2
    assert "no reason given" in error.got


# RFC 5280 section 5.3.1 wants "unspecified" left out.
@pytest.mark.parametrize("reason", [r for r in x509.ReasonFlags if r.value != "unspecified"])
def test_revoked_for_any_reason(no, answers, reason):
    error = no(answers(1, status="revoked", reason=reason), EndorsementInvalid, STATUS)
    assert ("on hold" in error.message) == (reason is HOLD)


def test_on_hold(no, answers):
    """A state that NVIDIA really uses; its own tools offer to let it pass."""
    error = no(answers(1, status="revoked", reason=HOLD), EndorsementInvalid, STATUS)
    assert "certificateHold" in error.got


def test_unknown(no, answers):
    no(answers(0, status="unknown"), EndorsementInvalid, STATUS)


def test_an_answer_about_another_serial(no, answers, vendor, at, device):
    """nvtrust takes whatever the responder says."""
    other = vendor.gpu(7).authorities[1]
    no(answers(0, about=other), EndorsementUnavailable, PRESENT)


def test_an_answer_about_the_same_serial_of_another_ca(no, answers, device, at):
    serial = device.authorities[1].certificate.serial_number
    twin = Authority.root("Another CA", curve="p384")
    leaf = twin.issue("twin", serial=serial)
    made = answers()
    made[0] = ocsp_answer(leaf, twin, at)
    no(made, EndorsementUnavailable, PRESENT)


@pytest.mark.parametrize("hash_name", ["sha512"])
def test_another_hash(no, answers, hash_name):
    no(answers(0, hash_name=hash_name), MalformedEvidence, FORM)


# --- the dates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        {"age": timedelta(hours=25), "lifetime": timedelta(days=30)},  # nvtrust looks at no dates
        {"age": timedelta(hours=3), "lifetime": timedelta(hours=2)},
        {"age": -HOUR},
        {"lifetime": None},
        {"age": timedelta(days=400), "lifetime": timedelta(days=1)},
    ],
    ids=str,
)
@pytest.mark.parametrize("which", [0, 2])
def test_not_current(no, answers, overrides, which):
    assert no(answers(which, **overrides), EndorsementUnavailable, CURRENT).exit_code == 3


@pytest.mark.parametrize("age", [timedelta(0), timedelta(hours=24)])
def test_just_current(check, answers, age):
    assert check(answers(0, age=age, lifetime=timedelta(days=2)))


def test_the_newest_answer_counts(check, no, device, at, answers):
    path = device.authorities[1:]
    old = ocsp_answer(path[0], path[1], at, age=20 * HOUR, lifetime=timedelta(days=2))
    held = ocsp_answer(path[0], path[1], at, age=2 * HOUR, status="revoked", reason=HOLD)
    future = ocsp_answer(path[0], path[1], at, age=-2 * HOUR)
    made = answers()
    assert check([old, *made])
    assert check([*made, held])
    assert check([*made, future])
    no([old, held, *made[1:]], EndorsementInvalid, STATUS)
    no([held, old, *made[1:]], EndorsementInvalid, STATUS)


# --- who answers --------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [True, False])
def test_a_foreign_key_under_the_issuers_name(no, answers, device, sent):
    """The issuer's own certificate is found first, and its key did not sign."""
    name = device.authorities[3].certificate.subject
    twin = Authority.root("x", subject=name, curve="p384")
    certificates = (twin,) if sent else ()
    made = answers(1, responder=twin, by_name=True, certificates=certificates)
    no(made, SignatureInvalid, RESPONDER)


def test_a_foreign_responder(no, answers):
    other = Authority.root("OCSP responder", curve="p384")
    no(answers(1, responder=other), ChainInvalid, RESPONDER)
    no(answers(1, responder=other, by_name=True), ChainInvalid, RESPONDER)


def test_a_responder_below_the_certificate_under_test(no, answers, device):
    """nvtrust accepts what the certificate itself issued."""
    brom = device.authorities[1]
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
    own = brom.issue("OCSP responder", extensions=((usage, False),))
    no(answers(0, responder=own), ChainInvalid, RESPONDER)


def test_a_responder_of_another_level(no, answers, device):
    """Each issuer answers for what it issued itself."""
    identity = device.authorities[3]
    no(answers(0, responder=identity), ChainInvalid, RESPONDER)


def test_the_certificate_itself(no, answers, device):
    no(answers(0, responder=device.authorities[1]), ChainInvalid, RESPONDER)


@pytest.mark.parametrize(
    "overrides",
    [
        {"delegate": {}, "usages": None},
        {"delegate": {}, "usages": (ExtendedKeyUsageOID.SERVER_AUTH,)},
        {"delegate": {}, "usages": (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)},
        {"delegate": {"ca": True}},
        {"delegate": {"key_usage": ("key_cert_sign",)}},
        {"delegate": {"key_usage": None}},
        {"delegate": {}, "certificates": ()},
    ],
    ids=str,
)
def test_a_delegate_of_another_kind(no, answers, overrides):
    no(answers(1, **overrides), ChainInvalid, RESPONDER)


def test_a_delegate_with_a_critical_extension_that_nobody_knows(no, answers):
    usage = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False)
    unknown = ("1.2.3.4", b"\x05\x00", True)
    no(answers(1, delegate={"extensions": (usage, unknown)}), ChainInvalid, RESPONDER)


def test_a_delegate_whom_the_issuer_did_not_sign(no, answers):
    no(answers(1, delegate={"signer": new_key("p384")}), SignatureInvalid, RESPONDER)


@pytest.mark.parametrize("days", [-4000, 4000])
def test_a_delegate_outside_its_dates(no, answers, at, days):
    dates = {"not_before": at, "not_after": at + timedelta(days=1)}
    shifted = {name: date + timedelta(days=days) for name, date in dates.items()}
    no(answers(1, delegate=shifted), EndorsementUnavailable, RESPONDER)


# --- the form -----------------------------------------------------------------------------------


def test_any_flip_of_an_answer(check, answers):
    made = answers()
    for place in range(0, len(made[0]), 3):
        flipped = bytearray(made[0])
        flipped[place] ^= 1
        with pytest.raises(TeeVerifyError) as caught:
            check([bytes(flipped), *made[1:]])
        assert caught.value.id in {item.id for item in nvidia.OCSP_CHECKS}


@pytest.mark.parametrize("size", [0, 1, 10, -1])
def test_cut_off(no, answers, size):
    made = answers()
    no([made[0][:size], *made[1:]], MalformedEvidence, FORM)


def test_something_behind_it(no, answers):
    made = answers()
    no([made[0] + b"\0", *made[1:]], MalformedEvidence, FORM)


def test_too_large(no, answers):
    no([bytes(70_000), *answers()], MalformedEvidence, FORM)


def test_a_critical_extension_that_nobody_knows(no, answers):
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    no(answers(0, extensions=(unknown,)), MalformedEvidence, FORM)


# --- the question and its nonce -------------------------------------------------------------------


def test_the_question_is_one_that_others_read(claims, device):
    """The library reads the certificate's id and the nonce out of our request."""
    nonce = secrets.token_bytes(32)
    for child, issuer in nvidia.certificates_to_ask(claims):
        read = ocsp.load_der_ocsp_request(build_request(child, issuer, nonce))
        assert read.serial_number == child.serial
        assert isinstance(read.hash_algorithm, hashes.SHA384)
        assert read.issuer_name_hash == hashlib.sha384(issuer.subject).digest()
        extension = read.extensions.get_extension_for_class(x509.OCSPNonce)
        assert extension.value.nonce == nonce


def test_the_nonce_echoed(answers):
    nonce = secrets.token_bytes(32)
    require_nonce(parse_response(answers(0, nonce=nonce)[0], what="answer"), nonce)
    require_nonce(parse_response(answers()[0], what="answer"), nonce)
    for other in (bytes(32), nonce[:31], nonce + b"\0"):
        with pytest.raises(StaleEvidence) as caught:
            require_nonce(parse_response(answers(0, nonce=other)[0], what="answer"), nonce)
        assert caught.value.id == CURRENT


@pytest.mark.parametrize("devices", [(), ("x",)])
def test_what_is_no_device(answers, at, devices):
    with pytest.raises(ConfigurationError):
        nvidia.verify_revocation(devices, answers(), at=at)


# --- revocation lists -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def listed(claims, at):
    def run(*lists: bytes, **arguments):
        return nvidia.verify_crls(claims, lists, **{"at": at, **arguments})

    return run


def test_lists_that_name_nothing_of_ours(listed, device, vendor):
    identity, root = device.authorities[3:]
    other = Authority.root("Another CA").crl([1])
    assert len(listed(identity.crl([1, 2, 3]), root.crl(), other)) == 2


@pytest.mark.parametrize("place", [2, 3])
def test_a_list_that_names_one(listed, device, place):
    serial = device.authorities[place].certificate.serial_number
    with pytest.raises(EndorsementInvalid) as caught:
        listed(device.authorities[place + 1].crl([serial]))
    assert caught.value.id == "gpu.crl"


def test_an_outdated_list(listed, device, at):
    with pytest.raises(EndorsementUnavailable):
        listed(device.authorities[4].crl(next_update=at - HOUR))


def test_a_list_signed_by_another(listed, device):
    with pytest.raises(SignatureInvalid):
        listed(device.authorities[4].crl(signer=new_key("p384")))


def test_a_list_of_an_issuer_that_may_not_sign_lists(listed, device):
    """The device's own CA signs certificates only."""
    with pytest.raises(TeeVerifyError):
        listed(device.authorities[3].crl(), b"no list")
    assert listed(device.authorities[1].crl()) == ()


# --- what is remembered -------------------------------------------------------------------------


def test_a_remembered_answer_counts_by_its_exact_bytes_and_within_its_dates(answers, claims, at):
    memory, made = Remembering(), answers()

    def check(responses, when=at):
        return nvidia.verify_revocation(claims, responses, at=when, memory=memory)

    assert check(made) == check(made)
    with pytest.raises(EndorsementUnavailable) as old:
        check(made, at + timedelta(days=2))
    assert old.value.id == "ocsp.current"
    for place in (-1, len(made[0]) // 2):
        changed = bytearray(made[0])
        changed[place] ^= 1
        with pytest.raises(TeeVerifyError):
            check([bytes(changed), *made[1:]])
    with pytest.raises(EndorsementInvalid):
        check([*answers(0, status="revoked")[:1], *made[1:]])
    assert check(made)
