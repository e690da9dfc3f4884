"""Verification on forged evidence: each check has a positive, a negative and an absent case."""

from __future__ import annotations

import copy
import pickle
import warnings
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from teeverify import snp
from teeverify.errors import (
    ChainInvalid,
    ConfigurationError,
    DebugEnabled,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TcbRejected,
)
from teeverify.roots import EMBEDDED, UnsafeTestRoots
from teeverify.simulator.amd import Amd, certificate_table

from ..refusals import refused
from .conftest import AT

YEAR = timedelta(days=365)


class TestGood:
    @pytest.mark.parametrize("version", [2, 3, 4, 5])
    @pytest.mark.parametrize("signer", ["VCEK", "VLEK"])
    def test_every_version_and_key(self, each, version, signer):
        claims = each.verify(each.amd.report(version=version, signer=signer))
        assert claims.product is each.amd.product
        assert str(claims.signer) == signer
        assert claims.roots_kind == "simulated"
        assert claims.anchor_fingerprint
        assert claims.crl is not None
        assert claims.crl.number == 1
        assert claims.expires_at == AT + timedelta(days=30)
        assert claims.chip_id == (each.amd.hwid if signer == "VCEK" else None)
        assert claims.csp_id == (None if signer == "VCEK" else "CN=cc-simulated.example.com")
        assert claims.reported_tcb.components == each.amd.tcb
        assert "roots=simulated" in repr(claims)

    def test_a_parsed_report_is_its_bytes(self, forge):
        report = snp.parse_report(forge.amd.report())
        assert forge.verify(report).report == report
        object.__setattr__(report, "vmpl", 3)
        assert forge.verify(report).report.vmpl == 0

    def test_the_certificate_table_is_enough(self, forge):
        amd = forge.amd
        table = certificate_table(
            {"vcek": amd.vcek, "ask": amd.ask, "ark": amd.ark, "crl": amd.crl()}
        )
        assert forge.verify(endorsements=snp.Endorsements.load(table))

    def test_several_chips_at_once(self, forges, make_forge):
        other = make_forge(product="Milan")
        mine = forges["Milan"]
        both = snp.Endorsements.union(
            mine.amd.endorsements(),
            snp.Endorsements.load(other.amd.leaf("vcek")),
        )
        assert mine.verify(endorsements=both)

    def test_other_firmware_runs_than_is_committed(self, forge):
        raw = forge.amd.report(current_tcb={"snp": 31}, launch_tcb={"snp": 30})
        claims = forge.verify(raw)
        assert claims.provisional
        assert not forge.verify().provisional

    def test_claims_are_sealed(self, forge):
        claims = forge.verify()
        for act in (copy.copy, copy.deepcopy, pickle.dumps):
            refused(ConfigurationError, "usage.sealed", lambda act=act: act(claims))

    def test_what_was_verified_is_not_verified_again(self, forge, monkeypatch):
        endorsements = forge.amd.endorsements()
        forge.verify(endorsements=endorsements)
        for name in ("_verify_authorities", "_verify_leaf", "verify_crl_of_anchor"):
            monkeypatch.setattr(f"teeverify.snp.chain.{name}", None)
        assert forge.verify(endorsements=endorsements)
        # Under other roots, or after its dates, nothing is remembered.
        with pytest.raises(TypeError):
            forge.verify(endorsements=endorsements, at=AT + 40 * YEAR)


def test_a_library_that_refuses_serial_number_0(each, monkeypatch):
    """As it announces to: then chips' certificates must be verified without it."""
    from cryptography import x509

    load = x509.load_der_x509_certificate

    def strict(data, *rest):
        certificate = load(data, *rest)
        if certificate.serial_number == 0:
            raise ValueError("the serial number must be positive")
        return certificate

    monkeypatch.setattr(x509, "load_der_x509_certificate", strict)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # releases warn of it, or do not yet
        with pytest.raises(ValueError, match="positive"):
            x509.load_der_x509_certificate(each.amd.vcek)
    for signer in ("VCEK", "VLEK"):
        assert each.verify(each.amd.report(signer=signer))


