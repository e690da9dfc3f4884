"""Endorsements: their forms, which piece is taken, and what is kept of a verification."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from teeverify import tdx
from teeverify.crypto import ecdsa
from teeverify.endorsements.remembered import Dated
from teeverify.errors import (
    ChainInvalid,
    ConfigurationError,
    EndorsementInvalid,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TeeVerifyError,
)
from teeverify.simulator.intel import Intel, write_capture, write_plain

DAY = timedelta(days=1)
OTHER = "b0c06f000000"


def captured(tmp_path, *collaterals) -> tdx.Endorsements:
    for index, collateral in enumerate(collaterals):
        write_capture(tmp_path, collateral, first=1 + 10 * index)
    return tdx.Endorsements.load(tmp_path)


def edit(folder: Path, pattern: str, **members) -> None:
    (path,) = folder.glob(pattern)
    path.write_text(json.dumps({**json.loads(path.read_text()), **members}))


# --- forms -----------------------------------------------------------------------------------


def test_text_bytes_file_capture_and_plain_files_say_the_same(forge, tmp_path):
    collateral = forge.intel.collateral()
    text = json.dumps(collateral)
    file = tmp_path / "collateral.json"
    file.write_text(text)
    for name, write in (("capture", write_capture), ("plain", write_plain)):
        (tmp_path / name).mkdir()
        write(tmp_path / name, collateral)
    for source in (
        text,
        "\n " + text,
        text.encode(),
        file,
        str(file),
        tmp_path / "capture",
        str(tmp_path / "plain"),
    ):
        endorsements = tdx.Endorsements.load(source)
        assert forge.verify(endorsements=endorsements).tcb_status == "UpToDate"
        assert repr(endorsements).startswith("Endorsements(1 TCB infos, 1 QE identities")


@pytest.mark.parametrize("form", ["der", "pem", "hex"])
def test_revocation_lists_in_der_pem_and_hex(forge, tmp_path, form):
    write_plain(tmp_path, forge.intel.collateral())
    for name in ("root_ca_crl", "pck_crl"):
        path = tmp_path / f"{name}.der"
        path.write_bytes(_written(path.read_bytes(), form))
    assert forge.verify(endorsements=tdx.Endorsements.load(tmp_path))


def _written(der: bytes, form: str) -> bytes:
    if form == "pem":
        body = base64.encodebytes(der).decode()
        return f"-----BEGIN X509 CRL-----\n{body}-----END X509 CRL-----\n".encode()
    return der.hex().encode() + b"\n" if form == "hex" else der


def test_plain_names_as_people_write_them(forge, tmp_path):
    write_plain(tmp_path, forge.intel.collateral())
    (tmp_path / "tcb_signing_chain.pem").rename(tmp_path / "TCB-Info-Issuer-Chain.txt")
    (tmp_path / "qe_identity_signing_chain.pem").unlink()
    (tmp_path / "root_ca_crl.der").rename(tmp_path / "RootCaCrl.der")
    (tmp_path / "SGX-PCK-CRL-Issuer-Chain.txt").write_text("is not needed")
    (tmp_path / "README.md").write_text("is not ours")
    assert forge.verify(endorsements=tdx.Endorsements.load(tmp_path))


def test_a_pck_chain_among_plain_files(forge, tmp_path):
    write_plain(tmp_path, forge.intel.collateral())
    (tmp_path / "pck_certificate_chain.pem").write_bytes(forge.intel.pck_chain())
    raw = forge.intel.quote(quote={"certification_type": 1, "certification_data": bytes(36)})
    assert forge.verify(raw, tdx.Endorsements.load(tmp_path))


def test_an_empty_directory_holds_nothing(forge, tmp_path):
    with pytest.raises(EndorsementUnavailable):
        forge.verify(endorsements=tdx.Endorsements.load(tmp_path))


def test_paths_and_types_that_cannot_be_read(tmp_path):
    for wrong in (
        tmp_path / "none",
        str(tmp_path / "none.json"),
        "",
        "a\0b",
        "x" * 5000,
        5,
        None,
        ["{}"],
    ):
        with pytest.raises(ConfigurationError):
            tdx.Endorsements.load(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{",
        '{"tcb_info": 5}',
        '{"tcb_info": "{}"}',
        '{"tcb_info": "{}", "tcb_info_signature": "zz"}',
        '{"root_ca_crl": "zz"}',
        '{"root_ca_crl": ""}',
        '{"pck_crl": "3000"}',
        '{"pck_crl": "30", "pck_crl": "30"}',
        '{"tcb_info": null}',
        '{"a": ' * 100 + "1" + "}" * 100,
    ],
)
def test_json_of_another_form(text):
    with pytest.raises(MalformedEvidence):
        tdx.Endorsements.load(text)


def test_json_members_that_nobody_needs_may_be_anything(forge):
    form = {"pck_crl_issuer_chain": "nonsense", "more": [1, 2]}
    assert forge.verify(endorsements=forge.endorsements(form))


# --- recorded exchanges ----------------------------------------------------------------------


def test_header_names_in_any_case_and_the_older_name(forge, tmp_path):
    write_capture(tmp_path, forge.intel.collateral())
    (path,) = tmp_path.glob("*_tcb.http.json")
    record = json.loads(path.read_text())
    (chain,) = record["headers"].values()
    for name in ("SGX-TCB-Info-Issuer-Chain", "tcb-info-issuer-chain"):
        edit(tmp_path, "*_tcb.http.json", headers={name: chain})
        assert forge.verify(endorsements=tdx.Endorsements.load(tmp_path))


@pytest.mark.parametrize("pattern", ["*_tcb.http.json", "*_identity.http.json"])
def test_a_recorded_answer_without_its_chain(forge, tmp_path, pattern):
    write_capture(tmp_path, forge.intel.collateral())
    edit(tmp_path, pattern, headers={"Content-Type": ["application/json"]})
    with pytest.raises(EndorsementUnavailable, match="issuer chain"):
        forge.verify(endorsements=tdx.Endorsements.load(tmp_path))


@pytest.mark.parametrize(
    ("pattern", "check"),
    [
        ("*_tcb.http.json", "tdx.tcb-info"),
        ("*_identity.http.json", "tdx.qe-identity"),
        ("*_pckcrl.http.json", "tdx.pck-crl"),
        ("*_intelsgxrootca.der.http.json", "tdx.root-crl"),
    ],
)
@pytest.mark.parametrize(
    "change",
    [
        {"status": 404},
        {"status": 500},
        {"url": "https://example.com/elsewhere"},
    ],
)
def test_what_was_not_answered_is_not_there(forge, tmp_path, pattern, check, change):
    write_capture(tmp_path, forge.intel.collateral())
    edit(tmp_path, pattern, **change)
    with pytest.raises(EndorsementUnavailable) as caught:
        forge.verify(endorsements=tdx.Endorsements.load(tmp_path))
    assert caught.value.id == check


def test_a_mirror_answers_as_well_as_intel(forge, tmp_path):
    write_capture(tmp_path, forge.intel.collateral())
    for pattern, path in (
        (
            "*_tcb.http.json",
            "/tdx/certification/v4/tcb?tcbEvaluationDataNumber=20&fmspc=90C06F000000",
        ),
        ("*_intelsgxrootca.der.http.json", "/sgx/certification/v4/rootcacrl"),
    ):
        edit(tmp_path, pattern, url=f"https://pccs.example:8081{path}")
    assert forge.verify(endorsements=tdx.Endorsements.load(tmp_path))


def test_broken_recordings(forge, tmp_path):
    write_capture(tmp_path, forge.intel.collateral())
    for pattern, broken in (
        ("*_tcb.body", b""),
        ("*_tcb.body", b'{"tcbInfo":{}}'),
        ("*_tcb.body", b"<html>"),
        ("*_tcb.body", b'{"tcbInfo":{},"signature":5}'),
        ("*_tcb.http.json", b"[]"),
        ("*_tcb.http.json", b'{"url": 5}'),
        ("*_pckcrl.body", b"\xff\xfe"),
        ("*_pckcrl.body", b"-----BEGIN X509 CRL-----"),
        ("*_intelsgxrootca.der.body", b"0"),
        ("*_intelsgxrootca.der.body", bytes(5_000_000)),
    ):
        (path,) = tmp_path.glob(pattern)
        good = path.read_bytes()
        path.write_bytes(broken)
        with pytest.raises(MalformedEvidence):
            tdx.Endorsements.load(tmp_path)
        path.write_bytes(good)
    (path,) = tmp_path.glob("*_tcb.body")
    path.unlink()
    with pytest.raises(TeeVerifyError):
        tdx.Endorsements.load(tmp_path)


# --- which piece is taken --------------------------------------------------------------------


@pytest.fixture
def two(forge):
    """TCB information of one fake Intel for two platforms."""
    return forge.intel.collateral(), forge.intel.collateral(tcb_info={"fmspc": OTHER})


def test_each_platform_gets_its_own_tcb_info(forge, two, tmp_path):
    assert forge.verify(endorsements=captured(tmp_path, *two)).fmspc.hex() == "90c06f000000"
    several = tdx.Endorsements.union(*(tdx.Endorsements.load(json.dumps(one)) for one in two))
    assert forge.verify(endorsements=several)


def test_an_answer_that_is_not_what_was_asked_for_is_wrong(forge, two, tmp_path):
    write_capture(tmp_path, two[1])
    edit(tmp_path, "*_tcb.http.json", url=_tcb_url("90c06f000000"))
    with pytest.raises(EndorsementInvalid) as caught:
        forge.verify(endorsements=tdx.Endorsements.load(tmp_path))
    assert caught.value.id == "tdx.fmspc"
    # A right one beside it does not rescue it, wherever it stands.
    for first in (5, 50):
        write_capture(tmp_path, two[0], first=first)
        with pytest.raises(EndorsementInvalid):
            forge.verify(endorsements=tdx.Endorsements.load(tmp_path))


def test_what_was_recorded_for_others_is_missing_here(forge, two, tmp_path):
    with pytest.raises(EndorsementUnavailable, match="90c06f000000") as caught:
        forge.verify(endorsements=captured(tmp_path, two[1]))
    assert caught.value.id == "tdx.tcb-info"
    # Even where what it says would fit: it was the answer to another question.
    (tmp_path / "b").mkdir()
    write_capture(tmp_path / "b", two[0])
    edit(tmp_path / "b", "*_tcb.http.json", url=_tcb_url(OTHER))
    with pytest.raises(EndorsementUnavailable):
        forge.verify(endorsements=tdx.Endorsements.load(tmp_path / "b"))


def test_the_only_one_is_meant_for_this_quote(forge, two):
    with pytest.raises(EndorsementInvalid) as caught:
        forge.verify(endorsements=tdx.Endorsements.load(json.dumps(two[1])))
    assert caught.value.id == "tdx.fmspc"


def test_of_several_that_fit_none_fits(forge, two):
    others = [two[1], forge.intel.collateral(tcb_info={"fmspc": "00806f050000"})]
    several = tdx.Endorsements.union(*(tdx.Endorsements.load(json.dumps(one)) for one in others))
    with pytest.raises(EndorsementUnavailable) as caught:
        forge.verify(endorsements=several)
    assert caught.value.id == "tdx.tcb-info"


def _tcb_url(fmspc: str) -> str:
    return f"https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc={fmspc}"


@pytest.mark.parametrize("address", ["platform", "processor"])
def test_the_crl_of_the_other_ca(make_forge, tmp_path, address):
    forge = make_forge()
    other = forge.intel.root.issue("Intel SGX PCK Processor CA", ca=True)
    write_capture(tmp_path, {**forge.intel.collateral(), "pck_crl": other.crl().hex()})
    url = f"https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca={address}"
    edit(tmp_path, "*_pckcrl.http.json", url=url)
    error = EndorsementInvalid if address == "platform" else EndorsementUnavailable
    with pytest.raises(error) as caught:
        forge.verify(endorsements=tdx.Endorsements.load(tmp_path))
    assert caught.value.id == "tdx.pck-crl"


def test_of_several_the_one_in_force_then_the_newest(forge, tmp_path):
    def issued(days, number):
        return forge.intel.collateral(
            issue_date=forge.at + days * DAY,
            next_update=forge.at + (days + 30) * DAY,
            tcb_info={"tcbEvaluationDataNumber": number},
            root_crl={"number": number},
            pck_crl={"number": number},
        )

    versions = [issued(-40, 17), issued(-20, 18), issued(-5, 19), issued(3, 20)]
    for order in (versions, versions[::-1]):
        for name in tmp_path.iterdir():
            name.unlink()
        claims = forge.verify(endorsements=captured(tmp_path, *order))
        assert claims.tcb_info_number == 19
        assert (claims.root_crl_number, claims.pck_crl_number) == (19, 19)
    old = captured(tmp_path, *versions)
    assert forge.verify(endorsements=old, at=forge.at - 15 * DAY).tcb_info_number == 18
    with pytest.raises(EndorsementUnavailable):
        forge.verify(endorsements=old, at=forge.at + 60 * DAY)


def test_newer_is_later_not_higher(forge, tmp_path):
    def issued(days, number):
        return forge.intel.collateral(
            issue_date=forge.at + days * DAY, tcb_info={"tcbEvaluationDataNumber": number}
        )

    claims = forge.verify(endorsements=captured(tmp_path, issued(-2, 19), issued(-1, 18)))
    assert claims.tcb_info_number == 18
    same = captured(tmp_path, issued(-1, 18), issued(-1, 19))
    assert forge.verify(endorsements=same).tcb_info_number == 19


def test_a_forged_newer_one_is_not_passed_over(forge, tmp_path):
    newer = forge.intel.collateral(issue_date=forge.at)
    forged = {**newer, "tcb_info": newer["tcb_info"].replace(":20,", ":21,")}
    with pytest.raises(SignatureInvalid):
        forge.verify(endorsements=captured(tmp_path, forge.intel.collateral(), forged))


def test_several_chains_aside_are_none(forge):
    chain = forge.intel.pck_chain().decode()
    forms = [
        {**forge.intel.collateral(), "pck_certificate_chain": one} for one in (chain, chain + "\n")
    ]
    several = tdx.Endorsements.union(*(tdx.Endorsements.load(json.dumps(one)) for one in forms))
    raw = forge.intel.quote(quote={"certification_type": 2, "certification_data": bytes(300)})
    with pytest.raises(EndorsementUnavailable) as caught:
        forge.verify(raw, several)
    assert caught.value.id == "tdx.pck-chain"
    assert forge.verify(endorsements=several)


# --- what is kept ----------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """Count ECDSA verifications."""
    calls = []
    original = ecdsa._verify

    def verify(*args):
        calls.append(args)
        return original(*args)

    monkeypatch.setattr(ecdsa, "_verify", verify)
    return calls


def test_a_second_quote_of_a_machine_costs_two_signatures(forge, counted):
    endorsements = forge.endorsements()
    first, second = forge.intel.quote(), forge.intel.quote(report_data=b"\x01" * 64)
    counted.clear()
    forge.verify(first, endorsements)
    assert len(counted) == 10
    counted.clear()
    forge.verify(second, endorsements)
    assert len(counted) == 2


def test_what_is_kept_is_rechecked_at_each_time(forge, counted):
    endorsements = forge.endorsements()
    forge.verify(endorsements=endorsements)
    for days, accepted in ((28, True), (30, False), (0, True), (-2, False)):
        at = forge.at + days * DAY
        counted.clear()
        if accepted:
            forge.verify(endorsements=endorsements, at=at)
            assert len(counted) == 2
        else:
            with pytest.raises(EndorsementUnavailable):
                forge.verify(endorsements=endorsements, at=at)


def test_what_is_kept_belongs_to_its_roots(forge, make_forge, counted):
    endorsements = forge.endorsements()
    forge.verify(endorsements=endorsements)
    for roots in (make_forge().roots, None):
        with pytest.raises(TeeVerifyError):
            forge.verify(endorsements=endorsements, roots=roots)
    counted.clear()
    assert forge.verify(endorsements=endorsements, roots=[forge.intel.roots_pem()])
    assert len(counted) == 2


def test_what_is_kept_of_one_machine_does_not_help_another(forge, counted):
    sibling = Intel(at=forge.at)
    endorsements = forge.endorsements()
    forge.verify(endorsements=endorsements)
    with pytest.raises(ChainInvalid):
        forge.verify(sibling.quote(), endorsements)
    revoked = forge.endorsements(revoked=["pck"])
    for _ in range(2):
        with pytest.raises(EndorsementInvalid):
            forge.verify(endorsements=revoked)


def test_a_failure_is_not_kept_as_a_success(forge):
    endorsements = forge.endorsements({"tcb_info_signature": "00" * 64})
    for _ in range(3):
        with pytest.raises(SignatureInvalid):
            forge.verify(endorsements=endorsements)


def test_memory_is_bounded(forge):
    endorsements = forge.endorsements()
    for padding in range(300):
        data = forge.intel.pck_chain() + b"\n" * padding
        key = ("pck-chain", data)
        endorsements.remember(key, forge.at, lambda: _dated(forge))
    assert len(endorsements._verified) <= 256


def _dated(forge):
    return Dated(None, forge.at, forge.at)


def test_many_threads_share_one_object(forge):
    endorsements = forge.endorsements()
    quotes = [forge.intel.quote(report_data=bytes([n]) * 64) for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda raw: forge.verify(raw, endorsements), quotes))
    assert [one.quote.report_data[0] for one in claims] == list(range(16))
