"""The keys to encrypt to in what the providers really showed."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from teeverify import Verifier
from teeverify.appraisal.encryption import recipients
from teeverify.e2ee import METHODS
from teeverify.providers import DIALECTS
from teeverify.providers.capture import load_capture

pytestmark = pytest.mark.vectors
AT = datetime(2026, 11, 23, tzinfo=timezone.utc)
REQUEST = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hush"}]}).encode()


@pytest.mark.parametrize(
    ("capture", "algorithm"),
    [
        ("venice-20260610", "ecdsa"),
        ("nearcloud-20260629", "ed25519"),
        ("tinfoil-enclave-v3-20260629", "hpke"),
        ("tinfoil-router-v3-20260629", "hpke"),
        ("chutes-20260629", "ml-kem-768"),
    ],
)
def test_a_request_can_be_sealed_to_what_the_quote_binds(vectors, capture, algorithm):
    if algorithm == "ed25519":
        pytest.importorskip("nacl", reason="needs teeverify[e2ee]")
    if algorithm == "ml-kem-768":
        pytest.importorskip("cryptography.hazmat.primitives.asymmetric.mlkem", reason="no ML-KEM")
    evidence = load_capture(vectors / "endpoints/captures" / capture)
    seen = Verifier(offline=True).examine(evidence, at=evidence.recorded_at)
    method = METHODS[DIALECTS[evidence.provider].encryption]
    found = recipients(seen.machines, method.to)
    assert {one.algorithm for one in found} == {algorithm}
    assert all(one.machine.layout is not None for one in found)
    sealed = method.seal(algorithm, found[0].public, REQUEST, AT)
    assert b"hush" not in sealed.body