class TestArguments:
    def test_endorsements(self, forge):
        for wrong in (None, {}, b""):
            refused(
                ConfigurationError,
                "usage.snp",
                lambda wrong=wrong: snp.verify_report(forge.amd.report(), wrong, at=AT),
            )

    def test_time_without_a_zone(self, forge):
        refused(ConfigurationError, "usage.time", lambda: forge.verify(at="2026-09-01T00:00:00"))


class TestSigningKey:
    @pytest.mark.parametrize("key_info", [0b10, 0b11, 7 << 2])
    def test_not_signed(self, forge, key_info):
        raw = forge.amd.report(key_info=key_info)
        refused(SignatureInvalid, "snp.signing-key", lambda: forge.verify(raw))

    @pytest.mark.parametrize("value", range(2, 7))
    def test_reserved(self, forge, value):
        raw = forge.amd.report(key_info=value << 2)
        refused(MalformedEvidence, "snp.signing-key", lambda: forge.verify(raw))


class TestProduct:
    @pytest.mark.parametrize("cpuid", ["1a5000", "193101", "173100", "000000"])
    def test_unknown(self, forge, cpuid):
        raw = forge.amd.report(cpuid=bytes.fromhex(cpuid))
        error = refused(MalformedEvidence, "snp.product", lambda: forge.verify(raw))
        assert "unsupported product" in error.message

    def test_venice_is_named(self, forge):
        raw = forge.amd.report(cpuid=bytes([0x1A, 0x50, 0]))
        error = refused(MalformedEvidence, "snp.product", lambda: forge.verify(raw))
        assert "Venice" in error.message

    def test_version_2_without_a_certificate(self, forge):
        endorsements = forge.amd.endorsements(vcek_der=None, vlek_der=None)
        raw = forge.amd.report(version=2)
        refused(EndorsementUnavailable, "snp.product", lambda: forge.verify(raw, endorsements))

    def test_reserved_bytes_of_a_tcb(self, forge):
        raw = forge.amd.report(launch_tcb=bytes.fromhex("0400010000001dde"))
        refused(MalformedEvidence, "snp.report", lambda: forge.verify(raw))

    def test_cpuid_of_another_product(self, forge):
        raw = forge.amd.report(cpuid=bytes([0x19, 0x11, 1]))
        refused(ChainInvalid, "snp.ca-chain", lambda: forge.verify(raw))


class TestAuthorities:
    def test_foreign_root(self, each):
        raw, endorsements = each.amd.report(), each.amd.endorsements()
        error = refused(
            ChainInvalid, "snp.ca-chain", lambda: each.verify(raw, endorsements, roots=None)
        )
        assert "simulated" in str(error.hint)

    def test_another_fake_amd(self, make_forge, forge):
        from teeverify.simulator.amd import AmdKeys

        stranger = Amd(at=AT, keys=AmdKeys.new())
        error = refused(
            ChainInvalid,
            "snp.ca-chain",
            lambda: forge.verify(stranger.report(), stranger.endorsements()),
        )
        assert "its name only" in error.message
        alone = stranger.endorsements(
            vcek_chain_pem=stranger.chain_pem()[: stranger.chain_pem().index(b"-----BEGIN", 9)],
            vlek_chain_pem=None,
        )
        refused(SignatureInvalid, "snp.ca-chain", lambda: forge.verify(stranger.report(), alone))

    def test_roots_without_this_product(self, forges):
        milan, genoa = forges["Milan"], forges["Genoa"]
        refused(ChainInvalid, "snp.ca-chain", lambda: milan.verify(roots=genoa.roots))

    def test_absent(self, forge):
        endorsements = forge.amd.endorsements(vcek_chain_pem=None, vlek_chain_pem=None)
        refused(
            EndorsementUnavailable, "snp.ca-chain", lambda: forge.verify(endorsements=endorsements)
        )

    def test_chain_of_another_product(self, forges):
        milan, genoa = forges["Milan"], forges["Genoa"].amd
        endorsements = milan.amd.endorsements(
            vcek_chain_pem=genoa.chain_pem(), vlek_chain_pem=genoa.chain_pem("vlek")
        )
        refused(ChainInvalid, "snp.ca-chain", lambda: milan.verify(endorsements=endorsements))

    @pytest.mark.parametrize(
        ("overrides", "kind"),
        [
            ({"ca": False, "path_length": None}, ChainInvalid),
            ({"key_usage": ("crl_sign",)}, ChainInvalid),
            ({"key_usage": ("key_cert_sign", "digital_signature")}, ChainInvalid),
            ({"pss": False}, ChainInvalid),
            ({"not_after": AT - timedelta(days=1)}, EndorsementUnavailable),
            ({"not_before": AT + timedelta(days=1)}, EndorsementUnavailable),
            ({"issuer_name": "ARK-Genoa"}, ChainInvalid),
        ],
        ids=str,
    )
    def test_intermediate(self, make_forge, overrides, kind):
        forge = make_forge(certificates={"ask": overrides})
        refused(kind, "snp.ca-chain", forge.verify)
        assert forge.verify(forge.amd.report(signer="VLEK"))

    def test_small_or_other_key(self, make_forge):
        key = ec.generate_private_key(ec.SECP384R1())
        forge = make_forge(certificates={"ask": {"public_key": key.public_key()}})
        refused(ChainInvalid, "snp.ca-chain", forge.verify)

    def test_first_ask_of_genoa_is_revoked(self, make_forge):
        forge = make_forge(product="Genoa", certificates={"ask": {"serial": 0x020001}})
        refused(EndorsementInvalid, "snp.ca-chain", lambda: forge.verify(unsafe_without_crl=True))


