"""AMD's key service: what is asked for, what is kept, and what cannot be had."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from teeverify import snp
from teeverify.client import Verifier
from teeverify.client.vendors.amd import AmdEndorsements
from teeverify.clock import now
from teeverify.endorsements import Answer
from teeverify.endorsements.fetch import Fetcher
from teeverify.errors import ConfigurationError, EndorsementUnavailable, MalformedEvidence
from teeverify.simulator.amd import Amd, certificate_table
from teeverify.simulator.amd_service import KeyService, Reply
from teeverify.snp.kds import AMD_KDS, current, questions, vcek_url

from .conftest import AT, Forge
from .key_service import TlsService

BASE = "https://kds.example.com"


class Service:
    """A fetcher that asks the fake AMD without a socket."""

    def __init__(self, *vendors, **options):
        self.kds = KeyService(vendors, **options)
        self.busy = set()

    @property
    def asked(self):
        return [BASE + target for _, target in self.kds.asked]

    def get(self, url, *, what, id, keep=()):
        parts = urlsplit(url)
        reply = self.kds("GET", f"{parts.path}?{parts.query}" if parts.query else parts.path)
        if reply.status != 200 or parts.path in self.busy:
            raise EndorsementUnavailable(
                f"{what} could not be fetched", id=id, got=f"status {reply.status}"
            )
        return Answer(url=url, headers={}, body=reply.body)


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


class TestFakeService:
    """The simulator's key service is like AMD's, and every answer of it can be replaced."""

    def test_all_products(self, forges):
        kds = KeyService([forge.amd for forge in forges.values()])
        for name, forge in forges.items():
            for kind in ("vcek", "vlek"):
                crl = kds("GET", f"/{kind}/v1/{name}/crl")
                assert crl.headers["Content-Type"] == "application/pkix-crl"
                assert snp.Endorsements.load(crl.body).found.crls
                chain = kds("GET", f"/{kind}/v1/{name}/cert_chain")
                assert chain.headers["Content-Type"] == "application/x-pem-file"
                assert chain.body == forge.amd.chain_pem(kind)
            (_, leaf) = questions(snp.parse_report(forge.amd.report()), base="")
            assert kds("GET", leaf.url).body == forge.amd.vcek

    def test_the_tcb_of_the_question(self, each):
        """As AMD does: a certificate for the firmware that was asked for."""
        kds = KeyService([each.amd])
        raw = each.amd.report(reported_tcb={"snp": 1}, current_tcb={"snp": 200})
        (_, leaf) = questions(snp.parse_report(raw), base="")
        certificate = snp.parse_leaf(kds("GET", leaf.url).body)
        assert certificate.tcb.snp == 1
        crl, vcek = (snp.Endorsements.load(body) for body in (each.amd.crl(), certificate.der))
        chain = snp.Endorsements.load(each.amd.chain_pem())
        assert each.verify(raw, snp.Endorsements.union(crl, vcek, chain))

    def test_what_it_refuses(self, forge):
        amd = forge.amd
        kds = KeyService([amd])
        chip = f"/vcek/v1/Milan/{amd.hwid.hex()}"
        parts = "blSPL=04&teeSPL=00&snpSPL=29"
        for last in ("256", "x", "-1", "1&ucodeSPL=2", "1&more=1", "1&fmcSPL=1"):
            assert kds("GET", f"{chip}?{parts}&ucodeSPL={last}").status == 400, last
        for query in ("", parts):
            assert kds("GET", f"{chip}?{query}").status == 400
        assert kds("GET", f"{chip}?{parts}&ucodeSPL=222").status == 200
        assert kds("GET", f"/vcek/v1/Genoa/{amd.hwid.hex()}?{parts}&ucodeSPL=222").status == 404
        assert kds("GET", "/vlek/v1/Milan/cert").status == 404
        assert kds("POST", chip).status == 405

    def test_busy(self, forge):
        kds = KeyService([forge.amd])
        kds.busy, kds.retry_after = 1, "7"
        assert kds("GET", "/vcek/v1/Milan/crl") == Reply(status=429, headers={"Retry-After": "7"})
        assert kds("GET", "/vcek/v1/Milan/crl").status == 200

    def test_replaced(self, forge):
        broken = Reply(status=200, body=b"garbage")
        kds = KeyService([forge.amd], replies={"/vcek/v1/Milan/crl": broken})
        assert kds("GET", "/vcek/v1/Milan/crl") is broken
        assert kds("GET", "/vlek/v1/Milan/crl").body != b"garbage"


@pytest.mark.network
class TestOverTls:
    def source(self, tls, tmp_path, **options):
        fetcher = Fetcher(timeout=10, ca_file=tls.ca_file, **options)
        return AmdEndorsements(
            host=tls.base, with_chain=True, fetcher=fetcher, cache=tmp_path / "cache"
        )

    def test_all_products(self, forges, tmp_path):
        kds = KeyService([forge.amd for forge in forges.values()])
        with TlsService(kds, tmp_path) as tls:
            source = self.source(tls, tmp_path)
            for forge in forges.values():
                raw = forge.amd.report()
                assert forge.verify(raw, source.for_reports([raw], at=AT))
        assert len(kds.asked) == 9

    def test_busy_without_saying_for_how_long(self, forge, tmp_path):
        kds = KeyService([forge.amd])
        with TlsService(kds, tmp_path) as tls:
            raw = forge.amd.report()
            kds.busy = 1
            with pytest.raises(EndorsementUnavailable) as caught:
                self.source(tls, tmp_path).for_reports([raw], at=AT)
            assert "429" in caught.value.got
            kds.busy = 3
            source = self.source(tls, tmp_path, backoff=(0.01, 0.01, 0.01))
            assert forge.verify(raw, source.for_reports([raw], at=AT))
            kds.busy = 4
            with pytest.raises(EndorsementUnavailable):
                source.for_reports([raw], at=AT + timedelta(days=60))

    def test_busy_and_says_for_how_long(self, forge, tmp_path):
        kds = KeyService([forge.amd])
        with TlsService(kds, tmp_path) as tls:
            kds.busy, kds.retry_after = 1, "0"
            raw = forge.amd.report()
            assert forge.verify(raw, self.source(tls, tmp_path).for_reports([raw], at=AT))

    def test_one_deadline_for_all_attempts(self, forge, tmp_path):
        kds = KeyService([forge.amd])
        with TlsService(kds, tmp_path) as tls:
            kds.busy = 10
            fetcher = Fetcher(timeout=0.5, ca_file=tls.ca_file, backoff=(30.0,))
            source = AmdEndorsements(host=tls.base, fetcher=fetcher, cache=tmp_path / "cache")
            with pytest.raises(EndorsementUnavailable):
                source.for_reports([forge.amd.report()], at=AT)
            assert len(kds.asked) == 1

    def test_threads_ask_once(self, forge, tmp_path):
        """One question about a chip at a time: AMD turns away whoever asks often."""
        from concurrent.futures import ThreadPoolExecutor

        kds = KeyService([forge.amd])
        raw = forge.amd.report()
        with TlsService(kds, tmp_path) as tls, ThreadPoolExecutor(8) as pool:
            source = self.source(tls, tmp_path)
            for found in pool.map(lambda _: source.for_reports([raw], at=AT), range(16)):
                assert forge.verify(raw, found)
        assert len(kds.asked) == 3

    def test_an_unknown_chip(self, forge, make_forge, tmp_path):
        kds = KeyService([forge.amd])
        with TlsService(kds, tmp_path) as tls, pytest.raises(EndorsementUnavailable):
            self.source(tls, tmp_path).for_reports([make_forge().amd.report()], at=AT)
