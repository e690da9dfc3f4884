"""Intel's endorsements, fetched where they are missing, kept, and verified all the same."""

from __future__ import annotations

import json
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from teeverify import UnsafeTestRoots, Verifier, tdx
from teeverify.appraisal import Outcome
from teeverify.cli.main import main
from teeverify.client.vendors.intel import IntelEndorsements
from teeverify.clock import now
from teeverify.endorsements.fetch import Fetcher
from teeverify.errors import ConfigurationError, EndorsementUnavailable, MalformedEvidence
from teeverify.simulator.intel import Intel
from teeverify.tdx.pcs import INTEL_PCS, Platform, Service, platform_of

from .conftest import data_sets

network = pytest.mark.network


@pytest.fixture
def source(pccs, tmp_path):
    def make(**options):
        given = {"host": pccs.url, "cache": tmp_path / "cache", **options}
        return IntelEndorsements(fetcher=Fetcher(ca_file=pccs.ca_file, timeout=5), **given)

    return make


@pytest.fixture
def verifier(source, intel):
    roots = UnsafeTestRoots([intel.roots_pem()])
    return lambda **options: Verifier(**{"roots": roots, "intel": source(), **options})


def appraise(verifier, intel, **asked):
    return verifier.appraise(intel.quote(), scope="evidence", **asked)


# --- what is asked --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"channel": "early", "evaluation_number": 20}, {"channel": "newest"},
        {"evaluation_number": -1}, {"evaluation_number": 65536}, {"evaluation_number": True},
        {"evaluation_number": "20"},
    ],
)  # fmt: skip
def test_options_that_the_service_refuses(options):
    with pytest.raises(ConfigurationError):
        Service(**options)


@pytest.mark.parametrize("ca", ["platform", "processor"])
@pytest.mark.parametrize("tee", ["TDX", "SGX"])
def test_the_urls(tee, ca):
    platform = Platform(tee=tee, fmspc=bytes.fromhex("90c06f000000"), ca=ca)
    urls = [question.url for question in Service().questions(platform)]
    assert urls == [
        "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
        f"{INTEL_PCS}/sgx/certification/v4/pckcrl?ca={ca}&encoding=der",
        f"{INTEL_PCS}/{tee.lower()}/certification/v4/tcb?fmspc=90c06f000000",
        f"{INTEL_PCS}/{tee.lower()}/certification/v4/qe/identity",
    ]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"channel": "early"}, {"update": ["early"]}),
        ({"channel": "standard"}, {"update": ["standard"]}),
        ({"evaluation_number": 19}, {"tcbEvaluationDataNumber": ["19"]}),
        ({"evaluation_number": 0}, {"tcbEvaluationDataNumber": ["0"]}),
    ],
)
def test_the_data_set_is_named_in_both_documents(options, wanted):
    platform = Platform(tee="TDX", fmspc=bytes(6), ca="platform")
    questions = Service(base="https://pccs:8081/", **options).questions(platform)
    assert questions[0].url == "https://pccs:8081/sgx/certification/v4/rootcacrl"
    for question in questions[2:]:
        query = parse_qs(urlsplit(question.url).query)
        assert {name: query[name] for name in wanted} == wanted


def test_the_platform_is_read_from_the_quote(intel):
    platform = platform_of(tdx.parse_quote(intel.quote()))
    assert (platform.tee, platform.fmspc.hex(), platform.ca) == (
        "TDX", intel.platform.fmspc, "platform",
    )  # fmt: skip
    processor = Intel(at=intel.at, ca="processor")
    assert platform_of(tdx.parse_quote(processor.quote(version=3, body="sgx"))).tee == "SGX"
    assert platform_of(tdx.parse_quote(processor.quote())).ca == "processor"


def test_a_quote_without_its_chain_names_no_platform(intel):
    quote = {"certification_type": 2, "certification_data": bytes(300)}
    with pytest.raises(EndorsementUnavailable) as caught:
        platform_of(tdx.parse_quote(intel.quote(quote=quote)))
    assert caught.value.id == "tdx.pck-chain"


@pytest.mark.parametrize("host", ["http://localhost", "localhost", "ftp://x"])
def test_the_host_is_https(host, tmp_path):
    with pytest.raises(ConfigurationError):
        IntelEndorsements(host=host, cache=tmp_path)


# --- fetching -------------------------------------------------------------------------------------


@network
def test_what_is_missing_is_fetched_and_verified(verifier, intel, pccs):
    result = appraise(verifier(), intel)
    assert result.finding("tdx.tcb-status").outcome is Outcome.PROVEN
    assert len(pccs.asked) == 4


@network
def test_what_is_kept_is_not_fetched_again(verifier, intel, pccs):
    appraise(verifier(), intel)
    result = appraise(verifier(), intel)
    assert result.finding("tdx.tcb-status").outcome is Outcome.PROVEN
    assert len(pccs.asked) == 4


