"""What other verifiers got wrong, each as a test named after it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from teeverify import snp
from teeverify.appraisal import Policy
from teeverify.client import Verifier
from teeverify.client.vendors.amd import AmdEndorsements
from teeverify.errors import (
    BindingMismatch,
    ChainInvalid,
    DebugEnabled,
    EndorsementInvalid,
    EndorsementUnavailable,
    EvidenceError,
    MalformedEvidence,
    SignatureInvalid,
    StaleEvidence,
    TeeVerifyError,
)
from teeverify.roots import EMBEDDED
from teeverify.simulator.amd import Amd, AmdKeys, certificate_table
from teeverify.simulator.amd_service import Reply

from .conftest import AT
from .test_azure import Vm
from .test_kds import BASE, Service


def fetching(forge, folder, replies):
    """Where endorsements come from, if a service gives other answers than AMD's."""
    service = Service(forge.amd, replies=replies)
    return AmdEndorsements(host=BASE, with_chain=True, fetcher=service, cache=folder / "cache")


def appraise(forge, raw, *, at=AT, **options):
    verifier = Verifier(
        roots=forge.roots, endorsements=forge.amd.endorsements(), offline=True, **options
    )
    return verifier.appraise(raw, at=at, scope="evidence")


def refused(kind, act, id=None):
    with pytest.raises(kind) as caught:
        act()
    assert id is None or caught.value.id == id, str(caught.value)


@pytest.fixture(scope="module")
def stranger():
    """Somebody who made CAs with AMD's names."""
    return Amd(at=AT, keys=AmdKeys.new())


def test_go_sev_guest_self_made_chain_accepted(forge, stranger):
    """PR #190: root and intermediate were taken from the attestation."""
    for roots in (None, forge.roots):
        refused(
            ChainInvalid,
            lambda roots=roots: snp.verify_report(
                stranger.report(), stranger.endorsements(), at=AT, roots=roots
            ),
            "snp.ca-chain",
        )


def test_go_sev_guest_crl_signature_not_checked_when_cached(forge):
    endorsements = forge.amd.endorsements(ark_crl=forge.amd.crl(signer=forge.amd.keys.asvk))
    for _ in range(2):
        refused(SignatureInvalid, lambda: forge.verify(endorsements=endorsements), "snp.crl")


def test_go_sev_guest_turin_layout_hwid_and_fmc(forges):
    claims = forges["Turin"].verify()
    assert claims.reported_tcb.fmc == 1
    assert len(claims.chip_id) == 8


@pytest.mark.parametrize("cpuid", ["19a002", "19a100", "19af00", "191000", "191200"])
def test_go_sev_guest_bergamo_siena_and_other_genoa_are_known(forges, cpuid):
    genoa = forges["Genoa"]
    assert genoa.verify(genoa.amd.report(cpuid=bytes.fromhex(cpuid))).product.value == "Genoa"


def test_go_sev_guest_unknown_product_is_an_error_not_a_panic(forge):
    raw = forge.amd.report(cpuid=bytes.fromhex("1aff00"))
    refused(MalformedEvidence, lambda: forge.verify(raw), "snp.product")


def test_go_sev_guest_version_2_has_no_default_product(forges):
    """The chain decides, also for Genoa (whose productName has no stepping) and Turin."""
    for name, forge in forges.items():
        amd = forge.amd
        files = {"vcek_der": amd.leaf("vcek", product_name=name)}
        claims = forge.verify(amd.report(version=2), amd.endorsements(**files))
        assert claims.product.value == name


def test_go_sev_guest_certificate_table_length_wraps(forge):
    raw = bytearray(certificate_table({"vcek": forge.amd.vcek}))
    raw[20:24] = (0xFFFFFFF0).to_bytes(4, "little")
    refused(MalformedEvidence, lambda: snp.parse_certificate_table(bytes(raw)))


def test_go_sev_guest_mask_chip_key_is_not_a_masked_chip_id(forge):
    refused(SignatureInvalid, lambda: forge.verify(forge.amd.report(key_info=2)), "snp.signing-key")
    assert forge.verify(forge.amd.report(chip_id=b"")).chip_id is None


def test_go_sev_guest_revocation_is_checked_by_default_for_vlek_too(forge):
    endorsements = forge.amd.endorsements(ark_crl=None)
    for signer in ("VCEK", "VLEK"):
        raw = forge.amd.report(signer=signer)
        refused(EndorsementUnavailable, lambda raw=raw: forge.verify(raw, endorsements), "snp.crl")
    revoked = forge.amd.endorsements(ark_crl=forge.amd.crl(revoked=[0x010101]))
    raw = forge.amd.report(signer="VLEK")
    refused(EndorsementInvalid, lambda: forge.verify(raw, revoked), "snp.crl")


