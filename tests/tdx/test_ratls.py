"""RA-TLS: a certificate whose key the quote inside it vouches for."""

from __future__ import annotations

import copy
import hashlib
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify import tdx
from teeverify.errors import (
    BindingMismatch,
    ConfigurationError,
    DebugEnabled,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
)
from teeverify.simulator.authority import Authority, new_key
from teeverify.simulator.dstack import Dstack

OID = "1.3.6.1.4.1.62397.1.1"


def spki_of(key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def octets(value: bytes) -> bytes:
    size = len(value)
    if size < 128:
        return bytes([4, size]) + value
    return b"\x04\x82" + size.to_bytes(2, "big") + value


@pytest.fixture
def certify(forge):
    """Make a certificate; everything in it can be another."""

    def make(*, bound=None, value=None, tag=b"ratls-cert:", oid=OID, dates=None, more=(), **quote):
        key = new_key()
        data = hashlib.sha512(tag + (spki_of(key) if bound is None else bound)).digest()
        raw = forge.intel.quote(report_data=data, **quote)
        extension = (oid, octets(raw) if value is None else value(raw), False)
        given = dict(zip(("not_before", "not_after"), dates or (), strict=False))
        extensions = [extension, *((name, octets(data), False) for name, data in more)]
        return Authority.root("app", key=key, ca=False, extensions=extensions, **given).der

    return make


def verify(forge, certificate, **options):
    given = {"at": forge.at, "roots": forge.roots, **options}
    return tdx.verify_ratls(certificate, forge.endorsements(), **given)


@pytest.mark.parametrize(("version", "body"), [(4, "1.0"), (5, "1.0"), (5, "1.5"), (5, "1.5ex")])
def test_the_key_is_bound(forge, certify, version, body):
    certificate = certify(version=version, body=body)
    claims = verify(forge, certificate)
    assert claims.tdx.tcb_status is tdx.TcbStatus.UP_TO_DATE
    assert claims.certificate_sha256 == hashlib.sha256(certificate).hexdigest()
    assert claims.spki_sha256 == hashlib.sha256(claims.spki).hexdigest()
    with pytest.raises(ConfigurationError):
        copy.copy(claims)


def refused(forge, error, certificate, check="tdx.ra-tls", **options):
    with pytest.raises(error) as caught:
        verify(forge, certificate, **options)
    assert caught.value.id == check


def test_another_key(forge, certify):
    refused(forge, BindingMismatch, certify(bound=spki_of(new_key())))


def test_another_purpose(forge, certify):
    """A quote whose report data the application chose must not pass for a certificate's."""
    refused(forge, BindingMismatch, certify(tag=b"app-data:"))


def test_a_quote_of_an_enclave(make_forge, certify, forge):
    key = new_key()
    data = hashlib.sha512(b"ratls-cert:" + spki_of(key)).digest()
    raw = forge.intel.quote(version=3, body="sgx", report_data=data)
    certificate = Authority.root("app", key=key, ca=False, extensions=[(OID, octets(raw), False)])
    endorsements = forge.endorsements(tcb_info={"id": "SGX"}, qe_identity={"id": "QE"})
    with pytest.raises(BindingMismatch) as caught:
        tdx.verify_ratls(certificate.der, endorsements, at=forge.at, roots=forge.roots)
    assert caught.value.id == "tdx.ra-tls"


def test_no_quote(forge, certify):
    refused(forge, MalformedEvidence, certify(oid="1.3.6.1.4.1.62397.1.2"))


@pytest.mark.parametrize(
    "value", [lambda raw: raw, lambda raw: b"", lambda raw: octets(raw) + b"x"]
)
def test_another_form(forge, certify, value):
    refused(forge, MalformedEvidence, certify(value=value))


@pytest.mark.parametrize("certificate", [b"", b"\x30\x00", b"-----BEGIN CERTIFICATE-----"])
def test_no_certificate(forge, certificate):
    refused(forge, MalformedEvidence, certificate)


def test_a_quote_that_does_not_verify(forge, certify):
    certificate = certify(corrupt="body")
    refused(forge, SignatureInvalid, certificate, "tdx.quote-signature")


def test_a_debug_vm(forge, certify):
    certificate = certify(debug=True)
    refused(forge, DebugEnabled, certificate, "tdx.debug-disabled")
    assert verify(forge, certificate, unsafe_allow_debug=True)


def test_out_of_its_dates(forge, certify):
    day = timedelta(days=1)
    for dates in ((forge.at - 2 * day, forge.at - day), (forge.at + day, forge.at + 2 * day)):
        refused(forge, EndorsementUnavailable, certify(dates=dates))


# --- the event log in the certificate -------------------------------------------------------------

LOG = "1.3.6.1.4.1.62397.1.2"
NEWER = "1.3.6.1.4.1.62397.1.8"


@pytest.fixture(scope="module")
def boot():
    return Dstack(app_events=[("app-id", b"the application's own word")])


def certified(certify, boot, log, **options):
    text = log if isinstance(log, bytes) else json.dumps(log).encode()
    return certify(more=[(LOG, text)], rtmrs=boot.rtmrs, **options)


def test_whole_log_and_log_of_runtime_events_alone(forge, certify, boot):
    runtime = [event for event in boot.event_log if event["imr"] == 3]
    for log in (boot.event_log, boot.stripped_log(), runtime):
        app = verify(forge, certified(certify, boot, log)).app
        assert (app.app_id, app.compose_hash) == (boot.app_id, boot.compose_hash)
    assert verify(forge, certify(rtmrs=boot.rtmrs)).app is None


def test_a_log_that_was_changed(forge, certify, boot):
    runtime = [event for event in boot.event_log if event["imr"] == 3]
    other = [event for event in Dstack().event_log if event["imr"] == 3]
    for log in (runtime[:-1], runtime[1:], [*runtime, runtime[0]], other, [], boot.event_log[1:]):
        certificate = certified(certify, boot, log)
        refused(forge, BindingMismatch, certificate, "code.event-log")


@pytest.mark.parametrize("log", [b"{", b"{}", b"\x00", b"null", b'["x"]'])
def test_a_log_of_another_form(forge, certify, boot, log):
    refused(forge, MalformedEvidence, certified(certify, boot, log), "code.event-log")


def test_a_log_never_makes_up_for_a_quote(forge, certify, boot):
    bad = certified(certify, boot, boot.event_log, corrupt="body")
    refused(forge, SignatureInvalid, bad, "tdx.quote-signature")


def test_the_newer_form_is_refused_in_words(forge, certify):
    with pytest.raises(MalformedEvidence) as caught:
        verify(forge, certify(oid=NEWER))
    assert "newer form" in caught.value.message