class TestCrl:
    def test_absent(self, forge):
        endorsements = forge.amd.endorsements(ark_crl=None)
        refused(EndorsementUnavailable, "snp.crl", lambda: forge.verify(endorsements=endorsements))
        claims = forge.verify(endorsements=endorsements, unsafe_without_crl=True)
        assert claims.crl is None

    def test_stale(self, forge):
        crl = forge.amd.crl(next_update=AT - timedelta(hours=1))
        endorsements = forge.amd.endorsements(ark_crl=crl)
        refused(EndorsementUnavailable, "snp.crl", lambda: forge.verify(endorsements=endorsements))
        assert forge.verify(endorsements=endorsements, unsafe_without_crl=True).crl is None

    def test_made_later(self, forge):
        """It says more about the time asked about than one of that time: nothing is un-revoked."""
        dates = {"this_update": AT + timedelta(days=400), "next_update": AT + timedelta(days=445)}
        endorsements = forge.amd.endorsements(ark_crl=forge.amd.crl(**dates))
        claims = forge.verify(endorsements=endorsements)
        assert claims.crl.this_update == dates["this_update"]
        assert claims.issued_at == dates["this_update"]
        # What was remembered of it still ends with it.
        after = AT + timedelta(days=446)
        refused(
            EndorsementUnavailable,
            "snp.crl",
            lambda: forge.verify(endorsements=endorsements, at=after),
        )
        revoked = forge.amd.endorsements(ark_crl=forge.amd.crl(**dates, revoked=[0x010001]))
        refused(EndorsementInvalid, "snp.crl", lambda: forge.verify(endorsements=revoked))
        foreign = forge.amd.crl(**dates, signer=forge.amd.keys.ask)
        endorsements = forge.amd.endorsements(ark_crl=foreign)
        refused(SignatureInvalid, "snp.crl", lambda: forge.verify(endorsements=endorsements))

    def test_of_several_lists_the_newest_counts(self, forge):
        amd = forge.amd
        later = {"this_update": AT + timedelta(days=40), "next_update": AT + timedelta(days=80)}
        lists = [amd.crl(), amd.crl(**later, revoked=[0x010001])]
        for order in (lists, lists[::-1]):
            parts = [amd.endorsements(ark_crl=None), *map(snp.Endorsements.load, order)]
            both = snp.Endorsements.union(*parts)
            refused(
                EndorsementInvalid, "snp.crl", lambda both=both: forge.verify(endorsements=both)
            )

    def test_of_another_product(self, forges):
        milan = forges["Milan"]
        endorsements = milan.amd.endorsements(ark_crl=forges["Genoa"].amd.crl())
        error = refused(
            EndorsementUnavailable, "snp.crl", lambda: milan.verify(endorsements=endorsements)
        )
        assert "other CAs" in error.got

    def test_signed_by_another_key(self, forge):
        crl = forge.amd.crl(signer=forge.amd.keys.ask)
        endorsements = forge.amd.endorsements(ark_crl=crl)
        for waived in (False, True):
            refused(
                SignatureInvalid,
                "snp.crl",
                lambda waived=waived: forge.verify(
                    endorsements=endorsements, unsafe_without_crl=waived
                ),
            )

    def test_revoked(self, forge):
        for signer, serial in (("VCEK", 0x010001), ("VLEK", 0x010101)):
            endorsements = forge.amd.endorsements(ark_crl=forge.amd.crl(revoked=[serial]))
            raw = forge.amd.report(signer=signer)
            for waived in (False, True):
                refused(
                    EndorsementInvalid,
                    "snp.crl",
                    lambda raw=raw, given=endorsements, waived=waived: forge.verify(
                        raw, given, unsafe_without_crl=waived
                    ),
                )
        # The list of one CA's revocation says nothing about the other.
        assert forge.verify(endorsements=endorsements)

    def test_the_leaf_is_not_looked_for(self, forge):
        """All leaves have serial number 0: a list that names it revokes nothing here."""
        assert forge.verify(endorsements=forge.amd.endorsements(ark_crl=forge.amd.crl(revoked=[2])))


