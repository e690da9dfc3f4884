"""Manifests: one form, one signature, and nothing that was not signed is believed."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from cryptography.x509 import verification

from teeverify import nvidia
from teeverify.endorsements.remembered import Remembering
from teeverify.errors import (
    ChainInvalid,
    ConfigurationError,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TeeVerifyError,
)
from teeverify.simulator.authority import Authority, new_key
from teeverify.simulator.rim import RimForm

VALUES = [[bytes([index]) * 48] for index in range(64)]
FORM = "rim.form"
CHAIN = "rim.chain"
SIGNATURE = "rim.signature"


@pytest.fixture(scope="session")
def build(vendor):
    def run(**overrides) -> bytes:
        given = {"values": VALUES, "active": (0, 7, 35), **overrides}
        return vendor.rim_signers.build(RimForm(**given))

    return run


@pytest.fixture(scope="session")
def good(build) -> bytes:
    return build()


@pytest.fixture(scope="session")
def check(at, roots):
    def run(raw: bytes, **arguments) -> nvidia.RimClaims:
        return nvidia.verify_rim(raw, **{"at": at, "roots": roots, **arguments})

    return run


@pytest.fixture(scope="session")
def no(check):
    """Demand that a manifest is refused with this class and check id."""

    def run(raw: bytes, error: type[TeeVerifyError], check_id: str, **arguments) -> TeeVerifyError:
        with pytest.raises(TeeVerifyError) as caught:
            check(raw, **arguments)
        assert (type(caught.value), caught.value.id) == (error, check_id), caught.value
        assert check_id in {item.id for item in nvidia.RIM_CHECKS}
        return caught.value

    return run


def change(old: str, new: str):
    """Change a text once; it must be there."""

    def run(text: str) -> str:
        assert old in text, old
        return text.replace(old, new, 1)

    return run


def test_a_good_one(check, good):
    claims = check(good)
    assert (claims.product, claims.version, claims.edition, claims.revision) == (
        "GH100", "570.172.08", "GPU", "r1",
    )  # fmt: skip
    assert [value.index for value in claims.active] == [0, 7, 35]
    assert [[*value.alternatives] for value in claims.values] == VALUES
    assert (claims.signer_expired, claims.roots_kind) == (False, "simulated")


# --- the XML attack corpus ----------------------------------------------------------------------


def keyvalue(text: str) -> str:
    """Offer another key beside the certificates, as an attacker whose own key signed would."""
    return text.replace(
        "<ds:KeyInfo>",
        "<ds:KeyInfo><ds:KeyValue><ds:RSAKeyValue><ds:Modulus>AQAB</ds:Modulus>"
        "<ds:Exponent>AQAB</ds:Exponent></ds:RSAKeyValue></ds:KeyValue>",
    )


def wrap(text: str) -> str:
    """Move the signed document inside another, whose values are the attacker's."""
    evil = text.replace(VALUES[7][0].hex(), "ff" * 48)
    return re.sub(r"<ds:Signature .*</ds:Signature>", text.strip(), evil, flags=re.DOTALL)


def wrap_in_object(text: str) -> str:
    """Keep the signed document in an Object of the signature."""
    evil = text.replace(VALUES[7][0].hex(), "ff" * 48)
    return evil.replace("</ds:Signature>", f"<ds:Object>{text.strip()}</ds:Object></ds:Signature>")


def second_payload(text: str) -> str:
    payload = re.search(r"<ns0:Payload.*</ns0:Payload>", text, re.DOTALL)
    assert payload is not None
    evil = payload[0].replace(VALUES[7][0].hex(), "ff" * 48)
    return text.replace("<ds:Signature ", f"{evil}<ds:Signature ", 1)


def hidden_in_signature(text: str) -> str:
    """Put golden values where the digest does not look."""
    resource = re.search(r"<ns0:Resource[^>]*/>", text)
    assert resource is not None
    return text.replace("<ds:KeyInfo>", f"{resource[0]}<ds:KeyInfo>", 1)


def signature_first(text: str) -> str:
    signature = re.search(r"<ds:Signature .*</ds:Signature>", text, re.DOTALL)
    assert signature is not None
    rest = text.replace(signature[0], "")
    return rest.replace("<ns0:Entity", f"{signature[0]}<ns0:Entity", 1)


