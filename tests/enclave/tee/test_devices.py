"""The older interfaces: ``/dev/tdx_guest`` with Intel's service, and ``/dev/sev-guest``."""

from __future__ import annotations

import errno
import socket
import struct
import threading

import pytest

from teeverify.enclave.tee.sev import SevDevice
from teeverify.enclave.tee.tdx import TdxDevice
from teeverify.errors import EndpointUnavailable

DATA = bytes(range(64))


@pytest.fixture
def fake_devices():
    try:
        import devices
    except (ImportError, OSError) as error:
        pytest.skip(f"no FUSE here: {error}")
    return devices


class QuoteService:
    """Intel's service on a unix socket: one message, one answer (qgs_msg_lib)."""

    def __init__(self, path):
        self.path = str(path)
        self.asked = []
        self.answer = self.quote
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(self.path)
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def quote(self, report):
        quote = b"quote over " + report
        return self.message(1, 0, struct.pack("<II", 0, len(quote)) + quote)

    @staticmethod
    def message(kind, error, body, size=None):
        size = 16 + len(body) if size is None else size
        message = struct.pack("<HHIII", 1, 1, kind, size, error) + body
        return len(message).to_bytes(4, "big") + message

    def _serve(self):
        while True:
            connection, _ = self._socket.accept()
            with connection:
                raw = b""
                while len(raw) < 4 + 16 + 8 + 1024:
                    raw += connection.recv(65536)
                length, version, _, kind, size, error = struct.unpack(
                    ">I", raw[:4]
                ) + struct.unpack("<HHIII", raw[4:20])
                assert (version, kind, size, error) == (1, 0, length, 0)
                assert struct.unpack("<II", raw[20:28]) == (1024, 0)
                self.asked.append(raw[28:])
                connection.sendall(self.answer(raw[28:]))


@pytest.fixture
def service(tmp_path):
    return QuoteService(tmp_path / "qgs.sock")


@pytest.fixture
def tdx(mount, fake_devices, service):
    folder = mount(fake_devices.tdx_guest(lambda data: b"report" + data + bytes(954)), apart=True)
    return TdxDevice(folder / "device", service.path)


@pytest.mark.network
def test_a_quote_by_way_of_the_service(tdx, service):
    found = tdx.quote(DATA)
    report = b"report" + DATA + bytes(954)
    assert found.quote == b"quote over " + report
    assert service.asked == [report]


@pytest.mark.network
@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (lambda m: m(1, 0x1234, struct.pack("<II", 0, 0)), "0x1234"),
        (lambda m: m(7, 0, struct.pack("<II", 0, 1) + b"q"), "type 7"),
        (lambda m: m(1, 0, struct.pack("<II", 0, 1) + b"q", size=99), "size 99"),
        (lambda m: m(1, 0, struct.pack("<II", 0, 2) + b"q"), "2"),
        (lambda m: m(1, 0, struct.pack("<II", 0, 0)), "0"),
        (lambda m: m(1, 0, struct.pack("<II", 5, 1) + b"q"), "1"),
        (lambda _: b"", "0 of 4 bytes"),
        (lambda _: bytes(4), "0"),
        (lambda _: b"\xff\xff\xff\xff", "4294967295"),
        (lambda m: m(1, 0, bytes(8))[:-1], "bytes"),
    ],
)
def test_a_service_that_answers_otherwise(tdx, service, answer, why):
    service.answer = lambda _report: answer(service.message)
    with pytest.raises(EndpointUnavailable) as caught:
        tdx.quote(DATA)
    assert caught.value.id == "endpoint.devices"
    assert why in caught.value.got


@pytest.mark.network
def test_no_service_and_no_device(tdx, tmp_path):
    with pytest.raises(EndpointUnavailable, match="no quote"):
        TdxDevice(tdx._device, str(tmp_path / "absent.sock")).quote(DATA)
    with pytest.raises(EndpointUnavailable, match="no quote"):
        TdxDevice(tmp_path / "absent").quote(DATA)


@pytest.mark.network
def test_a_device_that_refuses(mount, fake_devices, service):
    def refuse(_data):
        raise OSError(errno.EIO, "no")

    folder = mount(fake_devices.tdx_guest(refuse), apart=True)
    device = TdxDevice(folder / "device", service.path)
    with pytest.raises(EndpointUnavailable):
        device.quote(DATA)
    assert service.asked == []


@pytest.fixture
def sev(mount, fake_devices):
    guest = fake_devices.SevGuest()
    return guest, SevDevice(mount(guest.device) / "device")


def test_a_report_with_the_hosts_table(sev):
    guest, device = sev
    guest.table = b"\x01" * 5000  # more than the first buffer holds: asked again
    found = device.quote(DATA)
    assert found.quote == bytes(80) + DATA + bytes(1040)
    assert found.certificates.startswith(guest.table)
    assert guest.vmpl == 0


def test_a_host_without_a_table(sev):
    assert sev[1].quote(DATA).certificates == b""


def test_another_privilege_level(sev):
    guest, device = sev
    SevDevice(device._device, vmpl=2).quote(DATA)
    assert guest.vmpl == 2


@pytest.mark.parametrize("spoil", ["firmware", "status", "table"])
def test_firmware_that_refuses(sev, spoil):
    guest, device = sev
    if spoil == "firmware":
        guest.firmware_error = 0x16
    elif spoil == "status":
        guest.status = 0x27
    else:
        guest.table = bytes(100_000)
    with pytest.raises(EndpointUnavailable) as caught:
        device.quote(DATA)
    wanted = {"firmware": "firmware 0x16", "status": "status 0x27", "table": "too large"}
    assert wanted[spoil] in caught.value.got


def test_no_device(tmp_path):
    with pytest.raises(EndpointUnavailable):
        SevDevice(tmp_path / "absent").quote(DATA)
