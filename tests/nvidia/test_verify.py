"""GPU evidence as a whole: every check has evidence that breaks it alone."""

from __future__ import annotations

import base64
import copy
import dataclasses
import pickle

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding

from teeverify import nvidia
from teeverify.errors import (
    BindingMismatch,
    ConfigurationError,
    EvidenceError,
    MalformedEvidence,
    SignatureInvalid,
    StaleEvidence,
)
from teeverify.nvidia.claims import DEVICE_SEAL
from teeverify.nvidia.evidence import Hints
from teeverify.simulator.authority import new_key, sign_raw
from teeverify.simulator.nvidia_devices import CertificateForm
from teeverify.simulator.spdm import ABSENT

OTHER = bytes(32)
P384_ORDER = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    16,
)


def flipped(entry: dict, offset: int, bit: int = 1) -> dict:
    raw = bytearray(base64.b64decode(entry["evidence"]))
    raw[offset] ^= bit
    return entry | {"evidence": base64.b64encode(raw).decode()}


# --- signature ----------------------------------------------------------------------------------


def test_every_flipped_byte_of_a_report_is_refused(vendor, nonce, roots, at):
    """All 2164 bytes of a switch's report: request, response, opaque data and signature."""
    kept = nvidia.Endorsements()
    entry = vendor.gpu(0, chip="LS_10").evidence(nonce)
    size = len(base64.b64decode(entry["evidence"]))
    good = nvidia.parse_evidence([entry]).devices[0]
    assert nvidia.verify_device(good, kept, nonce=nonce, at=at, roots=roots)
    for offset in range(size):
        with pytest.raises(EvidenceError) as caught:
            nvidia.verify_evidence(
                [flipped(entry, offset, 1 << offset % 8)], kept, nonce=nonce, at=at, roots=roots
            )
        if 4 <= offset < 36 or size - 96 <= offset:
            assert caught.value.id == "gpu.report-signature"
        else:
            assert caught.value.id in {"gpu.evidence", "gpu.device-type", "gpu.report-signature"}


@pytest.mark.parametrize("offset", [*range(0, 4100, 190), 4, 35, 45, -1, -97])
def test_flipped_byte_of_a_gpu_report(vendor, nonce, verify, offset):
    with pytest.raises(EvidenceError):
        verify([flipped(vendor.gpu(0).evidence(nonce), offset)])


def test_signed_by_another_key(vendor, nonce, refused):
    entry = vendor.gpu(0).evidence(nonce, signer=new_key("p384"))
    refused([entry], SignatureInvalid, "gpu.report-signature")


def test_signed_by_another_genuine_device(vendor, nonce, refused):
    entry = vendor.gpu(0).evidence(nonce, signer=vendor.gpu(1).leaf.key)
    refused([entry], SignatureInvalid, "gpu.report-signature")


def test_chain_of_another_genuine_device(vendor, nonce, refused):
    entry = vendor.gpu(0).evidence(nonce, chain=vendor.gpu(1).pem())
    refused([entry], SignatureInvalid, "gpu.report-signature")


@pytest.mark.parametrize("value", [bytes(96), b"\xff" * 96, bytes(48) + bytes([1] * 48)])
def test_signature_out_of_range(vendor, nonce, refused, value):
    entry = vendor.gpu(0).evidence(nonce, signature=value)
    refused([entry], SignatureInvalid, "gpu.report-signature")


def test_signature_with_another_hash_or_half(vendor, nonce, refused):
    device = vendor.gpu(0)
    signed = base64.b64decode(device.evidence(nonce, signature=b"")["evidence"])
    sign = sign_raw(device.leaf.key, signed)
    for value in (
        sign[48:] + sign[:48],
        sign_raw(device.leaf.key, signed[37:]),
        sign_raw(device.leaf.key, signed[:-1]),
    ):
        raw = base64.b64encode(signed + value).decode()
        entry = device.evidence(nonce) | {"evidence": raw}
        refused([entry], SignatureInvalid, "gpu.report-signature")


