"""Receipts, then and now: who says when, and what was revoked since."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from types import SimpleNamespace

import pytest

from teeverify import nvidia
from teeverify.appraisal import Policy
from teeverify.appraisal.hindsight import Hindsight
from teeverify.client.receipts import Receipt
from teeverify.clock import now
from teeverify.errors import (
    AppraisalFailed,
    BindingMismatch,
    ConfigurationError,
    EndorsementInvalid,
    EvidenceError,
    ResponseNotVerified,
)
from teeverify.responses.receipt import Kept
from teeverify.roots import TimestampRoots, UnsafeTestRoots
from teeverify.simulator.receipts import ReceiptForge
from teeverify.simulator.tee import SimulatedTee
from teeverify.simulator.timestamps import TimestampAuthority


@pytest.fixture(scope="module")
def tee():
    return SimulatedTee(gpus=1)


@pytest.fixture(scope="module")
def roots(tee):
    return UnsafeTestRoots([tee.roots_pem()])


@pytest.fixture(scope="module")
def authority():
    return TimestampAuthority()


@pytest.fixture(scope="module")
def trusted(authority):
    return TimestampRoots([authority.roots_pem()])


@pytest.fixture
def receipt(tee):
    return Receipt(ReceiptForge(tee).receipt("why?"))


def collateral(tee, tmp_path, **changes):
    """Today's collateral, as a file."""
    path = tmp_path / "today.json"
    path.write_text(json.dumps(tee.intel.collateral(**changes)))
    return path


def appraise(receipt, **options):
    return receipt.verify(**{"roots": options.pop("roots"), **options})


def test_without_a_timestamp_its_time_is_the_holders_word(receipt, roots):
    result = appraise(receipt, roots=roots)
    finding = result.finding("receipt.time")
    assert (finding.outcome.value, finding.by) == ("asserted", "the receipt's holder")
    assert "says its holder" in result.receipt.sentence
    assert result.receipt.not_after is None


def test_with_a_timestamp_it_is_proven(receipt, roots, authority, trusted):
    at = now() + timedelta(minutes=2)
    stamped = receipt.with_timestamp(authority.stamp(receipt.parts.digest, at))
    assert stamped.receipt_id == receipt.receipt_id
    again = Receipt.load(stamped.to_bytes(include="bytes"))
    result = appraise(again, roots=roots, timestamp_roots=trusted)
    assert result.finding("receipt.time").outcome.value == "proven"
    assert result.finding("time").outcome.value == "proven"
    assert result.receipt.not_after == at.replace(microsecond=0)
    assert "Made before" in result.receipt.sentence
    early = again.with_timestamp(authority.stamp(receipt.parts.digest, at - timedelta(minutes=1)))
    both = appraise(early, roots=roots, timestamp_roots=trusted)
    assert both.receipt.not_after < result.receipt.not_after


def test_a_timestamp_of_somebody_else_counts_for_nothing(receipt, roots, trusted):
    other = TimestampAuthority(ca_name="other")
    stamped = receipt.with_timestamp(other.stamp(receipt.parts.digest, now()))
    for options in ({}, {"timestamp_roots": trusted}):
        finding = appraise(stamped, roots=roots, **options).finding("receipt.time")
        assert finding.outcome.value == "asserted"
        assert "1 timestamp of authorities" in finding.message


def test_a_wrong_timestamp_refuses(receipt, roots, authority, trusted):
    with pytest.raises(BindingMismatch):
        receipt.with_timestamp(authority.stamp(bytes(32), now()))
    good = authority.stamp(receipt.parts.digest, now(), signer=TimestampAuthority().signer)
    stamped = receipt.with_timestamp(good)
    with pytest.raises(EvidenceError) as refused:
        appraise(stamped, roots=roots, timestamp_roots=trusted)
    assert refused.value.id == "receipt.time"


def test_a_timestamp_older_than_the_answer_contradicts_it(receipt, roots, authority, trusted):
    stamped = receipt.with_timestamp(
        authority.stamp(receipt.parts.digest, now() - timedelta(hours=1))
    )
    result_of = pytest.raises(Exception, match="after it was timestamped")
    with result_of as refused:
        appraise(stamped, roots=roots, timestamp_roots=trusted)
    assert refused.value.exit_code == 1


def test_a_timestamp_after_everything_ran_out_does_not_prove_the_time(
    receipt, roots, authority, trusted
):
    late = now() + timedelta(days=400)
    result = appraise(
        receipt.with_timestamp(authority.stamp(receipt.parts.digest, late)),
        roots=roots,
        timestamp_roots=trusted,
    )
    assert result.finding("receipt.time").outcome.value == "proven"
    assert result.finding("time").outcome.value == "asserted"


