"""The weaknesses of the field's clients, one test each: what they let pass is refused, or said.

W1 to W16 are the numbers under which the project's notes list them; there is no W17.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from datetime import datetime, timezone
from typing import Any

import pytest
from cryptography import x509

from teeverify import Policy, Receipt, Verifier, snp
from teeverify.appraisal import Outcome
from teeverify.binding import PAIRS
from teeverify.errors import ConfigurationError, TeeVerifyError
from teeverify.providers import DIALECTS
from teeverify.responses import NILAI, ZEROG_TEXT, examine_answer
from teeverify.simulator.amd import AmdKeys
from teeverify.simulator.channels import Channels
from teeverify.simulator.keys import SimulatedKey
from teeverify.simulator.nras import FakeNras

AT = datetime(2026, 6, 29, 2, 6, 57, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def channels() -> Channels:
    return Channels(at=AT, gpus=2, amd_keys=AmdKeys.new())


@pytest.fixture
def channel(channels, tmp_path):
    """The result for what a channel's machine shows."""
    count = iter(range(1000))

    def appraise(shown: Any, **arguments: Any) -> Any:
        nras = arguments.pop("nras", None)
        folder = channels.capture(tmp_path / f"c{next(count)}", shown, nras=nras)
        verifier = Verifier(
            offline=True, roots=channels.roots(), policy=arguments.pop("policy", "genuine")
        )
        return verifier.appraise(folder, dialect=shown.dialect, **arguments)

    return appraise


def refusing(result: Any) -> set[str]:
    return {f.id for f in result.findings if f.exit_code}


def test_w1_the_request_hash_is_the_callers_word(stage):
    """A gateway may send another prompt with the hash of yours."""
    result = stage.appraise(**stage.signed())
    found = result.finding("request.bound")
    assert (found.outcome, "caller" in found.by or "calls" in found.by) == (Outcome.ASSERTED, True)
    assert "to this request" not in result.summary
    assert "that the request was this one is the endpoint's word" in result.summary
    strict = stage.appraise(**stage.signed(), policy="strict")
    assert strict.finding("request.bound").exit_code == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"nvidia_payload": None},
        {"nvidia_payload": "stale"},
        {"request_nonce": "11" * 32},
        {"info": {"tcb_info": {"app_compose": "{}"}}},
        {"intel_quote": "00"},
    ],
)
def test_w2_no_check_is_computed_and_then_left_out_of_the_verdict(stage, wrong):
    if wrong.get("nvidia_payload") == "stale":
        wrong = {"nvidia_payload": stage.endpoint.stale_gpu(0)}
    result = stage.appraise(stage.near(model=wrong))
    assert result.exit_code in (1, 2)
    with pytest.raises(TeeVerifyError):
        result.require()
    with pytest.raises(ConfigurationError):
        bool(result)


def test_w2_the_signer_must_be_the_attested_key(stage):
    result = stage.appraise(**stage.signed(by=SimulatedKey()))
    assert refusing(result) == {"key.attested"}
    assert "response.hash-equal" in refusing(stage.appraise(**{**stage.signed(), "answer": None}))


def test_w3_a_debug_machine_of_chutes_is_seen(channels, channel):
    """The bit is in the first byte of the attributes, not in the last."""
    for attributes in (b"\x01", b"\x01\0\0\x10"):
        quote = {"td_attributes": attributes.ljust(8, b"\0")}
        result = channel(channels.chutes(1, quotes={0: quote}))
        assert "tdx.debug-disabled" in refusing(result)
    last = channel(channels.chutes(1, quotes={0: {"td_attributes": b"\0\0\0\x10\0\0\0\x01"}}))
    assert "tdx.attributes" in refusing(last) | {f.id for f in last.findings}
    assert "tdx.debug-disabled" not in refusing(last)


def test_w4_an_unsigned_report_of_tinfoil_is_refused(channels, channel):
    """Its client never verified AMD's signature; the release's is in test_releases.py."""
    shown = channels.tinfoil_v2()
    document = json.loads(shown.exchanges[0].body)
    import gzip

    raw = bytearray(gzip.decompress(base64.b64decode(document["body"])))
    raw[0x90] ^= 1  # in the launch measurement
    document["body"] = base64.b64encode(gzip.compress(bytes(raw))).decode()
    first = dataclasses.replace(shown.exchanges[0], body=json.dumps(document).encode())
    changed = dataclasses.replace(shown, exchanges=(first, *shown.exchanges[1:]))
    assert "snp.report-signature" in refusing(channel(changed))


def test_w5_an_address_is_what_the_quote_binds_not_what_is_said(stage):
    claimed = str(SimulatedKey().key)
    words = {"signing_address": claimed, "signing_public_key": None}
    result = stage.appraise(stage.near(model=words))
    assert "binding.report-data" in refusing(result)
    assert str(result.signer) != claimed


def test_w6_the_signed_texts_model_counts(stage):
    result = stage.appraise(**stage.signed(model="smaller"))
    assert refusing(result) == {"model.identity"}


def test_w6_a_public_key_beside_the_address_must_be_the_addresss(stage):
    point = SimulatedKey().public_bytes.hex()
    result = stage.appraise(stage.near(model={"signing_public_key": point}))
    assert "binding.report-data" in refusing(result)


