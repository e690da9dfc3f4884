"""What other verifiers of GPU evidence let pass, each by the name of the weakness.

The numbers are those of our facts about NVIDIA's tools and the others (docs/nvidia.md). Most of it
is tested in more depth beside the part that it is about; here every item has its one plain test.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from teeverify import nvidia
from teeverify.errors import TeeVerifyError
from teeverify.simulator.authority import new_key
from teeverify.simulator.nras import base64url
from teeverify.simulator.spdm import ABSENT

SAMPLES = (
    "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb",
    "4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e",
)


@pytest.fixture
def fails():
    """Demand a refusal by one of these checks."""

    def run(action, *checks):
        with pytest.raises(TeeVerifyError) as caught:
            action()
        assert caught.value.id in checks, caught.value
        return caught.value

    return run


@pytest.fixture
def compare(vendor, verify, at, roots):
    """Compare devices with manifests of which parts were changed."""

    def run(entries, **changes):
        devices = verify(entries).devices
        rims = vendor.rims(**changes)
        return nvidia.compare_measurements(devices, rims.get, at=at, roots=roots)

    return run


@pytest.fixture
def revocation(vendor, verify, nonce, at):
    def run(**changes):
        devices = verify(vendor.evidence_list(nonce, 1)).devices
        return nvidia.verify_revocation(devices, vendor.ocsp_answers(at, **changes), at=at)

    return run


# --- nv-local-gpu-verifier and nv-attestation-sdk 2.7.3 (Python) ----------------------------------


class TestPython:
    def test_1_an_exception_in_a_later_gpu_does_not_clear_the_overall_flag(
        self, vendor, nonce, refused
    ):
        entries = vendor.evidence_list(nonce, 2)
        entries[1] = vendor.gpu(1).evidence(nonce, signer=new_key("p384"))
        error = refused(entries, nvidia_error("SignatureInvalid"), "gpu.report-signature")
        assert "gpu[1]" in error.message

    def test_2_the_same_gpu_twice_passes_as_two(self, vendor, nonce, refused):
        entries = [vendor.gpu(0).evidence(nonce)] * 2
        refused(entries, nvidia_error("BindingMismatch"), "gpu.distinct")

    def test_3_the_fwid_check_is_named_but_never_called(self, vendor, nonce, refused):
        entry = vendor.gpu(0).evidence(nonce, fwid=bytes(48))
        refused([entry], nvidia_error("BindingMismatch"), "gpu.fwid")

    def test_4_golden_values_are_read_before_the_signature_is_verified(
        self, compare, vendor, nonce, fails
    ):
        def other(text: str) -> str:
            return text.replace('active="True"', 'active="False"', 1)

        entries = vendor.evidence_list(nonce, 1)
        fails(lambda: compare(entries, driver={"after": other}), "rim.signature")

    def test_4_elements_are_found_by_a_part_of_their_name(self, compare, vendor, nonce, fails):
        def second(text: str) -> str:
            return text.replace("<ns0:Payload ", "<ns0:PayloadX/><ns0:Payload ")

        entries = vendor.evidence_list(nonce, 1)
        fails(lambda: compare(entries, driver={"before": second}), "rim.form")

    def test_5_more_golden_values_than_measurements_keep_the_last_gpus_flag(
        self, compare, vendor, nonce, fails
    ):
        entries = vendor.evidence_list(nonce, 1)
        few = list(vendor.gpu(1).measurements[:20])
        entries.append(vendor.gpu(1).evidence(nonce, measurements=few))
        assert "gpu[1]" in fails(lambda: compare(entries), "rim.golden-values").message

    def test_6_the_rule_of_the_video_decoder_never_applies(self, compare, vendor, nonce, fails):
        values = list(vendor.golden("GH100"))
        values[35] = bytes(48)
        off = vendor.gpu(0).evidence(nonce, measurements=values)
        assert 35 in compare([off]).devices[0].skipped
        on = vendor.gpu(0).evidence(nonce, measurements=values, opaque={11: b"\xaa"})
        fails(lambda: compare([on]), "rim.golden-values")

    @pytest.mark.parametrize(
        ("changes", "check"),
        [
            ({"age": timedelta(hours=30), "lifetime": timedelta(days=9)}, "ocsp.current"),
            ({"lifetime": None}, "ocsp.current"),
            ({"delegate": {}, "usages": None}, "ocsp.responder"),
            ({"delegate": {}, "usages": [x509.ExtendedKeyUsageOID.SERVER_AUTH]}, "ocsp.responder"),
            ({"error": "TRY_LATER"}, "ocsp.present"),
        ],
        ids=["thisUpdate", "nextUpdate", "no EKU", "other EKU", "response status"],
    )
    def test_7_ocsp_answers_are_taken_without_looking_at(self, revocation, fails, changes, check):
        fails(lambda: revocation(**changes), check)

    def test_7_ocsp_answers_about_another_serial_are_taken(self, revocation, vendor, fails):
        fails(lambda: revocation(about=vendor.gpu(1).authorities[1]), "ocsp.present")

    def test_8_a_second_call_is_labelled_with_the_first_calls_devices(self, vendor, nonce, verify):
        kept = nvidia.Endorsements()
        first = verify([vendor.gpu(0).evidence(nonce)], endorsements=kept)
        second = verify([vendor.gpu(1).evidence(nonce)], endorsements=kept)
        assert [d.ueid for d in first.devices] == [vendor.gpu(0).ueid]
        assert [d.ueid for d in second.devices] == [vendor.gpu(1).ueid]

    def test_9_local_tokens_are_hs256_under_a_known_secret(
        self, vendor, entries, nonce, at, check, fails
    ):
        answer, jwks = vendor.nras_answer(entries, nonce, at)
        (kind, overall), submods = json.loads(answer)
        body = overall.split(".")[1]
        text = f"{base64url(json.dumps({'alg': 'HS256', 'kid': 'k'}).encode())}.{body}"
        for secret in (b"secret", b"notasecret"):
            mac = hmac.digest(secret, text.encode(), hashlib.sha256)
            forged = json.dumps([[kind, f"{text}.{base64url(mac)}"], submods]).encode()
            fails(lambda forged=forged: check(forged, jwks), "nras.token")

    @pytest.mark.parametrize(
        ("overrides", "want"),
        [
            ({"overall": {"eat_nonce": "00" * 32}}, "nras.nonce"),
            ({"submods": {"GPU-1": {"eat_nonce": "00" * 32}}}, "nras.nonce"),
            ({"overall": {"iss": "https://nras.example"}}, "nras.token"),
            ({"digests": {"GPU-1": ["DIGEST", ["SHA-256", "00" * 32]]}}, "nras.token"),
            ({"overall": {"nbf": 4102444800}}, "nras.claims"),
            ({"overall": {"iat": 4102444800}}, "nras.claims"),
            ({"signature": bytes(96)}, "nras.key"),
        ],
        ids=["eat_nonce", "eat_nonce of a device", "iss", "digest", "nbf", "iat", "signature"],
    )
    def test_10_only_signature_and_exp_of_the_overall_token_are_checked(
        self, ask, fails, overrides, want
    ):
        fails(lambda: ask(**overrides), want)

    def test_10_a_submods_signature_is_not_checked(self, vendor, entries, nonce, at, check, fails):
        answer, jwks = vendor.nras_answer(entries, nonce, at)
        pair, submods = json.loads(answer)
        head, body, _ = submods["GPU-1"].split(".")
        submods["GPU-1"] = f"{head}.{body}.{base64url(bytes(96))}"
        fails(lambda: check(json.dumps([pair, submods]).encode(), jwks), "nras.key", "nras.token")

    def test_11_importing_writes_log_files_where_it_stands(self, tmp_path, vendor, nonce):
        payload = vendor.payload(nonce)
        program = (
            "import sys, teeverify\nfrom teeverify import nvidia\n"
            "nvidia.parse_evidence(sys.stdin.read())\n"
        )
        package = str(Path(nvidia.__file__).parents[2])
        done = subprocess.run(
            [sys.executable, "-B", "-c", program],
            input=payload,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": package},
            capture_output=True,
            text=True,
            check=True,
        )
        assert (list(tmp_path.iterdir()), done.stdout, done.stderr) == ([], "", "")

    def test_12_an_unknown_crit_is_accepted(self, ask, fails):
        """CVE-2026-32597 of the library that the SDK pins."""
        fails(lambda: ask(header={"crit": ["b64"], "b64": False}), "nras.token")


def nvidia_error(name: str) -> type[TeeVerifyError]:
    import teeverify.errors

    return getattr(teeverify.errors, name)


# --- NVIDIA's attestation-sdk (C++) ---------------------------------------------------------------


class TestCpp:
    def test_1_the_manifests_signature_is_not_bound_to_its_certificate(
        self, compare, vendor, nonce, fails
    ):
        entries = vendor.evidence_list(nonce, 1)
        fails(lambda: compare(entries, driver={"signer": new_key("p384")}), "rim.signature")

    def test_1_a_key_value_beside_the_certificates(self, compare, vendor, nonce, fails):
        def forged(text: str) -> str:
            return text.replace("<ds:KeyInfo>", "<ds:KeyInfo><ds:KeyValue/>")

        entries = vendor.evidence_list(nonce, 1)
        fails(lambda: compare(entries, driver={"after": forged}), "rim.form")

    @pytest.mark.parametrize("part", ["leaf", "brom", "provisioner", "identity"])
    def test_2_expired_chains_pass(self, vendor, nonce, refused, at, part):
        ended = {"not_after": at - timedelta(days=1)}
        entry = vendor.gpu(0).evidence(nonce, **{part: ended})
        refused([entry], nvidia_error("EndorsementUnavailable"), "gpu.chain")

    def test_2_extra_certificates_are_ignored(self, vendor, nonce, refused):
        pem = vendor.gpu(0).pem()
        entry = vendor.gpu(0).evidence(nonce, chain=pem + vendor.nras.intermediate.pem)
        refused([entry], nvidia_error("ChainInvalid"), "gpu.chain")

    def test_2_the_leaf_may_be_any_certificate(self, vendor, nonce, refused):
        entry = vendor.gpu(0).evidence(nonce, leaf={"common_name": "GH100 A01 GSP BROM"})
        refused([entry], nvidia_error("ChainInvalid"), "gpu.chain")

    def test_3_ocsp_answers_have_no_period_of_validity(self, revocation, fails):
        fails(lambda: revocation(age=timedelta(days=3)), "ocsp.current")

    def test_3_the_reason_of_the_first_revoked_certificate_is_lost(self, revocation, fails):
        error = fails(
            lambda: revocation(status="revoked", reason=x509.ReasonFlags.key_compromise),
            "ocsp.status",
        )
        assert "keyCompromise" in error.got

    def test_3_certificates_are_named_by_sha1(self, verify, vendor, nonce):
        from cryptography.x509 import ocsp

        from teeverify.crypto.ocsp import build_request

        devices = verify(vendor.evidence_list(nonce, 1)).devices
        for child, issuer in nvidia.certificates_to_ask(devices):
            asked = ocsp.load_der_ocsp_request(build_request(child, issuer, bytes(32)))
            assert asked.hash_algorithm.name == "sha384"

    @pytest.mark.parametrize("size", ["47", "0", "4800", "-48"])
    def test_4_the_size_of_a_golden_value_is_ignored(self, compare, vendor, nonce, fails, size):
        entries = vendor.evidence_list(nonce, 1)
        fails(lambda: compare(entries, driver={"resources": {21: {"size": size}}}), "rim.form")

    @pytest.mark.parametrize("active", ["true", "1", "TRUE", "", "Yes"])
    def test_4_active_other_than_true_is_silently_inactive(
        self, compare, vendor, nonce, fails, active
    ):
        entries = vendor.evidence_list(nonce, 1)
        changes = {"resources": {21: {"active": active}}}
        fails(lambda: compare(entries, driver=changes), "rim.form")

    def test_4_no_golden_value_at_all_passes(self, compare, vendor, nonce, fails):
        entries = vendor.evidence_list(nonce, 1)
        none = {"active": ()}
        fails(lambda: compare(entries, driver=none, vbios=none), "rim.conflict")

    def test_5_the_number_of_answers_is_not_that_of_the_evidence(
        self, vendor, entries, nonce, at, check, fails
    ):
        answer = vendor.nras_answer(entries[:1], nonce, at)
        fails(lambda: check(*answer), "nras.devices")

    def test_5_keys_are_taken_without_their_certificates(self, ask, fails):
        fails(lambda: ask(x5c=[]), "nras.key")

    def test_5_device_claims_are_not_tied_to_the_evidence(self, ask, fails):
        fails(lambda: ask(submods={"GPU-0": {"ueid": "1"}}), "nras.devices")


# --- trustee, redpill, near, Phala, private-ml-sdk, teep, premAI, confidential-dot-ai -------------


class TestOthers:
    def test_trustee_no_manifest_is_compared(self, verify, vendor, nonce, at, roots, fails):
        """Genuine without a comparison is never more than 'in an unknown mode'."""
        devices = verify(vendor.evidence_list(nonce, 1)).devices
        empty = nvidia.Endorsements()
        fails(lambda: empty.verify_measurements(devices, at=at, roots=roots), "rim.present")

    def test_trustee_bytes_behind_the_report_are_allowed(self, vendor, nonce, refused):
        for trailing in (b"\0", b"\0\0", b"x"):
            entry = vendor.gpu(0).evidence(nonce, trailing=trailing)
            refused([entry], nvidia_error("MalformedEvidence"), "gpu.evidence")

    def test_trustee_the_nonce_by_a_claim_that_it_matches(self, ask, fails):
        fails(lambda: ask(overall={"eat_nonce": "11" * 32}, submod={"eat_nonce": "11" * 32}),
              "nras.nonce")  # fmt: skip

    def test_trustee_tokens_in_the_alphabet_with_plus_and_slash(
        self, vendor, entries, nonce, at, check, fails
    ):
        answer, jwks = vendor.nras_answer(entries, nonce, at)
        (kind, overall), submods = json.loads(answer)
        head, body, mark = overall.split(".")
        mark = base64.b64encode(base64.urlsafe_b64decode(mark + "==")).decode().rstrip("=")
        if mark == overall.split(".")[2]:  # nothing in it tells the alphabets apart
            mark = "+" + mark[1:]
        forged = json.dumps([[kind, f"{head}.{body}.{mark}"], submods]).encode()
        fails(lambda: check(forged, jwks), "nras.token", "nras.key")

    def test_redpill_near_phala_tokens_are_decoded_and_believed(
        self, vendor, entries, nonce, at, check, fails
    ):
        answer, jwks = vendor.nras_answer(entries, nonce, at, signer=new_key("p384"))
        fails(lambda: check(answer, jwks), "nras.key")

    def test_redpill_near_phala_the_nonce_is_that_of_the_untrusted_json(
        self, vendor, nonce, refused
    ):
        other = bytes(32)
        entries = [{**vendor.gpu(0).evidence(other), "nonce": nonce.hex()}]
        refused(entries, nvidia_error("StaleEvidence"), "gpu.nonce")

    def test_phala_a_network_error_skips_the_check(self, verify, vendor, nonce, at, fails):
        """What could not be fetched is missing, and missing is never good."""
        devices = verify(vendor.evidence_list(nonce, 1)).devices
        fails(lambda: nvidia.verify_revocation(devices, (), at=at), "ocsp.present")

    @pytest.mark.parametrize("sample", SAMPLES)
    def test_private_ml_sdk_canned_sample_evidence_is_served(self, vendor, nonce, refused, sample):
        error = refused(
            [vendor.gpu(0).evidence(sample)], nvidia_error("StaleEvidence"), "gpu.nonce"
        )
        assert "sample that NVIDIA published" in error.hint

    def test_private_ml_sdk_every_gpu_is_called_hopper(self, vendor, nonce, refused):
        entry = vendor.gpu(0, chip="GB100").evidence(nonce, arch="HOPPER")
        refused([entry], nvidia_error("BindingMismatch"), "gpu.device-type")

    @pytest.mark.parametrize("algorithm", ["ES256", "ES512", "RS256", "none", "HS384", "es384"])
    def test_teep_and_premai_the_token_chooses_its_algorithm(self, ask, fails, algorithm):
        fails(lambda: ask(header={"alg": algorithm}), "nras.token")

    def test_teep_device_tokens_are_decoded_without_signature_or_digest(
        self, vendor, entries, nonce, at, check, fails
    ):
        answer, jwks = vendor.nras_answer(entries, nonce, at)
        pair, submods = json.loads(answer)
        submods["GPU-0"], submods["GPU-1"] = submods["GPU-1"], submods["GPU-0"]
        fails(lambda: check(json.dumps([pair, submods]).encode(), jwks), "nras.token")

    def test_teep_the_nonce_is_left_to_the_caller(self, ask, fails):
        fails(lambda: ask(arguments={"nonce": bytes(32)}), "nras.nonce")

    def test_confidential_dot_ai_the_digest_of_a_device_is_not_compared(self, ask, fails):
        entry = ["DIGEST", ["SHA-256", "ab" * 32]]
        fails(lambda: ask(digests={"GPU-0": entry}), "nras.token")

    def test_all_of_them_the_device_type_is_that_of_the_json(self, vendor, nonce, refused):
        entry = vendor.gpu(0, chip="LS_10").evidence(nonce, arch="HOPPER")
        refused([entry], nvidia_error("BindingMismatch"), "gpu.device-type")

    def test_all_of_them_only_count_the_devices_of_a_machine(self, vendor, nonce, verify, fails):
        """A genuine GPU of another machine has the right count, and the wrong links."""
        entries = vendor.protected_machine(nonce, 8, 4)
        entries[0] = vendor.gpu(77).evidence(nonce, opaque={21: b"\xaa", 36: b"\x02\0"})
        devices = verify(entries).devices
        fails(lambda: nvidia.verify_topology(devices), "gpu.switches")


# --- the ten traps --------------------------------------------------------------------------------


class TestTraps:
    @pytest.mark.parametrize("bad", range(4))
    def test_1_good_and_bad_gpus_in_one_list(self, vendor, nonce, refused, bad):
        entries = vendor.evidence_list(nonce, 4)
        entries[bad] = vendor.gpu(bad).evidence(nonce, signer=new_key("p384"))
        error = refused(entries, nvidia_error("SignatureInvalid"), "gpu.report-signature")
        assert f"gpu[{bad}]" in error.message

    def test_1_an_exception_in_gpu_n(self, vendor, nonce, refused):
        entries = vendor.evidence_list(nonce, 3)
        entries[2] = {**entries[2], "evidence": "not base64"}
        refused(entries, nvidia_error("MalformedEvidence"), "gpu.evidence")

    def test_2_a_gpu_listed_twice(self, vendor, nonce, refused):
        entries = [*vendor.evidence_list(nonce, 2), vendor.gpu(0).evidence(nonce)]
        refused(entries, nvidia_error("BindingMismatch"), "gpu.distinct")

    @pytest.mark.parametrize(("chip", "arch"), [("GH100", "BLACKWELL"), ("GB100", "HOPPER")])
    def test_3_another_architecture_in_the_json(self, vendor, nonce, refused, chip, arch):
        entry = vendor.gpu(0, chip=chip).evidence(nonce, arch=arch)
        refused([entry], nvidia_error("BindingMismatch"), "gpu.device-type")

    def test_3_a_switch_as_a_gpu(self, vendor, nonce, verify):
        claims = verify([vendor.gpu(0, chip="LS_10").evidence(nonce, arch=None)])
        assert (len(claims.gpus), len(claims.switches)) == (0, 1)

    def test_4_the_firmware_identity_of_blackwell_by_its_last_48_bytes(
        self, vendor, nonce, verify, refused
    ):
        device = vendor.gpu(0, chip="GB100")
        assert verify([device.evidence(nonce)]).devices[0].fwid == device.fwid
        last = device.evidence(nonce, fwids=(bytes(48), device.fwid))
        refused([last], nvidia_error("BindingMismatch"), "gpu.fwid")

    def test_5_a_manifest_wrapped_in_another(self, compare, vendor, nonce, fails):
        def wrapped(text: str) -> str:
            start = text.index("<SoftwareIdentity")
            inner = text[start:]
            return text[:start] + inner.replace("<ns0:Entity", inner + "<ns0:Entity", 1)

        entries = vendor.evidence_list(nonce, 1)
        fails(lambda: compare(entries, driver={"after": wrapped}), "rim.form")

    def test_5_a_manifest_signed_by_the_key_that_it_brings(self, compare, vendor, nonce, fails):
        from teeverify.simulator.nvidia import Nvidia

        other = Nvidia()
        entries = vendor.evidence_list(nonce, 1)
        foreign = {"certificates": other.rim_signers.chain, "signer": other.rim_signers.leaf.key}
        fails(lambda: compare(entries, driver=foreign), "rim.chain")

    @pytest.mark.parametrize(
        "change", [{"product": "GB100"}, {"edition": "SWITCH"}, {"version": "570.172.09"}]
    )
    def test_6_a_manifest_of_another_product(self, compare, vendor, nonce, fails, change):
        fails(lambda: compare(vendor.evidence_list(nonce, 1), driver=change), "rim.subject")

    def test_7_a_manifest_counts_from_0_and_spdm_from_1(self, compare, vendor, nonce, fails):
        values = list(vendor.golden("GH100"))
        shifted = [values[-1], *values[:-1]]
        entry = vendor.gpu(0).evidence(nonce, measurements=shifted)
        fails(lambda: compare([entry]), "rim.golden-values")

    @pytest.mark.parametrize("status", [b"\x00", b"\xff", b"\x56"])
    def test_7_another_status_of_the_decoder(self, vendor, nonce, refused, status):
        entry = vendor.gpu(0).evidence(nonce, opaque={11: status})
        refused([entry], nvidia_error("MalformedEvidence"), "gpu.evidence")

    def test_7_no_status_of_the_decoder_is_no_exception(self, compare, vendor, nonce, fails):
        values = list(vendor.golden("GH100"))
        values[35] = bytes(48)
        entry = vendor.gpu(0).evidence(nonce, measurements=values, opaque={11: ABSENT})
        fails(lambda: compare([entry]), "rim.golden-values")

    def test_8_nras_answers_200_with_overall_false(self, ask, fails):
        fails(lambda: ask(overall={"x-nvidia-overall-att-result": False}), "nras.claims")

    def test_8_the_tokens_of_other_devices(self, vendor, entries, nonce, at, check, fails):
        theirs = vendor.nras_answer(vendor.evidence_list(nonce, 4)[2:], nonce, at)
        fails(lambda: check(*theirs), "nras.devices")

    def test_8_a_key_that_was_rotated_out(self, vendor, entries, nonce, at, check, fails):
        answer, _ = vendor.nras_answer(entries, nonce, at)
        _, jwks = vendor.nras_answer(entries, nonce, at + timedelta(days=1))
        fails(lambda: check(answer, jwks), "nras.key")

    def test_8_a_signing_certificate_that_lives_two_days(self, ask, at, fails):
        ask(arguments={"at": at})
        later = {"at": at + timedelta(days=3)}
        fails(lambda: ask(arguments=later, lifetime=timedelta(days=9)), "nras.key")

    @pytest.mark.parametrize(
        ("changes", "check"),
        [
            ({"age": timedelta(hours=25), "lifetime": timedelta(days=9)}, "ocsp.current"),
            ({"reason": x509.ReasonFlags.certificate_hold, "status": "revoked"}, "ocsp.status"),
            ({"status": "unknown"}, "ocsp.status"),
            ({"delegate": {"ca": True}}, "ocsp.responder"),
        ],
        ids=["stale", "hold", "unknown", "wrong responder"],
    )
    def test_9_ocsp_answers_that_say_no_good(self, revocation, fails, changes, check):
        fails(lambda: revocation(**changes), check)

    def test_9_the_nonce_is_in_the_extensions_of_the_answer(self, vendor, at):
        from teeverify.crypto.ocsp import parse_response, require_nonce

        echoed = vendor.ocsp_answers(at, nonce=bytes(range(32)))[0]
        answer = parse_response(echoed, what="answer")
        require_nonce(answer, bytes(range(32)))
        with pytest.raises(TeeVerifyError, match="another nonce"):
            require_nonce(answer, bytes(32))

    @pytest.mark.parametrize("sample", SAMPLES)
    def test_10_canned_sample_evidence(self, vendor, refused, sample):
        refused([vendor.gpu(0).evidence(sample)], nvidia_error("StaleEvidence"), "gpu.nonce")

    def test_10_one_zero_byte_behind_a_report(self, vendor, nonce, verify, refused):
        entry = vendor.gpu(0).evidence(nonce, trailing=b"\0")
        refused([entry], nvidia_error("MalformedEvidence"), "gpu.evidence")
        tolerated = nvidia.parse_evidence([entry], tolerate_trailing_nul=True)
        assert verify(tolerated).devices

    @pytest.mark.parametrize("spelling", ["base64", "hex", "escaped", "base64 of hex"])
    def test_10_every_spelling_is_the_same_report(self, vendor, nonce, verify, spelling):
        entry = vendor.gpu(0).evidence(nonce)
        raw = base64.b64decode(entry["evidence"])
        text = {
            "base64": entry["evidence"],
            "hex": raw.hex(),
            "escaped": "".join(f"\\x{byte:02x}" for byte in raw),
            "base64 of hex": base64.b64encode(raw.hex().encode()).decode(),
        }[spelling]
        assert verify([{**entry, "evidence": text}]).devices[0].ueid == vendor.gpu(0).ueid


# --- questions that users of NVIDIA's tools ask: the error must answer them -----------------------


class TestMessages:
    def test_which_manifest_is_missing(self, vendor, verify, nonce, at, roots, fails):
        devices = verify(vendor.evidence_list(nonce, 1)).devices
        driver, vbios = vendor.gpu(0).rim_ids
        one = {driver: vendor.rims()[driver]}
        error = fails(
            lambda: nvidia.compare_measurements(devices, one.get, at=at, roots=roots), "rim.present"
        )
        assert vbios in error.want
        assert driver not in error.want

    def test_index_9_after_an_update_without_a_cold_reset(self, compare, vendor, nonce, fails):
        values = list(vendor.golden("GH100"))
        values[9] = bytes(48)
        entry = vendor.gpu(0).evidence(nonce, measurements=values)
        assert "power-cycle" in fails(lambda: compare([entry]), "rim.golden-values").hint

    def test_which_gpu_of_many(self, vendor, nonce, refused):
        entries = vendor.evidence_list(nonce, 8)
        entries[6] = vendor.gpu(6).evidence(bytes(32))
        error = refused(entries, nvidia_error("StaleEvidence"), "gpu.nonce")
        assert "gpu[6]" in error.message
