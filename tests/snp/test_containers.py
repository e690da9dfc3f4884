"""What reports and certificates come in, and how each can be wrong."""

from __future__ import annotations

import base64
import gzip
import json
import struct

import pytest

from teeverify import snp
from teeverify.errors import ConfigurationError, MalformedEvidence
from teeverify.simulator.amd import certificate_table, pem


def refused(act, id):
    with pytest.raises(MalformedEvidence) as caught:
        act()
    assert caught.value.id == id
    return caught.value


def response(report, status=0, size=None, reserved=bytes(24), padding=b""):
    head = struct.pack("<II", status, len(report) if size is None else size) + reserved
    return head + report + padding


class TestUnwrap:
    def test_forms(self, forge):
        raw = forge.amd.report()
        table = certificate_table({"vcek": forge.amd.vcek})
        extended = raw + table
        forms = {
            "a report": raw,
            "MSG_REPORT_RSP": response(raw),
            "text of a report": base64.b64encode(raw),
            "gzip of a report": gzip.compress(raw),
            "text of gzip of a report": base64.b64encode(gzip.compress(raw)) + b"\n",
            "an extended report": extended,
            "gzip of an extended report": gzip.compress(extended),
        }
        for form, data in forms.items():
            found = snp.unwrap_report(data)
            assert (found.report, found.form) == (raw, form)
            assert found.table == (table if "extended" in form else None)
        assert snp.unwrap_report(raw.hex().encode()).report == raw
        assert snp.unwrap_report(response(raw, padding=bytes(4000 - 1216))).report == raw
        assert snp.unwrap_report(raw + bytes(4096)).report == raw

    def test_refused(self, forge):
        raw = forge.amd.report()
        bomb = gzip.compress(bytes(50_000_000))
        for data in (
            b"", b"x", raw[:-1], raw + b"\0", raw + b"\1" * 24, bytes(1184), raw * 2,
            raw + raw[:32],
            response(raw, status=1), response(raw, size=0), response(raw, size=1185),
            response(raw, reserved=b"\0" * 23 + b"\1"), response(raw, padding=b"\0"),
            response(raw, padding=bytes(4000 - 1217) + b"\1"), response(raw)[:-1],
            gzip.compress(raw)[:-1], gzip.compress(raw) + b"x", b"\x1f\x8b\x08garbage", bomb,
            base64.b64encode(raw)[:-1], bytes(600_000), b"A" * 100, b"ab" * 40,
        ):  # fmt: skip
            refused(lambda data=data: snp.unwrap_report(data), "snp.container")
        refused(lambda: snp.unwrap_report("text"), "snp.container")

    def test_recognised_by_size_and_version_only(self, forge):
        raw = forge.amd.report()
        assert snp.looks_like_report(raw)
        assert not snp.looks_like_report(raw[:-1])
        assert not snp.looks_like_report(bytes(1184))


class TestTable:
    def test_read(self, forge):
        amd = forge.amd
        own = {"vcek": amd.vcek, "vlek": amd.vlek, "ask": amd.ask, "ark": amd.ark}
        extra = "ecae0c0f-9502-43b1-afa2-0ae2e0d565b6"
        for mixed in (False, True):
            raw = certificate_table({**own, extra: bytes(8)}, mixed_endian=mixed)
            table = snp.parse_certificate_table(raw + bytes(100))
            assert dict(table.entries) == own
            assert len(table.unknown) == 1
        assert table.unknown != (extra,)

    def test_empty(self):
        assert snp.parse_certificate_table(bytes(24)).entries == ()
        assert snp.parse_certificate_table(bytes(4096)).entries == ()
        assert snp.Endorsements.load(bytes(4096)).found.empty

    def entry(self, offset, length, guid="63da758de6644564adc5f4b93be8accd"):
        return bytes.fromhex(guid) + struct.pack("<II", offset, length)

    def test_refused(self):
        end, body = bytes(24), bytes(range(64))
        other = "c0b406a4a803495297433fb6014cd0ae"
        mixed = "a406b4c003a85249974 33fb6014cd0ae".replace(" ", "")
        for raw in (
            b"", bytes(23), self.entry(48, 1), self.entry(48, 64), self.entry(48, 0) + end + body,
            self.entry(0, 64) + end + body, self.entry(47, 1) + end + body,
            self.entry(48, 65) + end + body, self.entry(112, 1) + end + body,
            self.entry(48, 0xFFFFFFFF) + end + body, self.entry(0xFFFFFFFF, 1) + end + body,
            self.entry(0xFFFFFFF0, 0x50) + end + body,
            self.entry(72, 8) + self.entry(80, 8) + end + body,
            self.entry(72, 9) + self.entry(80, 8, other) + end + body,
            self.entry(72, 8) + self.entry(72, 8, other) + end + body,
            self.entry(72, 8) + self.entry(80, 8, mixed) + end + body,
            bytes(16) + b"\1" + bytes(7) + body, self.entry(1000, 1) * 40 + end + body,
            bytes(300_000),
        ):  # fmt: skip
            refused(lambda raw=raw: snp.parse_certificate_table(raw), "snp.certificate-table")

    def test_the_names_of_slots_are_not_believed(self, forge):
        """A VLEK in the slot of the VCEK is a VLEK."""
        table = certificate_table({"vcek": forge.amd.vlek, "ask": forge.amd.ark})
        found = snp.Endorsements.load(table).found
        assert found.leaves[0].signer is snp.Signer.VLEK
        assert found.authorities[0].common_name == "ARK-Milan"