def test_reports_fields_are_those_of_the_signed_bytes(vendor, nonce, verify, refused):
    """An SpdmReport that somebody builds by hand cannot say more than its bytes."""
    parsed = nvidia.parse_evidence([vendor.gpu(0).evidence(OTHER)])
    device = parsed.devices[0]
    report = dataclasses.replace(
        device.report,
        requester_nonce=nonce,
        fields=dataclasses.replace(device.report.fields, driver_version="999.99"),
    )
    forged = dataclasses.replace(
        parsed, devices=(dataclasses.replace(device, report=report, hints=Hints()),)
    )
    refused(forged, StaleEvidence, "gpu.nonce")
    assert verify(forged, nonce=OTHER).devices[0].driver_version == "570.172.08"


# --- nonce --------------------------------------------------------------------------------------


def test_another_nonce(vendor, nonce, refused):
    error = refused([vendor.gpu(0).evidence(OTHER)], StaleEvidence, "gpu.nonce")
    assert (error.got, error.want) == (OTHER.hex(), nonce.hex())


def test_nonce_beside_the_report_does_not_help(vendor, nonce, refused):
    entry = vendor.gpu(0).evidence(OTHER)
    payload = {"nonce": nonce.hex(), "evidence_list": [entry | {"nonce": nonce.hex()}]}
    refused(payload, StaleEvidence, "gpu.nonce")


@pytest.mark.parametrize("hint", [OTHER.hex(), "", "x", "0x"])
def test_nonce_beside_the_report_that_differs(vendor, nonce, refused, hint):
    entry = vendor.gpu(0).evidence(nonce, nonce=hint)
    refused([entry], BindingMismatch, "gpu.nonce")
    wrapped = {"nonce": hint, "evidence_list": [vendor.gpu(0).evidence(nonce)]}
    refused(wrapped, BindingMismatch, "gpu.nonce")


@pytest.mark.parametrize("spelling", ["{}", "0x{}"])
def test_nonce_beside_the_report_that_agrees(vendor, nonce, verify, spelling):
    entry = vendor.gpu(0).evidence(nonce, nonce=spelling.format(nonce.hex().upper()))
    assert verify([entry]).nonce == nonce


@pytest.mark.parametrize(
    "sample",
    [
        "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb",
        "4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e",
    ],
)
def test_canned_sample_evidence_is_recognised(vendor, refused, sample):
    """Trap 10: servers without a GPU serve NVIDIA's published samples."""
    error = refused([vendor.gpu(0).evidence(sample)], StaleEvidence, "gpu.nonce")
    assert "sample that NVIDIA published" in error.hint


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(33), "", "00", "0x" + "00" * 32, 5, None])
def test_nonce_of_another_form_is_the_callers_mistake(vendor, nonce, verify, wrong):
    with pytest.raises(ConfigurationError) as caught:
        verify([vendor.gpu(0).evidence(nonce)], nonce=wrong)
    assert caught.value.id == "usage.nonce"


def test_nonce_as_hex(vendor, nonce, verify):
    assert verify([vendor.gpu(0).evidence(nonce)], nonce=nonce.hex().upper()).nonce == nonce


# --- firmware identity --------------------------------------------------------------------------


@pytest.mark.parametrize("chip", ["GH100", "GB100", "GB20X"])
def test_firmware_identity_differs(vendor, nonce, refused, chip):
    entry = vendor.gpu(0, chip=chip).evidence(nonce, fwid=bytes(48))
    refused([entry], BindingMismatch, "gpu.fwid")


def test_firmware_identity_of_another_device(vendor, nonce, refused):
    entry = vendor.gpu(0).evidence(nonce, fwid=vendor.gpu(1).fwid)
    refused([entry], BindingMismatch, "gpu.fwid")


def test_switch_that_states_a_wrong_one(vendor, nonce, verify, refused):
    switch = vendor.gpu(0, chip="LS_10")
    refused([switch.evidence(nonce, fwid=bytes(48))], BindingMismatch, "gpu.fwid")
    assert verify([switch.evidence(nonce, fwid=switch.fwid)]).devices[0].fwid_state == "match"