def test_the_timestamp_of_one_does_not_bound_another(tee, roots, authority, trusted):
    """Receipts of one attestation share what was found of it, but not this."""
    from teeverify.client import Verifier
    from teeverify.client.sources.receipt import evidence_of

    forge = ReceiptForge(tee)
    stamped, bare = (Receipt(forge.receipt(text)) for text in ("one", "two"))
    stamped = stamped.with_timestamp(
        authority.stamp(stamped.parts.digest, now() + timedelta(minutes=2))
    )
    verifier = Verifier(roots=roots, offline=True, timestamp_roots=trusted)
    for _ in range(2):
        for receipt, outcome in ((stamped, "proven"), (bare, "asserted")):
            result = verifier.appraise(evidence_of(receipt.parts, source="x"))
            assert result.finding("time").outcome.value == outcome
            assert result.finding("receipt.time").outcome.value == outcome


# --- now ----------


def test_offline_it_says_that_nothing_of_today_was_compared(receipt, roots):
    finding = appraise(receipt, roots=roots).finding("receipt.since")
    assert (finding.outcome.value, finding.severity.value) == ("absent", "warns")
    strict = receipt.verify
    with pytest.raises(Exception, match="strict"):
        strict(roots=roots, policy="strict")


def test_compared_with_todays_lists(receipt, roots, tee, tmp_path):
    today = (collateral(tee, tmp_path), gpus_of_today(tee))
    result = appraise(receipt, roots=roots, endorsements=today)
    assert result.finding("receipt.since").outcome.value == "proven"
    assert "Compared with the revocations of" in result.receipt.sentence


def test_a_gpu_of_which_nothing_of_today_is_known_is_not_called_unrevoked(
    receipt, roots, tee, tmp_path
):
    result = appraise(receipt, roots=roots, endorsements=collateral(tee, tmp_path))
    finding = result.finding("receipt.since")
    assert (finding.outcome.value, finding.severity.value) == ("absent", "warns")
    assert "the GPUs' certificates were not" in finding.message
    assert "Not compared" in result.receipt.sentence


def test_a_gpu_that_is_revoked_by_now_refuses(receipt, roots, tee, tmp_path):
    today = (collateral(tee, tmp_path), gpus_of_today(tee, status="revoked"))
    with pytest.raises(EndorsementInvalid) as refused:
        appraise(receipt, roots=roots, endorsements=today)
    assert refused.value.id in ("receipt.since", "gpu.revocation", "ocsp.status", "ocsp.revoked")


def gpus_of_today(tee, **changes):
    """What NVIDIA's responder says of the GPUs today."""
    ocsp = tee.nvidia.ocsp_answers(now(), *tee._gpus, **changes)
    rims = tee.nvidia.rims()
    return nvidia.Endorsements(
        ocsp=tuple(ocsp), rims=tuple(nvidia.RimFile(id=name, xml=xml) for name, xml in rims.items())
    )


@pytest.mark.parametrize("who", ["pck", "ca", "signer"])
def test_what_is_revoked_by_now_refuses(tee, roots, tmp_path, authority, trusted, who):
    """Its own lists, which were in force then, do not say so; today's do."""
    made = now() - timedelta(minutes=10)
    receipt = Receipt(ReceiptForge(tee, at=made).receipt("why?"))
    assert appraise(receipt, roots=roots).satisfied
    today = collateral(
        tee, tmp_path, revoked=[who], issue_date=now() - timedelta(minutes=5),
        next_update=now() + timedelta(days=1),
    )  # fmt: skip
    stamped = receipt.with_timestamp(
        authority.stamp(receipt.parts.digest, made + timedelta(minutes=1))
    )
    for one in (receipt, stamped):  # the list does not say since when
        with pytest.raises(EndorsementInvalid) as refused:
            appraise(one, roots=roots, endorsements=today, timestamp_roots=trusted)
        assert refused.value.id == "receipt.since"
        assert "revoked by now" in refused.value.result.summary


def test_a_timestamp_older_than_the_invalidity_saves_it():
    """RFC 5280 section 5.3.2: the list may say since when the key is not to be believed."""
    from datetime import datetime, timezone

    from teeverify.appraisal.examined import Examined, ExaminedMachine
    from teeverify.appraisal.hindsight import Hindsight
    from teeverify.appraisal.observation import Observation

    since = datetime(2026, 6, 1, tzinfo=timezone.utc)
    error = EndorsementInvalid("revoked", id="tdx.pck-crl")
    machine = ExaminedMachine(machine=None, observations=[Observation.failed(error)])
    examined = Examined(evidence=None, question=None, machines=(machine,))

    def compromises(not_after, invalid_since):
        error.invalid_since = invalid_since
        known = Hindsight(id="", stated=since, at=since, now=examined, not_after=not_after)
        return list(known.compromises())

    assert compromises(None, since)
    assert compromises(since, None)
    assert compromises(since + timedelta(days=1), since)
    assert not compromises(since - timedelta(days=1), since)


