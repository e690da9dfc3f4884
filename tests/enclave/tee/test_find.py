"""Finding the machine: the best interface that answers, all devices, or nothing."""

from __future__ import annotations

import secrets

import pytest

from teeverify.clock import now
from teeverify.enclave.devices import CollectedDevice
from teeverify.enclave.tee import find
from teeverify.enclave.tee.find import Interface, find_machine, kernel_interfaces
from teeverify.enclave.tee.gpus import SdkGpus
from teeverify.enclave.tee.machine import Machine, Quote
from teeverify.errors import ConfigurationError, EndpointUnavailable
from teeverify.simulator.intel import Intel


@pytest.fixture(scope="module")
def intel():
    return Intel(at=now())


class Source:
    """A source of quotes; ``change`` spoils what it was asked."""

    platform = "tdx"

    def __init__(self, intel, change=lambda data: data, log=()):
        self.intel, self.change, self.log = intel, change, log
        self.asked = 0

    def quote(self, report_data):
        self.asked += 1
        quote = self.intel.quote(report_data=self.change(report_data))
        return Quote(quote=quote, event_log=self.log)


class Gpus:
    def __init__(self, error=None):
        self.error = error
        self.asked = []

    def reports(self, nonce):
        self.asked.append(nonce)
        if self.error:
            raise self.error
        return ()


@pytest.fixture
def interface(tmp_path, monkeypatch):
    monkeypatch.setattr(find, "has_nvidia_driver", lambda: False)

    def make(name, opened, *, there=True, belongs=True):
        path = tmp_path / name
        if there:
            path.touch()

        def open_it():
            if isinstance(opened, Exception):
                raise opened
            return opened

        return Interface(name=name, path=path, open=open_it, belongs=lambda: belongs)

    return make


BROKEN = EndpointUnavailable("it is broken", id="endpoint.devices", got="in two")


def test_the_first_that_answers_is_taken(interface, intel):
    first, second = Source(intel), Source(intel)
    found = find_machine(interfaces=[interface("a", first), interface("b", second)])
    assert found.platform == "tdx"
    assert (first.asked, second.asked) == (1, 0)
    assert found.devices(bytes(32)) == ()


def test_what_is_absent_or_refuses_is_passed_over(interface, intel):
    last = Source(intel)
    find_machine(
        interfaces=[
            interface("a", Source(intel), there=False),
            interface("b", Source(intel), belongs=False),
            interface("c", BROKEN),
            interface("d", Source(intel, lambda data: data[::-1])),
            interface("e", last),
        ]
    )
    assert last.asked == 1


def test_none_that_answers_names_those_that_refused(interface, intel):
    with pytest.raises(EndpointUnavailable) as caught:
        find_machine(
            interfaces=[
                interface("a", BROKEN),
                interface("b", Source(intel, lambda data: bytes(64))),
            ]
        )
    assert caught.value.id == "endpoint.devices"
    assert "a: it is broken (in two)" in caught.value.got
    assert "b: this machine's quote answers another question" in caught.value.got
    assert "--simulated" in caught.value.hint


def test_none_at_all_names_where_it_looked(interface, intel, tmp_path):
    with pytest.raises(EndpointUnavailable) as caught:
        find_machine(interfaces=[interface("a", Source(intel), there=False)])
    assert str(tmp_path / "a") in caught.value.got


def test_only_the_named_one_is_looked_at(interface, intel):
    first, second = Source(intel), Source(intel)
    known = [interface("a", first), interface("b", second)]
    find_machine("b", interfaces=known)
    assert (first.asked, second.asked) == (0, 1)
    with pytest.raises(ConfigurationError) as caught:
        find_machine("c", interfaces=known)
    assert caught.value.want == "auto, a, b"


def test_gpus_answer_once_at_the_start(interface, intel):
    gpus = Gpus()
    machine = find_machine(gpus=gpus, interfaces=[interface("a", Source(intel))])
    assert len(gpus.asked) == 1
    machine.devices(b"n" * 32)
    assert gpus.asked[1] == b"n" * 32
    with pytest.raises(EndpointUnavailable, match="broken"):
        find_machine(gpus=Gpus(BROKEN), interfaces=[interface("a", Source(intel))])


def test_a_loaded_driver_demands_gpus(interface, intel, monkeypatch):
    class Broken:
        def __init__(self):
            raise BROKEN

    monkeypatch.setattr(find, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(find, "NvmlGpus", Broken)
    with pytest.raises(EndpointUnavailable, match="broken"):
        find_machine(interfaces=[interface("a", Source(intel))])


@pytest.mark.parametrize(
    ("platform", "quote", "why"),
    [
        ("tdx", b"", "another form"),
        ("tdx", bytes(5000), "another form"),
        ("sev-snp", bytes(1184), "another form"),
        ("sev-snp", bytes(10), "another form"),
    ],
)
def test_a_quote_of_another_form(platform, quote, why):
    class Odd:
        def quote(self, _report_data):
            return Quote(quote=quote)

    Odd.platform = platform
    with pytest.raises(EndpointUnavailable, match=why):
        Machine(Odd(), None).quote(bytes(64))


def test_whether_there_is_an_event_log(intel):
    assert not Machine(Source(intel), None).has_event_log
    assert Machine(Source(intel, log=({"imr": 0},)), None).has_event_log


def test_a_machine_has_no_endorsements_of_its_own(intel):
    assert Machine(Source(intel), None).endorsements() is None


def test_the_interfaces_in_their_order():
    names = list(dict.fromkeys(one.name for one in kernel_interfaces()))
    assert names == ["dstack", "tsm", "tdx", "sev", "azure"]


class Sdk:
    def __init__(self, *kinds):
        self.kinds = list(kinds)

    def collect(self, nonce):
        return tuple(
            CollectedDevice(kind=kind, arch="HOPPER", certificate="", evidence=nonce.hex())
            for kind in self.kinds
        )


def test_devices_of_the_sdk():
    nonce = secrets.token_bytes(32)
    sdk = Sdk(1, 1, 2)
    source = SdkGpus(sdk)
    assert [(one.kind, one.evidence) for one in source.reports(nonce)] == [
        (1, nonce.hex()),
        (1, nonce.hex()),
        (2, nonce.hex()),
    ]
    sdk.kinds.pop()
    with pytest.raises(EndpointUnavailable) as caught:
        source.reports(nonce)
    assert (caught.value.got, caught.value.want) == ("2", "3")
