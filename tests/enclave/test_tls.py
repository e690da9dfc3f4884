"""TLS that ends in the enclave: the certificate, its quote, and clients that pin its key."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import urllib.request
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from cryptography import x509

import teeverify
from teeverify import Policy, tdx
from teeverify.binding import Bound, verify_report_data
from teeverify.clock import now
from teeverify.enclave.dialects.flat import FlatDialect
from teeverify.enclave.errors import HttpError
from teeverify.enclave.tls import EnclaveTls
from teeverify.errors import BindingMismatch, ConfigurationError, TeeVerifyError
from teeverify.providers import DIALECTS
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.tee import SimulatedTee

NAMES = ("localhost", "127.0.0.1", "::1", "enclave.example")
SPKI, NONCE = b"f" * 32, b"n" * 32


@pytest.fixture(scope="module")
def tee():
    return SimulatedTee(gpus=1)


def der(tls):
    return ssl.PEM_cert_to_DER_cert(tls.certificate.decode())


def verify(certificate, tee):
    endorsements = tdx.Endorsements.load(json.dumps(tee.endorsements()["tdx"]))
    roots = UnsafeTestRoots([tee.roots_pem()])
    return tdx.verify_ratls(certificate, endorsements, at=now(), roots=roots)


def test_the_certificate_carries_a_quote_of_its_key(tee):
    tls = EnclaveTls(tee, NAMES)
    proved = verify(der(tls), tee)
    assert proved.spki_sha256 == tls.spki_sha256.hex()
    assert proved.app.app_id == tee.guest.app_id


def test_a_quote_of_another_key_does_not_vouch(tee):
    class Stolen:
        platform = "tdx"
        quoted = tee.quote(hashlib.sha512(b"ratls-cert:another key").digest())

        def quote(self, report_data):
            return self.quoted

    with pytest.raises(TeeVerifyError) as caught:
        verify(der(EnclaveTls(Stolen(), NAMES)), tee)
    assert caught.value.id == "tdx.ra-tls"


def test_other_cpus_have_no_quote_in_the_certificate(tee):
    class Amd:
        platform = "sev-snp"

    certificate = x509.load_pem_x509_certificate(EnclaveTls(Amd(), NAMES).certificate)
    assert [one.oid.dotted_string for one in certificate.extensions] == ["2.5.29.17"]


def test_each_process_has_a_key_and_names_of_its_own(tee):
    one, other = EnclaveTls(tee, NAMES), EnclaveTls(tee, NAMES)
    assert one.spki_sha256 != other.spki_sha256
    found = x509.load_pem_x509_certificate(one.certificate).extensions
    names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == list(NAMES)


def test_the_key_leaves_nothing_behind(tee, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    context = EnclaveTls(tee, NAMES).context()
    assert context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def running(serve):
    spoken = [word for one in ("near", "teeverify/1", "dstack") for word in ("--dialect", one)]
    with serve(gpus=1, arguments=("--tls", *spoken)) as server:
        yield server


@pytest.fixture
def trusted(running, tmp_path, monkeypatch):
    """The certificate is what this machine's TLS trusts: who signed it is for TLS to ask."""
    where = urlsplit(running.url)
    file = tmp_path / "server.pem"
    file.write_text(ssl.get_server_certificate((where.hostname, where.port)))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    return file


ASK = {"model": "default", "messages": [{"role": "user", "content": "Say hello."}]}


@pytest.fixture
def ask(running, trusted):
    """Asks by way of an address."""
    pytest.importorskip("openai", reason="the extra 'openai' is not installed")
    context = ssl.create_default_context(cafile=trusted)
    question = f"{running.url}/attestation/report?dialect=dstack&nonce={'ab' * 32}"
    with urllib.request.urlopen(question, context=context) as answer:  # noqa: S310 -- our own
        enclosed = DIALECTS["dstack"].enclosed(answer.read())

    def send(url, dialect="teeverify/1"):
        with teeverify.OpenAI(
            base_url=url,
            api_key="unused",
            dialect=dialect,
            roots=running.roots,
            endorsements=[enclosed.tdx, enclosed.nvidia],
            # NEAR's own nodes have a log of their compose-manager beside the report.
            policy=Policy.genuine().replace(require={"code.compose-manager": "warn"}),
            max_retries=0,
        ) as client:
            answer = client.chat.completions.create(**ASK)
            assert answer.choices[0].message.content
            return client.receipts[answer.id]

    return send


@pytest.mark.network
def test_a_client_pins_the_attested_key(running, ask):
    assert running.url.startswith("https://")
    assert ask(running.url)


@pytest.mark.network
def test_who_ends_tls_in_between_is_refused(running, ask, tee, trusted):
    """With a certificate that this machine trusts: only the attested key says who it is."""
    between = EnclaveTls(tee, NAMES)
    with trusted.open("ab") as file:
        file.write(between.certificate)
    with Between(running.url, between.context()) as url, pytest.raises(TeeVerifyError) as caught:
        ask(url)
    assert caught.value.id == "endpoint.bound"


