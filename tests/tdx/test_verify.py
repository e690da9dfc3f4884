"""Each check of a verification: what breaks it, and only it."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import pickle
from datetime import timedelta

import pytest

from teeverify import tdx
from teeverify.errors import (
    BindingMismatch,
    ChainInvalid,
    ConfigurationError,
    DebugEnabled,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TcbRejected,
)
from teeverify.roots import UnsafeTestRoots, custom_roots
from teeverify.simulator.authority import Authority, new_key
from teeverify.simulator.intel import CORRUPTIBLE

IDS = [check.id for check in tdx.CHECKS]
DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def fails(forge, error, check, raw=None, endorsements=None, **options):
    with pytest.raises(error) as caught:
        forge.verify(raw, endorsements, **options)
    assert type(caught.value) is error
    assert caught.value.id == check
    assert check in IDS
    return caught.value


# --- the quote -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "error", "check"),
    [
        ("body", SignatureInvalid, "tdx.quote-signature"),
        ("quote_signature", SignatureInvalid, "tdx.quote-signature"),
        ("attestation_key", BindingMismatch, "tdx.attestation-key"),
        ("qe_auth_data", BindingMismatch, "tdx.attestation-key"),
        ("qe_report", SignatureInvalid, "tdx.qe-report-signature"),
        ("qe_report_signature", SignatureInvalid, "tdx.qe-report-signature"),
    ],
)
def test_one_flipped_bit(forge, part, error, check):
    fails(forge, error, check, forge.intel.quote(corrupt=part))


def test_every_part_that_can_be_corrupted_is_tested_above():
    assert len(CORRUPTIBLE) == 6


def test_an_attestation_key_that_is_no_point(forge):
    off_curve = (1).to_bytes(32, "big") * 2
    raw = forge.intel.quote(quote={"attestation_key": off_curve})
    fails(forge, MalformedEvidence, "tdx.attestation-key", raw)


def test_the_tail_of_the_qe_report_data_must_be_zero(forge):
    quote = tdx.parse_quote(forge.intel.quote())
    digest = hashlib.sha256(quote.attestation_key + quote.qe_auth_data).digest()
    raw = forge.intel.quote(qe={"report_data": digest + bytes(31) + b"\x01"})
    fails(forge, BindingMismatch, "tdx.attestation-key", raw)


@pytest.mark.parametrize("size", [0, 1, 32, 64, 4000])
def test_qe_auth_data_may_have_any_size(forge, size):
    raw = forge.intel.quote(quote={"qe_auth_data": bytes(size)})
    assert forge.verify(raw).tcb_status == "UpToDate"


@pytest.mark.parametrize(
    "change",
    [
        {"mr_signer": bytes(32)},
        {"isv_prod_id": 1},
        {"misc_select": b"\x01\0\0\0"},
        {"attributes": bytes([0x13, *([0] * 15)])},  # DEBUG
        {"attributes": bytes([0x01, *([0] * 15)])},
        {"attributes": bytes([0x11, 0x80, *([0] * 14)])},
    ],
)
def test_another_quoting_enclave(forge, change):
    error = fails(forge, BindingMismatch, "tdx.qe-identity-match", forge.intel.quote(qe=change))
    assert error.got
    assert error.want


def test_qe_attributes_outside_the_mask_do_not_count(forge):
    attributes = bytes([0x15, *([0] * 7), *([0xFF] * 8)])
    assert forge.verify(forge.intel.quote(qe={"attributes": attributes}))


def test_identity_attributes_outside_their_mask_match_nothing(forge):
    odd = forge.endorsements(qe_identity={"attributes": "15" + "00" * 15})
    fails(forge, BindingMismatch, "tdx.qe-identity-match", None, odd)


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_other_certification_data_needs_the_chain_aside(forge, kind):
    raw = forge.intel.quote(quote={"certification_type": kind, "certification_data": bytes(36)})
    fails(forge, EndorsementUnavailable, "tdx.pck-chain", raw)
    aside = {"pck_certificate_chain": forge.intel.pck_chain().decode()}
    assert forge.verify(raw, forge.endorsements(aside))


def test_a_chain_supplied_aside_replaces_the_quotes_own(forge, make_forge):
    other = make_forge().intel
    aside = {"pck_certificate_chain": other.pck_chain().decode()}
    fails(forge, ChainInvalid, "tdx.pck-chain", None, forge.endorsements(aside))
    sibling = forge.intel.ca.issue(
        "Intel SGX PCK Certificate",
        extensions=[("1.2.840.113741.1.13.1", forge.intel.platform.extension(), False)],
    )
    chain = (sibling.pem + forge.intel.ca.pem + forge.intel.root.pem).decode()
    swapped = forge.endorsements({"pck_certificate_chain": chain})
    fails(forge, SignatureInvalid, "tdx.qe-report-signature", None, swapped)


# --- roots and chains ------------------------------------------------------------------------


def test_a_foreign_root_is_refused(forge, make_forge):
    other = make_forge()
    fails(forge, SignatureInvalid, "tdx.root-crl", roots=other.roots)
    fails(forge, EndorsementInvalid, "tdx.root-crl", roots=None)
    # The list of the right root, the chain of another one of the same name.
    fails(forge, ChainInvalid, "tdx.pck-chain", other.intel.quote())


def test_roots_of_one_name_are_told_apart_by_their_keys(forge, make_forge):
    both = UnsafeTestRoots([make_forge().intel.roots_pem(), forge.intel.roots_pem()])
    assert forge.verify(roots=both).roots_kind == "simulated"


def test_kinds_of_roots(forge):
    pem = forge.intel.roots_pem()
    assert forge.verify(roots=[pem]).roots_kind == "custom"
    assert forge.verify(roots=pem).roots_kind == "custom"
    assert forge.verify(roots=custom_roots([pem])).roots_kind == "custom"
    claims = forge.verify(roots=UnsafeTestRoots([pem]))
    assert claims.roots_kind == "simulated"
    assert "Intel SGX Root CA" in claims.anchor
    assert "simulator" in claims.anchor
    assert len(claims.anchor_fingerprint) == 64


@pytest.mark.parametrize(
    ("role", "change"),
    [
        ("pck", {"common_name": "Intel SGX PCK Platform CA"}),
        ("pck", {"common_name": "Intel SGX TCB Signing"}),
        ("pck", {"ca": True}),
        ("ca", {"common_name": "Intel SGX PCK Certificate"}),
        ("ca", {"common_name": "Intel SGX Root CA"}),
        ("ca", {"ca": False, "path_length": None}),
        ("ca", {"key_usage": ["digital_signature"]}),
        ("root", {"path_length": 0}),
    ],
)
def test_certificates_out_of_their_roles(make_forge, role, change):
    forge = make_forge(certificates={role: change})
    fails(forge, ChainInvalid, "tdx.pck-chain")


def test_a_cpu_key_on_another_curve(forge):
    leaf = forge.intel.ca.issue(
        "Intel SGX PCK Certificate",
        curve="p384",
        extensions=[("1.2.840.113741.1.13.1", forge.intel.platform.extension(), False)],
    )
    chain = leaf.pem + forge.intel.ca.pem + forge.intel.root.pem
    raw = forge.intel.quote(quote={"certification_data": chain})
    fails(forge, ChainInvalid, "tdx.pck-chain", raw)


def test_a_chain_that_ends_below_the_root(forge):
    middle = forge.intel.root.issue("Some CA", ca=True)
    ca = middle.issue("Intel SGX PCK Platform CA", ca=True)
    leaf = ca.issue("Intel SGX PCK Certificate")
    raw = forge.intel.quote(quote={"certification_data": leaf.pem + ca.pem + middle.pem})
    error = fails(forge, ChainInvalid, "tdx.pck-chain", raw)
    assert "does not end with the root" in str(error)
    signer = middle.issue("Intel SGX TCB Signing")
    chain = {"tcb_info_issuer_chain": (signer.pem + middle.pem).decode()}
    error = fails(forge, ChainInvalid, "tdx.tcb-info", None, forge.endorsements(chain))
    assert "does not end with the root" in str(error)


@pytest.mark.parametrize("order", [(0, 1), (0,), (0, 2), (1, 0, 2), (0, 1, 2, 2), (0, 1, 1, 2)])
def test_the_pck_chain_has_exactly_three_certificates(forge, order):
    parts = (forge.intel.pck.pem, forge.intel.ca.pem, forge.intel.root.pem)
    chain = b"".join(parts[index] for index in order)
    fails(
        forge,
        ChainInvalid,
        "tdx.pck-chain",
        forge.intel.quote(quote={"certification_data": chain}),
    )


@pytest.mark.parametrize("data", [b"", b"\0", b"-----BEGIN CERTIFICATE-----", b"x" * 4000])
def test_certification_data_that_is_no_chain(forge, data):
    raw = forge.intel.quote(quote={"certification_data": data})
    fails(forge, MalformedEvidence, "tdx.pck-chain", raw)


def test_a_pck_certificate_signed_by_another_key(make_forge):
    forge = make_forge(certificates={"pck": {"signer": new_key()}})
    fails(forge, SignatureInvalid, "tdx.pck-chain")


def test_a_ca_signed_by_another_key(make_forge):
    forge = make_forge(certificates={"ca": {"signer": new_key()}})
    fails(forge, SignatureInvalid, "tdx.pck-chain")


@pytest.mark.parametrize("ca", ["platform", "processor"])
def test_both_cas_are_intels(make_forge, ca):
    forge = make_forge(ca=ca)
    claims = forge.verify()
    assert (claims.platform_instance_id is None) == (ca == "processor")
    assert (claims.smt_enabled is None) == (ca == "processor")


@pytest.mark.parametrize("missing", ["platform_instance_id", "configuration"])
def test_a_platform_ca_states_instance_and_configuration(make_forge, missing):
    forge = make_forge(platform={missing: None})
    fails(forge, MalformedEvidence, "tdx.pck-chain")


def test_a_pck_certificate_without_the_extension(make_forge):
    forge = make_forge(certificates={"pck": {"extensions": []}})
    fails(forge, ChainInvalid, "tdx.pck-chain")


# --- revocation ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "check"),
    [
        ("root", "tdx.pck-chain"),
        ("ca", "tdx.pck-chain"),
        ("pck", "tdx.pck-crl"),
        ("signer", "tdx.tcb-info"),
    ],
)
def test_revoked_certificates(forge, role, check):
    error = fails(forge, EndorsementInvalid, check, None, forge.endorsements(revoked=[role]))
    assert "revoked" in str(error)


@pytest.mark.parametrize(
    ("member", "check"),
    [
        ("root_ca_crl", "tdx.root-crl"),
        ("pck_crl", "tdx.pck-crl"),
        ("tcb_info", "tdx.tcb-info"),
        ("qe_identity", "tdx.qe-identity"),
        ("tcb_info_issuer_chain", "tdx.tcb-info"),
        ("qe_identity_issuer_chain", "tdx.qe-identity"),
    ],
)
def test_what_is_absent_leaves_it_undecided(forge, member, check):
    error = fails(forge, EndorsementUnavailable, check, None, forge.endorsements({member: None}))
    assert error.retryable
    assert error.hint


def test_swapped_and_doubled_crls(forge):
    form = forge.intel.collateral()
    root, pck = form["root_ca_crl"], form["pck_crl"]
    swapped = forge.endorsements({"root_ca_crl": pck, "pck_crl": root})
    fails(forge, EndorsementInvalid, "tdx.root-crl", None, swapped)
    doubled = forge.endorsements({"pck_crl": root})
    fails(forge, EndorsementInvalid, "tdx.pck-crl", None, doubled)


def test_the_list_of_the_other_pck_ca(forge):
    other = forge.intel.root.issue("Intel SGX PCK Processor CA", ca=True)
    wrong = forge.endorsements({"pck_crl": other.crl().hex()})
    fails(forge, EndorsementInvalid, "tdx.pck-crl", None, wrong)


@pytest.mark.parametrize(("which", "check"), [("root", "tdx.root-crl"), ("pck", "tdx.pck-crl")])
def test_crls_signed_by_another_key_or_without_their_extensions(forge, which, check):
    forged = forge.endorsements(**{f"{which}_crl": {"signer": new_key()}})
    fails(forge, SignatureInvalid, check, None, forged)
    for missing in ({"number": None}, {"key_identifier": False}):
        plain = forge.endorsements(**{f"{which}_crl": missing})
        fails(forge, EndorsementInvalid, check, None, plain)


# --- TCB info and QE identity ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "check"), [("tcb_info", "tdx.tcb-info"), ("qe_identity", "tdx.qe-identity")]
)
class TestDocuments:
    def test_any_other_text_than_the_signed_one(self, forge, name, check):
        text = forge.intel.collateral()[name]
        sorted_keys = json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
        for changed in (text + " ", text.replace(":", ": ", 1), sorted_keys):
            assert json.loads(changed) == json.loads(text)
            wrong = forge.endorsements({name: changed})
            fails(forge, SignatureInvalid, check, None, wrong)

    def test_a_flipped_or_shortened_signature(self, forge, name, check):
        signature = bytes.fromhex(forge.intel.collateral()[f"{name}_signature"])
        for wrong in (signature[:-1] + bytes([signature[-1] ^ 1]), signature[:-1], b"", bytes(64)):
            bad = forge.endorsements({f"{name}_signature": wrong.hex()})
            fails(forge, SignatureInvalid, check, None, bad)

    def test_signed_by_the_cpus_own_key(self, forge, name, check):
        chain = forge.intel.pck_chain().decode()
        text = forge.intel.collateral()[name]
        signature = forge.intel.pck.sign_raw(text.encode()).hex()
        bad = {f"{name}_issuer_chain": chain, f"{name}_signature": signature}
        fails(forge, ChainInvalid, check, None, forge.endorsements(bad))

    def test_signers_out_of_their_role(self, forge, name, check):
        text = forge.intel.collateral()[name].encode()
        root, ca = forge.intel.root, forge.intel.ca
        lookalike = Authority.root("Intel SGX Root CA")
        posing = lookalike.issue("Intel SGX TCB Signing", issuer=root.certificate.subject)
        for signer, above, error in (
            (root.issue("Intel SGX PCK Certificate"), root, ChainInvalid),
            (root.issue("Intel SGX TCB Signing", ca=True), root, ChainInvalid),
            (ca.issue("Intel SGX TCB Signing"), ca, ChainInvalid),
            (lookalike.issue("Intel SGX TCB Signing"), lookalike, ChainInvalid),
            (posing, root, SignatureInvalid),
            (root, root, ChainInvalid),
        ):
            changes = {
                f"{name}_issuer_chain": (signer.pem + above.pem).decode(),
                f"{name}_signature": signer.sign_raw(text).hex(),
            }
            fails(forge, error, check, None, forge.endorsements(changes))

    def test_dates(self, forge, name, check):
        first, last = forge.at - DAY, forge.at + 29 * DAY
        for at in (first, last):
            claims = forge.verify(endorsements=forge.endorsements(), at=at)
            assert claims.expires_at == last
            assert claims.issued_at == first
        member = "tcb_info" if name == "tcb_info" else "qe_identity"
        for change, at in (
            ({"nextUpdate": "2026-06-29T02:06:57Z"}, forge.at + SECOND),
            ({"issueDate": "2026-06-29T02:06:58Z"}, forge.at),
        ):
            dated = forge.endorsements(**{member: change})
            error = fails(forge, EndorsementUnavailable, check, None, dated, at=at)
            assert "2026-06-29T02:06:5" in error.got
            assert " to " in error.got
            assert error.hint
        edge = forge.endorsements(**{member: {"nextUpdate": "2026-06-29T02:06:57Z"}})
        assert forge.verify(endorsements=edge)


@pytest.mark.parametrize(
    ("overrides", "check"),
    [
        ({"root_crl": {"next_update": "-1s"}}, "tdx.root-crl"),
        ({"root_crl": {"this_update": "+1s"}}, "tdx.root-crl"),
        ({"pck_crl": {"next_update": "-1s"}}, "tdx.pck-crl"),
        ({"pck_crl": {"this_update": "+1s"}}, "tdx.pck-crl"),
    ],
)
def test_dates_of_crls(forge, overrides, check):
    ((which, change),) = overrides.items()
    ((field, shift),) = change.items()
    for seconds, accepted in ((0, True), (1, False)):
        moment = forge.at + seconds * SECOND * (-1 if shift == "-1s" else 1)
        endorsements = forge.endorsements(**{which: {field: moment}})
        if accepted:
            assert forge.verify(endorsements=endorsements)
        else:
            error = fails(forge, EndorsementUnavailable, check, None, endorsements)
            assert " to " in error.got


@pytest.mark.parametrize(
    ("role", "check"),
    [
        ("pck", "tdx.pck-chain"),
        ("ca", "tdx.pck-chain"),
        ("root", "tdx.pck-chain"),
        ("signer", "tdx.tcb-info"),
    ],
)
@pytest.mark.parametrize("field", ["not_before", "not_after"])
def test_dates_of_certificates(make_forge, forge, role, check, field):
    sign = 1 if field == "not_before" else -1
    at = forge.at
    edge = make_forge(certificates={role: {field: at}})
    assert edge.verify()
    late = make_forge(certificates={role: {field: at + sign * SECOND}})
    fails(late, EndorsementUnavailable, check)


def test_a_year_later_everything_is_out_of_date_and_nothing_is_wrong(forge):
    at = forge.at + 365 * DAY
    error = fails(forge, EndorsementUnavailable, "tdx.root-crl", at=at)
    assert error.exit_code == 3


@pytest.mark.parametrize(("name", "value"), [("fmspc", "b0c06f000000"), ("pceId", "0001")])
def test_tcb_info_of_another_platform(forge, name, value):
    other = forge.endorsements(tcb_info={name: value})
    error = fails(forge, EndorsementInvalid, "tdx.fmspc", None, other)
    assert error.got == value


def test_hex_of_either_case(forge):
    assert forge.verify(endorsements=forge.endorsements(tcb_info={"fmspc": "90C06F000000"}))


def test_documents_of_the_other_tee(forge):
    for changes, check in (
        ({"tcb_info": {"id": "SGX"}}, "tdx.tcb-info"),
        ({"qe_identity": {"id": "QE"}}, "tdx.qe-identity"),
    ):
        fails(forge, EndorsementInvalid, check, None, forge.endorsements(**changes))
    sgx = forge.intel.quote(version=3, body="sgx")
    fails(forge, EndorsementInvalid, "tdx.tcb-info", sgx)
    both = forge.endorsements(tcb_info={"id": "SGX"}, qe_identity={"id": "QE"})
    claims = forge.verify(sgx, both)
    assert claims.module_tcb_status is None
    with pytest.raises(ConfigurationError):
        _ = claims.td_attributes


# --- module, TCB, debug ----------------------------------------------------------------------


def test_modules_that_intel_did_not_make(forge):
    signer = forge.intel.quote(mr_signer_seam=b"\x01" + bytes(47))
    fails(forge, TcbRejected, "tdx.module", signer)
    attributes = forge.intel.quote(seam_attributes=b"\x01" + bytes(7))
    fails(forge, TcbRejected, "tdx.module", attributes)
    # Even where the mask would let them pass.
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "00" * 8}
    levels = [{"tcb": {"isvsvn": 1}, "tcbDate": "2025-01-01T00:00:00Z", "tcbStatus": "UpToDate"}]
    identities = [{"id": "TDX_01", **module, "tcbLevels": levels}]
    lax = forge.endorsements(tcb_info={"tdxModule": module, "tdxModuleIdentities": identities})
    fails(forge, TcbRejected, "tdx.module", attributes, lax)
    assert forge.verify(None, lax)


def test_a_debug_vm_proves_nothing(forge):
    raw = forge.intel.quote(debug=True)
    fails(forge, DebugEnabled, "tdx.debug-disabled", raw)
    for not_true in (False, 1, "yes", None):
        fails(forge, DebugEnabled, "tdx.debug-disabled", raw, unsafe_allow_debug=not_true)
    assert forge.verify(raw, unsafe_allow_debug=True).td_attributes.debug


def test_a_debug_enclave_neither(forge):
    raw = forge.intel.quote(version=3, body="sgx", debug=True)
    sgx = forge.endorsements(tcb_info={"id": "SGX"}, qe_identity={"id": "QE"})
    fails(forge, DebugEnabled, "tdx.debug-disabled", raw, sgx)


# --- claims ----------------------------------------------------------------------------------


def test_claims_say_what_was_proved(forge):
    claims = forge.verify(forge.intel.quote(report_data=b"\x12\x34", padding=70))
    assert claims.at == forge.at
    assert claims.fmspc.hex() == "90c06f000000"
    assert claims.pce_id.hex() == "0000"
    assert claims.ppid == forge.intel.platform.ppid
    assert claims.platform_instance_id == forge.intel.platform.platform_instance_id
    assert (claims.dynamic_platform, claims.cached_keys, claims.smt_enabled) == (True,) * 3
    assert claims.td.report_data == b"\x12\x34" + bytes(62)
    assert claims.quote.report_data == claims.td.report_data
    assert claims.mr_service_td is None
    assert claims.td_attributes.sept_ve_disable
    assert not claims.td_attributes.debug
    assert claims.tcb_evaluation_data_number == 20
    assert (claims.root_crl_number, claims.pck_crl_number) == (1, 1)
    assert "UpToDate" in repr(claims)
    assert len(repr(claims)) < 200


def test_evaluation_numbers_may_differ(forge):
    mixed = forge.endorsements(tcb_info={"tcbEvaluationDataNumber": 18})
    claims = forge.verify(endorsements=mixed)
    assert (claims.tcb_info_number, claims.qe_identity_number) == (18, 20)
    assert claims.tcb_evaluation_data_number == 18


def test_claims_cannot_be_made_copied_or_pickled(forge):
    claims = forge.verify()
    fields = {field.name: getattr(claims, field.name) for field in dataclasses.fields(tdx.Claims)}
    with pytest.raises(ConfigurationError):
        tdx.Claims(**fields, seal=object())
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(ConfigurationError):
            copying(claims)
    with pytest.raises(dataclasses.FrozenInstanceError):
        claims.tcb_status = tdx.TcbStatus.UP_TO_DATE


def test_a_parsed_quote_is_verified_by_its_fields_not_by_what_it_claims_was_signed(forge):
    quote = tdx.parse_quote(forge.intel.quote())
    assert forge.verify(quote).quote == quote
    body = quote.body._replace(report_data=b"\xff" * 64)
    fails(
        forge,
        SignatureInvalid,
        "tdx.quote-signature",
        quote._replace(body=body),
    )
    report = quote.qe_report._replace(isv_svn=99)
    swapped = quote._replace(qe_report=report)
    fails(forge, SignatureInvalid, "tdx.qe-report-signature", swapped)
    nonsense = quote._replace(signature="text")
    with pytest.raises(ConfigurationError):
        forge.verify(nonsense)


def test_wrong_arguments_are_the_callers_mistake(forge):
    for options in (
        {"at": "yesterday"},
        {"at": forge.at.replace(tzinfo=None)},
        {"roots": []},
        {"roots": 5},
        {"roots": [b"no certificate"]},
    ):
        with pytest.raises(ConfigurationError):
            forge.verify(**options)
    with pytest.raises(ConfigurationError):
        tdx.verify_quote(forge.intel.quote(), {}, at=forge.at)
    assert forge.verify(at="2026-06-29T02:06:57Z")


def test_the_catalogue_is_complete():
    assert len(IDS) == len(set(IDS)) == 14
    for check in (*tdx.CHECKS, *tdx.SEPARATE_CHECKS):
        assert check.claim in {"cpu", "cpu_firmware", "code", "channel"}
        assert check.proves.endswith(".")
        assert check.fix.endswith(".")
