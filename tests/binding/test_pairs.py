"""Which dialect shows which layout: exactly the declared pairs."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from teeverify.binding import LAYOUTS, PAIRS, SigningKey
from teeverify.clock import UTC
from teeverify.errors import MalformedEvidence
from teeverify.providers import DIALECTS
from teeverify.providers.dialect import Recorded
from teeverify.simulator.azure import AzureTee
from teeverify.simulator.channels import Channels
from teeverify.simulator.tee import SimulatedTee

AT = datetime(2026, 6, 29, 2, 6, 57, tzinfo=UTC)
TLS = {"include_tls_fingerprint": "true"}
HCL_ONLY = {"hcl"}  # Azure's envelope belongs to no dialect


def machines(dialect, body, query, beside=None):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    recorded = Recorded(
        path="", query=query, body=raw, peer_spki_sha256=b"p" * 32, beside=beside or {}
    )
    return DIALECTS[dialect].read(recorded)


@pytest.fixture(scope="module")
def seen(stage):
    """The layouts of everything that the simulated providers show, by dialect."""
    channels = Channels(at=AT, gpus=1)
    endpoint = stage.endpoint
    found: dict[str, set[str]] = {name: set() for name in DIALECTS}

    def look(dialect, body, query=None, beside=None):
        for machine in machines(dialect, body, query or {}, beside):
            found[dialect].add(machine.layout)

    near = endpoint.near_report()
    for query in (TLS, {}):
        look("near", near, query)
        look("near-direct", near["model_attestations"][0], query)
    look("venice", endpoint.venice_report())
    flat = endpoint.model_report()
    for dialect in ("dstack", "phala", "nanogpt", "0g"):
        look(dialect, flat)
    gateway = endpoint.gateway.report(endpoint.nonce)
    look("nanogpt", {"gateway_attestation": gateway, "model_attestations": [flat]})
    address = (b"0x" + b"5a" * 20).ljust(64, b"\0")
    import base64

    broker = {"quote": "04", "event_log": [], "report_data": base64.b64encode(address).decode()}
    look("0g-broker", broker)
    for shown in (
        channels.chutes(1),
        channels.chutes_resold(),
        channels.tinfoil(),
        channels.tinfoil(gpu=False),
        channels.tinfoil_v2(platform="tdx"),
        channels.secretvm(),
        channels.secretvm(gpu=None),
        channels.panda(),
        channels.near_ita(key=SigningKey("ecdsa", bytes(range(20)))),
    ):
        first, *rest = shown.exchanges
        names = DIALECTS[shown.dialect].beside
        beside = {name: each.body for name, each in zip(names, rest, strict=False)}
        look(shown.dialect, first.body, first.query, beside)
    first, gpu = channels.secretvm().exchanges
    look("morpheus", first.body, {}, {"gpu": gpu.body})
    look("nilcc", {"raw_report": "00"})
    look("teeverify/1", own_server(SimulatedTee(gpus=1)))
    look("teeverify/1", own_server(AzureTee(gpus=1)))
    document = json.loads(channels.tinfoil_v2(platform="tdx").body)
    look("tinfoil-bundle", bundle(channels, document))
    return found


def own_server(tee):
    """The report of this project's own server."""
    from teeverify.enclave.dialects.teeverify import TeeverifyDialect

    engine = {"kind": "embedded", "location": "process", "model": "m", "weights": "w"}
    dialect = TeeverifyDialect(
        model="m", engine=engine, routes=(), dialects=("teeverify/1",), version="0", ttl_seconds=1
    )
    dialect.prepare(tee)
    return dialect.report(dialect.question({"nonce": "ab" * 32}), tee)


def bundle(channels, document):
    import hashlib

    from teeverify.simulator.authority import Authority

    digest = hashlib.sha256((document["format"] + document["body"]).encode()).hexdigest()
    names = [*channels.labels("hpke", channels.hpke_key), *channels.labels("hatt", digest.encode())]
    certificate = Authority.root("x", extensions=[channels.alternative_names(names)])
    return {
        "domain": "x",
        "enclaveAttestationReport": document,
        "enclaveCert": certificate.pem.decode(),
    }


def test_every_dialect_is_declared_and_none_else():
    assert set(PAIRS) == set(DIALECTS)


def test_exactly_the_declared_pairs(seen):
    assert {name: sorted(layouts) for name, layouts in seen.items()} == {
        name: sorted(layouts) for name, layouts in PAIRS.items()
    }


def test_every_layout_has_its_use():
    used = {layout for layouts in PAIRS.values() for layout in layouts}
    assert used | HCL_ONLY == set(LAYOUTS)
    assert not used & HCL_ONLY


@pytest.mark.parametrize("dialect", [name for name, layouts in PAIRS.items() if not layouts])
def test_a_dialect_without_a_layout_reads_no_evidence(dialect):
    with pytest.raises(MalformedEvidence, match="unsupported evidence format"):
        machines(dialect, {}, {})


def test_a_field_of_the_answer_never_chooses_the_layout(stage):
    """A report that claims TLS keys, formats or layouts is read as what was asked for."""
    lies = {"layout": "tinfoil-v2", "format": "x", "tls_cert_fingerprint": "11" * 32}
    report = {**stage.endpoint.model_report(), **lies}
    (machine,) = machines("dstack", report, {})
    assert machine.layout == "dstack-padded"
    (machine, *_) = machines("near-direct", stage.endpoint.model_report(tls=True), {})
    assert machine.layout == "dstack-padded"