def signature_twice(text: str) -> str:
    signature = re.search(r"<ds:Signature .*</ds:Signature>", text, re.DOTALL)
    assert signature is not None
    return text.replace(signature[0], signature[0] * 2)


def signature_nested(text: str) -> str:
    signature = re.search(r"<ds:Signature .*</ds:Signature>", text, re.DOTALL)
    assert signature is not None
    return text.replace("</ns0:Payload>", f"{signature[0]}</ns0:Payload>")


AFTER = {
    "key-value": keyvalue,
    "key-name": change("<ds:KeyInfo>", "<ds:KeyInfo><ds:KeyName>x</ds:KeyName>"),
    "retrieval-method": change(
        "<ds:KeyInfo>", '<ds:KeyInfo><ds:RetrievalMethod URI="http://192.0.2.1/key"/>'
    ),
    "x509-subject-name": change(
        "<ds:X509Data>", "<ds:X509Data><ds:X509SubjectName>x</ds:X509SubjectName>"
    ),
    "x509-crl": change("</ds:X509Data>", "<ds:X509CRL>AAAA</ds:X509CRL></ds:X509Data>"),
    "second-x509-data": change("</ds:X509Data>", "</ds:X509Data><ds:X509Data/>"),
    "no-key-info": lambda t: re.sub(r"<ds:KeyInfo>.*</ds:KeyInfo>", "", t, flags=re.DOTALL),
    "no-certificates": lambda t: re.sub(
        r"<ds:X509Certificate>.*</ds:X509Certificate>", "", t, flags=re.DOTALL
    ),
    "wrapped": wrap,
    "wrapped-in-an-object": wrap_in_object,
    "second-payload": second_payload,
    "values-hidden-in-the-signature": hidden_in_signature,
    "signature-first": signature_first,
    "signature-twice": signature_twice,
    "signature-nested": signature_nested,
    "no-signature": lambda t: re.sub(
        r"<ds:Signature .*</ds:Signature>", "", t, flags=re.DOTALL
    ),
    "object": change("</ds:Signature>", "<ds:Object/></ds:Signature>"),
    "signature-with-an-id": change("<ds:Signature ", '<ds:Signature Id="x" '),
    "signed-info-with-an-id": change("<ds:SignedInfo>", '<ds:SignedInfo Id="x">'),
    "reference-with-an-id": change('URI=""', 'Id="x" URI=""'),
    "reference-type": change('URI=""', 'Type="x" URI=""'),
    "reference-uri": change('URI=""', 'URI="#x"'),
    "reference-to-a-file": change('URI=""', 'URI="file:///etc/passwd"'),
    "reference-without-uri": change(' URI=""', ""),
    "second-reference": change("</ds:Reference>", '</ds:Reference><ds:Reference URI=""/>'),
    "third-transform": change(
        "</ds:Transforms>",
        '<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xslt-19991116"/></ds:Transforms>',
    ),
    "xpath-inside-a-transform": change(
        '<ds:Transform Algorithm="http://www.w3.org/2006/12/xml-c14n11"/>',
        '<ds:Transform Algorithm="http://www.w3.org/2006/12/xml-c14n11"><ds:XPath>x</ds:XPath>'
        "</ds:Transform>",
    ),
    "hmac-output-length": change(
        '#ecdsa-sha384"/>',
        '#ecdsa-sha384"><ds:HMACOutputLength>0</ds:HMACOutputLength></ds:SignatureMethod>',
    ),
    "text-in-signed-info": change("<ds:SignedInfo>", "<ds:SignedInfo>x"),
    "element-in-digest": change("<ds:DigestValue>", "<ds:DigestValue><x/>"),
    "digest-too-short": lambda t: re.sub(r"(<ds:DigestValue>)[^<]*", r"\1AAAA", t),
    "digest-no-base64": lambda t: re.sub(r"(<ds:DigestValue>)[^<]*", r"\1?", t),
    "signature-empty": lambda t: re.sub(r"(<ds:SignatureValue>)[^<]*", r"\1", t),
    "doctype": lambda t: "<!DOCTYPE SoftwareIdentity>" + t,
    "entity": lambda t: '<!DOCTYPE x [<!ENTITY e "1">]>' + t.replace('"1.0"', '"&e;"'),
    "comment": change("</ns0:Payload>", "<!-- --></ns0:Payload>"),
    "comment-in-the-signature": change("<ds:DigestValue>", "<ds:DigestValue><!-- -->"),
    "processing-instruction": change("</ns0:Payload>", "<?x y?></ns0:Payload>"),
    "text-in-the-payload": change("</ns0:Payload>", "x</ns0:Payload>"),
    "element-in-the-payload": change("</ns0:Payload>", "<ns0:Directory/></ns0:Payload>"),
    "element-in-a-resource": change(
        "<ns0:Resource ", "<ns0:Resource><x/></ns0:Resource><ns0:Resource "
    ),
    "foreign-element": change("<ns0:Payload", "<ns0:Link/><ns0:Payload"),
    "another-namespace": lambda t: t.replace("schema.xsd", "schema2.xsd"),
    "utf-16": lambda t: t.replace("<SoftwareIdentity", "\ufeff<SoftwareIdentity", 1),
}  # fmt: skip