@network
def test_what_is_kept_is_verified_again(verifier, source, intel, pccs):
    appraise(verifier(), intel)
    store = source().store
    for answer in store.answers():
        if "/tcb?" in answer.url:
            body = answer.body.replace(b'"UpToDate"', b'"Revoked"', 1)
            store.save(type(answer)(url=answer.url, headers=answer.headers, body=body))
    result = appraise(verifier(), intel)
    assert result.exit_code == 2
    assert result.finding("tdx.tcb-info").outcome is Outcome.FAILED


@network
def test_what_is_out_of_date_is_fetched_anew(source, intel, pccs):
    made = source()
    made.for_quotes([intel.quote()], at=now())
    made.for_quotes([intel.quote()], at=now() + timedelta(days=400))
    assert len(pccs.asked) == 8


@network
def test_of_an_unreadable_answer_nothing_is_kept(source, intel, pccs, reply):
    pccs.replies["/tdx/certification/v4/tcb"] = [reply(body=b"{}")]
    made = source()
    with pytest.raises(MalformedEvidence):
        made.for_quotes([intel.quote()], at=now())
    assert not [answer for answer in made.store.answers() if "/tcb?" in answer.url]


@network
def test_an_answer_without_its_chain_decides_nothing(verifier, intel, pccs):
    pccs.replies["/tdx/certification/v4/tcb"][0].headers.clear()
    result = appraise(verifier(), intel)
    assert result.exit_code == 3
    assert result.finding("tdx.tcb-info").outcome is Outcome.ABSENT


@network
@pytest.mark.parametrize("status", [404, 410, 500, 302])
def test_what_cannot_be_had_is_undecided(verifier, intel, pccs, reply, status):
    pccs.replies["/tdx/certification/v4/tcb"] = [reply(status)]
    assert appraise(verifier(), intel).exit_code == 3


def test_offline_fetches_nothing(tmp_path, intel):
    source = IntelEndorsements(host="https://localhost:1", cache=tmp_path)
    roots = UnsafeTestRoots([intel.roots_pem()])
    verifier = Verifier(roots=roots, intel=source, offline=True)
    assert appraise(verifier, intel).exit_code == 3


def test_of_the_past_nothing_is_fetched(tmp_path, intel):
    source = IntelEndorsements(host="https://localhost:1", cache=tmp_path)
    verifier = Verifier(roots=UnsafeTestRoots([intel.roots_pem()]), intel=source)
    result = appraise(verifier, intel, at=now() - timedelta(hours=1))
    assert result.exit_code == 3


def test_under_foreign_roots_intels_service_is_not_asked(intel):
    """Nothing would open a socket here: the test would fail."""
    verifier = Verifier(roots=UnsafeTestRoots([intel.roots_pem()]))
    assert appraise(verifier, intel).exit_code == 3


# --- rollback -------------------------------------------------------------------------------------


@network
def test_older_data_than_seen_before_refuses(verifier, source, intel, pccs):
    pccs.serve(intel, tcb_info={"tcbEvaluationDataNumber": 30},
               qe_identity={"tcbEvaluationDataNumber": 30})  # fmt: skip
    assert appraise(verifier(), intel).finding("tcb.evaluation-number").outcome is Outcome.PROVEN
    store = source().store
    store.remove([answer.url for answer in store.answers()])
    pccs.serve(intel, tcb_info={"tcbEvaluationDataNumber": 29},
               qe_identity={"tcbEvaluationDataNumber": 30})  # fmt: skip
    result = appraise(verifier(), intel)
    finding = result.finding("tcb.evaluation-number")
    assert (result.exit_code, finding.outcome) == (1, Outcome.FAILED)
    assert "29, was 30" in finding.got


@network
def test_counters_of_two_roots_do_not_mix(verifier, source, intel, pccs):
    appraise(verifier(), intel)
    other = Intel(at=intel.at)
    pccs.serve(other)
    store = source().store
    store.remove([answer.url for answer in store.answers()])
    roots = UnsafeTestRoots([other.roots_pem()])
    assert appraise(verifier(roots=roots), other).finding("tcb.evaluation-number").outcome is (
        Outcome.PROVEN
    )
    names = set(store.counters())
    assert len({name.partition("/")[0] for name in names}) == 2


# --- the command ----------------------------------------------------------------------------------


@network
def test_fetch_show_export_import_prune(pccs, intel, tmp_path, capsys):
    quote = tmp_path / "quote.bin"
    quote.write_bytes(intel.quote())
    cache, bundle = ["--cache", str(tmp_path / "cache")], tmp_path / "bundle.json"
    fetch = ["fetch", "--pccs", pccs.url, "--ca-file", str(pccs.ca_file), *cache]
    assert main(["endorsements", *fetch, str(quote), "--to", str(bundle)]) == 0
    out = capsys.readouterr().out
    assert "TCB info TDX" in out
    assert "list of TDX data sets, the newest" in out
    assert "5 answers written" in out
    assert main(["endorsements", *fetch, "--fmspc", intel.platform.fmspc]) == 0
    assert main(["endorsements", "show", *cache]) == 0
    assert "nothing here was verified" in capsys.readouterr().out
    second = ["--cache", str(tmp_path / "second")]
    assert main(["endorsements", "import", str(bundle), *second]) == 0
    assert main(["endorsements", "export", str(tmp_path / "again.json"), *second]) == 0
    assert (tmp_path / "again.json").read_bytes() == bundle.read_bytes()
    assert main(["endorsements", "show", str(bundle)]) == 0
    capsys.readouterr()
    assert main(["endorsements", "prune", *second]) == 0
    assert "0 answers forgotten" in capsys.readouterr().out
    assert main(["endorsements", "prune", *second, "--at", "2199-01-01T00:00:00Z"]) == 0
    assert "5 answers forgotten" in capsys.readouterr().out
    claims = tdx.verify_quote(
        intel.quote(), tdx.Endorsements.load(bundle), at=now(),
        roots=UnsafeTestRoots([intel.roots_pem()]),
    )  # fmt: skip
    assert claims.tcb_status is tdx.TcbStatus.UP_TO_DATE


