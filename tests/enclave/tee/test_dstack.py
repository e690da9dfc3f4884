"""dstack's guest agent: a server on a unix socket, with quotes of the simulator."""

from __future__ import annotations

import json
import os
import secrets

import pytest

from teeverify import tdx
from teeverify.clock import now
from teeverify.enclave.tee.dstack import DstackAgent
from teeverify.errors import EndpointUnavailable
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.tee import SimulatedTee

pytestmark = [
    pytest.mark.network,
    pytest.mark.skipif(os.name == "nt", reason="needs unix sockets"),
]
DATA = secrets.token_bytes(64)


@pytest.fixture(scope="module")
def tee():
    return SimulatedTee(gpus=1)


@pytest.fixture
def agent(tmp_path, tee):
    from agent import Agent

    made = Agent(tmp_path / "dstack.sock", tee)
    yield made
    made.close()


def refusal(call, *arguments):
    with pytest.raises(EndpointUnavailable) as caught:
        call(*arguments)
    assert caught.value.id == "endpoint.devices"
    return caught.value


def test_a_quote_with_its_log_and_configuration(agent, tee):
    source = DstackAgent(agent.path)
    assert source.platform == "tdx"
    found = source.quote(DATA)
    collateral = tdx.Endorsements.load(json.dumps(tee.endorsements()["tdx"]))
    roots = UnsafeTestRoots([tee.roots_pem()])
    claims = tdx.verify_quote(found.quote, collateral, at=now(), roots=roots)
    assert claims.td.report_data == DATA
    expected = tee.quote(DATA)
    assert found.event_log == expected.event_log
    assert found.info["tcb_info"] == expected.info["tcb_info"]
    assert found.vm_config == expected.vm_config
    assert ("GetQuote", {"report_data": DATA.hex()}) in agent.asked


def test_the_configuration_of_an_older_agent(agent):
    agent.changes["GetQuote"] = {"vm_config": ..., "report_data": ...}
    assert DstackAgent(agent.path).quote(DATA).vm_config == '{"from": "info"}'
    agent.changes["Info"] = {"vm_config": ...}
    assert DstackAgent(agent.path).quote(DATA).vm_config == "{}"


@pytest.mark.parametrize("log", ["", ..., "[]", []])
def test_no_event_log(agent, log):
    agent.changes["GetQuote"] = {"event_log": log}
    assert list(DstackAgent(agent.path).quote(DATA).event_log) == []


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"quote": ""}, "an empty quote"),
        ({"quote": ...}, "quote"),
        ({"quote": None}, "quote"),
        ({"quote": "zz"}, "quote"),
        ({"quote": "0"}, "quote"),
        ({"report_data": bytes(64).hex()}, "other data"),
        ({"report_data": DATA[:63].hex()}, "other data"),
        ({"report_data": 7}, "other data"),
        ({"event_log": "{}"}, "event log"),
        ({"event_log": "[1]"}, "event log"),
        ({"event_log": "["}, "dstack"),
        ({"event_log": 1}, "event log"),
        ({"vm_config": {"a": 1}}, "configuration"),
    ],
)
def test_a_quote_that_cannot_be_used(agent, changes, why):
    source = DstackAgent(agent.path)
    agent.changes["GetQuote"] = changes
    error = refusal(source.quote, DATA)
    assert "gives no quote that can be used" in error.message
    assert why in error.got


@pytest.mark.parametrize("method", ["Info", "GetQuote"])
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((500, b'{"error": "no quote"}'), "status 500"),
        ((404, b""), "status 404"),
        ((302, b""), "status 302"),
        ((200, b"garbage"), "dstack"),
        ((200, b""), "dstack"),
        ((200, b"[]"), "no object"),
        ((200, b'{"quote": "00", "quote": "00"}'), "dstack"),
        ((200, b"\xff\xfe"), "dstack"),
        ((200, b'"' + b"x" * (16 * 2**20) + b'"'), "status 200"),
    ],
)
def test_an_agent_that_answers_otherwise(agent, method, answer, why):
    source = DstackAgent(agent.path)
    agent.raw[method] = answer
    call = (DstackAgent, agent.path) if method == "Info" else (source.quote, DATA)
    assert why in refusal(*call).got


def test_info_that_is_no_json(agent):
    agent.changes["Info"] = {"tcb_info": "{"}
    assert "dstack" in refusal(DstackAgent, agent.path).got


def test_no_agent(tmp_path):
    error = refusal(DstackAgent, tmp_path / "absent.sock")
    assert "does not answer" in error.message
    assert "Mount the agent's socket" in error.hint
    (tmp_path / "file").write_text("")
    assert "does not answer" in refusal(DstackAgent, tmp_path / "file").message


def test_an_agent_that_goes_away(agent):
    source = DstackAgent(agent.path)
    agent.path.unlink()
    assert "does not answer" in refusal(source.quote, DATA).message


def test_an_agent_that_hangs_up(tmp_path):
    import socket
    import threading

    path = tmp_path / "rude.sock"
    with socket.socket(socket.AF_UNIX) as rude:
        rude.bind(str(path))
        rude.listen()

        def hang_up():
            rude.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        assert "does not answer" in refusal(DstackAgent, path).message


def test_an_agent_that_is_silent(tmp_path, monkeypatch):
    import socket

    from teeverify.enclave.tee import dstack

    monkeypatch.setattr(dstack, "_SECONDS", 0.2)
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        assert "does not answer" in refusal(DstackAgent, path).message


def test_numbers_of_json_that_python_knows_alone(agent):
    agent.raw["Info"] = (200, json.dumps({"x": float("nan")}).encode())
    assert refusal(DstackAgent, agent.path).got
