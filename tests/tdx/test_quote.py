"""Reading quotes: every field, every cut, every value that must not be."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teeverify import tdx
from teeverify.errors import ConfigurationError, MalformedEvidence, TeeVerifyError
from teeverify.tdx.quote import BODY_SIZES, BodyType

SHAPES = [
    (3, "sgx"),
    (4, "1.0"),
    (4, "sgx"),
    (5, "1.0"),
    (5, "1.5"),
    (5, "1.5ex"),
    (5, "sgx"),
]
# Offsets in a version 4 TDX quote with 32 bytes of QE auth data.
V4 = {
    "version": 0,
    "att_key_type": 2,
    "tee_type": 4,
    "qe_svn": 8,
    "pce_svn": 10,
    "qe_vendor_id": 12,
    "user_data": 28,
    "tee_tcb_svn": 48,
    "mr_seam": 64,
    "mr_signer_seam": 112,
    "seam_attributes": 160,
    "td_attributes": 168,
    "xfam": 176,
    "mr_td": 184,
    "mr_config_id": 232,
    "mr_owner": 280,
    "mr_owner_config": 328,
    "rtmr0": 376,
    "rtmr1": 424,
    "rtmr2": 472,
    "rtmr3": 520,
    "report_data": 568,
    "signature_section_size": 632,
}


@pytest.mark.parametrize(("field", "offset"), V4.items())
def test_a_cut_names_the_field_and_its_offset(forge, field, offset):
    with pytest.raises(MalformedEvidence) as caught:
        tdx.parse_quote(forge.intel.quote()[: offset + 1])
    error = caught.value
    assert (error.id, error.offset) == ("tdx.quote", offset)
    assert error.field == f"tdx.quote.{field}"
    assert error.have == 1


@pytest.mark.parametrize(("version", "body"), SHAPES)
def test_every_prefix_of_every_shape_is_refused(forge, version, body):
    raw = forge.intel.quote(version=version, body=body)
    for size in range(len(raw)):
        with pytest.raises(MalformedEvidence):
            tdx.parse_quote(raw[:size])


@pytest.mark.parametrize(
    ("offset", "value", "field"),
    [
        (0, "0200", "version"),
        (0, "0600", "version"),
        (0, "0401", "version"),
        (2, "0300", "att_key_type"),
        (2, "0000", "att_key_type"),
        (4, "01000000", "tee_type"),
        (4, "82000000", "tee_type"),
        (12, "00" * 16, "qe_vendor_id"),
        (764, "0500", "outer_certification_type"),
        (764, "0000", "outer_certification_type"),
        (1252, "0600", "certification_type"),
        (1252, "0700", "certification_type"),
        (1252, "0000", "certification_type"),
    ],
)
def test_an_unknown_value_is_refused_where_it_stands(forge, offset, value, field):
    raw = bytearray(forge.intel.quote())
    raw[offset : offset + len(value) // 2] = bytes.fromhex(value)
    with pytest.raises(MalformedEvidence) as caught:
        tdx.parse_quote(bytes(raw))
    assert caught.value.field.endswith(field)
    assert caught.value.offset == offset
    assert caught.value.want


def test_version_3_is_for_sgx_only(forge):
    raw = b"\x03" + forge.intel.quote()[1:]
    with pytest.raises(MalformedEvidence, match="tee_type"):
        tdx.parse_quote(raw)


@pytest.mark.parametrize(
    ("kind", "size"), [(1, 384), (2, 583), (3, 584), (4, 648), (0, 584), (5, 900), (2, 648)]
)
def test_version_5_demands_body_type_and_size_together(forge, kind, size):
    raw = bytearray(forge.intel.quote(version=5, body="1.0"))
    raw[48:54] = kind.to_bytes(2, "little") + size.to_bytes(4, "little")
    with pytest.raises(MalformedEvidence, match=r"body_(type|size)"):
        tdx.parse_quote(bytes(raw))


@pytest.mark.parametrize(
    ("offset", "change", "padding"),
    [
        (632, 1, 8),  # the signature section one longer, into the padding
        (632, -1, 0),
        (632, 1 << 24, 0),
        (766, 1, 8),  # the outer certification data
        (766, -1, 0),
        (1218, 1, 0),  # QE auth data
        (1218, -1, 0),
        (1254, 1, 8),  # the inner certification data
        (1254, -1, 0),
    ],
)
def test_sizes_must_nest_exactly(forge, offset, change, padding):
    raw = bytearray(forge.intel.quote(padding=padding))
    width = 2 if offset == 1218 else 4
    value = int.from_bytes(raw[offset : offset + width], "little") + change
    raw[offset : offset + width] = value.to_bytes(width, "little")
    with pytest.raises(MalformedEvidence):
        tdx.parse_quote(bytes(raw))


@pytest.mark.parametrize("raw", [b"", b"\0", bytes(10_000_000), b"\xff" * 6000])
def test_junk_is_malformed(raw):
    with pytest.raises(MalformedEvidence) as caught:
        tdx.parse_quote(raw)
    assert caught.value.field.startswith("tdx.quote.")


def test_only_bytes_are_a_quote(forge):
    for wrong in ("04000200", None, 5, [4, 0], forge):
        with pytest.raises(ConfigurationError):
            tdx.parse_quote(wrong)
    raw = forge.intel.quote()
    assert tdx.parse_quote(bytearray(raw)) == tdx.parse_quote(memoryview(raw))


@pytest.mark.parametrize(("version", "body"), SHAPES)
@pytest.mark.parametrize("padding", [0, 1, 70])
def test_round_trip_without_what_trailed(forge, version, body, padding):
    raw = forge.intel.quote(version=version, body=body, padding=padding)
    quote = tdx.parse_quote(raw)
    assert quote.trailing_bytes == padding
    assert quote.to_bytes() == raw[: len(raw) - padding]
    assert tdx.parse_quote(quote.to_bytes()) == quote._replace(trailing_bytes=0)
    assert quote.version == version
    head = 54 if version == 5 else 48
    assert quote.signed_bytes == raw[: head + BODY_SIZES[quote.body_type]]
    assert quote.qe_report.to_bytes() == quote.qe_report_bytes


def test_trailing_bytes_are_only_counted(forge):
    quote = tdx.parse_quote(forge.intel.quote() + b"<script>")
    assert quote.trailing_bytes == 8
    assert b"<script>" not in quote.to_bytes()


@pytest.mark.parametrize("body", ["1.0", "1.5", "1.5ex"])
def test_every_field_is_at_its_place(forge, body):
    names = tdx.TdReport._fields
    count = {"1.0": 15, "1.5": 17, "1.5ex": 27}[body]
    base = tdx.parse_quote(forge.intel.quote(version=5, body=body)).td
    for name in names[:count]:
        value = bytes(len(getattr(base, name)) - 1) + b"\x01"
        quote = tdx.parse_quote(forge.intel.quote(version=5, body=body, **{name: value}))
        assert getattr(quote.td, name) == value
        changed = {n for n in names if getattr(quote.td, n) != getattr(base, n)}
        # By default the forge's current TCB follows the one at launch.
        assert changed <= {name} | ({"tee_tcb_svn_2"} if name == "tee_tcb_svn" else set())
    assert all(getattr(base, name) is None for name in names[count:])
    assert base.rtmrs == (base.rtmr0, base.rtmr1, base.rtmr2, base.rtmr3)


def test_an_sgx_quote_has_no_td_report(forge):
    quote = tdx.parse_quote(forge.intel.quote(version=3, body="sgx"))
    assert quote.body_type is BodyType.SGX
    assert quote.report_data == quote.body.report_data
    with pytest.raises(ConfigurationError):
        _ = quote.td


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_mutated_quotes_raise_nothing_else(forge, data):
    raw = bytearray(forge.intel.quote(version=5, body="1.5"))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, 1400))] = data.draw(st.integers(0, 255))
    del raw[data.draw(st.integers(0, len(raw))) :]
    try:
        quote = tdx.parse_quote(bytes(raw))
    except TeeVerifyError:
        return
    assert tdx.parse_quote(quote.to_bytes()).to_bytes() == quote.to_bytes()


@pytest.mark.vectors
def test_real_quotes_round_trip(vectors):
    found = sorted((vectors / "tdx").glob("**/*.quote.bin"))
    raws = [path.read_bytes() for path in found]
    report = json.loads((vectors / "tdx/dstack_quote_report.json").read_text())
    raws.append(bytes.fromhex(report["quote"]))
    assert len(raws) >= 8
    for raw in raws:
        quote = tdx.parse_quote(raw)
        assert quote.to_bytes() == raw[: len(raw) - quote.trailing_bytes]
        assert not any(raw[len(raw) - quote.trailing_bytes :]) or not quote.trailing_bytes


@pytest.mark.vectors
def test_real_quote_offsets(vectors):
    raw = (vectors / "tdx/v4_b0c06f.quote.bin").read_bytes()
    quote = tdx.parse_quote(raw)
    assert quote.signed_bytes == raw[:632]
    assert quote.signature == raw[636:700]
    assert quote.attestation_key == raw[700:764]
    assert quote.qe_report_bytes == raw[770:1154]
    assert quote.qe_report_signature == raw[1154:1218]
    assert quote.qe_auth_data == raw[1220:1252]
    assert quote.certification_data == raw[1258:4936]
    assert quote.trailing_bytes == 70
    assert tdx.parse_quote(raw[:4936]).trailing_bytes == 0
    with pytest.raises(MalformedEvidence):
        tdx.parse_quote(raw[:4935])