def test_w7_nras_answers_are_verified_and_every_gpu_counts(stage):
    entries = json.loads(stage.endpoint.model_report()["nvidia_payload"])["evidence_list"]
    answer, _ = FakeNras().answer(entries, stage.endpoint.nonce.hex(), AT)
    folder = stage.capture()
    (folder / "0002_nras.body").write_bytes(answer)
    assert stage.appraise(folder).exit_code in (2, 3)
    second = stage.near(model={"nvidia_payload": stage.endpoint.stale_gpu(1)}, nras=None)
    assert "gpu.nonce" in refusing(stage.appraise(second))


def test_w8_0gs_hashes_are_compared(stage):
    older = stage.signed(answer=b'{"id":"0","created":1,"model":"m"}', model=None)
    examined = examine_answer(**{**older, "answer": stage.answer}, form=ZEROG_TEXT)
    (found,) = [o for o in examined.observations if o.id == "response.hash-equal"]
    assert found.outcome is Outcome.FAILED


def test_w9_nilais_key_is_nowhere_attested(stage):
    """Its signature verifies, and is still worth nothing until a quote binds the key."""
    assert PAIRS["nilai"] == ()
    assert DIALECTS["nilai"].form is NILAI
    examined = examine_answer(
        signature=None, answer=b"data: {}\n\ndata: [DONE]\n\n", request=None, form=NILAI
    )
    assert examined.observations[0].outcome is Outcome.FAILED  # streams are unsigned


def test_w10_secretvms_gpus_and_certificate_are_of_one_machine(channels, channel):
    """GPUs are needed by default; key and quote come over one connection; its nonce is none."""
    assert "gpu.required" in refusing(channel(channels.secretvm(gpu=None, gpu_nonce=bytes(32))))
    other = channel(channels.secretvm(peer=b"another key"))
    assert "binding.report-data" in refusing(other)
    foreign = json.loads(channels.nvidia.payload(b"n" * 32, 2))
    assert "binding.report-data" in refusing(channel(channels.secretvm(gpu=foreign)))
    ours = channel(channels.secretvm(), nonce=bytes(32))
    assert "freshness.nonce" in refusing(ours)


def test_w11_morpheus_says_what_its_node_cannot_show(channels, channel):
    shown = dataclasses.replace(channels.secretvm(), dialect="morpheus")
    result = channel(shown)
    assert "gpu.required" in refusing(result)
    assert {m.role for m in result.identities} == {"gateway"}
    cannot = " ".join(DIALECTS["morpheus"].cannot)
    assert "passes prompts on" in cannot
    assert "its code's word" in cannot
    # A shorter nonce is no equal nonce.
    short = channels.secretvm(gpu={"nonce": "00"})
    with pytest.raises(TeeVerifyError):
        channel(short)


def test_w12_tinfoils_second_version_says_that_it_is_not_fresh(channels, channel):
    result = channel(channels.tinfoil_v2(platform="tdx"))
    assert result.finding("freshness.nonce").outcome is Outcome.ABSENT
    assert "gpu.required" in refusing(result)


def test_w12_one_register_is_no_identity(stage):
    """A pin of MRTD alone lets any kernel pass."""
    good = stage.appraise()
    entries = [
        {"name": "v1", "source": "release", "role": one.role, "mr_td": one.registers["mr_td"]}
        for one in good.identities
        if one.role != "compose-manager"
    ]
    result = stage.appraise(policy=Policy.genuine().replace(code=entries))
    found = result.finding("code.identity", "model")
    assert (found.outcome, "partially" in found.message) == (Outcome.ABSENT, True)
    assert result.tier == "warning"


def test_w13_chutes_resold_without_certificates_cannot_be_bound(channels, channel):
    result = channel(channels.chutes_resold())
    assert (result.exit_code, "binding.report-data" in refusing(result)) == (2, True)


def test_w14_one_algorithm_for_report_and_signature():
    near = DIALECTS["near"]
    assert near.asks["signing_algo"] == near.asks_signature["signing_algo"]


def test_w15_a_receipt_is_verified_again_by_its_parts_alone():
    """Results of others live in one process; what a receipt says of itself is never used."""
    assert Receipt.verify.__doc__
    with pytest.raises(TeeVerifyError):
        Receipt.load(b"{}")


def test_w15b_another_model_under_the_name_that_was_asked_for(stage):
    """The compose hash is the launcher's: it is equal for all models of an operator."""
    folder = stage.capture(provider="nanogpt", manifest={"model": "TEE/glm-4.7"})
    assert "model.identity" in refusing(stage.appraise(folder))
    digest = hashlib.sha256(b"tiny.yaml").hexdigest()
    policy = Policy.genuine().replace(model={"deployments": [digest]})
    assert stage.appraise(policy=policy).finding("model.identity").outcome is Outcome.PROVEN
    other = Policy.genuine().replace(model={"deployments": ["00" * 32]})
    assert "model.deployed" in refusing(stage.appraise(policy=other))


def test_w16_serial_number_zero_is_read(channels, channel, monkeypatch):
    """AMD's leaves have it, and libraries are about to refuse them: they are not asked."""

    def refuse(*_arguments: Any, **_words: Any) -> None:
        raise ValueError("serial number must be positive")

    monkeypatch.setattr(x509, "load_der_x509_certificate", refuse)
    assert snp.parse_leaf(channels.amd.vcek).signer is snp.Signer.VCEK
    monkeypatch.undo()
    result = channel(channels.tinfoil(platform="sev-snp"))
    assert result.finding("snp.report-signature").outcome is Outcome.PROVEN