def test_firmware_identity_that_the_report_lacks_is_its_own_outcome(vendor, nonce, verify):
    claims = verify([vendor.gpu(0).evidence(nonce, opaque={20: ABSENT})])
    assert claims.devices[0].fwid_state == "not-present"
    assert claims.devices[0].fwid == vendor.gpu(0).fwid


# --- device type --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chip", "said"),
    [
        ("GH100", "BLACKWELL"),
        ("GH100", "LS10"),
        ("GH100", "AMPERE"),
        ("GH100", ""),
        ("GH100", "H100"),
        ("GB100", "HOPPER"),
        ("LS_10", "HOPPER"),
        ("LS_10", "LS_10"),
    ],
)
def test_architecture_beside_the_evidence_that_differs(vendor, nonce, refused, chip, said):
    """Trap 3: a relabelled device, and a switch that is presented as a GPU."""
    entry = vendor.gpu(0, chip=chip).evidence(nonce, arch=said)
    refused([entry], BindingMismatch, "gpu.device-type")
    wrapped = {"arch": said, "evidence_list": [vendor.gpu(0, chip=chip).evidence(nonce, arch=None)]}
    refused(wrapped, BindingMismatch, "gpu.device-type")


def test_switch_is_no_gpu(vendor, nonce, verify):
    claims = verify([vendor.gpu(0, chip="LS_10").evidence(nonce, arch=None)])
    assert (len(claims.gpus), len(claims.switches)) == (0, 1)


@pytest.mark.parametrize(
    ("chip", "opaque"),
    [
        ("GH100", {3: ABSENT}),
        ("GH100", {6: ABSENT}),
        ("GH100", {6: b"96.00.CF.00.02"}),
        ("LS_10", {6: ABSENT}),
        ("LS_10", {6: bytes(8)}),
        ("LS_10", {3: b"570.1"}),
    ],
)
def test_report_of_another_kind_of_device(vendor, nonce, refused, chip, opaque):
    entry = vendor.gpu(0, chip=chip).evidence(nonce, opaque=opaque)
    refused([entry], BindingMismatch, "gpu.device-type")


@pytest.mark.parametrize(
    "hint", [{"driver_version": "570.172.09"}, {"vbios_version": "96.00.CF.00.03"}]
)
def test_version_beside_the_report_that_differs(vendor, nonce, refused, hint):
    refused([vendor.gpu(0).evidence(nonce, **hint)], BindingMismatch, "gpu.device-type")


def test_driver_beside_a_switch(vendor, nonce, refused):
    entry = vendor.gpu(0, chip="LS_10").evidence(nonce, driver_version="570.1")
    refused([entry], BindingMismatch, "gpu.device-type")


def test_versions_beside_the_report_that_agree(vendor, nonce, verify):
    entry = vendor.gpu(0).evidence(
        nonce, driver_version="570.172.08", vbios_version="96.00.cf.00.02"
    )
    assert verify([entry])


@pytest.mark.parametrize(
    ("opaque", "board"),
    [
        ({}, "H200"),
        ({18: b"0200\0", 15: b"885\0"}, "H100"),
        ({15: b"896\0"}, None),
        ({17: b"1010\0"}, None),
        ({17: ABSENT}, None),
        ({18: ABSENT, 15: ABSENT}, None),
    ],
)
def test_board_only_from_signed_fields(vendor, nonce, verify, opaque, board):
    assert verify([vendor.gpu(0).evidence(nonce, opaque=opaque)]).devices[0].board == board


# --- several devices ----------------------------------------------------------------------------


def test_eight_gpus(vendor, nonce, verify):
    claims = verify(vendor.payload(nonce, 8))
    assert [device.ueid for device in claims.gpus] == [vendor.gpu(i).ueid for i in range(8)]
    assert [device.index for device in claims.devices] == list(range(8))


@pytest.mark.parametrize("bad", range(8))
def test_seven_good_and_one_broken(vendor, nonce, refused, bad):
    """Trap 1, and weakness 1 of NVIDIA's Python verifier: [good, tampered] is not good."""
    entries = vendor.evidence_list(nonce, 8)
    entries[bad] = flipped(entries[bad], 200)
    error = refused(entries, SignatureInvalid, "gpu.report-signature")
    assert f"gpu[{bad}]" in str(error)