def test_a_revocation_list_says_since_when(tee):
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from teeverify.crypto.certificates import parse_certificate
    from teeverify.crypto.crl import parse_crl, require_not_revoked
    from teeverify.simulator.authority import Authority

    root = Authority.root("root")
    leaf = root.issue("leaf")
    moment = now().replace(microsecond=0)
    for extensions, want in (
        ([], None),
        ([(x509.InvalidityDate(moment.replace(tzinfo=None)), False)], moment),
    ):
        der = root.crl([leaf.certificate.serial_number], entry_extensions=extensions)
        crl = parse_crl(der, id="x", what="x")
        certificate = parse_certificate(
            leaf.certificate.public_bytes(Encoding.DER), id="x", what="x"
        )
        with pytest.raises(EndorsementInvalid) as refused:
            require_not_revoked(certificate, crl, id="x", what="x")
        assert refused.value.invalid_since == want


# --- other forms ----------


def test_a_channel_note_never_verifies_an_answer(receipt, roots):
    parts = dataclasses.replace(receipt.parts, signature=None)
    note = Receipt.load(Receipt(parts).to_bytes(include="bytes"))
    with pytest.raises(Exception, match="no signature by the enclave") as refused:
        appraise(note, roots=roots)
    assert refused.value.exit_code == 1
    assert note.verify
    with pytest.raises(Exception, match="only the channel"):
        _ = note.signer


def test_nothing_is_fetched_for_a_receipt(receipt, roots, monkeypatch):
    """Also where it was made just now, and a verifier is online."""
    parts = json.loads(receipt.parts.report)
    del parts["endorsements"]
    bare = dataclasses.replace(receipt.parts, report=json.dumps(parts).encode())
    with pytest.raises(Exception, match="not at hand") as refused:
        Receipt(bare).verify(roots=roots, offline=False)
    assert refused.value.exit_code == 3


def test_no_timestamp_roots(tmp_path):
    with pytest.raises(ConfigurationError):
        TimestampRoots.load(tmp_path / "none.pem")


def test_http_and_challenge_survive(receipt):
    again = Receipt.load(receipt.to_bytes(include="bytes"))
    assert again.parts.http == receipt.parts.http
    assert again.parts.http.status == 200
    hashes = Receipt.load(receipt.to_bytes())
    assert hashes.receipt_id == receipt.receipt_id
    assert hashes.parts.response == Kept(sha256=receipt.parts.response.sha256, raw=None)


def test_the_policy_of_the_reader(receipt, roots):
    policy = Policy.genuine().replace(require={"receipt.time": "proven"})
    with pytest.raises(Exception, match="its holder's word"):
        appraise(receipt, roots=roots, policy=policy)


def test_another_answers_signature_gets_none_of_the_receipts_word(tee, roots, authority, trusted):
    """Its timestamp bounds its own answer, whatever else the same key has signed since."""
    forge = ReceiptForge(tee)
    old, new = (Receipt(forge.receipt(text)) for text in ("then", "now"))
    at = now() + timedelta(minutes=2)
    old = old.with_timestamp(authority.stamp(old.parts.digest, at))
    parts = new.parts
    swapped = {"answer": parts.response.raw, "request": parts.request.raw}
    for receipt in (old, Receipt.load(old.to_bytes(include="hashes"))):
        with pytest.raises(BindingMismatch) as refused:
            appraise(
                receipt,
                roots=roots,
                timestamp_roots=trusted,
                signature=parts.signature,
                **swapped,
            )
        assert refused.value.id == "receipt"
        with pytest.raises(ResponseNotVerified):
            appraise(receipt, roots=roots, timestamp_roots=trusted, **swapped)
    own = appraise(old, roots=roots, timestamp_roots=trusted, signature=old.parts.signature)
    assert own.exit_code == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"answered_at": timedelta(days=-200)}, "before the evidence of its machine"),
        ({"answered_at": timedelta(hours=9)}, "in the future"),
    ],
)
def test_times_that_contradict_each_other_or_the_readers_clock(receipt, roots, changes, words):
    parts = receipt.parts
    moved = {name: getattr(parts, name) + by for name, by in changes.items()}
    with pytest.raises(AppraisalFailed, match=words) as refused:
        appraise(Receipt(dataclasses.replace(parts, **moved)), roots=roots)
    assert refused.value.id == "receipt.time"


def test_an_answer_before_its_evidence_may_be_allowed_by_days(receipt, roots):
    parts = receipt.parts
    early = dataclasses.replace(parts, answered_at=parts.answered_at - timedelta(days=2))
    assert appraise(Receipt(early), roots=roots, allow_attested_later=3).satisfied
    with pytest.raises(AppraisalFailed):
        appraise(Receipt(early), roots=roots, allow_attested_later=1)


@pytest.mark.parametrize(("crl", "compared"), [(None, False), ("a list", True)])
def test_an_amd_report_without_the_list_of_revoked_cas_was_not_compared(crl, compared):
    """Its chain verifies without the list, and then says nothing of revocation."""
    machine = SimpleNamespace(
        machine=SimpleNamespace(quote=None, snp_report=b"report", gpus=None),
        cpu=None,
        snp=SimpleNamespace(crl=crl),
    )
    known = Hindsight(id="", stated=now(), at=now(), now=SimpleNamespace(machines=(machine,)))
    assert known.compared is compared