# --- in the dialects of the field: bound where it is asked for ------------------------------------


@pytest.fixture
def flat():
    return FlatDialect("near", model="default", tls_spki_sha256=SPKI)


def bound(flat, tee, algorithm, **query):
    """What the quote of a report binds, and what the report says of it."""
    asked = {"nonce": NONCE.hex(), "signing_algo": algorithm, **query}
    report = json.loads(flat.report(flat.question(asked), tee))
    data = tdx.parse_quote(bytes.fromhex(report["intel_quote"])).report_data
    shown = report.get("tls_cert_fingerprint")
    key = flat.keys.identities[algorithm]
    return data, Bound(key=key, nonce=NONCE, tls_spki_sha256=bytes.fromhex(shown or "00")), shown


@pytest.mark.parametrize("algorithm", ["ecdsa", "ed25519"])
def test_the_fingerprint_is_bound_where_it_is_asked_for(flat, tee, algorithm):
    data, parts, shown = bound(flat, tee, algorithm, include_tls_fingerprint="true")
    assert shown == SPKI.hex()
    assert verify_report_data("near-tls", data, parts)
    for layout, other in (
        ("near-tls", replace(parts, tls_spki_sha256=b"o" * 32)),
        ("dstack-padded", parts),
    ):
        with pytest.raises(BindingMismatch):
            verify_report_data(layout, data, other)


def test_it_is_not_bound_where_it_is_not(flat, tee):
    data, parts, shown = bound(flat, tee, "ecdsa")
    assert shown is None
    assert verify_report_data("dstack-padded", data, parts)
    with pytest.raises(BindingMismatch):
        verify_report_data("near-tls", data, replace(parts, tls_spki_sha256=SPKI))


def test_a_server_without_tls_has_none_to_bind():
    plain = FlatDialect("near", model="default")
    with pytest.raises(HttpError) as caught:
        plain.question({"nonce": NONCE.hex(), "include_tls_fingerprint": "true"})
    assert (caught.value.status, caught.value.param) == (400, "include_tls_fingerprint")


@pytest.mark.network
def test_clients_of_the_field_pin_it_too(running, ask, tee, trusted):
    """The client whose dialect asks for the fingerprint, at the server and past somebody."""
    receipt = ask(running.url, "near-direct")
    assert receipt.parts.query["include_tls_fingerprint"] == "true"
    between = EnclaveTls(tee, NAMES)
    with trusted.open("ab") as file:
        file.write(between.certificate)
    with Between(running.url, between.context()) as url, pytest.raises(TeeVerifyError) as caught:
        ask(url, "near-direct")
    assert caught.value.id == "endpoint.bound"


class Between:
    """Ends TLS, reads along, and passes everything on."""

    def __init__(self, url, context):
        self._to = urlsplit(url)
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return f"https://127.0.0.1:{self._listening.getsockname()[1]}/v1"

    def __exit__(self, *_error):
        self._listening.close()

    def _serve(self):
        inner = ssl.create_default_context()
        inner.check_hostname, inner.verify_mode = False, ssl.CERT_NONE
        while True:
            try:
                connection, _ = self._listening.accept()
                near = self._context.wrap_socket(connection, server_side=True)
                far = inner.wrap_socket(
                    socket.create_connection((self._to.hostname, self._to.port))
                )
            except OSError:
                return
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass(one, other):
        try:
            while part := one.recv(65536):
                other.sendall(part)
        except OSError:
            pass
        finally:
            for end in (one, other):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a..b", ".a", "a.", "-a", "a-.b", "a\n", "a,b", "*", "a.*", "1.2.3.4/8",
     "https://a", "a:443", "x" * 64, ".".join(["x" * 60] * 5)],
)  # fmt: skip
def test_no_name(tee, name):
    with pytest.raises(ConfigurationError) as caught:
        EnclaveTls(tee, ["localhost", name])
    assert (caught.value.id, caught.value.got) == ("usage.serve", repr(name)[:200])


@pytest.mark.parametrize("name", ["a", "model_server", "*.a.example", "xn--4ca.example", "x" * 63])
def test_a_name(tee, name):
    assert EnclaveTls(tee, [name]).certificate


@pytest.mark.network
def test_a_name_that_no_certificate_can_carry():
    pytest.importorskip("uvicorn", reason="the extra 'server' is not installed")
    command = (sys.executable, "-m", "teeverify.cli.main", "serve", "--simulated")
    done = subprocess.run(
        [*command, "--even-on-a-tee", "--tls", "--tls-name", "\u00e4.example"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 64
    assert "a certificate cannot carry this name" in done.stderr
    assert done.stderr.count("\n") == 1
