"""The five certificates of a device: each in its role, and NVIDIA's."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from teeverify import nvidia
from teeverify.errors import (
    BindingMismatch,
    ChainInvalid,
    EndorsementUnavailable,
    EvidenceError,
    MalformedEvidence,
    SignatureInvalid,
)
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.authority import Authority, new_key
from teeverify.simulator.nvidia import Nvidia
from teeverify.simulator.spdm import ABSENT

CHIPS = ["GH100", "GB100", "GB20X", "LS_10"]
OLD = datetime(2021, 1, 1, tzinfo=timezone.utc)


def split(pem: bytes) -> list[bytes]:
    end = b"-----END CERTIFICATE-----\n"
    return [block + end for block in pem.split(end)[:-1]]


@pytest.fixture(scope="session")
def pem(vendor) -> list[bytes]:
    return split(vendor.gpu(0).pem())


@pytest.fixture(scope="session")
def with_chain(vendor, nonce):
    def run(chain: bytes) -> list[dict[str, str]]:
        return [vendor.gpu(0).evidence(nonce, chain=chain)]

    return run


@pytest.mark.parametrize("chip", CHIPS)
def test_every_chip_by_its_certificates(vendor, nonce, verify, chip):
    claims = verify(vendor.evidence_list(nonce, 1, chip=chip, arch=None))
    device = claims.devices[0]
    want = {
        "GH100": ("GPU", "Hopper"),
        "GB100": ("GPU", "Blackwell"),
        "GB20X": ("GPU", "Blackwell"),
        "LS_10": ("NVSwitch", "LS10"),
    }[chip]
    assert (device.device_type, device.architecture) == want
    assert device.chip == chip
    assert device.ueid == vendor.gpu(0, chip=chip).ueid
    assert device.fwid == vendor.gpu(0, chip=chip).fwid
    assert claims.roots_kind == device.roots_kind == "simulated"


# --- number, order, encoding ------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_fewer_certificates(with_chain, pem, refused, count):
    refused(with_chain(b"".join(pem[:count])), ChainInvalid, "gpu.chain")


def test_root_left_out_is_not_added(with_chain, pem, refused):
    error = refused(with_chain(b"".join(pem[:4])), ChainInvalid, "gpu.chain")
    assert error.got == "4"


def test_more_certificates(with_chain, pem, refused):
    refused(with_chain(b"".join([*pem, pem[4]])), ChainInvalid, "gpu.chain")
    refused(with_chain(b"".join(pem * 8)), MalformedEvidence, "gpu.chain")


@pytest.mark.parametrize("one", range(4))
def test_two_certificates_swapped(with_chain, pem, refused, one):
    swapped = [*pem]
    swapped[one], swapped[one + 1] = swapped[one + 1], swapped[one]
    refused(with_chain(b"".join(swapped)), ChainInvalid, "gpu.chain")


@pytest.mark.parametrize(
    "chain",
    [
        b"",
        b"\0",
        b"x",
        b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n",
        b"-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n",
    ],
)
def test_not_certificates(with_chain, refused, chain):
    refused(with_chain(chain), MalformedEvidence, "gpu.chain")


def test_text_between_certificates(with_chain, pem, refused):
    refused(with_chain(b"hello\n".join(pem)), MalformedEvidence, "gpu.chain")
    refused(with_chain(b"\0".join(pem)), MalformedEvidence, "gpu.chain")


@pytest.mark.parametrize("position", range(5))
def test_flipped_byte_of_a_certificate(with_chain, pem, verify, position):
    der = bytearray(x509.load_pem_x509_certificate(pem[position]).public_bytes(Encoding.DER))
    for offset in (5, 40, len(der) // 2, len(der) - 200, len(der) - 20, len(der) - 1):
        changed = bytearray(der)
        changed[offset] ^= 1
        block = b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % (
            base64.b64encode(changed)
        )
        chain = [*pem[:position], block, *pem[position + 1 :]]
        if position == 4 and offset >= len(der) - 20:
            continue  # the root's own signature: only its name and key are trusted
        with pytest.raises(EvidenceError) as caught:
            verify(with_chain(b"".join(chain)))
        assert caught.value.id in {"gpu.chain", "gpu.report-signature", "gpu.fwid"}


# --- roots --------------------------------------------------------------------------------------


def test_root_of_ones_own_with_the_right_names(vendor, nonce, refused):
    own = Authority.root("Simulated NVIDIA Device Identity CA", curve="p384")
    error = refused([vendor.gpu(0).evidence(nonce, root=own)], ChainInvalid, "gpu.chain")
    assert "compared with the trust anchors, never trusted" in error.hint


def test_root_with_nvidias_name_and_another_key(vendor, nonce, refused):
    subject = vendor.root.certificate.subject
    own = Authority.root("x", curve="p384", subject=subject)
    refused([vendor.gpu(0).evidence(nonce, root=own)], ChainInvalid, "gpu.chain")


def test_genuine_root_pasted_over_a_chain_of_ones_own(vendor, nonce, refused):
    own = Authority.root("x", curve="p384", subject=vendor.root.certificate.subject)
    chain = split(vendor.gpu(0).pem())
    other = Nvidia()
    other.root = own
    forged = split(other.gpu(0).pem())
    entry = other.gpu(0).evidence(nonce, chain=b"".join([*forged[:4], chain[4]]))
    refused([entry], SignatureInvalid, "gpu.chain")


def test_simulated_chain_under_the_embedded_roots(vendor, nonce, refused):
    error = refused(vendor.evidence_list(nonce), ChainInvalid, "gpu.chain", roots=None)
    assert "simulated" in str(error.hint)


def test_another_runs_roots(nonce, refused):
    refused(Nvidia().evidence_list(nonce), ChainInvalid, "gpu.chain")


def test_custom_roots_are_named(vendor, nonce, verify):
    claims = verify(vendor.evidence_list(nonce), roots=[vendor.root.pem])
    assert claims.roots_kind == "custom"


def test_last_certificate_must_be_the_root_itself(vendor, nonce, roots, refused):
    """A fifth certificate that the root issued is not the root."""
    fake_root = vendor.root.issue("NVIDIA GH100 Identity root", ca=True)
    chain = vendor.gpu(0).evidence(nonce, root=fake_root)
    refused([chain], ChainInvalid, "gpu.chain", roots=roots)


# --- roles --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("leaf", "GH100 A01 GSP BROM"),
        ("leaf", "GH100 A01 FSP FMC LF"),
        ("leaf", "GH100 A1 GSP FMC LF"),
        ("leaf", "GH100 A01 GSP FMC LF2"),
        ("leaf", "GH200 A01 GSP FMC LF"),
        ("leaf", "GB100 A01 GSP FMC LF"),
        ("leaf", "GH100 B02 GSP FMC LF"),
        ("leaf", "x"),
        ("brom", "GH100 A01 GSP FMC LF"),
        ("brom", "GH100 A02 GSP BROM"),
        ("brom", "GB100 A01 GSP BROM"),
        ("brom", "LS_10 A01 FSP BROM"),
        ("provisioner", "NVIDIA GB100 Provisioner ICA 1"),
        ("provisioner", "NVIDIA LS_10 Provisioner ICA 1"),
        ("provisioner", "NVIDIA GH100 Provisioner ICA x"),
        ("provisioner", "NVIDIA GH100 Provisioner ICA 1 "),
        ("identity", "NVIDIA GB100 Identity"),
        ("identity", "NVIDIA GH100 Identity 2"),
        ("identity", "NVIDIA Attestation Service GPU GH100"),
    ],
)
def test_name_of_another_role(vendor, nonce, refused, part, name):
    entry = vendor.gpu(0).evidence(nonce, **{part: {"common_name": name}})
    refused([entry], ChainInvalid, "gpu.chain")


def test_other_revisions_and_serial_provisioners_are_taken(vendor, nonce, verify):
    entry = vendor.gpu(0).evidence(
        nonce,
        leaf={"common_name": "GH100 B02 GSP FMC LF"},
        brom={"common_name": "GH100 B02 GSP BROM"},
        provisioner={"common_name": "NVIDIA GH100 Provisioner ICA 00017"},
    )
    assert verify([entry]).devices[0].hwmodel == "GH100 B02 GSP BROM"


@pytest.mark.parametrize("part", ["leaf", "brom", "provisioner", "identity"])
@pytest.mark.parametrize("curve", ["p256", "rsa"])
def test_only_p384(vendor, nonce, verify, part, curve):
    entry = vendor.gpu(0).evidence(nonce, **{part: {"key": new_key(curve)}})
    with pytest.raises((ChainInvalid, SignatureInvalid, MalformedEvidence)) as caught:
        verify([entry])
    assert caught.value.id == "gpu.chain"


@pytest.mark.parametrize("part", ["brom", "provisioner", "identity"])
@pytest.mark.parametrize(
    "change",
    [
        {"ca": False},
        {"ca": False, "key_usage": ("key_cert_sign",)},
        {"ca": None, "key_usage": ("key_cert_sign",)},
        {"key_usage": ("digital_signature",)},
        {"key_usage": None},
        {"signer": new_key("p384")},
    ],
    ids=["nothing", "no CA", "no constraints", "other usage", "no usage", "other signer"],
)
def test_issuer_that_may_not_issue(vendor, nonce, verify, part, change):
    entry = vendor.gpu(0).evidence(nonce, **{part: change})
    with pytest.raises((ChainInvalid, SignatureInvalid)) as caught:
        verify([entry])
    assert caught.value.id == "gpu.chain"


@pytest.mark.parametrize(("part", "length"), [("brom", 0), ("provisioner", 1), ("identity", 2)])
def test_path_length_across_both_halves(vendor, nonce, verify, part, length):
    assert verify([vendor.gpu(0).evidence(nonce, **{part: {"path_length": length}})])


@pytest.mark.parametrize(("part", "length"), [("provisioner", 0), ("identity", 1), ("identity", 0)])
def test_path_length_exceeded(vendor, nonce, refused, part, length):
    entry = vendor.gpu(0).evidence(nonce, **{part: {"path_length": length}})
    refused([entry], ChainInvalid, "gpu.chain")


@pytest.mark.parametrize(
    "change",
    [
        {"ca": True, "key_usage": ("digital_signature", "key_cert_sign")},
        {"ca": True, "key_usage": ("digital_signature",)},
        {"ca": True},
        {"key_usage": ("key_agreement",)},
        {"key_usage": ("digital_signature", "key_cert_sign")},
        {"key_usage": None},
    ],
)
def test_leaf_that_is_more_or_less_than_a_signer(vendor, nonce, refused, change):
    refused([vendor.gpu(0).evidence(nonce, leaf=change)], ChainInvalid, "gpu.chain")


def test_leaf_signed_by_another_key(vendor, nonce, refused):
    entry = vendor.gpu(0).evidence(nonce, leaf={"signer": new_key("p384")})
    refused([entry], SignatureInvalid, "gpu.chain")


def test_unknown_critical_extension(vendor, nonce, refused):
    entry = vendor.gpu(0).evidence(nonce, brom={"extensions": [("1.2.3.4", b"\5\0", True)]})
    refused([entry], ChainInvalid, "gpu.chain")


@pytest.mark.parametrize("part", ["leaf", "brom", "provisioner", "identity"])
@pytest.mark.parametrize(
    "dates",
    [
        {"not_before": OLD, "not_after": OLD + timedelta(days=1)},
        {"not_before": datetime(2030, 1, 1, tzinfo=timezone.utc)},
    ],
    ids=["expired", "not yet valid"],
)
def test_outside_its_dates_is_undecided(vendor, nonce, refused, part, dates):
    entry = vendor.gpu(0).evidence(nonce, **{part: dates})
    refused([entry], EndorsementUnavailable, "gpu.chain")


def test_dates_of_known_issuers_are_looked_at_again(vendor, nonce, verify, refused):
    kept = nvidia.Endorsements()
    end = {"not_after": datetime(2027, 1, 1, tzinfo=timezone.utc)}
    entries = [vendor.gpu(0).evidence(nonce, provisioner=end)]
    verify(entries, endorsements=kept)
    verify(entries, endorsements=kept)
    refused(
        entries, EndorsementUnavailable, "gpu.chain", endorsements=kept, at="2028-01-01T00:00:00Z"
    )
    verify(vendor.evidence_list(nonce), endorsements=kept, at="2028-01-01T00:00:00Z")


def test_known_issuers_count_for_their_roots_only(vendor, nonce, verify, refused):
    kept = nvidia.Endorsements()
    entries = vendor.evidence_list(nonce)
    verify(entries, endorsements=kept)
    refused(entries, ChainInvalid, "gpu.chain", endorsements=kept, roots=None)
    other = UnsafeTestRoots([Nvidia().roots_pem()])
    refused(entries, ChainInvalid, "gpu.chain", endorsements=kept, roots=other)


def test_expiry_is_that_of_the_first_certificate(vendor, nonce, verify):
    end = datetime(2027, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
    entry = vendor.gpu(0).evidence(nonce, provisioner={"not_after": end})
    claims = verify([entry, vendor.gpu(1).evidence(nonce)])
    assert claims.expires_at == claims.devices[0].expires_at == end
    assert claims.devices[1].expires_at.year == 9999


# --- what the leaf says -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("san", "error"),
    [
        ("NVIDIA:GB100:48B02DF44660DA06", BindingMismatch),
        ("NVIDIA:LS_10:48B02DF44660DA06", BindingMismatch),
        ("AMD:GH100:48B02DF44660DA06", ChainInvalid),
        ("NVIDIA:GH100:48B02DF44660DA0", ChainInvalid),
        ("NVIDIA:GH100:48b02df44660da06", ChainInvalid),
        ("NVIDIA:GH100:48B02DF44660DA06:", ChainInvalid),
        ("NVIDIA:GH100", ChainInvalid),
        ("", ChainInvalid),
        ("NVIDIA::48B02DF44660DA06", ChainInvalid),
        ("NVIDIA:GH100:48B02DF44660DA06\n", ChainInvalid),
    ],
)
def test_name_of_another_device(vendor, nonce, refused, san, error):
    if not san:
        san = " "
    refused([vendor.gpu(0).evidence(nonce, san=san)], error, "gpu.device-type")


def sans(*names: x509.GeneralName) -> bytes:
    return x509.SubjectAlternativeName(names).public_bytes()


GOOD = x509.OtherName(
    x509.ObjectIdentifier("1.3.6.1.4.1.412.274.1"), b"\x0c\x1dNVIDIA:GH100:48B02DF44660DA06"
)


@pytest.mark.parametrize(
    ("extension", "error"),
    [
        (ABSENT, ChainInvalid),
        (sans(x509.DNSName("nvidia.com")), MalformedEvidence),
        (sans(GOOD, GOOD), MalformedEvidence),
        (sans(GOOD, x509.DNSName("nvidia.com")), MalformedEvidence),
        (
            sans(x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.412.274.2"), GOOD.value)),
            ChainInvalid,
        ),
        (sans(x509.OtherName(GOOD.type_id, b"\x04" + GOOD.value[1:])), MalformedEvidence),
        (b"\x30\0", MalformedEvidence),
        (b"", MalformedEvidence),
    ],
)
def test_other_subject_alternative_names(vendor, nonce, verify, extension, error):
    with pytest.raises(error) as caught:
        verify([vendor.gpu(0).evidence(nonce, san_extension=extension)])
    assert caught.value.id in {"gpu.device-type", "gpu.chain"}


@pytest.mark.parametrize("chip", CHIPS)
def test_no_firmware_identity(vendor, nonce, refused, chip):
    entry = vendor.gpu(0, chip=chip).evidence(nonce, fwid_extension=ABSENT)
    refused([entry], ChainInvalid, "gpu.fwid")


@pytest.mark.parametrize("chip", CHIPS)
def test_firmware_identity_cannot_be_read(vendor, nonce, refused, chip):
    device = vendor.gpu(0, chip=chip)
    for oid in ("2.23.133.5.4.1", "2.23.133.5.4.1.1"):
        found = device.leaf.certificate.extensions
        raw = next((e.value.value for e in found if e.oid.dotted_string == oid), None)
        if raw is None:
            continue
        for bad in (b"", b"\x30\0", raw[:-1], raw + b"\0", raw[:40], bytes(len(raw))):
            entry = device.evidence(nonce, fwid_extension=bad)
            refused([entry], MalformedEvidence, "gpu.fwid")


@pytest.mark.parametrize("chip", CHIPS)
def test_firmware_identity_of_another_hash(vendor, nonce, refused, chip):
    entry = vendor.gpu(0, chip=chip).evidence(nonce, fwids=(bytes(32), bytes(48)))
    refused([entry], MalformedEvidence, "gpu.fwid")


def test_hopper_firmware_identity_of_another_device_ca(vendor, nonce, refused):
    other = vendor.gpu(1)
    extension = next(
        e.value.value
        for e in other.leaf.certificate.extensions
        if e.oid.dotted_string == "2.23.133.5.4.1"
    )
    entry = vendor.gpu(0).evidence(nonce, fwid_extension=extension, fwid=other.fwid)
    refused([entry], BindingMismatch, "gpu.fwid")


def test_blackwell_fwid_by_last_48_bytes_is_wrong(vendor, nonce, verify, refused):
    """Trap 4: the second entry and the flags behind it are not the firmware's identity."""
    device = vendor.gpu(0, chip="GB100")
    second = secrets.token_bytes(48)
    good = device.evidence(nonce, fwids=(device.fwid, second))
    assert verify([good]).devices[0].fwid == device.fwid
    bad = device.evidence(nonce, fwids=(device.fwid, second), fwid=second)
    refused([bad], BindingMismatch, "gpu.fwid")


def test_blackwell_members_out_of_order(vendor, nonce, refused):
    device = vendor.gpu(0, chip="GB100")
    extension = next(
        e.value.value
        for e in device.leaf.certificate.extensions
        if e.oid.dotted_string == "2.23.133.5.4.1.1"
    )
    swapped = extension.replace(b"\x83\1\1\x84\1\0", b"\x84\1\1\x83\1\0")
    assert swapped != extension
    refused([device.evidence(nonce, fwid_extension=swapped)], MalformedEvidence, "gpu.fwid")


def test_hopper_extension_in_a_blackwell_leaf(vendor, nonce, refused):
    device = vendor.gpu(0, chip="GB100")
    extension = next(
        e.value.value
        for e in vendor.gpu(0).leaf.certificate.extensions
        if e.oid.dotted_string == "2.23.133.5.4.1"
    )
    refused([device.evidence(nonce, fwid_extension=extension)], MalformedEvidence, "gpu.fwid")