class TestLeaf:
    def test_absent(self, each):
        endorsements = each.amd.endorsements(vcek_der=None, vlek_der=None)
        error = refused(
            EndorsementUnavailable, "snp.leaf", lambda: each.verify(endorsements=endorsements)
        )
        assert error.exit_code == 3

    def test_chosen_by_signing_key_never_by_what_is_there(self, forge):
        amd = forge.amd
        only_vlek = amd.endorsements(vcek_der=None)
        refused(EndorsementInvalid, "snp.leaf", lambda: forge.verify(endorsements=only_vlek))
        only_vcek = amd.endorsements(vlek_der=None)
        raw = amd.report(signer="VLEK")
        refused(EndorsementInvalid, "snp.leaf", lambda: forge.verify(raw, only_vcek))

    def test_of_another_product(self, forges):
        milan = forges["Milan"]
        endorsements = milan.amd.endorsements(vcek_der=forges["Genoa"].amd.vcek, vlek_der=None)
        refused(EndorsementInvalid, "snp.leaf", lambda: milan.verify(endorsements=endorsements))

    def test_signed_by_another_ca(self, forge):
        for signer in (forge.amd.keys.ark, forge.amd.keys.asvk):
            vcek = forge.amd.leaf("vcek", signer=signer)
            endorsements = forge.amd.endorsements(vcek_der=vcek)
            refused(
                SignatureInvalid, "snp.leaf", lambda e=endorsements: forge.verify(endorsements=e)
            )

    @pytest.mark.parametrize(
        "dates",
        [{"not_after": AT - timedelta(hours=1)}, {"not_before": AT + timedelta(hours=1)}],
        ids=["expired", "early"],
    )
    def test_dates(self, forge, dates):
        endorsements = forge.amd.endorsements(vcek_der=forge.amd.leaf("vcek", **dates))
        error = refused(
            EndorsementUnavailable, "snp.leaf", lambda: forge.verify(endorsements=endorsements)
        )
        assert "VCEK certificate" in error.message

    def test_a_newer_certificate_of_the_same_key_is_preferred(self, forge):
        old = forge.amd.leaf("vcek", not_after=AT - timedelta(hours=1))
        endorsements = snp.Endorsements.union(snp.Endorsements.load(old), forge.amd.endorsements())
        assert forge.verify(endorsements=endorsements)


class TestLeafTcb:
    def test_every_component(self, each):
        for name, value in each.amd.tcb.items():
            for other in {value + 1, max(value - 1, 0)} - {value}:
                vcek = each.amd.leaf("vcek", tcb={**each.amd.tcb, name: other})
                endorsements = each.amd.endorsements(vcek_der=vcek)
                error = refused(
                    EndorsementInvalid,
                    "snp.leaf-tcb",
                    lambda e=endorsements: each.verify(endorsements=e),
                )
                assert f"{name}={other}" in error.got

    def test_reported_below_the_certificate(self, forge):
        """Greater is not equal: a key is certified for exactly one TCB."""
        raw = forge.amd.report(reported_tcb={"snp": 5})
        refused(EndorsementInvalid, "snp.leaf-tcb", lambda: forge.verify(raw))