@pytest.mark.parametrize("name", AFTER)
def test_attack_on_the_form(no, good, name):
    """Refused before any key is looked at: such a document has no meaning here."""
    attacked = AFTER[name](good.decode())
    assert attacked.encode() != good
    no(attacked.encode(), MalformedEvidence, FORM)


@pytest.mark.parametrize(
    ("element", "algorithm"),
    [
        ("CanonicalizationMethod", "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"),
        ("CanonicalizationMethod", "http://www.w3.org/2001/10/xml-exc-c14n#"),
        ("CanonicalizationMethod", "http://www.w3.org/2006/12/xml-c14n11#WithComments"),
        ("SignatureMethod", "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"),
        ("SignatureMethod", "http://www.w3.org/2001/04/xmldsig-more#rsa-sha384"),
        ("SignatureMethod", "http://www.w3.org/2000/09/xmldsig#hmac-sha1"),
        ("SignatureMethod", ""),
        ("DigestMethod", "http://www.w3.org/2001/04/xmlenc#sha256"),
        ("DigestMethod", "http://www.w3.org/2000/09/xmldsig#sha1"),
        ("Transform0", "http://www.w3.org/TR/1999/REC-xpath-19991116"),
        ("Transform0", "http://www.w3.org/2006/12/xml-c14n11"),
        ("Transform1", "http://www.w3.org/2001/10/xml-exc-c14n#"),
        ("Transform1", "http://www.w3.org/2000/09/xmldsig#enveloped-signature"),
        ("Reference", "#signed"),
        ("Reference", "http://192.0.2.1/"),
    ],
)
def test_another_algorithm_even_when_signed(no, build, element, algorithm):
    no(build(algorithms={element: algorithm}), MalformedEvidence, FORM)


def test_a_foreign_key_signed(no, build):
    no(build(signer=new_key("p384")), SignatureInvalid, SIGNATURE)


def test_signed_by_another_certificate_of_the_chain(no, build, vendor):
    """Only the leaf's key counts."""
    no(build(signer=vendor.rim_signers.level3.key), SignatureInvalid, SIGNATURE)


def test_a_digest_of_something_else(no, build):
    no(build(digest=bytes(48)), SignatureInvalid, SIGNATURE)


@pytest.mark.parametrize(
    "after",
    [
        change(VALUES[7][0].hex(), "ff" * 48),
        change('index="7" active="True"', 'index="7" active="False"'),
        change('colloquialVersion="570.172.08"', 'colloquialVersion="570.172.09"'),
        change('product="GH100"', 'product="GB100"'),
        change("</ns0:Payload>", " </ns0:Payload>"),
        change('patch="false"', 'patch="true"'),
        change('xmlns:ns1="', 'xmlns:ns9="u:x" xmlns:ns1="'),
    ],
    ids=["value", "active", "version", "product", "space", "attribute", "namespace"],
)
def test_changed_after_it_was_signed(no, build, after):
    no(build(after=after), SignatureInvalid, SIGNATURE)


def test_every_attribute_changed_alone(no, good):
    """Each of the hundreds of attributes is signed, or has one allowed value."""
    text = good.decode()
    places = [match.span(1) for match in re.finditer(r'="([^"]*)"', text)]
    assert len(places) > 450
    for start, end in places[::3]:
        spoilt = text[:start] + (text[start:end] + "1") + text[end:]
        with pytest.raises(TeeVerifyError) as caught:
            nvidia.verify_rim(spoilt.encode(), at="2026-06-01T00:00:00Z")
        assert caught.value.id in (FORM, CHAIN, SIGNATURE)


