"""One flipped bit in every byte that is covered, of forged and of real quotes."""

from __future__ import annotations

import json

import pytest

from teeverify import tdx
from teeverify.clock import from_unix
from teeverify.errors import EndorsementUnavailable, EvidenceError, TeeVerifyError

from .test_vectors import hex_quotes

SIGNED_AND_KEYS = {
    "header and body": range(632),
    "signature": range(636, 700),
    "attestation key": range(700, 764),
    "QE report": range(770, 1154),
    "QE report signature": range(1154, 1218),
    "QE auth data size": range(1218, 1220),
    "QE auth data": range(1220, 1252),
}
SIZES_AND_TYPES = (*range(632, 636), *range(764, 770), *range(1218, 1220), *range(1252, 1258))


def flipped(raw: bytes, offset: int, bit: int) -> bytes:
    data = bytearray(raw)
    data[offset] ^= 1 << bit
    return bytes(data)


def refused(raw, endorsements, **options) -> None:
    # A certification type of 1 to 4 means that the chain must come from elsewhere.
    with pytest.raises((EvidenceError, EndorsementUnavailable)) as caught:
        tdx.verify_quote(raw, endorsements, **options)
    if isinstance(caught.value, EndorsementUnavailable):
        assert tdx.parse_quote(raw).certification_type < 5


@pytest.mark.parametrize("part", SIGNED_AND_KEYS)
def test_forged_quote(forge, part):
    raw, endorsements = forge.intel.quote(), forge.endorsements()
    options = {"at": forge.at, "roots": forge.roots.roots}
    assert tdx.verify_quote(raw, endorsements, **options)
    for offset in SIGNED_AND_KEYS[part]:
        refused(flipped(raw, offset, offset % 8), endorsements, **options)


@pytest.mark.parametrize(("version", "body"), [(5, "1.0"), (5, "1.5"), (5, "1.5ex")])
def test_forged_quotes_of_version_5(forge, version, body):
    raw, endorsements = forge.intel.quote(version=version, body=body), forge.endorsements()
    options = {"at": forge.at, "roots": forge.roots.roots}
    signed = len(tdx.parse_quote(raw).signed_bytes)
    for offset in (*range(60), *range(60, signed, 5), *range(signed, signed + 622, 5)):
        refused(flipped(raw, offset, (offset * 3) % 8), endorsements, **options)


def test_every_bit_of_sizes_and_types(forge):
    raw, endorsements = forge.intel.quote(padding=70), forge.endorsements()
    options = {"at": forge.at, "roots": forge.roots.roots}
    for offset in SIZES_AND_TYPES:
        for bit in range(8):
            refused(flipped(raw, offset, bit), endorsements, **options)


@pytest.mark.vectors
@pytest.mark.parametrize("part", SIGNED_AND_KEYS)
def test_real_quote(vectors, part):
    raw, endorsements, at = _real(vectors)
    for offset in SIGNED_AND_KEYS[part]:
        refused(flipped(raw, offset, (offset * 5) % 8), endorsements, at=at)


@pytest.mark.vectors
def test_real_quote_sizes_and_types(vectors):
    raw, endorsements, at = _real(vectors)
    for offset in SIZES_AND_TYPES:
        for bit in range(8):
            refused(flipped(raw, offset, bit), endorsements, at=at)


@pytest.mark.vectors
def test_real_certificates(vectors):
    """Of the PEM text only white space and the final NUL do not count."""
    raw, endorsements, at = _real(vectors)
    accepted = set()
    for offset in range(1258, 4936, 3):
        try:
            tdx.verify_quote(flipped(raw, offset, 0), endorsements, at=at)
        except TeeVerifyError:
            continue
        accepted.add(raw[offset : offset + 1])
    assert accepted <= {b"\n", b"\0"}


@pytest.mark.vectors
def test_real_padding_does_not_count(vectors):
    raw, endorsements, at = _real(vectors)
    for offset in range(4936, 5006):
        assert tdx.verify_quote(flipped(raw, offset, 7), endorsements, at=at)