@pytest.mark.parametrize(
    ("override", "error", "check"),
    [
        ({"fwid": bytes(48)}, BindingMismatch, "gpu.fwid"),
        ({"arch": "BLACKWELL"}, BindingMismatch, "gpu.device-type"),
        ({"trailing": b"\0"}, MalformedEvidence, "gpu.evidence"),
        ({"signature": bytes(96)}, SignatureInvalid, "gpu.report-signature"),
    ],
)
def test_error_names_the_device(vendor, nonce, refused, override, error, check):
    entries = [*vendor.evidence_list(nonce, 3), vendor.gpu(3).evidence(nonce, **override)]
    assert "gpu[3]" in str(refused(entries, error, check))


def test_one_with_another_nonce(vendor, nonce, refused):
    entries = [*vendor.evidence_list(nonce, 3), vendor.gpu(3).evidence(OTHER)]
    assert "gpu[3]" in str(refused(entries, StaleEvidence, "gpu.nonce"))


def test_one_gpu_twice(vendor, nonce, refused):
    """Trap 2: the same evidence, and fresh evidence of the same device."""
    entry = vendor.gpu(0).evidence(nonce)
    for second in (entry, vendor.gpu(0).evidence(nonce)):
        listed = [entry, vendor.gpu(1).evidence(nonce), second]
        error = refused(listed, BindingMismatch, "gpu.distinct")
        assert "gpu[0] and gpu[2]" in str(error)


def test_one_gpu_under_a_new_serial_number(vendor, nonce, refused):
    again = vendor.gpu(0).evidence(nonce, leaf={"serial": 77})
    error = refused([vendor.gpu(0).evidence(nonce), again], BindingMismatch, "gpu.distinct")
    assert "attestation key" in str(error)


def other_form(certificate):
    """The same certificate under the other half of its signature's s, as anybody can write it."""
    r, s = decode_dss_signature(certificate.signature)
    other = encode_dss_signature(r, P384_ORDER - s)
    body = certificate.public_bytes(Encoding.DER)[4 : -len(certificate.signature) - 3]
    body += bytes([0x03, len(other) + 1, 0]) + other
    changed = b"\x30\x82" + len(body).to_bytes(2, "big") + body
    return x509.load_der_x509_certificate(changed).public_bytes(Encoding.PEM)


@pytest.mark.parametrize("ca", ["the same", "certified again", "signed in the other form"])
def test_one_gpu_under_a_new_attestation_key(vendor, nonce, refused, ca):
    """Firmware of another version makes another key of the same device, certified by its own CA."""
    device = vendor.gpu(0)
    own = device.authorities[1]
    if ca == "certified again":
        own = device.certify(CertificateForm(brom={"serial": 0x41 << 64 | 5}))[1]
    pem = other_form(own.certificate) if ca == "signed in the other form" else own.pem
    key = new_key("p384")
    leaf = own.issue(
        "GH100 A01 GSP FMC LF",
        ca=None,
        serial=77,
        key=key,
        extensions=[
            (e.oid.dotted_string, e.value.public_bytes(), False)
            for e in device.leaf.certificate.extensions
            if e.oid.dotted_string in ("2.5.29.17", "2.23.133.5.4.1")
        ],
    )
    chain = leaf.pem + pem + b"".join(one.pem for one in device.authorities[2:])
    again = device.evidence(nonce, chain=chain, signer=key)
    error = refused([device.evidence(nonce), again], BindingMismatch, "gpu.distinct")
    assert "device key" in str(error)


def test_two_devices_with_one_serial_number(vendor, nonce, refused):
    serial = vendor.gpu(0).leaf.certificate.serial_number
    entries = [
        vendor.gpu(0).evidence(nonce),
        vendor.gpu(1).evidence(nonce, leaf={"serial": serial}),
    ]
    assert "serial number" in str(refused(entries, BindingMismatch, "gpu.distinct"))


