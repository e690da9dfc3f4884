"""Containers of evidence: all that producers use, and nothing that looks like them."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from teeverify import nvidia
from teeverify.errors import MalformedEvidence


def malformed(raw, field: str = "") -> MalformedEvidence:
    with pytest.raises(MalformedEvidence) as caught:
        nvidia.parse_evidence(raw)
    assert caught.value.id == "gpu.evidence"
    assert field in caught.value.field, caught.value
    return caught.value


@pytest.mark.parametrize(
    "raw",
    [
        None,
        5,
        b"",
        "",
        b"\xff",
        b"null",
        b"5",
        b'"',
        b"[]",
        b"{}",
        b"[null]",
        b"[5]",
        b"[[]]",
        b"[{}]",
        b'{"evidence_list": null}',
        b'{"evidence_list": {}}',
        b'{"evidence_list": []}',
        b'{"evidence_list": 5}',
        b'{"evidences": "x"}',
        b'"\\"x\\""',
        b'[{"evidence": 5, "certificate": ""}]',
        b'[{"evidence": "", "certificate": ""}]',
        b"[" * 100_000,
        b'{"a":' * 50 + b"1" + b"}" * 50,
        bytes(10_000_000),
        [{}] * 33,
        [],
        {},
        object(),
    ],
)
def test_not_evidence(raw):
    malformed(raw)


def test_two_lists_are_ambiguous(entries):
    malformed({"evidence_list": entries, "evidences": entries}, "gpu")


def test_the_same_key_twice(entries):
    text = json.dumps(entries[0])
    malformed(f"[{text[:-1]}, {text[1:]}]".encode())


@pytest.mark.parametrize("member", ["evidence", "certificate"])
@pytest.mark.parametrize(
    "value", [None, 5, [], "!", "é", "QQ", "QQ==\n", " QQ==", "\\x1", "\\x11zz", "a" * 90_000]
)
def test_wrong_member(entries, member, value):
    malformed([entries[0] | {member: value}], f"gpu[0].{member}")


@pytest.mark.parametrize("member", ["evidence", "certificate"])
def test_missing_member(entries, member):
    entry = {key: value for key, value in entries[1].items() if key != member}
    malformed([entries[0], entry], f"gpu[1].{member}")


@pytest.mark.parametrize("hint", ["nonce", "driver_version", "vbios_version"])
def test_hint_of_another_type(entries, hint):
    malformed([entries[0] | {hint: 5}], f"gpu[0].{hint}")


def test_hint_of_another_type_around_the_list(entries):
    malformed({"evidence_list": entries, "nonce": ["x"]}, "gpu.nonce")


def test_more_than_32_devices(entries):
    assert malformed([entries[0]] * 33).have == 33


def test_trailing_nul_of_a_report(vendor, nonce):
    entry = vendor.gpu(0).evidence(nonce, trailing=b"\0")
    error = malformed([entry], "gpu[0].report")
    assert (error.need, error.have) == (0, 1)
    assert nvidia.parse_evidence([entry], tolerate_trailing_nul=True)


def forms(entries) -> dict[str, object]:
    listed = json.dumps(entries)
    wrapped = json.dumps({"evidence_list": entries, "arch": "HOPPER", "more": {"is": "ignored"}})
    reports = [base64.b64decode(entry["evidence"]) for entry in entries]
    chains = [base64.b64decode(entry["certificate"]).decode() for entry in entries]

    def spelled(evidence, certificate):
        return [
            entry | {"evidence": evidence(report), "certificate": certificate(chain)}
            for entry, report, chain in zip(entries, reports, chains, strict=True)
        ]

    def base(text):
        return base64.b64encode(text.encode()).decode()

    return {
        "list": entries,
        "tuple": tuple(entries),
        "bytes": listed.encode(),
        "text": listed,
        "bytearray": bytearray(listed.encode()),
        "object": {"evidence_list": entries},
        "object as text": wrapped,
        "object as bytes": wrapped.encode(),
        "text in a JSON string": json.dumps(wrapped).encode(),
        "list as text": {"evidence_list": listed},
        "Confidential Containers": {"device_evidence_list": entries},
        "Tinfoil": {"evidences": entries},
        "hex": spelled(bytes.hex, base),
        "upper-case hex": spelled(lambda raw: raw.hex().upper(), base),
        "escaped hex": spelled(lambda raw: "".join(f"\\x{byte:02x}" for byte in raw), base),
        "base64 of hex": spelled(lambda raw: base(raw.hex()), base),
        "PEM": spelled(lambda raw: base64.b64encode(raw).decode(), str),
        "NUL padding": spelled(bytes.hex, lambda chain: base(chain + "\0" * 5)),
        "architecture as number": [entry | {"arch": 6} for entry in entries],
        "no architecture": [entry | {"arch": None} for entry in entries],
        "lower-case architecture": [entry | {"arch": "Hopper"} for entry in entries],
    }


@pytest.fixture(scope="session")
def spelled(entries):
    return forms(entries)


@pytest.mark.parametrize("form", list(forms([])))
def test_every_form_means_the_same(spelled, entries, form, verify):
    found = nvidia.parse_evidence(spelled[form])
    want = nvidia.parse_evidence(entries)
    assert [item.report for item in found.devices] == [item.report for item in want.devices]
    claims = verify(spelled[form])
    assert [device.name for device in claims.devices] == ["gpu[0]", "gpu[1]"]


def test_payload_as_vllm_sends_it(vendor, nonce):
    evidence = nvidia.parse_evidence(vendor.payload(nonce, 3))
    assert len(evidence.devices) == 3
    assert evidence.devices[2].hints.arch == ("HOPPER", "HOPPER")
    assert evidence.devices[2].hints.nonce == (nonce.hex(),)


def test_repr_says_that_nothing_was_verified(entries):
    shown = repr(nvidia.parse_evidence(entries))
    assert shown == "nvidia.Evidence(2 devices; nothing was verified)"


@settings(max_examples=60, deadline=None)
@given(
    raw=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["evidence_list", "evidence", "certificate", "arch", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_structure(raw):
    malformed(raw)