@network
def test_fetch_goes_on_without_the_list_of_data_sets(pccs, intel, tmp_path, capsys, reply):
    pccs.replies["/tdx/certification/v4/tcbevaluationdatanumbers"] = [reply(status=404)]
    fetch = ["fetch", "--pccs", pccs.url, "--ca-file", str(pccs.ca_file)]
    fetch += ["--cache", str(tmp_path / "cache"), "--to", str(tmp_path / "bundle.json")]
    assert main(["endorsements", *fetch, "--fmspc", intel.platform.fmspc]) == 0
    out = capsys.readouterr().out
    assert "Intel's list of data sets could not be fetched" in out
    assert "4 answers written" in out


@network
@pytest.mark.parametrize("option", [["--update", "early"], ["--number", "19"]])
def test_fetch_names_the_data_set(pccs, intel, tmp_path, option):
    fetch = ["fetch", "--pccs", pccs.url, "--ca-file", str(pccs.ca_file)]
    fetch += ["--cache", str(tmp_path / "cache"), "--fmspc", intel.platform.fmspc, *option]
    assert main(["endorsements", *fetch]) == 0
    wanted = "update=early" if option[1] == "early" else "tcbEvaluationDataNumber=19"
    assert len([path for path in pccs.asked if wanted in path]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["fetch"], ["fetch", "x", "--fmspc", "90c06f000000"], ["fetch", "--fmspc", "x"],
        ["fetch", "--fmspc", "90c06f000000", "--pccs", "http://localhost"],
        ["fetch", "--fmspc", "90c06f000000", "--update", "early", "--number", "1"],
        ["import", "nowhere.json"], ["prune", "--at", "soon"], ["show", "nowhere"],
    ],
)  # fmt: skip
def test_wrong_use(arguments, tmp_path, capsys):
    code = main(["endorsements", *arguments, "--cache", str(tmp_path / "cache")])
    assert code in (2, 64)
    assert capsys.readouterr().err


# --- the standard data set of today ---------------------------------------------------------------


def number_finding(verifier, intel):
    return appraise(verifier(policy="strict"), intel).finding("tcb.evaluation-number")


@network
def test_strict_compares_with_the_standard_data_set(verifier, intel, pccs):
    finding = number_finding(verifier, intel)
    assert finding.outcome is Outcome.PROVEN
    assert "at least 20" in finding.message
    assert len(pccs.asked) == 5


@network
def test_an_older_data_set_than_the_standard_one(verifier, intel, pccs):
    old = {"tcbEvaluationDataNumber": 19}
    pccs.serve(intel, tcb_info=old, qe_identity=old)
    finding = number_finding(verifier, intel)
    assert finding.outcome is Outcome.FAILED
    assert (finding.got, finding.want) == ("19", "at least 20")


@network
@pytest.mark.parametrize("status", [404, 500])
def test_without_the_list_strict_is_undecided(verifier, intel, pccs, reply, status):
    pccs.replies["/tdx/certification/v4/tcbevaluationdatanumbers"] = [reply(status=status)]
    result = appraise(verifier(policy="strict"), intel)
    finding = result.finding("tcb.evaluation-number")
    assert (finding.outcome, finding.exit_code) == (Outcome.ABSENT, 3)
    assert "could not be had" in finding.message
    assert appraise(verifier(), intel).finding("tcb.evaluation-number").outcome is Outcome.PROVEN


@network
def test_a_list_that_another_signed_refuses(verifier, intel, pccs):
    forged = data_sets(intel, signer=Intel(at=intel.at).signer)
    pccs.replies["/tdx/certification/v4/tcbevaluationdatanumbers"] = [forged]
    result = appraise(verifier(policy="strict"), intel)
    assert result.finding("tdx.evaluation-numbers").outcome is Outcome.FAILED
    assert result.exit_code == 2


def test_offline_nothing_is_compared(intel):
    roots = UnsafeTestRoots([intel.roots_pem()])
    verifier = Verifier(
        roots=roots,
        offline=True,
        policy="strict",
        endorsements=tdx.Endorsements.load(json.dumps(intel.collateral())),
    )
    result = verifier.appraise(intel.quote(), scope="evidence")
    assert result.finding("tcb.evaluation-number").outcome is Outcome.PROVEN