def _real(vectors):
    raw = (vectors / "tdx/v4_b0c06f.quote.bin").read_bytes()
    form = json.loads((vectors / "tdx/collateral_b0c06f_20250619.json").read_text())
    endorsements, at = tdx.Endorsements.load(json.dumps(form)), from_unix(1751624191)
    assert tdx.verify_quote(raw, endorsements, at=at)
    return raw, endorsements, at


# Every real quote of the folder, with endorsements, and the check at which it stops when it is
# intact: two have none that match, but all of their signatures are verified before that is seen.
# docs/unsigned-bytes.md explains the list of bytes that nothing covers: what follows the signature
# section, and the NUL at the end of the PEM.
REAL = (
    ("v3_sgx_00a067.quote.bin", "sgx_00a067_20250619", 1751624924, ""),
    ("v4_b0c06f.quote.bin", "b0c06f_20250619", 1751624191, ""),
    ("v5_90c06f.quote.bin", "90c06f_20260316", 1774995607, ""),
    ("v5ex_b0c06f.quote.bin", "b0c06f_20261008", 1792714008, ""),
    ("v4_debug_50806f.quote.bin", "50806f_20260316", 1774995607, ""),
    ("dstack_quote_report.json", "90c06f_20260316", 1774995607, ""),
    ("v5_azure_90c06f.quote.bin", "90c06f_20260218", 1772707803, "tdx.tcb"),
    ("ccel/cos113.quote.bin", "b0c06f_20250619", 1751624191, "tdx.fmspc"),
)


def stops_at(raw, endorsements, options) -> str:
    """The check that refuses; empty where the quote is accepted."""
    try:
        tdx.verify_quote(raw, endorsements, **options)
    except TeeVerifyError as error:
        return error.id
    return ""


@pytest.mark.vectors
@pytest.mark.parametrize(("name", "collateral", "at", "intact"), REAL)
def test_every_byte_of_every_real_quote(vectors, name, collateral, at, intact):
    raw = (vectors / "tdx" / name).read_bytes()
    if name.endswith(".json"):
        raw = bytes.fromhex(json.loads(raw)["quote"])
    form = json.loads((vectors / f"tdx/collateral_{collateral}.json").read_text())
    form.pop("pck_certificate_chain", None)  # then the quote's own chain counts
    endorsements = tdx.Endorsements.load(json.dumps(form))
    options = {"at": from_unix(at), "unsafe_allow_debug": True}
    assert stops_at(raw, endorsements, options) == intact
    quote = tdx.parse_quote(raw)
    covered = len(raw) - quote.trailing_bytes
    final_nul = covered - 1 if quote.certification_data.endswith(b"\0") else covered
    harmless = set()
    for offset in range(covered):
        masks = (0x20, 1 << offset % 8) if offset < final_nul else range(1, 256)
        for mask in masks:
            data = bytearray(raw)
            data[offset] ^= mask
            if stops_at(bytes(data), endorsements, options) == intact:
                harmless.add((offset, data[offset]))
    assert harmless <= {(final_nul, space) for space in b"\t\n\r "}
    for offset in range(covered, len(raw)):
        assert stops_at(flipped(raw, offset, offset % 8), endorsements, options) == intact


@pytest.mark.vectors
@pytest.mark.parametrize("capture", ["nearcloud-20260629", "venice-20260610", "nanogpt-20260610"])
def test_every_byte_of_the_quotes_that_endpoints_gave(vectors, capture):
    folder = vectors / "endpoints/captures" / capture
    endorsements = tdx.Endorsements.load(folder)
    options = {"at": json.loads((folder / "manifest.json").read_text())["captured_at"]}
    for raw in hex_quotes(folder):
        assert stops_at(raw, endorsements, options) == ""
        quote = tdx.parse_quote(raw)
        covered = len(raw) - quote.trailing_bytes
        assert quote.certification_data.endswith(b"\0")
        for offset in range(covered - 1):
            assert stops_at(flipped(raw, offset, offset % 8), endorsements, options)