class TestChipId:
    def test_another_chip(self, each):
        hwid = bytes([7]) * each.amd.product.chip_id_bytes
        endorsements = each.amd.endorsements(vcek_der=each.amd.leaf("vcek", hwid=hwid))
        error = refused(
            EndorsementInvalid, "snp.chip-id", lambda: each.verify(endorsements=endorsements)
        )
        assert error.exit_code == 2

    def test_something_behind_the_chip_id_of_turin(self, forges):
        turin = forges["Turin"]
        raw = turin.amd.report(chip_id=turin.amd.hwid + b"\x01")
        refused(EndorsementInvalid, "snp.chip-id", lambda: turin.verify(raw))

    def test_masked(self, each):
        claims = each.verify(each.amd.report(chip_id=b""))
        assert claims.chip_id is None
        assert claims.report.chip_id_masked


class TestSignature:
    def test_another_key(self, each):
        stranger = ec.generate_private_key(ec.SECP384R1())
        raw = each.amd.report(key=stranger)
        refused(SignatureInvalid, "snp.report-signature", lambda: each.verify(raw))

    def test_the_key_of_the_cloud(self, forge):
        raw = forge.amd.report(key=forge.amd.vlek_key)
        refused(SignatureInvalid, "snp.report-signature", lambda: forge.verify(raw))

    @pytest.mark.parametrize("r", [0, 1, 2**384 - 1])
    def test_out_of_range(self, forge, r):
        signature = (r.to_bytes(72, "little") * 2).ljust(512, b"\0")
        raw = forge.amd.report(signature=signature)
        refused(SignatureInvalid, "snp.report-signature", lambda: forge.verify(raw))

    def test_swapped(self, forge):
        raw = forge.amd.report()
        swapped = raw[:0x2A0] + raw[0x2E8:0x330] + raw[0x2A0:0x2E8] + raw[0x330:]
        refused(SignatureInvalid, "snp.report-signature", lambda: forge.verify(swapped))


class TestOrder:
    @pytest.mark.parametrize("name", ["reported", "committed"])
    def test_above_what_runs(self, each, name):
        for part, value in each.amd.tcb.items():
            if not value:
                continue
            raw = each.amd.report(
                current_tcb={part: value - 1},
                launch_tcb={part: value - 1},
                **({"committed_tcb": {part: value - 1}} if name == "reported" else {}),
            )
            error = refused(TcbRejected, "snp.tcb-order", lambda raw=raw: each.verify(raw))
            assert part in error.message

    def test_committed_firmware_is_newer(self, forge):
        raw = forge.amd.report(committed_version=bytes([42, 55, 1]))
        refused(TcbRejected, "snp.tcb-order", lambda: forge.verify(raw))

    def test_launch_may_be_anything(self, forge):
        assert forge.verify(forge.amd.report(launch_tcb={"snp": 200}))


class TestDebug:
    def test_refused(self, each):
        raw = each.amd.report(policy=0xB0000)
        refused(DebugEnabled, "snp.debug-disabled", lambda: each.verify(raw))
        assert each.verify(raw, unsafe_allow_debug=True).policy.debug

    def test_only_true_allows(self, forge):
        raw = forge.amd.report(policy=0xB0000)
        refused(
            DebugEnabled, "snp.debug-disabled", lambda: forge.verify(raw, unsafe_allow_debug="no")
        )


def test_embedded_roots_have_one_of_each_product():
    assert [anchor.name for anchor in EMBEDDED.amd] == ["ARK-Milan", "ARK-Genoa", "ARK-Turin"]


def test_several_roots_at_once(forges):
    roots = UnsafeTestRoots([forge.amd.roots_pem() for forge in forges.values()])
    for forge in forges.values():
        assert forge.verify(roots=roots)