def test_go_sev_guest_platform_bit_6_and_unknown_bits_are_tolerated(forge):
    claims = forge.verify(forge.amd.report(platform_info=0x65 | 1 << 40))
    assert claims.platform_info.unknown_bits == (6, 40)


@pytest.mark.parametrize("first", [0x02, 0x04])
def test_snpguest_hwid_beginning_like_der(make_forge, forge, first):
    """Issue #38: a raw HWID whose first byte looks like a tag."""
    hwid = bytes([first, 0x3E]) + bytes(range(62))
    amd = forge.amd
    endorsements = amd.endorsements(vcek_der=amd.leaf("vcek", hwid=hwid))
    assert forge.verify(amd.report(chip_id=hwid), endorsements).chip_id == hwid
    refused(EndorsementInvalid, lambda: forge.verify(endorsements=endorsements), "snp.chip-id")


def test_snpguest_absent_tcb_extension_does_not_pass(forge):
    from teeverify.simulator import amd_certificates as made

    amd = forge.amd
    whole = made.leaf_extensions(
        layout="classic",
        struct_version=0,
        product_name="Milan",
        tcb=amd.tcb,
        hwid=amd.hwid,
        csp_id=None,
    )
    for index in range(len(whole)):
        der = amd.leaf("vcek", extensions=whole[:index] + whole[index + 1 :])
        refused(MalformedEvidence, lambda der=der: snp.Endorsements.load(der))


def test_snpguest_any_self_signed_ark_is_accepted(forge, stranger):
    endorsements = forge.amd.endorsements(vcek_chain_pem=stranger.chain_pem())
    # The genuine chain is there too (for VLEKs), but the VCEK's CA is the stranger's.
    refused(SignatureInvalid, lambda: forge.verify(endorsements=endorsements), "snp.ca-chain")


def test_snpguest_vlek_chosen_by_presence(forge):
    assert forge.verify(forge.amd.report(signer="VCEK")).signer is snp.Signer.VCEK
    only = forge.amd.endorsements(vcek_der=None)
    refused(EndorsementInvalid, lambda: forge.verify(endorsements=only), "snp.leaf")


def test_snpguest_dates_are_checked(forge):
    for years in (-20, 8, 40):
        refused(
            EndorsementUnavailable,
            lambda years=years: forge.verify(at=AT + timedelta(days=365 * years)),
        )


def test_virtee_sev_report_is_never_serialised_again(forge):
    """A reserved bit that a parser drops would be signed and not seen."""
    raw = forge.amd.report(platform_info=1 << 63)
    claims = forge.verify(raw)
    assert claims.report.signed_bytes == raw[:0x2A0]
    assert claims.platform_info.unknown_bits == (63,)


@pytest.mark.parametrize("version", [0, 1, 6, 255])
def test_virtee_sev_unknown_version_is_not_the_newest(forge, version):
    refused(MalformedEvidence, lambda: forge.verify(forge.amd.report(version=version)))


def test_virtee_sev_short_input_does_not_panic():
    for size in range(0, 1300, 13):
        refused(EvidenceError, lambda size=size: snp.unwrap_report(bytes(size)))


def test_virtee_sev_pss_parameters_are_fixed(make_forge):
    refused(ChainInvalid, make_forge(certificates={"ask": {"pss": False}}).verify, "snp.ca-chain")


def test_trustee_turin_hwid_of_8_bytes(forges):
    assert forges["Turin"].verify().chip_id == forges["Turin"].amd.hwid


def test_trustee_fmc_is_compared(forges):
    turin = forges["Turin"]
    vcek = turin.amd.leaf("vcek", tcb={**turin.amd.tcb, "fmc": 9})
    endorsements = turin.amd.endorsements(vcek_der=vcek)
    refused(EndorsementInvalid, lambda: turin.verify(endorsements=endorsements), "snp.leaf-tcb")


def test_attestation_rs_serial_0_on_a_list_says_nothing(forge):
    """All leaves have serial 0: only the intermediate can be looked for."""
    endorsements = forge.amd.endorsements(ark_crl=forge.amd.crl(revoked=[0x010001]))
    refused(EndorsementInvalid, lambda: forge.verify(endorsements=endorsements), "snp.crl")