class TestEndorsements:
    def test_directory(self, forge, tmp_path):
        folder = forge.amd.write(tmp_path / "own")
        (folder / "notes.txt").write_text("not ours")
        (folder / "other.pem").write_text("not a certificate")
        (folder / "other.der").write_bytes(b"\x30\x03\x02\x01\x05")
        found = snp.Endorsements.load(folder).found
        assert (len(found.leaves), len(found.authorities), len(found.crls)) == (2, 3, 1)
        assert forge.verify(endorsements=snp.Endorsements.load(str(folder)))

    def test_recorded_exchanges(self, forge, tmp_path):
        amd = forge.amd
        paths = [
            f"/vcek/v1/Milan/{amd.hwid.hex()}",
            "/vcek/v1/Milan/cert_chain",
            "/vcek/v1/Milan/crl",
        ]
        for number, path in enumerate(paths):
            head = {"url": f"https://kdsintf.amd.com{path}?blSPL=04", "status": 200}
            (tmp_path / f"{number}.http.json").write_text(json.dumps(head))
            (tmp_path / f"{number}.body").write_bytes(amd.kds(path))
        (tmp_path / "9.http.json").write_text(
            json.dumps({"url": "https://kdsintf.amd.com/vcek/v1/Genoa/crl", "status": 429})
        )
        (tmp_path / "9.body").write_bytes(b"too many requests")
        assert forge.verify(endorsements=snp.Endorsements.load(tmp_path))

    def test_azure(self, forge):
        amd = forge.amd
        text = json.dumps(
            {
                "vcekCert": pem(amd.vcek).decode(),
                "certificateChain": amd.chain_pem().decode(),
                "tcbm": "x",
            }
        )
        in_base64 = base64.b64encode(text.encode())
        for given in (
            text.encode(),
            in_base64,
            in_base64 + b"\n",
            base64.encodebytes(text.encode()),
        ):
            found = snp.Endorsements.load(given).found
            assert (len(found.leaves), len(found.authorities)) == (1, 2)
        for wrong in (in_base64[:-9], b"eyJ*", in_base64 + b"!"):
            with pytest.raises(MalformedEvidence):
                snp.Endorsements.load(wrong)
        for wrong in (b"{}", b'{"vcekCert": 5}', b'{"vcekCert": "x"}'):
            with pytest.raises(MalformedEvidence):
                snp.Endorsements.load(wrong)

    @pytest.mark.parametrize("raw", [b"", b"garbage", b"\x30", b"-----BEGIN CERTIFICATE-----"])
    def test_malformed(self, raw):
        with pytest.raises(MalformedEvidence):
            snp.Endorsements.load(raw)

    def test_a_file_that_is_ours_by_name_must_be_read(self, tmp_path):
        (tmp_path / "vcek.pem").write_text("garbage")
        with pytest.raises(MalformedEvidence):
            snp.Endorsements.load(tmp_path)

    def test_nothing_there(self, tmp_path):
        for wrong in (tmp_path / "absent", "", None, 5):
            with pytest.raises(ConfigurationError):
                snp.Endorsements.load(wrong)
        assert "0 revocation lists" in repr(snp.Endorsements.load(tmp_path))
