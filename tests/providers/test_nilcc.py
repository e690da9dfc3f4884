"""nilCC's VMs, and nilAI's own report, in which nothing is bound."""

from __future__ import annotations

import json

import pytest

from teeverify.errors import MalformedEvidence
from teeverify.providers import DIALECTS
from teeverify.providers.dialect import Recorded

from .conftest import failed, outcome

LEVEL_1 = {"gpu": {"required": False}, "snp": {"vmpls": ["1"]}}


def test_good(field):
    result = field.appraise(field.channels.nilcc(), policy=field.policy(**LEVEL_1))
    assert (result.exit_code, result.kind) == (0, "nilcc")
    assert outcome(result, "binding.report-data") == "proven"
    assert outcome(result, "freshness.nonce") == "absent"
    assert outcome(result, "endpoint.bound") == "asserted"


def test_what_genuine_says_of_it(field):
    """No GPU evidence, and a report of another privilege level than 0."""
    assert failed(field.appraise(field.channels.nilcc())) == {"gpu.required", "snp.vmpl"}


def test_another_connection(field):
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from teeverify.simulator.authority import Authority

    other = Authority.root("other").certificate.public_key()
    spki = other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    shown = field.channels.nilcc(peer=spki)
    assert "binding.report-data" in failed(field.appraise(shown, policy=field.policy(**LEVEL_1)))


def test_only_the_exact_bytes_are_read(field):
    """The fields beside them are another spelling that nobody signed."""
    shown = field.channels.nilcc()
    body = json.loads(shown.body)
    for changes in ({"report": {"report_data": "11" * 64}}, {"report": None}, {"gpu_token": None}):
        (machine,) = field.read(shown, body=json.dumps({**body, **changes}).encode())
        assert machine.snp_report.hex() == body["raw_report"]
    for value in (None, "", "zz", 1, [], body["raw_report"][:-1]):
        changed = json.dumps({**body, "raw_report": value}).encode()
        try:
            (machine,) = field.read(shown, body=changed)
        except MalformedEvidence:
            continue
        assert machine.snp_report == b""


def test_nvidias_word_through_the_machine_counts_for_nothing(field):
    (machine,) = field.read(field.channels.nilcc())
    assert machine.gpus is None


def test_w09_nilais_own_report_binds_nothing():
    """Nonce and key stand beside swapped fields; whatever is in them, it is not evidence."""
    dialect = DIALECTS["nilai"]
    body = {"nonce": "00" * 32, "verifying_key": "A", "cpu_attestation": "", "gpu_attestation": ""}
    recorded = Recorded(
        path=dialect.report_path, query={}, body=json.dumps(body).encode(), peer_spki_sha256=None
    )
    with pytest.raises(MalformedEvidence, match="unsupported evidence format") as caught:
        dialect.read(recorded)
    assert "nilcc" in (caught.value.hint or "")
    assert not dialect.proves
    assert dialect.cannot