def test_microsoft_asvk_vlek_passes_as_vcek(forge):
    """Issue #149: SIGNING_KEY was ignored, and a VLEK needs no chip."""
    raw = forge.amd.report(key=forge.amd.vlek_key)  # says VCEK, signed by the VLEK
    only = forge.amd.endorsements(vcek_der=None)
    refused(EndorsementInvalid, lambda: forge.verify(raw, only), "snp.leaf")
    refused(SignatureInvalid, lambda: forge.verify(raw), "snp.report-signature")


def test_microsoft_empty_hwid_is_not_a_masked_chip_id(forge):
    der = forge.amd.leaf("vcek", hwid=b"")
    refused(MalformedEvidence, lambda: snp.Endorsements.load(der))


def test_microsoft_extensions_are_compared_whole(forge):
    """Not by a prefix or the last byte."""
    vcek = forge.amd.leaf("vcek", hwid=forge.amd.hwid[:-1] + bytes([forge.amd.hwid[-1] ^ 0x80]))
    endorsements = forge.amd.endorsements(vcek_der=vcek)
    refused(EndorsementInvalid, lambda: forge.verify(endorsements=endorsements), "snp.chip-id")


def test_premai_tcb_is_equal_not_at_least(forge):
    vcek = forge.amd.leaf("vcek", tcb={**forge.amd.tcb, "snp": 200})
    endorsements = forge.amd.endorsements(vcek_der=vcek)
    refused(EndorsementInvalid, lambda: forge.verify(endorsements=endorsements), "snp.leaf-tcb")


def test_premai_no_panic_on_evidence(forge):
    """Whatever is flipped: our own errors, and no other."""
    raw = forge.amd.report()
    for offset in range(0, len(raw), 3):
        changed = bytearray(raw)
        changed[offset] ^= 0xFF
        refused(TeeVerifyError, lambda changed=changed: forge.verify(bytes(changed)))


def test_dstack_versions_4_and_5_and_an_empty_table(forge):
    for version in (4, 5):
        assert forge.verify(forge.amd.report(version=version))
    assert snp.parse_certificate_table(bytes(4096)).entries == ()


def test_tinfoil_polarities_of_policy_bits():
    """TSME is no demand; AES-256-XTS restricts the host and is no danger."""
    policy = snp.GuestPolicy(1 << 17 | 1 << 22)
    assert policy.requires == {"mem_aes_256_xts"}
    assert policy.permits == frozenset()


def test_cmcp_report_without_chain_or_signature(forge):
    key = ec.generate_private_key(ec.SECP384R1())
    refused(SignatureInvalid, lambda: forge.verify(forge.amd.report(key=key)))
    refused(
        EndorsementUnavailable, lambda: forge.verify(endorsements=snp.Endorsements(snp.Found()))
    )


def test_the_embedded_roots_are_never_mixed_with_others(forge):
    assert not {anchor.spki for anchor in EMBEDDED.amd} & {
        anchor.spki for anchor in forge.roots.roots.amd
    }


def test_go_sev_guest_age_of_a_downloaded_list(forge, tmp_path):
    """A service may give a list that is out of date: it counts as none."""
    old = forge.amd.crl(this_update=AT - timedelta(days=90), next_update=AT - timedelta(days=45))
    replies = {"/vcek/v1/Milan/crl": Reply(status=200, body=old)}
    source = fetching(forge, tmp_path, replies)
    raw = forge.amd.report()
    found = source.for_reports([raw], at=AT)
    refused(EndorsementUnavailable, lambda: forge.verify(raw, found), "snp.crl")


def test_snpguest_leaf_is_not_a_ca_because_of_its_name(forge):
    """Whatever had "sev" in its name was taken for the ASK, and the HWID was never looked at."""
    found = snp.Endorsements.load(forge.amd.vcek).found
    assert (len(found.leaves), len(found.authorities)) == (1, 0)
    found = snp.Endorsements.load(forge.amd.ask).found
    assert (len(found.leaves), len(found.authorities)) == (0, 1)


def test_trustee_debug_and_migration_are_refused_without_a_policy(forge):
    refused(DebugEnabled, lambda: forge.verify(forge.amd.report(policy=0xB0000)))
    result = appraise(forge, forge.amd.report(policy=0x70000))
    assert result.finding("snp.policy").exit_code == 1


def test_trustee_long_nonces_do_not_panic(forge):
    vm = Vm(forge)
    for size in (0, 65, 512, 4096):
        refused(StaleEvidence, lambda size=size: vm.verify(nonce=b"n" * size), "azure.nonce")


