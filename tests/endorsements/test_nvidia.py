"""NVIDIA's services over real HTTP: what is asked, kept, and refused."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from teeverify import nvidia
from teeverify.client import Verifier
from teeverify.client.receipts.collateral import endorsements_beside
from teeverify.client.vendors.nvidia import NvidiaEndorsements
from teeverify.clock import now
from teeverify.endorsements.fetch import Fetcher
from teeverify.errors import ConfigurationError
from teeverify.nvidia.eat import parse_answer
from teeverify.nvidia.services import Hosts
from teeverify.providers import DIALECTS
from teeverify.roots import UnsafeTestRoots
from teeverify.roots.anchors import as_roots
from teeverify.simulator.nvidia_services import NvidiaServices, Reply

pytestmark = pytest.mark.network

NONCE = secrets.token_bytes(32)


@pytest.fixture(scope="session")
def roots(vendor):
    return UnsafeTestRoots([vendor.roots_pem()])


@pytest.fixture
def source(nvidia_host, tmp_path):
    """Endorsements fetched from the fake services."""

    def make(timeout: float = 10.0, **options) -> NvidiaEndorsements:
        url = nvidia_host.url
        options = {"cache": tmp_path / "cache", **options}
        return NvidiaEndorsements(
            hosts=Hosts(rim=url, ocsp=url, nras=url),
            fetcher=Fetcher(timeout=timeout, ca_file=nvidia_host.ca_file),
            **options,
        )

    return make


@pytest.fixture
def complete(vendor, roots, source):
    """What is at hand for two GPUs once the services were asked."""

    def run(entries=None, given=None, *, using=None, **arguments):
        listed = vendor.evidence_list(NONCE, 2) if entries is None else entries
        return (using or source()).complete(
            nvidia.parse_evidence(listed),
            given,
            **{"nonce": NONCE, "at": now(), "roots": as_roots(roots), **arguments},
        )

    return run


@pytest.fixture
def judge(vendor, roots, source):
    """Appraise GPU evidence alone, online, as people do."""

    def run(using=None, entries=None, policy="genuine", **options):
        verifier = Verifier(roots=roots, nvidia=using or source(), policy=policy, **options)
        text = json.dumps(vendor.evidence_list(NONCE, 2) if entries is None else entries)
        return verifier.appraise(text.encode(), nonce=NONCE, scope="evidence")

    return run


def finding(result, check_id):
    return next(one for one in result.findings if one.id == check_id)


# --- what is asked ------------------------------------------------------------------------------


def test_manifests_and_revocation_are_fetched_and_prove_the_firmware(judge, nvidia_host):
    result = judge()
    assert result.exit_code == 0, result.summary
    assert {f.outcome.value for f in result.findings if f.id == "gpu.device"} == {"proven"}
    assert finding(result, "gpu.revocation").outcome.value == "proven"
    # Driver and VBIOS; two devices, provisioner and identity, three signers of manifests.
    assert nvidia_host.counted() == {"rim": 2, "ocsp": 2 + 2 + 3, "nras": 0, "jwks": 0}


def test_nothing_is_sent_but_what_is_needed(complete, nvidia_host):
    complete()
    for headers in nvidia_host.sent:
        assert not headers.keys() & {"Authorization", "Cookie", "X-NVIDIA-OCSP-ALLOW-CERT-HOLD"}
        assert headers["Accept-Encoding"] == "identity"
    posted = [h for h in nvidia_host.sent if "Content-Type" in h]
    assert {h["Content-Type"] for h in posted} == {"application/ocsp-request"}


def test_the_second_time_everything_is_kept(complete, nvidia_host, source):
    complete(using=source())
    asked = len(nvidia_host.asked)
    again = complete(using=source())
    assert len(nvidia_host.asked) == asked
    assert again.endorsements.rims
    assert again.endorsements.ocsp


def test_kept_answers_are_verified_again(complete, nvidia_host, source):
    complete(using=source())
    store = source().store
    for answer in list(store.answers()):
        spoilt = answer.body.replace(b"\x30", b"\x31", 1).replace(b'"id"', b'"ID"')
        store.save(type(answer)(url=answer.url, headers={}, body=spoilt))
    nvidia_host.asked.clear()
    again = complete(using=source())
    assert nvidia_host.counted()["rim"] == 2
    assert nvidia_host.counted()["ocsp"] == 7
    assert not again.problems


def test_kept_answers_of_another_root_do_not_count(complete, nvidia_host, source, tmp_path):
    """The same ids from another vendor: the kept manifest is asked for anew."""
    from teeverify.simulator.nvidia import Nvidia

    complete(using=source())
    other = Nvidia(at=now())
    nvidia_host.services = NvidiaServices(other)
    nvidia_host.asked.clear()
    found = source().complete(
        nvidia.parse_evidence(other.evidence_list(NONCE, 1)),
        None,
        nonce=NONCE,
        at=now(),
        roots=as_roots(UnsafeTestRoots([other.roots_pem()])),
    )
    assert nvidia_host.counted()["rim"] == 2
    assert not found.problems


def test_a_kept_manifest_that_nvidia_revised_is_asked_for_again(
    complete, judge, nvidia_host, source, vendor
):
    """The kept one refuses what runs; the new revision takes it."""
    values = [[bytes(48)]] * 64
    nvidia_host.services.rim_forms["driver"] = {"values": values}
    complete(using=source())
    nvidia_host.services.rim_forms.clear()
    nvidia_host.asked.clear()
    result = judge(using=source())
    assert result.exit_code == 0, result.summary
    assert nvidia_host.counted()["rim"] == 2


def test_refresh_asks_for_everything(complete, nvidia_host, source):
    complete(using=source())
    nvidia_host.asked.clear()
    complete(using=source(), refresh=True)
    assert nvidia_host.counted() == {"rim": 2, "ocsp": 7, "nras": 0, "jwks": 0}


def test_what_is_at_hand_is_not_fetched(complete, vendor, nvidia_host, roots):
    given = nvidia.Endorsements(
        rims=tuple(nvidia.RimFile(name, xml) for name, xml in vendor.rims().items()),
        ocsp=tuple(vendor.ocsp_answers(now(), vendor.gpu(0), vendor.gpu(1))),
    )
    found = complete(given=given)
    assert nvidia_host.asked == []
    assert found.endorsements.rims == given.rims


def test_evidence_that_does_not_verify_asks_nobody(complete, vendor, nvidia_host):
    """Ids and certificates come from what devices signed, so forged evidence chooses nothing."""
    from teeverify.simulator.authority import new_key

    entries = vendor.evidence_list(NONCE, 2, signer=new_key("p384"))
    found = complete(entries)
    assert nvidia_host.asked == []
    assert found.problems == ()


def test_offline_asks_nobody(judge, nvidia_host):
    result = judge(offline=True)
    assert nvidia_host.asked == []
    assert finding(result, "gpu.device").outcome.value == "absent"


def test_the_past_asks_nobody(vendor, roots, source, nvidia_host):
    verifier = Verifier(roots=roots, nvidia=source())
    text = json.dumps(vendor.evidence_list(NONCE, 1)).encode()
    verifier.appraise(text, nonce=NONCE, at=now() - timedelta(hours=1), scope="evidence")
    assert nvidia_host.asked == []


@pytest.mark.parametrize("chip", ["GB100", "GB20X"])
def test_other_chips(judge, vendor, chip):
    assert judge(entries=vendor.evidence_list(NONCE, 1, chip=chip)).exit_code == 0


def test_gpus_and_switches_of_one_machine(judge, vendor, nvidia_host):
    result = judge(entries=vendor.protected_machine(NONCE, 8, 4))
    assert result.exit_code == 0, result.summary
    assert nvidia_host.counted()["rim"] == 3


# --- what is refused ----------------------------------------------------------------------------


def undecided(result):
    """Nothing was fetched that counts: never proven, and the reason is told."""
    assert finding(result, "gpu.device").outcome.value == "absent"
    return result


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=404), "knows nothing of that name"),
        (Reply(status=500), "status 500"),
        (Reply(status=429), "too many questions"),
        (Reply(status=302, headers={"Location": "https://localhost/"}), "redirect"),
        (Reply(body=b""), "rim"),
        (Reply(body=b"garbage"), "rim"),
        (Reply(body=b"{}"), "rim.id"),
        (Reply(body=b"[" * 5000), "rim"),
        (Reply(body=b"x" * (4 * 1024 * 1024 + 1)), "too large"),
        (Reply(body=b"{}", headers={"Content-Encoding": "gzip"}), "compressed"),
    ],
    ids=lambda value: None if isinstance(value, str) else f"{value.status}-{value.body[:8]!r}",
)
def test_a_rim_service_that_gives_no_manifest(nvidia_host, complete, judge, reply, words, source):
    nvidia_host.services.replies["rim"] = reply
    using = source(nras="never")
    found = complete(using=using)
    assert found.endorsements.rims == ()
    assert words in " ".join(found.problems)
    undecided(judge(using=using))


def test_a_manifest_under_another_id(nvidia_host, complete):
    """`id` must be echoed: a service that answers about another manifest is not believed."""

    def other(made):
        form = json.loads(made.body)
        return Reply(body=json.dumps({**form, "id": "NV_GPU_DRIVER_GH100_999"}).encode())

    nvidia_host.services.replies["rim"] = other
    found = complete()
    assert found.endorsements.rims == ()
    assert "another manifest" in found.problems[0]


def test_a_forged_manifest_is_fetched_and_refused(nvidia_host, judge):
    nvidia_host.services.rim_forms["driver"] = {
        "after": lambda text: text.replace('revision="r1"', 'revision="r2"')
    }
    result = judge()
    assert result.exit_code == 2
    assert finding(result, "rim.signature").outcome.value == "failed"


def test_a_manifest_with_other_golden_values_refuses_whatever_nras_says(nvidia_host, judge, source):
    values = [[bytes(48)]] * 64
    nvidia_host.services.rim_forms["driver"] = {"values": values}
    result = judge(using=source(nras="always"))
    assert result.exit_code == 2
    assert finding(result, "rim.golden-values").outcome.value == "failed"


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"nonce": bytes(32)}, "another nonce"),
        ({"error": "TRY_LATER"}, "gave no answer"),
        ({"error": "INTERNAL_ERROR"}, "gave no answer"),
    ],
)
def test_an_ocsp_answer_that_is_none(nvidia_host, complete, form, words):
    nvidia_host.services.ocsp_form = form
    found = complete()
    assert found.endorsements.ocsp == ()
    assert words in " ".join(found.problems)


def test_an_ocsp_answer_about_another_certificate(nvidia_host, complete, vendor):
    nvidia_host.services.ocsp_form = {"about": vendor.gpu(1).authorities[1]}
    found = complete(vendor.evidence_list(NONCE, 1))
    assert found.endorsements.ocsp == ()
    assert "another certificate" in " ".join(found.problems)


@pytest.mark.parametrize("body", [b"", b"garbage", b"\x30\x03\x0a\x01\x00", b"0" * 70_000])
def test_an_ocsp_responder_that_answers_garbage(nvidia_host, complete, body):
    nvidia_host.services.replies["ocsp"] = Reply(body=body)
    found = complete()
    assert found.endorsements.ocsp == ()
    assert found.problems


def test_without_a_nonce_the_dates_count(nvidia_host, judge):
    nvidia_host.services.ocsp_form = {"nonce": None}
    assert finding(judge(), "gpu.revocation").outcome.value == "proven"


@pytest.mark.parametrize(
    ("form", "check"),
    [
        ({"status": "revoked"}, "ocsp.status"),
        ({"status": "revoked", "reason": x509.ReasonFlags.certificate_hold}, "ocsp.status"),
        ({"status": "unknown"}, "ocsp.status"),
    ],
    ids=["revoked", "hold", "unknown"],
)
def test_a_revoked_device_is_refused(nvidia_host, judge, form, check):
    nvidia_host.services.ocsp_form = form
    result = judge()
    assert result.exit_code == 2
    assert finding(result, check).outcome.value == "failed"


def test_a_stale_ocsp_answer_is_none(nvidia_host, judge):
    nvidia_host.services.ocsp_form = {"age": timedelta(hours=30), "lifetime": timedelta(days=3)}
    assert finding(judge(), "ocsp.current").outcome.value == "absent"


def test_a_busy_service_is_asked_again(nvidia_host, complete):
    busy = iter([Reply(status=429, headers={"Retry-After": "0"})] * 2)
    nvidia_host.services.replies["rim"] = lambda made: next(busy, made)
    assert len(complete().endorsements.rims) == 2


def test_a_service_that_drips_is_not_waited_for(nvidia_host, complete, source):
    nvidia_host.pause = 0.2
    found = complete(using=source(timeout=0.5, nras="never"))
    assert found.endorsements.rims == ()
    assert "did not come in" in " ".join(found.problems)


def test_a_service_that_is_not_there(complete, tmp_path):
    nowhere = "https://localhost:1"
    using = NvidiaEndorsements(
        hosts=Hosts(rim=nowhere, ocsp=nowhere, nras=nowhere),
        fetcher=Fetcher(timeout=5),
        cache=tmp_path,
    )
    found = complete(using=using)
    assert "no connection" in " ".join(found.problems)
    assert "not asked" in " ".join(found.problems)


# --- NVIDIA's own word --------------------------------------------------------------------------


@pytest.fixture
def no_rims(nvidia_host):
    nvidia_host.services.replies["rim"] = Reply(status=404)
    return nvidia_host


@pytest.mark.parametrize(("version", "revocation"), [("v3", "absent"), ("v4", "asserted")])
def test_nras_is_asked_where_manifests_are_missing(no_rims, judge, source, version, revocation):
    no_rims.services.replies["ocsp"] = Reply(status=503)
    result = judge(using=source(nras_version=version))
    device = finding(result, "gpu.device")
    assert device.outcome.value == "asserted"
    assert device.by == "NVIDIA's NRAS, to which this evidence was posted here"
    assert finding(result, "gpu.revocation").outcome.value == revocation
    assert f"POST /{version}/attest/gpu" in no_rims.asked


def test_nras_is_not_asked_where_manifests_are_at_hand(complete, nvidia_host):
    complete()
    assert nvidia_host.counted()["nras"] == 0


def test_nras_is_not_asked_where_the_policy_does_not_take_its_word(complete, no_rims):
    complete(nras_counts=False)
    assert no_rims.counted()["nras"] == 0


def test_nras_as_a_second_opinion_must_agree(judge, source, nvidia_host):
    result = judge(using=source(nras="always"))
    assert nvidia_host.counted()["nras"] == 1
    assert finding(result, "gpu.device").outcome.value == "proven"
    assert finding(result, "nras.claims").outcome.value == "proven"


def test_an_nras_no_refuses_although_the_manifests_say_yes(judge, source, nvidia_host):
    nvidia_host.services.nras_form = {"overall": {"x-nvidia-overall-att-result": False}}
    result = judge(using=source(nras="always"))
    assert result.exit_code == 2
    assert finding(result, "nras.claims").outcome.value == "failed"


def test_nras_keys_are_asked_for_once(complete, source, no_rims):
    using = source()
    complete(using=using)
    complete(using=using)
    counted = no_rims.counted()
    assert (counted["nras"], counted["jwks"]) == (2, 1)


def test_an_unknown_key_is_asked_for_once_more(complete, source, no_rims, monkeypatch):
    monkeypatch.setattr("teeverify.client.vendors.nvidia._JWKS_SECONDS", 0.0)
    using = source()
    complete(using=using)
    complete(using=using)
    assert no_rims.counted()["jwks"] == 2


def test_an_answer_about_another_nonce_is_not_taken(complete, no_rims):
    no_rims.services.nras_form = {"overall": {"eat_nonce": "00" * 32}}
    found = complete()
    assert not found.nras_posted
    assert found.endorsements.nras_answers == ()
    assert "another nonce" in " ".join(found.problems)


def test_an_answer_about_other_devices_is_not_taken(complete, no_rims):
    no_rims.services.nras_form = {"submod": {"ueid": "1234"}}
    found = complete()
    assert found.endorsements.nras_answers == ()
    assert "other devices" in " ".join(found.problems)


@pytest.mark.parametrize(
    "reply", [Reply(status=400), Reply(status=500), Reply(body=b"{}"), Reply(body=b"garbage")]
)
def test_an_nras_that_does_not_answer(complete, no_rims, reply):
    no_rims.services.replies["nras"] = reply
    found = complete()
    assert not found.nras_posted
    assert found.endorsements.nras_answers == ()


def test_nras_itself_says_no_with_status_200(no_rims, roots, vendor):
    """The fake service verifies what is posted; its 'no' is an answer like any other."""
    entries = vendor.evidence_list(NONCE, 1)
    body = {"nonce": "00" * 32, "arch": "HOPPER", "evidence_list": entries}
    made = no_rims.services.reply("POST", "/v3/attest/gpu", json.dumps(body).encode())
    assert made.status == 200
    answer = parse_answer(made.body)
    assert answer.overall.payload.boolean("x-nvidia-overall-att-result") is False
    details = answer.submods["GPU-0"].payload.object("x-nvidia-error-details")
    assert details.text("message") == "NONCE_NOT_MATCHING"


def test_switches_are_posted_apart(complete, vendor, no_rims):
    found = complete(vendor.protected_machine(NONCE, 2, 1))
    assert found.nras_posted
    assert [line for line in no_rims.asked if "attest" in line] == [
        "POST /v4/attest/gpu",
        "POST /v4/attest/switch",
    ]


def test_a_recorded_answer_is_not_replaced(complete, vendor, no_rims):
    entries = vendor.evidence_list(NONCE, 2)
    answer, jwks = vendor.nras_answer(entries, NONCE, now())
    found = complete(entries, nvidia.Endorsements(nras_answers=(answer,), jwks=(jwks,)))
    assert not found.nras_posted
    assert no_rims.counted()["nras"] == 0


# --- a live endpoint ----------------------------------------------------------------------------


@pytest.fixture
def live(tmp_path):
    """The evidence of a provider's endpoint as if it came just now, without NVIDIA's word."""
    from teeverify import Evidence
    from teeverify.simulator.endpoint import Endpoint

    endpoint = Endpoint(at=now(), gpus=2)
    evidence = Evidence.load(endpoint.capture(tmp_path / "capture", nras=None))
    return endpoint, replace(evidence, live=True, recorded_at=None, nvidia_endorsements=None)


def test_a_live_endpoint_is_completed(live, nvidia_host, source):
    endpoint, evidence = live
    nvidia_host.services = NvidiaServices(endpoint.nvidia)
    verifier = Verifier(roots=endpoint.roots(), nvidia=source())
    result = verifier.appraise(evidence)
    assert result.exit_code == 0, result.summary
    assert finding(result, "gpu.measurements").outcome.value == "proven"
    assert finding(result, "gpu.revocation").outcome.value == "proven"
    assert "GPUs answered the same nonce" in result.summary
    examined = verifier.examine(evidence, at=now())
    assert len(examined.evidence.nvidia_endorsements.ocsp) == 7
    # A receipt of it holds what was fetched, so that it verifies again offline.
    beside = endorsements_beside(examined.evidence, b"{}", DIALECTS["dstack"])
    assert sorted(name for name, _ in beside["rims"]) == sorted(endpoint.nvidia.gpu(0).rim_ids)
    assert len(beside["ocsp"]) == 7
    kept = nvidia.Endorsements(
        rims=tuple(nvidia.RimFile(name, xml) for name, xml in beside["rims"]),
        ocsp=beside["ocsp"],
    )
    offline = Verifier(roots=endpoint.roots(), endorsements=kept, offline=True)
    later = offline.appraise(replace(evidence, live=False), at=now())
    assert finding(later, "gpu.measurements").outcome.value == "proven"
    assert finding(later, "gpu.revocation").outcome.value == "proven"


def test_a_live_endpoint_whose_manifests_cannot_be_had_is_undecided(live, nvidia_host, source):
    endpoint, evidence = live
    nvidia_host.services = NvidiaServices(endpoint.nvidia)
    nvidia_host.services.replies = {"rim": Reply(status=503), "nras": Reply(status=503)}
    result = Verifier(roots=endpoint.roots(), nvidia=source()).appraise(evidence)
    assert result.exit_code == 3
    assert "Not fetched: NVIDIA's manifest NV_GPU_" in result.summary


def test_a_live_endpoint_by_nvidias_word_is_a_warning(live, nvidia_host, source):
    endpoint, evidence = live
    nvidia_host.services = NvidiaServices(endpoint.nvidia)
    nvidia_host.services.replies = {"rim": Reply(status=404)}
    result = Verifier(roots=endpoint.roots(), nvidia=source()).appraise(evidence)
    assert (result.exit_code, result.tier) == (0, "warning")
    assert finding(result, "gpu.measurements").outcome.value == "asserted"
    assert "only NVIDIA's word" in result.summary
    # "strict" takes nobody's word for it, so nobody is asked, and what it needs is missing.
    nvidia_host.asked.clear()
    strict = Verifier(roots=endpoint.roots(), nvidia=source(), policy="strict")
    assert strict.appraise(evidence).exit_code == 3
    assert nvidia_host.counted()["nras"] == 0


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"hosts": Hosts(rim="http://localhost")},
        {"hosts": Hosts(ocsp="ftp://localhost")},
        {"hosts": Hosts(nras="https://user@localhost")},
        {"nras": "maybe"},
        {"nras_version": "v5"},
    ],
)
def test_wrong_options(options, tmp_path):
    with pytest.raises(ConfigurationError):
        NvidiaEndorsements(cache=tmp_path, **options)


def test_the_hosts_are_nvidias_own_unless_named():
    assert Hosts() == Hosts(
        rim="https://rim.attestation.nvidia.com",
        ocsp="https://ocsp.ndis.nvidia.com",
        nras="https://nras.attestation.nvidia.com",
    )


# --- on the command line ------------------------------------------------------------------------


@pytest.fixture
def cli(capsys):
    from teeverify.cli.main import main

    def run(*arguments: object) -> tuple[int, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as done:
            code = done.code
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


@pytest.fixture
def files(vendor, tmp_path):
    """GPU evidence and the test roots, as files."""
    evidence, roots_file = tmp_path / "gpus.json", tmp_path / "roots.pem"
    evidence.write_text(json.dumps(vendor.evidence_list(NONCE, 2)))
    roots_file.write_bytes(vendor.roots_pem())
    return evidence, roots_file


@pytest.fixture
def fetch(cli, files, nvidia_host, tmp_path):
    """Fetch what the GPUs need from the fake services, into a cache of this test."""

    def run(*more: object, roots: bool = True) -> tuple[int, str]:
        evidence, roots_file = files
        hosts = ("--rim", nvidia_host.url, "--ocsp", nvidia_host.url)
        given = ("--ca-file", nvidia_host.ca_file, "--cache", tmp_path / "kept")
        under = ("--unsafe-test-roots", roots_file) if roots else ()
        return cli("endorsements", "fetch", evidence, *hosts, *given, *under, *more)

    return run


def test_fetched_shown_exported_imported_and_used(cli, files, fetch, tmp_path):
    evidence, roots_file = files
    cache, bundle = tmp_path / "kept", tmp_path / "bundle.json"
    code, text = fetch("--to", bundle)
    assert code == 0, text
    assert "RIM NV_GPU_DRIVER_GH100_570.172.08" in text
    assert "is good" in text
    assert "9 answers written" in text
    for arguments in (("show", "--cache", cache), ("show", bundle)):
        code, text = cli("endorsements", *arguments)
        assert (code, text.count("in force")) == (0, 9), text
    exported, other = tmp_path / "exported.json", tmp_path / "other"
    assert cli("endorsements", "export", exported, "--cache", cache)[0] == 0
    assert cli("endorsements", "import", exported, "--cache", other)[0] == 0
    assert "9 answers written" in cli("endorsements", "export", bundle, "--cache", other)[1]
    verify = ("verify", evidence, "--for", "evidence", "--nonce", NONCE.hex(), "--offline")
    code, text = cli(*verify, "--unsafe-test-roots", roots_file, "--endorsements", bundle, "--all")
    assert code == 0, text
    assert "measurements equal NVIDIA's manifests" in " ".join(text.split())


def test_what_is_out_of_date_is_pruned(cli, fetch, tmp_path):
    cache = tmp_path / "kept"
    assert fetch()[0] == 0
    assert "0 answers forgotten" in cli("endorsements", "prune", "--cache", cache)[1]
    later = (now() + timedelta(days=2)).isoformat()
    assert "7 answers forgotten" in cli("endorsements", "prune", "--cache", cache, "--at", later)[1]
    text = cli("endorsements", "show", "--cache", cache)[1]
    assert text.count("RIM ") == 2
    assert "OCSP" not in text


def test_fetching_for_gpus_that_do_not_verify_is_refused(fetch, nvidia_host):
    assert fetch(roots=False)[0] == 2
    assert nvidia_host.asked == []


def test_a_manifest_that_cannot_be_had_is_told(fetch, nvidia_host):
    nvidia_host.services.replies["rim"] = Reply(status=404)
    code, text = fetch()
    assert code == 3, text
    assert "NV_GPU_DRIVER_GH100_570.172.08" in text
