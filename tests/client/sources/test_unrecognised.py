"""What is no evidence is refused with what it is, and what to do with it."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timezone

import pytest

from teeverify.cli.main import main
from teeverify.client.sources.unrecognised import guess
from teeverify.simulator.amd import Amd


@pytest.fixture(scope="module")
def report():
    return Amd(at=datetime(2026, 6, 1, tzinfo=timezone.utc)).report()


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"-----BEGIN CERTIFICATE-----\nAA", "PEM (CERTIFICATE)"),
        (b"-----BEGIN X509 CRL-----\nAA", "PEM (X509 CRL)"),
        (b"\x30\x82\x01\x00" + bytes(256), "in DER"),
        (b'<?xml version="1.0"?><SoftwareIdentity/>', "reference manifests (RIM)"),
        (b"<html>", "a web page"),
        (b"eyJhbGciOiJF.eyJpc3MiOiJ4.c2lnbmF0dXJl", "a token (JWT)"),
        (bytes.fromhex("8444a1013822") + bytes(99), "Nitro"),
        (b'[["JWT", "a.b.c"], {}]', "NVIDIA's service (NRAS)"),
        (b"[]", "without GPU evidence"),
        (b'{"keys": []}', "JWKS"),
        (b'{"tcbInfo": {}, "signature": ""}', "Intel's TCB information"),
        (b'{"vcekCert": ""}', "Azure's copy"),
        (b'{"attestation_report": {}, "cert_chain": []}', "JSON around an AMD SEV-SNP report"),
        (b'{"api_version": "aci/1"}', "a provider's report"),
        (b'{"signing_address": "0x00"}', "a provider's report"),
        (b'{"a": 1,', "JSON that cannot be read"),
    ],
)
def test_what_it_is(raw, what):
    likely = guess(raw)
    assert likely is not None
    assert what in likely.what
    assert likely.hint.endswith(".")


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda raw: raw[:-1], "of 1183 bytes instead of 1184"),
        (lambda raw: raw + b"\0", "of 1185 bytes"),
        (lambda raw: b"\6" + raw[1:], "of version 6"),
        (lambda raw: raw.hex()[:-3].encode(), "of 1182 bytes"),
        (lambda raw: base64.b64encode(raw)[:-6], "of 1179 bytes"),
    ],
)
def test_a_damaged_report(report, damage, what):
    assert what in guess(damage(report)).what


@pytest.mark.parametrize("raw", [b"hello", b"\0\1\2", b"null", b'"x"', b"{}", b"=" * 99])
def test_nobody_can_tell(raw):
    assert guess(raw) is None


def test_the_refusal_says_it(capsys, tmp_path):
    file = tmp_path / "vcek.pem"
    file.write_text("-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n")
    assert main(["verify", str(file), "--for", "evidence", "--offline"]) == 2
    said = capsys.readouterr().out
    assert "got PEM (CERTIFICATE)" in said
    assert "--endorsements" in said
    assert main(["verify", str(file), "--offline", "--json"]) == 2
    assert "--endorsements" in json.loads(capsys.readouterr().out)["error"]["hint"]
