"""AMD's key service: what is asked for, what is kept, and what cannot be had."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from teeverify import snp
from teeverify.client import Verifier
from teeverify.client.amd import AmdEndorsements
from teeverify.clock import now
from teeverify.endorsements import Answer
from teeverify.endorsements.fetch import Fetcher
from teeverify.errors import ConfigurationError, EndorsementUnavailable, MalformedEvidence
from teeverify.simulator.amd import Amd, certificate_table
from teeverify.snp.kds import AMD_KDS, current, questions, vcek_url

from .conftest import AT, Forge
from .key_service import KeyService

BASE = "https://kds.example.com"


class Service:
    """A fetcher that asks the fake AMD, and counts."""

    def __init__(self, amd):
        self.amd = amd
        self.asked = []
        self.busy = set()

    def get(self, url, *, what, id, keep=()):
        self.asked.append(url)
        path = urlsplit(url).path
        body = None if path in self.busy else self.amd.kds(path)
        if body is None:
            raise EndorsementUnavailable(f"{what} could not be fetched", id=id, got="status 429")
        return Answer(url=url, headers={}, body=body)


class TestUrls:
    def test_examples(self, forges):
        milan, turin = forges["Milan"].amd, forges["Turin"].amd
        asked = [q.url for q in questions(snp.parse_report(milan.report()))]
        assert asked == [
            f"{AMD_KDS}/vcek/v1/Milan/crl",
            f"{AMD_KDS}/vcek/v1/Milan/{milan.hwid.hex()}?blSPL=04&teeSPL=00&snpSPL=29&ucodeSPL=222",
        ]
        assert len(milan.hwid.hex()) == 128
        last = questions(snp.parse_report(turin.report()))[-1].url
        assert last.endswith(
            f"/vcek/v1/Turin/{turin.hwid.hex()}?fmcSPL=01&blSPL=03&teeSPL=02&snpSPL=05&ucodeSPL=97"
        )
        assert len(turin.hwid.hex()) == 16

    def test_of_another_host(self, forge):
        report = snp.parse_report(forge.amd.report())
        asked = questions(report, base=BASE + "/", with_chain=True)
        assert [urlsplit(q.url).path.rpartition("/")[2][:10] for q in asked[:2]] == [
            "crl",
            "cert_chain",
        ]
        assert all(q.url.startswith(f"{BASE}/vcek/v1/Milan/") for q in asked)

    def test_vlek(self, forge):
        """Its certificate is only given to the cloud: it must come with the report."""
        report = snp.parse_report(forge.amd.report(signer="VLEK"))
        assert [q.url for q in questions(report, with_chain=True)] == [
            f"{AMD_KDS}/vlek/v1/Milan/crl",
            f"{AMD_KDS}/vlek/v1/Milan/cert_chain",
        ]

    def test_what_cannot_be_asked(self, forge):
        for raw, kind in (
            (forge.amd.report(version=2), EndorsementUnavailable),
            (forge.amd.report(chip_id=b""), EndorsementUnavailable),
            (forge.amd.report(cpuid=bytes([0x1A, 0x50, 0])), MalformedEvidence),
        ):
            with pytest.raises(kind):
                questions(snp.parse_report(raw))

    def test_real_chips(self, vectors):
        for folder in ("milan_v3", "genoa_v3", "turin_v5"):
            report = snp.parse_report((vectors / "snp" / folder / "report.bin").read_bytes())
            tcb = report.tcb("reported", report.product)
            url = vcek_url(report.product, report.chip_id[: report.product.chip_id_bytes], tcb)
            assert url in {q.url for q in questions(report)}

    test_real_chips = pytest.mark.vectors(test_real_chips)


class TestFetching:
    def endorsements(self, forge, tmp_path, service=None):
        service = service or Service(forge.amd)
        return service, AmdEndorsements(
            host=BASE, with_chain=True, fetcher=service, cache=tmp_path / "cache"
        )

    def test_fetched_and_kept(self, each, tmp_path):
        service, source = self.endorsements(each, tmp_path)
        raw = each.amd.report()
        assert each.verify(raw, source.for_reports([raw], at=AT))
        assert len(service.asked) == 3
        assert each.verify(raw, source.for_reports([raw, raw], at=AT + timedelta(days=1)))
        assert len(service.asked) == 3
        # Later the list is asked for again, and nothing else.
        source.for_reports([raw], at=AT + timedelta(days=40))
        assert service.asked[3:] == [f"{BASE}/vcek/v1/{each.amd.product}/crl"]

    def test_what_is_kept_is_verified_again(self, forge, tmp_path, make_forge):
        service, source = self.endorsements(forge, tmp_path)
        raw = forge.amd.report()
        source.for_reports([raw], at=AT)
        url = service.asked[-1]
        source.store.save(Answer(url=url, headers={}, body=make_forge().amd.vcek))
        with pytest.raises(snp_errors()):
            forge.verify(raw, source.for_reports([raw], at=AT))
        source.store.save(Answer(url=url, headers={}, body=b"garbage"))
        assert forge.verify(raw, source.for_reports([raw], at=AT))

    def test_a_masked_chip_whose_certificate_came_along(self, keys, tmp_path):
        """Then only the list is asked for: for the certificate nobody could ask."""
        forge = Forge(Amd(at=now(), keys=keys))
        amd = forge.amd
        service, source = self.endorsements(forge, tmp_path)
        for signer in ("VCEK", "VLEK"):
            raw = amd.report(chip_id=b"", signer=signer)
            raw += certificate_table({signer.lower(): amd.vcek if signer == "VCEK" else amd.vlek})
            result = Verifier(roots=forge.roots, amd=source).appraise(raw, scope="evidence")
            assert result.exit_code == 0, result.summary
        assert {url.rpartition("/")[2] for url in service.asked} == {"crl", "cert_chain"}

    def test_busy(self, forge, tmp_path):
        service = Service(forge.amd)
        service.busy.add(f"/vcek/v1/Milan/{forge.amd.hwid.hex()}")
        _, source = self.endorsements(forge, tmp_path, service)
        with pytest.raises(EndorsementUnavailable):
            source.for_reports([forge.amd.report()], at=AT)

    def test_a_host_without_https(self, tmp_path):
        with pytest.raises(ConfigurationError):
            AmdEndorsements(host="http://kds.example.com", cache=tmp_path)

    def test_verifier(self, keys, tmp_path):
        """Live: what is missing is fetched; offline it is missing all the same."""
        forge = Forge(Amd(at=now(), keys=keys))
        service, source = self.endorsements(forge, tmp_path)
        raw = forge.amd.report()
        live = Verifier(roots=forge.roots, amd=source).appraise(raw, scope="evidence")
        assert live.exit_code == 0
        assert service.asked
        offline = Verifier(roots=forge.roots, amd=source, offline=True)
        assert offline.appraise(raw, scope="evidence").exit_code == 3
        old = Verifier(roots=forge.roots, amd=source).appraise(raw, scope="evidence", at=AT)
        assert old.exit_code == 3
        service.amd = forge.amd
        service.busy.add(f"/vcek/v1/Milan/{forge.amd.hwid.hex()}")
        cold = AmdEndorsements(host=BASE, with_chain=True, fetcher=service, cache=tmp_path / "new")
        result = Verifier(roots=forge.roots, amd=cold).appraise(raw, scope="evidence")
        assert result.exit_code == 3


def snp_errors():
    from teeverify.errors import EvidenceError

    return EvidenceError


def test_current(forge):
    answer = Answer(url=BASE, headers={}, body=forge.amd.crl())
    assert current(answer, AT) is not None
    assert current(answer, AT + timedelta(days=60)) is None
    with pytest.raises(MalformedEvidence):
        current(Answer(url=BASE, headers={}, body=b"x"), AT)


@pytest.mark.network
class TestOverTls:
    def source(self, service, tmp_path, **options):
        fetcher = Fetcher(timeout=10, ca_file=service.ca_file, **options)
        return AmdEndorsements(
            host=service.base, with_chain=True, fetcher=fetcher, cache=tmp_path / "cache"
        )

    def test_all_products(self, forges, tmp_path):
        with KeyService([forge.amd for forge in forges.values()], tmp_path) as service:
            source = self.source(service, tmp_path)
            for forge in forges.values():
                raw = forge.amd.report()
                assert forge.verify(raw, source.for_reports([raw], at=AT))
        assert len(service.asked) == 9

    def test_busy_without_saying_for_how_long(self, forge, tmp_path):
        with KeyService([forge.amd], tmp_path) as service:
            raw = forge.amd.report()
            service.busy = 1
            with pytest.raises(EndorsementUnavailable) as caught:
                self.source(service, tmp_path).for_reports([raw], at=AT)
            assert "429" in caught.value.got
            service.busy = 3
            source = self.source(service, tmp_path, backoff=(0.01, 0.01, 0.01))
            assert forge.verify(raw, source.for_reports([raw], at=AT))
            service.busy = 4
            with pytest.raises(EndorsementUnavailable):
                source.for_reports([raw], at=AT + timedelta(days=60))

    def test_one_deadline_for_all_attempts(self, forge, tmp_path):
        with KeyService([forge.amd], tmp_path) as service:
            service.busy = 10
            fetcher = Fetcher(timeout=0.5, ca_file=service.ca_file, backoff=(30.0,))
            source = AmdEndorsements(host=service.base, fetcher=fetcher, cache=tmp_path / "cache")
            with pytest.raises(EndorsementUnavailable):
                source.for_reports([forge.amd.report()], at=AT)
            assert len(service.asked) == 1

    def test_an_unknown_chip(self, forge, make_forge, tmp_path):
        with KeyService([forge.amd], tmp_path) as service, pytest.raises(EndorsementUnavailable):
            self.source(service, tmp_path).for_reports([make_forge().amd.report()], at=AT)