def test_no_flip_of_a_byte_passes(check, build):
    """Of the root, which stands last, only name and key are compared; all else is signed."""
    good = build(values=VALUES[:4], active=(0,))
    for place in range(0, good.rindex(b"<ds:X509Certificate>"), 7):
        flipped = bytearray(good)
        flipped[place] ^= 1
        with pytest.raises(TeeVerifyError) as caught:
            check(bytes(flipped))
        assert caught.value.id in (FORM, CHAIN, SIGNATURE)


@pytest.mark.parametrize("size", [0, 1, 100, -100, -1])
def test_cut_off(no, good, size):
    no(good[: size or 0].rstrip() if size >= 0 else good.rstrip()[:size], MalformedEvidence, FORM)


# --- golden values ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"active": "true"}, {"active": "TRUE"}, {"active": "1"}, {"active": ""}, {"active": None},
        {"type": "Directory"}, {"type": None}, {"size": "32"}, {"size": None}, {"size": "048"},
        {"index": "3"}, {"index": "-1"}, {"index": "07"}, {"index": "254"}, {"index": "x"},
        {"index": None}, {"alternatives": "2"}, {"alternatives": "0"}, {"alternatives": None},
        {"alternatives": "65"}, {"name": None}, {"name": "x y"}, {"ns2:Hash0": None},
        {"ns2:Hash0": "00"}, {"ns2:Hash0": "zz" * 48}, {"ns2:Hash0": ""}, {"Hash0": "00" * 48},
        {"ns2:Hash1": "00" * 48}, {"operator": "not"}, {"ns2:Mask": "00"},
    ],
    ids=str,
)  # fmt: skip
def test_a_resource_of_another_form_even_when_signed(no, build, changes):
    """An ``active`` other than the two literals means one thing to one tool, one to another."""
    no(build(resources={7: changes}), MalformedEvidence, FORM)


def test_a_hash_of_another_namespace(no, build):
    before = change('xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384"', 'xmlns:ns2="u:x"')
    no(build(before=before), MalformedEvidence, FORM)


@pytest.mark.parametrize(
    "overrides",
    [
        {"maker": "5704"},
        {"product": ""},
        {"version": ""},
        {"edition": ""},
        {"version": "570 172"},
        {"values": []},
        {"before": lambda t: t.replace("ns1:FirmwareManufacturerId", "FirmwareManufacturerId")},
        {"before": lambda t: t.replace("<SoftwareIdentity xmlns=", "<SoftwareIdentity xmlns:x=")},
        {"before": change("<ns0:Entity ", "<ns0:Entity/><ns0:Entity ")},
    ],
)
def test_another_content_even_when_signed(no, build, overrides):
    given = {"values": VALUES, **overrides}
    no(build(**given), MalformedEvidence, FORM)


def test_alternatives_in_order(check, build):
    values = [[b"a" * 48, b"b" * 48, b"c" * 48]]
    assert check(build(values=values)).values[0].alternatives == tuple(values[0])


# --- the chain ----------------------------------------------------------------------------------


def test_no_embedded_root(good, at):
    with pytest.raises(ChainInvalid) as caught:
        nvidia.verify_rim(good, at=at)
    assert caught.value.id == CHAIN


def test_a_foreign_chain(no, build, vendor):
    """The attacker signs with a chain of his own that has all the right names."""
    root = Authority.root("Simulated NVIDIA CoRIM signing Root CA", curve="p384")
    ca = root.issue("NVIDIA Reference Value GH100 CA", ca=True)
    level3 = ca.issue("NVIDIA Reference Value L3 GH100 002", ca=True)
    leaf = level3.issue("RIM L4 Signer")
    no(build(certificates=(leaf, level3, ca, root), signer=leaf.key), ChainInvalid, CHAIN)


def test_a_leaf_of_the_device_chain(no, build, vendor):
    """A device's own key must sign no manifest, though NVIDIA certified it too."""
    device = vendor.gpu(5)
    no(build(certificates=device.authorities[:4], signer=device.leaf.key), ChainInvalid, CHAIN)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_certificates(no, build, vendor, count):
    no(build(certificates=vendor.rim_signers.chain[:count]), ChainInvalid, CHAIN)