def test_trustee_and_attestation_rs_selection_of_pcrs(forge):
    """A quote of other PCRs, labelled as PCR 0 and following: 16 and 23 can be reset by anybody."""
    vm = Vm(forge)
    for bits in (1 << 16 | 1 << 23, 1 << 8, 0, (1 << 24) - 2):
        message = vm.message(banks=[(0x000B, bits)])
        refused(BindingMismatch, lambda message=message: vm.verify(message=message), "azure.pcrs")


def test_attestation_rs_bank_of_pcrs(forge):
    vm = Vm(forge)
    every = (1 << 24) - 1
    for banks in ([(0x0004, every)], [(0x000B, every), (0x0004, every)]):
        message = vm.message(banks=banks)
        refused(BindingMismatch, lambda message=message: vm.verify(message=message), "azure.pcrs")


def test_attestation_rs_dates_and_list_on_the_azure_path_too(forge):
    vm = Vm(forge)
    for at in (AT + timedelta(days=365 * 9), AT + timedelta(days=90)):
        result = appraise(forge, vm.hcl(), at=at)
        assert result.exit_code == 3


def test_microsoft_trusts_the_ark_that_it_downloads(forge, stranger, tmp_path):
    """Issue #152: whoever answers in AMD's place chooses the root."""
    replies = {
        path: Reply(status=200, body=body)
        for path, body in (
            ("/vcek/v1/Milan/cert_chain", stranger.chain_pem()),
            ("/vcek/v1/Milan/crl", stranger.crl()),
            (f"/vcek/v1/Milan/{stranger.hwid.hex()}", stranger.vcek),
        )
    }
    raw = stranger.report()
    found = fetching(forge, tmp_path, replies).for_reports([raw], at=AT)
    for roots in (None, forge.roots):
        refused(
            ChainInvalid,
            lambda roots=roots: snp.verify_report(raw, found, at=AT, roots=roots),
            "snp.ca-chain",
        )


def test_premai_list_that_nobody_signed(forge):
    """It was matched by serial, its signature never verified: an empty forged list passed."""
    genuine = forge.amd.crl(revoked=[0x010001])
    forged = forge.amd.crl(signer=forge.amd.keys.asvk)
    endorsements = forge.amd.endorsements(ark_crl=forged)
    refused(SignatureInvalid, lambda: forge.verify(endorsements=endorsements), "snp.crl")
    endorsements = forge.amd.endorsements(ark_crl=genuine)
    refused(EndorsementInvalid, lambda: forge.verify(endorsements=endorsements), "snp.crl")


def test_dstack_tcb_and_chip_of_the_certificate(forge):
    other = forge.amd.leaf("vcek", tcb={**forge.amd.tcb, "snp": 3})
    endorsements = forge.amd.endorsements(vcek_der=other)
    refused(EndorsementInvalid, lambda: forge.verify(endorsements=endorsements), "snp.leaf-tcb")
    other = forge.amd.leaf("vcek", hwid=b"\x11" * 64)
    endorsements = forge.amd.endorsements(vcek_der=other)
    refused(EndorsementInvalid, lambda: forge.verify(endorsements=endorsements), "snp.chip-id")


def test_tinfoil_raises_and_prints_nothing(forge, capsys):
    refused(SignatureInvalid, lambda: forge.verify(forge.amd.report(signature=bytes(512))))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_tinfoil_author_key_and_provisional_firmware_are_supported(forge):
    raw = forge.amd.report(key_info=1, author_key_digest=b"\1" * 48, current_tcb={"snp": 200})
    claims = forge.verify(raw)
    assert claims.report.author_key_enabled
    assert claims.provisional


def test_cmcp_report_data_mismatch_is_fatal(forge):
    raw = forge.amd.report(report_data=b"\1" * 64, policy=0x20000)
    for named, code in (("01" * 64, 0), ("01" * 63 + "02", 1)):
        policy = Policy.genuine().replace(snp={"report_data": [named]})
        assert appraise(forge, raw, policy=policy).exit_code == code


def test_nvflare_seen_for_the_first_time_is_not_fresh(forge):
    """To remember old evidence is no freshness: it must answer a question of the verifier's."""
    vm = Vm(forge)
    message = vm.message(nonce=b"o" * 32)
    for _ in range(2):
        refused(StaleEvidence, lambda: vm.verify(message=message), "azure.nonce")
