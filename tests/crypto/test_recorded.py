"""The vendors' real certificates, lists and tokens, under the embedded anchors."""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from teeverify.clock import UTC
from teeverify.crypto.certificates import (
    parse_certificate,
    parse_pem_chain,
    verify_path,
    verify_signed_by,
)
from teeverify.crypto.crl import parse_crl, require_not_revoked, verify_crl
from teeverify.crypto.jws import parse_compact, verify_es384
from teeverify.errors import ChainInvalid, EndorsementUnavailable, SignatureInvalid
from teeverify.roots import EMBEDDED

pytestmark = pytest.mark.vectors
NAMES = {"id": "test.recorded", "what": "recorded"}


def collateral(vectors):
    for path in sorted((vectors / "tdx").glob("collateral_*.json")):
        yield json.loads(path.read_text())


def gpu_chains(vectors):
    for path in sorted((vectors / "nvidia" / "evidence").rglob("*.json")):
        data = json.loads(path.read_text())
        for item in data if isinstance(data, list) else [data]:
            if isinstance(item, dict) and "certificate" in item:
                yield base64.b64decode(item["certificate"])


def nras_keys(vectors):
    for path in sorted((vectors / "nvidia" / "nras").glob("*/jwks.json")):
        yield path.parent, json.loads(path.read_text())["keys"]


def x5c(key):
    return [parse_certificate(base64.b64decode(text), **NAMES) for text in key["x5c"]]


def middle(chain):
    """A time at which every certificate of a chain is valid."""
    return max(c.not_before for c in chain) + timedelta(hours=1)


def test_intel_chains(vectors):
    count = 0
    for document in collateral(vectors):
        for name in ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain"):
            chain = parse_pem_chain(document[name], **NAMES)
            at = middle(chain)
            anchor = verify_path(chain, EMBEDDED.intel, at=at, **NAMES)
            assert anchor is EMBEDDED.intel[0]
            assert verify_path(chain[:-1], EMBEDDED.intel, at=at, **NAMES) is anchor
            with pytest.raises(ChainInvalid):
                verify_path(chain, EMBEDDED.nvidia_device, at=at, **NAMES)
            with pytest.raises(EndorsementUnavailable):
                verify_path(chain, EMBEDDED.intel, at=datetime(2050, 1, 2, tzinfo=UTC), **NAMES)
            count += 1
    assert count >= 21


def test_intel_lists(vectors):
    for document in collateral(vectors):
        ca, root = parse_pem_chain(document["pck_crl_issuer_chain"], **NAMES)
        for name, issuer in (("root_ca_crl", root), ("pck_crl", ca)):
            crl = parse_crl(bytes.fromhex(document[name]), **NAMES)
            assert crl.number is not None
            assert crl.key_identifier is not None
            verify_crl(crl, issuer, at=crl.this_update, **NAMES)
            with pytest.raises(EndorsementUnavailable):
                verify_crl(crl, issuer, at=crl.next_update + timedelta(seconds=1), **NAMES)
        require_not_revoked(ca, parse_crl(bytes.fromhex(document["root_ca_crl"]), **NAMES), **NAMES)


def test_foreign_root_of_the_synthetic_cases(vectors):
    document = json.loads((vectors / "tdx" / "synthetic_cases.json").read_text())
    [root] = parse_pem_chain(document["root_ca_pem"], **NAMES)
    with pytest.raises(ChainInvalid):
        verify_path([root], EMBEDDED.intel, at=middle([root]), **NAMES)


def test_gpu_chains(vectors):
    count = 0
    for pem in gpu_chains(vectors):
        chain = parse_pem_chain(pem, **NAMES)
        at = middle(chain)
        assert verify_path(chain, EMBEDDED.nvidia_device, at=at, **NAMES).spki == chain[-1].spki
        with pytest.raises(ChainInvalid):
            verify_path(chain, EMBEDDED.nvidia_rim, at=at, **NAMES)
        count += 1
    assert count >= 10


def test_rim_chains(vectors):
    count = 0
    for path in sorted((vectors / "nvidia" / "rim").glob("NV_*.xml")):
        texts = re.findall(r"X509Certificate>([^<]+)<", path.read_text())
        chain = [
            parse_certificate(base64.b64decode("".join(text.split())), **NAMES) for text in texts
        ]
        verify_path(chain, EMBEDDED.nvidia_rim, at=middle(chain), **NAMES)
        count += 1
    assert count >= 5


def test_nras_keys(vectors):
    """A leaf under an RSA intermediate whose own root is not published."""
    for _, keys in nras_keys(vectors):
        for key in keys:
            chain = x5c(key)
            anchor = verify_path(chain, EMBEDDED.nvidia_nras, at=middle(chain), **NAMES)
            assert anchor is EMBEDDED.nvidia_nras[0]
            verify_signed_by(chain[0], chain[1], **NAMES)
            assert chain[1].subject != chain[1].issuer


def test_nras_tokens(vectors):
    for folder, keys in nras_keys(vectors):
        by_kid = {key["kid"]: x5c(key)[0].public_key for key in keys}
        answer = json.loads((folder / "response_eat.json").read_text())
        for text in [answer[0][1], *answer[1].values()]:
            jws = parse_compact(text, **NAMES)
            kid = jws.header.text("kid")
            verify_es384(jws, by_kid[kid], **NAMES)
            other = next(key for name, key in by_kid.items() if name != kid)
            with pytest.raises(SignatureInvalid):
                verify_es384(jws, other, **NAMES)


def test_every_certificate_agrees_with_the_library(vectors):
    ders = set()
    for document in collateral(vectors):
        for name in ("pck_crl_issuer_chain", "tcb_info_issuer_chain"):
            ders |= {c.der for c in parse_pem_chain(document[name], **NAMES)}
    for pem in gpu_chains(vectors):
        ders |= {c.der for c in parse_pem_chain(pem, **NAMES)}
    for _, keys in nras_keys(vectors):
        ders |= {c.der for key in keys for c in x5c(key)}
    for der in ders:
        ours, theirs = parse_certificate(der, **NAMES), x509.load_der_x509_certificate(der)
        assert ours.serial == theirs.serial_number
        assert ours.subject == theirs.subject.public_bytes()
        assert ours.issuer == theirs.issuer.public_bytes()
        assert ours.signed.tbs == theirs.tbs_certificate_bytes
        assert ours.signed.signature == theirs.signature
        assert ours.spki == theirs.public_key().public_bytes(
            Encoding.DER, PublicFormat.SubjectPublicKeyInfo
        )
        names = theirs.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        assert ours.common_name == names[0].value
        for extension in theirs.extensions:
            value = ours.extension(extension.oid.dotted_string)
            # What the library re-encoded is what stands in the certificate.
            assert value in der
    assert len(ders) > 20
