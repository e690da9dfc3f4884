"""Intel's own authorities that are written down: only their signatures need not be verified."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from datetime import timedelta
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_public_key

from teeverify import tdx
from teeverify.crypto.certificates import parse_certificate, verify_path
from teeverify.errors import (
    ChainInvalid,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
)
from teeverify.roots import EMBEDDED, custom_roots
from teeverify.simulator.authority import new_key
from teeverify.tdx.issuers import PCK_CHAIN

NAMES = {"id": PCK_CHAIN, "what": "PCK chain"}
SECOND = timedelta(seconds=1)


def knowing(forge, *authorities):
    """The forge's roots, with these authorities written down below them."""
    roots = forge.roots.roots
    known = frozenset(hashlib.sha256(one.der).hexdigest() for one in authorities)
    anchors = tuple(dataclasses.replace(one, issued_sha256=known) for one in roots.intel)
    return dataclasses.replace(roots, intel=anchors)


def refused(error, check, forge, *authorities, endorsements=None):
    with pytest.raises(error) as caught:
        forge.verify(endorsements=endorsements, roots=knowing(forge, *authorities))
    assert (type(caught.value), caught.value.id) == (error, check)


def test_a_certificate_that_is_written_down_needs_no_signature(make_forge):
    """So what is written down must be right: see the test of each of Intel's below."""
    forge = make_forge(certificates={"ca": {"signer": new_key()}})
    refused(SignatureInvalid, PCK_CHAIN, forge)
    refused(SignatureInvalid, PCK_CHAIN, forge, forge.intel.pck, forge.intel.signer)
    assert forge.verify(roots=knowing(forge, forge.intel.ca))


def test_the_cpus_own_certificate_is_always_verified(make_forge):
    forge = make_forge(certificates={"pck": {"signer": new_key()}})
    refused(SignatureInvalid, PCK_CHAIN, forge, forge.intel.pck, forge.intel.ca)


@pytest.mark.parametrize(
    ("role", "check"), [("ca", PCK_CHAIN), ("signer", "tdx.tcb-info"), ("root", PCK_CHAIN)]
)
def test_it_may_still_be_revoked_or_outside_its_dates(make_forge, forge, role, check):
    known = forge.intel.ca, forge.intel.signer, forge.intel.root
    endorsements = forge.endorsements(revoked=[role])
    refused(EndorsementInvalid, check, forge, *known, endorsements=endorsements)
    for dates in ({"not_after": forge.at - SECOND}, {"not_before": forge.at + SECOND}):
        late = make_forge(certificates={role: dates})
        known = late.intel.ca, late.intel.signer, late.intel.root
        refused(EndorsementUnavailable, check, late, *known)


@pytest.mark.parametrize(
    ("role", "check", "change"),
    [
        ("ca", PCK_CHAIN, {"common_name": "Intel SGX TCB Signing"}),
        ("ca", PCK_CHAIN, {"ca": False, "path_length": None}),
        ("ca", PCK_CHAIN, {"key_usage": ["crl_sign"]}),
        ("signer", "tdx.tcb-info", {"common_name": "Intel SGX PCK Platform CA"}),
        ("signer", "tdx.tcb-info", {"ca": True}),
    ],
)
def test_it_still_has_one_role(make_forge, role, check, change):
    forge = make_forge(certificates={role: change})
    refused(ChainInvalid, check, forge, forge.intel.ca, forge.intel.signer)


def test_it_counts_only_below_the_anchor_that_issued_it(make_forge, forge):
    """A certificate that names another issuer was not issued by this anchor, whatever is listed."""
    other = make_forge(certificates={"root": {"common_name": "Another Root"}})
    ca = parse_certificate(other.intel.ca.der, **NAMES)
    (anchor,) = knowing(forge, other.intel.ca).intel
    with pytest.raises(ChainInvalid):
        verify_path((ca,), (anchor,), at=forge.at, **NAMES)


def test_roots_of_the_caller_know_nothing(forge):
    roots = custom_roots([forge.intel.roots_pem()])
    for anchor in (*roots.intel, *forge.roots.roots.intel):
        assert (anchor.issued_sha256, anchor.certificate_sha256) == (frozenset(), None)


def intels_certificates(folder):
    """All certificates in the recorded quotes, collateral and headers, by their hash."""
    pem = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("synthetic"):
            text = path.read_bytes().replace(b"\\n", b"\n")
            for block in pem.findall(unquote(text.decode("latin-1")).encode("latin-1")):
                certificate = x509.load_pem_x509_certificate(block)
                der = certificate.public_bytes(Encoding.DER)
                found[hashlib.sha256(der).hexdigest()] = certificate
    return found


@pytest.mark.vectors
def test_each_that_is_written_down_was_signed_by_intels_root(vectors):
    (anchor,) = EMBEDDED.intel
    found = intels_certificates(vectors / "tdx")
    assert len(anchor.issued_sha256) == 4
    key = load_der_public_key(anchor.spki)
    for digest in anchor.issued_sha256:
        certificate = found[digest]
        key.verify(
            certificate.signature,
            certificate.tbs_certificate_bytes,
            ec.ECDSA(certificate.signature_hash_algorithm),
        )
        assert certificate.issuer.public_bytes() == anchor.subject
        assert certificate.subject.rfc4514_string().split(",")[-1] in {
            "CN=Intel SGX PCK Platform CA",
            "CN=Intel SGX PCK Processor CA",
            "CN=Intel SGX TCB Signing",
        }
    # And no other of Intel's that was recorded: the rest are the root's own, and CPUs'.
    others = [found[digest] for digest in found.keys() - anchor.issued_sha256]
    issued = [one for one in others if one.issuer.public_bytes() == anchor.subject]
    assert {one.subject.public_bytes() for one in issued} == {anchor.subject}


@pytest.mark.vectors
def test_any_other_byte_is_not_known(vectors):
    (anchor,) = EMBEDDED.intel
    for digest, certificate in intels_certificates(vectors / "tdx").items():
        if digest not in anchor.issued_sha256:
            continue
        der, at = certificate.public_bytes(Encoding.DER), certificate.not_valid_before_utc
        verify_path((parse_certificate(der, **NAMES),), (anchor,), at=at, **NAMES)
        for other in (der[:-1] + bytes([der[-1] ^ 1]), der.replace(b"Intel SGX", b"Intel SGx")):
            with pytest.raises((SignatureInvalid, ChainInvalid)):
                verify_path((parse_certificate(other, **NAMES),), (anchor,), at=at, **NAMES)
        for other in (der + b"\0", der[:-1]):
            with pytest.raises(MalformedEvidence):
                parse_certificate(other, **NAMES)


@pytest.mark.vectors
def test_the_verdict_is_the_same_without_them(vectors):
    folder = vectors / "tdx"
    (anchor,) = EMBEDDED.intel
    bare = dataclasses.replace(
        EMBEDDED, intel=(dataclasses.replace(anchor, issued_sha256=frozenset()),)
    )
    raw = (folder / "v4_b0c06f.quote.bin").read_bytes()
    collateral = folder / "collateral_b0c06f_20250619.json"
    one, other = (
        tdx.verify_quote(
            raw, tdx.Endorsements.load(collateral), at="2025-07-04T10:16:31Z", roots=roots
        )
        for roots in (None, bare)
    )
    assert one == other
