"""A configuration and what in the evidence commits to it."""

from __future__ import annotations

import hashlib
import json
import pickle

import pytest

from teeverify import tdx
from teeverify.errors import BindingMismatch, ConfigurationError, MalformedEvidence
from teeverify.simulator.dstack import Dstack

GUEST = Dstack()


def evidence(forge, guest, version=1, *, mr_config_id=None):
    chosen = guest.mr_config_id(version) if mr_config_id is None else mr_config_id
    raw = forge.intel.quote(rtmrs=guest.rtmrs, mr_config_id=chosen)
    quote = tdx.parse_quote(raw)
    return quote, tdx.verify_event_log(guest.event_log, quote)


@pytest.mark.parametrize(
    ("version", "with_log", "with_document", "ties"),
    [
        (1, True, False, {"mr_config_id", "event_log"}),
        (1, False, False, {"mr_config_id"}),
        (0, True, False, {"event_log"}),
        (0, False, False, set()),
        (2, True, False, {"mr_config_id", "event_log"}),
        (2, False, False, set()),
        (3, True, True, {"mr_config_id", "event_log"}),
        (3, False, True, {"mr_config_id"}),
        (3, True, False, {"event_log"}),
        (3, False, False, set()),
    ],
)
def test_which_ties_are_found(forge, version, with_log, with_document, ties):
    quote, log = evidence(forge, GUEST, version)
    found = tdx.verify_app_compose(
        GUEST.app_compose,
        quote,
        log if with_log else None,
        mr_config=GUEST.mr_config if with_document else None,
    )
    assert found.ties == ties
    assert found.absent == (not ties)
    assert found.mr_config_id == (str(version) if version else "unset")
    assert found.compose_hash == GUEST.compose_hash == tdx.compose_hash(GUEST.app_compose)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_one_changed_byte(forge, version):
    quote, log = evidence(forge, GUEST, version)
    for changed in (
        GUEST.app_compose + "\n",
        GUEST.app_compose.replace("simulated", "Simulated"),
        json.dumps(json.loads(GUEST.app_compose)),
        "",
    ):
        for event_log in (log, None):
            document = GUEST.mr_config if version == 3 else None
            if event_log is None and version in (0, 2):
                continue
            with pytest.raises(BindingMismatch) as caught:
                tdx.verify_app_compose(changed, quote, event_log, mr_config=document)
            assert caught.value.id == "code.compose"


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("index", [1, 20, 32, 33, 47])
def test_every_byte_of_mr_config_id_counts(forge, version, index):
    value = bytearray(GUEST.mr_config_id(version))
    value[index] ^= 1
    quote, log = evidence(forge, GUEST, mr_config_id=bytes(value))
    with pytest.raises(BindingMismatch):
        tdx.verify_app_compose(GUEST.app_compose, quote, log, mr_config=GUEST.mr_config)


def test_a_register_that_is_not_dstacks(forge):
    quote, log = evidence(forge, GUEST, mr_config_id=b"\x77" * 48)
    found = tdx.verify_app_compose(GUEST.app_compose, quote, log)
    assert (found.mr_config_id, found.ties) == ("foreign", {"event_log"})
    assert tdx.verify_app_compose(GUEST.app_compose, quote).absent


def test_the_log_must_agree_even_where_the_register_does(forge):
    guest = Dstack(events={"compose-hash": bytes(32)})
    quote, log = evidence(forge, guest)
    with pytest.raises(BindingMismatch, match="event log"):
        tdx.verify_app_compose(guest.app_compose, quote, log)
    without = Dstack(events={"compose-hash": None})
    quote, log = evidence(forge, without)
    assert tdx.verify_app_compose(without.app_compose, quote, log).ties == {"mr_config_id"}


@pytest.mark.parametrize("kind", ["kms", "local", "tpm", "none"])
def test_version_2_of_each_key_provider(forge, kind):
    guest = Dstack(key_provider=kind)
    quote, log = evidence(forge, guest, 2)
    assert "mr_config_id" in tdx.verify_app_compose(guest.app_compose, quote, log).ties


@pytest.mark.parametrize(
    "events",
    [
        {"app-id": None},
        {"key-provider": None},
        {"key-provider": b'{"name":"other","id":""}'},
    ],
)
def test_version_2_without_its_inputs_is_no_tie(forge, events):
    guest = Dstack(events=events)
    quote, log = evidence(forge, guest, 2)
    assert tdx.verify_app_compose(guest.app_compose, quote, log).ties == {"event_log"}


def test_version_2_with_an_id_that_is_no_hex(forge):
    guest = Dstack(events={"key-provider": b'{"name":"kms","id":"zz"}'})
    quote, log = evidence(forge, guest, 2)
    with pytest.raises(MalformedEvidence):
        tdx.verify_app_compose(guest.app_compose, quote, log)


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ("{", MalformedEvidence),
        (b"\xff", MalformedEvidence),
        ("\ud800", MalformedEvidence),
        ('{"version":2,"compose_hash":"%s"}', MalformedEvidence),
        ('{"version":3}', MalformedEvidence),
        ('{"version":3,"compose_hash":"00"}', MalformedEvidence),
        ('{"version":3,"compose_hash":"' + "00" * 32 + '"}', BindingMismatch),
        ('{"version":3,"compose_hash":"%s"} ', BindingMismatch),
    ],
)
def test_documents_of_version_3(forge, document, error):
    quote, _ = evidence(forge, GUEST, 3)
    if isinstance(document, str) and "%s" in document:
        document %= GUEST.compose_hash.hex()
    with pytest.raises(error):
        tdx.verify_app_compose(GUEST.app_compose, quote, mr_config=document)


def test_wrong_arguments(forge):
    _quote, log = evidence(forge, GUEST)
    other, _ = evidence(forge, Dstack())
    with pytest.raises(ConfigurationError):
        tdx.verify_app_compose(GUEST.app_compose, other, log)
    for wrong in (None, 5, {"a": 1}):
        with pytest.raises(ConfigurationError):
            tdx.compose_hash(wrong)
    for wrong in ("\ud800", b"0" * (4 * 1024 * 1024 + 1)):
        with pytest.raises(MalformedEvidence):
            tdx.compose_hash(wrong)
    sgx = tdx.parse_quote(forge.intel.quote(version=3, body="sgx"))
    with pytest.raises(ConfigurationError):
        tdx.verify_app_compose(GUEST.app_compose, sgx)
    assert tdx.compose_hash("é") == hashlib.sha256("é".encode()).digest()


def test_only_verification_makes_claims(forge):
    quote, log = evidence(forge, GUEST)
    found = tdx.verify_app_compose(GUEST.app_compose, quote, log)
    with pytest.raises(ConfigurationError):
        pickle.dumps(found)
    with pytest.raises(ConfigurationError):
        tdx.AppConfigClaims(
            compose_hash=bytes(32), ties=frozenset(), mr_config_id="1", seal=object()
        )