def test_more_certificates(no, build, vendor):
    other = Authority.root("x", curve="p384")
    no(build(certificates=(*vendor.rim_signers.chain, other)), ChainInvalid, CHAIN)


def test_certificates_in_another_order(no, build, vendor):
    no(build(certificates=vendor.rim_signers.chain[::-1]), ChainInvalid, CHAIN)


@pytest.mark.parametrize(
    "leaf",
    [
        {"ca": True},
        {"key_usage": ("key_cert_sign",)},
        {"key_usage": ("digital_signature", "key_cert_sign")},
        {"key_usage": None},
        {"curve": "p256"},
        {"signer": new_key("p384")},
    ],
    ids=["ca", "no-signing", "more", "no-usage", "p256", "foreign-issuer"],
)
def test_a_leaf_of_another_kind(build, check, leaf):
    with pytest.raises(TeeVerifyError) as caught:
        check(build(leaf=leaf, signer=new_key("p384")))
    assert caught.value.id == CHAIN


def test_expired_signer_fails(no, good, at):
    error = no(good, EndorsementUnavailable, CHAIN, at=at + timedelta(days=365))
    assert "expired" in error.message
    assert error.exit_code == 3


def test_signer_of_the_future(no, good, at):
    no(good, EndorsementUnavailable, CHAIN, at=at - timedelta(days=5 * 365))
    no(
        good,
        EndorsementUnavailable,
        CHAIN,
        at=at - timedelta(days=5 * 365),
        allow_expired_signer=True,
    )


def test_expired_signer_passes_on_demand_and_says_so(check, good, at):
    late = at + timedelta(days=365)
    claims = check(good, at=late, allow_expired_signer=True)
    assert claims.signer_expired
    assert claims.expires_at < late
    assert not check(good, allow_expired_signer=True).signer_expired


def test_expired_signer_still_must_have_signed(no, build, at):
    late = at + timedelta(days=365)
    raw = build(signer=new_key("p384"))
    no(raw, SignatureInvalid, SIGNATURE, at=late, allow_expired_signer=True)


def test_a_known_manifest_is_held_against_each_time(check, no, good, at):
    known = Remembering()
    check(good, memory=known)
    no(good, EndorsementUnavailable, CHAIN, at=at + timedelta(days=365), memory=known)
    check(good, memory=known)


def test_a_known_manifest_is_not_known_under_other_roots(good, check, at):
    known = Remembering()
    check(good, memory=known)
    with pytest.raises(ChainInvalid):
        nvidia.verify_rim(good, at=at, memory=known)


def test_a_known_manifest_is_known_by_all_its_bytes(check, no, good):
    known = Remembering()
    check(good, memory=known)
    changed = good.replace(VALUES[7][0].hex().encode(), b"ff" * 48)
    no(changed, SignatureInvalid, SIGNATURE, memory=known)


@pytest.mark.parametrize("raw", ["text", None, bytearray(b"")])
def test_what_is_no_file(check, raw):
    with pytest.raises(ConfigurationError):
        check(raw)


def test_claims_are_made_by_verifying():
    with pytest.raises(ConfigurationError):
        nvidia.RimClaims(
            product="GH100", version="1", edition="GPU", revision="r", values=(), signers=(),
            sha256="", expires_at=None, signer_expired=False, roots_kind="embedded", seal=object(),
        )  # fmt: skip


# --- against other implementations ---------------------------------------------------------------


def test_signxml_agrees_about_a_forged_one(good, vendor):
    """What the simulator writes is what another implementation of XML signatures verifies."""
    if not hasattr(verification, "ExtensionPolicy"):
        pytest.skip("signxml's newest release needs cryptography 45 and does not say so")
    signxml = pytest.importorskip("signxml")
    certificate = vendor.rim_signers.leaf.certificate
    verified = signxml.XMLVerifier().verify(good, x509_cert=certificate)
    assert verified.signed_xml is not None


def test_base64_may_have_line_breaks(check, build):
    def split(text: str) -> str:
        value = re.search(r"<ds:SignatureValue>([^<]*)<", text)
        assert value is not None
        return text.replace(value[1], f"\n{value[1][:64]}\n{value[1][64:]} ")

    assert check(build(after=split)).version == "570.172.08"
