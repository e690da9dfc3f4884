"""configfs-tsm, on a file system with the kernel's semantics."""

from __future__ import annotations

import errno
import hashlib
import os

import pytest

from teeverify.enclave.tee import tsm
from teeverify.errors import EndpointUnavailable

DATA = bytes(range(64))


def make(question):
    return question + bytes(4936), b""


@pytest.fixture
def system():
    configfs = pytest.importorskip("configfs", reason="needs mfusepy and libfuse", exc_type=OSError)
    return configfs.TsmFileSystem("tdx_guest", make)


@pytest.fixture
def mounted(system, mount, monkeypatch):
    monkeypatch.setattr(tsm, "_PAUSE_SECONDS", 0.0)
    return mount(system)


def test_a_quote_over_the_data(mounted, system):
    machine = tsm.Tsm(mounted)
    assert machine.platform == "tdx"
    found = machine.quote(DATA)
    assert found.quote == DATA + bytes(4936)
    assert found.certificates == b""
    assert system.entries == {}


def test_a_report_of_snp_with_its_certificates(mounted, system):
    system.provider = "sev_guest"
    system.make = lambda question: (question + bytes(1120), b"table")
    found = tsm.Tsm(mounted).quote(DATA)
    assert tsm.Tsm(mounted).platform == "sev-snp"
    assert len(found.quote) == 1184
    assert found.certificates == b"table"


def test_snp_without_certificates(mounted, system):
    system.provider = "sev_guest"
    system.make = lambda question: (question + bytes(1120), b"")
    system.without = ("auxblob",)
    assert tsm.Tsm(mounted).quote(DATA).certificates == b""


def test_a_busy_kernel_is_asked_again(mounted, system):
    calls = []

    def busy_twice(question):
        calls.append(question)
        if len(calls) < 3:
            raise OSError(errno.EBUSY, "busy")
        return make(question)

    system.make = busy_twice
    assert tsm.Tsm(mounted).quote(DATA).quote.startswith(DATA)
    assert len(calls) == 3


def test_a_kernel_that_stays_busy(mounted, system):
    def busy(_question):
        raise OSError(errno.EBUSY, "busy")

    system.make = busy
    with pytest.raises(EndpointUnavailable, match="stays busy"):
        tsm.Tsm(mounted).quote(DATA)
    assert system.entries == {}


def test_a_quote_that_another_has_written_into_is_not_taken(mounted, system):
    """The other's question gets between ours and its answer: the answer would be to him."""

    def other(entry):
        entry.inblob = hashlib.sha512(b"other").digest()
        entry.generation += 1

    machine = tsm.Tsm(mounted)
    system.interfere = other
    with pytest.raises(EndpointUnavailable, match="somebody else"):
        machine.quote(DATA)
    times = []

    def once(entry):
        if not times:
            other(entry)
        times.append(1)

    system.interfere = once
    assert machine.quote(DATA).quote.startswith(DATA)


@pytest.mark.parametrize("length", [0, 1019, 65536])
def test_a_quote_of_no_possible_length(mounted, system, length):
    system.make = lambda _question: (bytes(length), b"")
    with pytest.raises(EndpointUnavailable, match="no possible length"):
        tsm.Tsm(mounted).quote(DATA)


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL, errno.ENXIO])
def test_a_kernel_that_refuses(mounted, system, code):
    def refuse(_question):
        raise OSError(code, "no")

    system.make = refuse
    with pytest.raises(EndpointUnavailable) as caught:
        tsm.Tsm(mounted).quote(DATA)
    assert os.strerror(code) in caught.value.got
    assert system.entries == {}


def test_another_provider(mounted, system):
    system.provider = "arm_cca_guest"
    with pytest.raises(EndpointUnavailable, match="not supported"):
        tsm.Tsm(mounted)


def test_no_configfs(tmp_path):
    with pytest.raises(EndpointUnavailable) as caught:
        tsm.Tsm(tmp_path / "absent")
    assert "Mount configfs" in caught.value.hint


def test_many_at_once_have_a_directory_each(mounted, system):
    from concurrent.futures import ThreadPoolExecutor

    machine = tsm.Tsm(mounted)
    questions = [hashlib.sha512(bytes([number])).digest() for number in range(20)]
    with ThreadPoolExecutor(8) as threads:
        quotes = list(threads.map(machine.quote, questions))
    assert all(q.quote.startswith(question) for q, question in zip(quotes, questions, strict=True))
    assert system.most > 1
    assert system.entries == {}