def test_two_architectures(vendor, nonce, refused):
    entries = [vendor.gpu(0).evidence(nonce), vendor.gpu(0, chip="GB100").evidence(nonce)]
    error = refused(entries, BindingMismatch, "gpu.same-architecture")
    assert error.got == "Blackwell, Hopper"


def test_two_modes(vendor, nonce, verify, refused):
    def entry(index, flag, pcie):
        return vendor.gpu(index).evidence(nonce, opaque={36: flag, 21: pcie})

    spt, mpt, pcie = b"\0\0", b"\1\0", b"\2\0"
    for one, other in ((spt, mpt), (mpt, pcie), (spt, ABSENT)):
        entries = [entry(0, one, b"\x55"), entry(1, other, b"\x55")]
        refused(entries, BindingMismatch, "gpu.same-mode")
    refused([entry(0, pcie, b"\xaa"), entry(1, pcie, b"\x55")], BindingMismatch, "gpu.same-mode")
    claims = verify([entry(0, pcie, b"\xaa"), entry(1, pcie, b"\xaa")])
    assert claims.devices[0].feature_flag == "PPCIE"
    assert claims.devices[0].protected_pcie is True


def test_gpus_with_their_switches(vendor, nonce, verify):
    entries = vendor.evidence_list(nonce, 4) + vendor.evidence_list(nonce, 2, chip="LS_10")
    claims = verify(entries)
    assert (len(claims.gpus), len(claims.switches)) == (4, 2)
    assert claims.devices == claims.gpus + claims.switches


def test_one_device_alone(vendor, nonce, roots, at):
    device = nvidia.parse_evidence(vendor.evidence_list(nonce, 2)).devices[1]
    claims = nvidia.verify_device(device, nonce=nonce, at=at, roots=roots)
    assert (claims.name, claims.ueid) == ("gpu[1]", vendor.gpu(1).ueid)


# --- claims and arguments -----------------------------------------------------------------------


def test_claims_hold_what_was_signed(vendor, nonce, verify):
    device = verify([vendor.gpu(0).evidence(nonce, opaque={999: b"new"})]).devices[0]
    assert tuple(block.value for block in device.measurements) == vendor.gpu(0).measurements
    assert device.opaque[-1].value == b"new"
    assert device.nonce == nonce
    assert (device.driver_version, device.vbios_version) == ("570.172.08", "96.00.CF.00.02")


def test_claims_are_made_by_verifying_only(vendor, nonce, verify):
    claims = verify(vendor.evidence_list(nonce))
    for value in (claims, claims.devices[0]):
        for action in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(ConfigurationError):
                action(value)
        with pytest.raises((ConfigurationError, TypeError, ValueError)):
            dataclasses.replace(value, roots_kind="embedded")
    with pytest.raises((ConfigurationError, TypeError)):
        nvidia.Claims(
            devices=claims.devices,
            nonce=nonce,
            expires_at=claims.expires_at,
            roots_kind="embedded",
            seal=DEVICE_SEAL,
        )


@pytest.mark.parametrize("at", ["yesterday", "2026-06-01T12:00:00"])
def test_time_is_the_callers_mistake(vendor, nonce, verify, at):
    with pytest.raises(ConfigurationError):
        verify(vendor.evidence_list(nonce), at=at)


def test_wrong_endorsements_and_evidence(vendor, nonce, verify):
    with pytest.raises(ConfigurationError):
        verify(vendor.evidence_list(nonce), endorsements={})
    for devices in ((), ("x",)):
        with pytest.raises(ConfigurationError):
            verify(nvidia.Evidence(devices=devices))


def test_checks_are_described_once():
    checks = (*nvidia.CHECKS, *nvidia.NRAS_CHECKS)
    assert len({check.id for check in checks}) == len(checks)
    assert all(check.proves.endswith(".") and check.fix.endswith(".") for check in checks)
    assert [check.id for check in nvidia.CHECKS] == [
        "gpu.evidence",
        "gpu.chain",
        "gpu.device-type",
        "gpu.report-signature",
        "gpu.nonce",
        "gpu.fwid",
        "gpu.distinct",
        "gpu.same-architecture",
        "gpu.same-mode",
    ]
