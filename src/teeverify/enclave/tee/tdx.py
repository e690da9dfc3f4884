"""``/dev/tdx_guest`` and Intel's quote generation service: before Linux 6.7.

The device gives a TD report, which only this machine's own hardware can check; the service on the
host turns it into a quote. It is reached by vsock, in the messages of Intel's ``qgs_msg_lib``:
a length (u32, big-endian), then little-endian ``version u16, u16, type u32, size u32, error u32``
and the body.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from pathlib import Path
from typing import Any

from teeverify.enclave.tee.machine import Quote
from teeverify.errors import EndpointUnavailable

__all__ = ["DEVICE", "QUOTE_SERVICE", "TdxDevice"]

DEVICE = Path("/dev/tdx_guest")
QUOTE_SERVICE = (2, 4050)
"""vsock address of the host (VMADDR_CID_HOST), and the service's port."""

_REPORT_DATA, _REPORT = 64, 1024
# _IOWR('T', 1, struct tdx_report_req), include/uapi/linux/tdx-guest.h
_GET_REPORT = (3 << 30) | ((_REPORT_DATA + _REPORT) << 16) | (ord("T") << 8) | 1
_HEADER = struct.Struct("<HHIII")
_VERSION, _ASK, _ANSWER = (1, 1), 0, 1
_SECONDS = 30.0
_LARGEST = 64 * 1024


class TdxDevice:
    """The older interface.

    Args:
        device: The kernel's device.
        service: vsock address of the quote service.
    """

    platform = "tdx"

    def __init__(
        self, device: Path = DEVICE, service: tuple[int, int] | str = QUOTE_SERVICE
    ) -> None:
        self._device = device
        self._service = service

    def quote(self, report_data: bytes) -> Quote:
        """See :class:`~teeverify.enclave.tee.machine.CpuSource`."""
        try:
            return Quote(quote=self._ask(self._report(report_data)))
        except OSError as error:
            raise EndpointUnavailable(
                "Intel's quote service gives no quote",
                id="endpoint.devices",
                got=f"{self._device} or vsock {self._service}: {error.strerror or error}",
                hint="Run the service on the host, or use Linux 6.7 or later.",
            ) from None

    def _report(self, report_data: bytes) -> bytes:
        request = bytearray(report_data + bytes(_REPORT))
        device = os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(device, _GET_REPORT, request)
        finally:
            os.close(device)
        return bytes(request[_REPORT_DATA:])

    def _ask(self, report: bytes) -> bytes:
        body = struct.pack("<II", len(report), 0) + report
        message = _HEADER.pack(*_VERSION, _ASK, _HEADER.size + len(body), 0) + body
        with self._connect() as service:
            service.settimeout(_SECONDS)
            service.connect(self._service)
            service.sendall(len(message).to_bytes(4, "big") + message)
            length = int.from_bytes(_receive(service, 4), "big")
            if not _HEADER.size + 8 <= length <= _LARGEST:
                raise _odd("a message of a length that is none", length)
            answer = _receive(service, length)
        return _quote_in(answer)

    def _connect(self) -> socket.socket:
        # A path is a unix socket: a forwarder of the service, as some hosts have it.
        family = socket.AF_UNIX if isinstance(self._service, str) else _vsock()
        return socket.socket(family, socket.SOCK_STREAM)


def _quote_in(answer: bytes) -> bytes:
    major, _minor, kind, size, error = _HEADER.unpack_from(answer)
    if error != 0:
        raise _odd("an error", hex(error))
    if major != _VERSION[0] or kind != _ANSWER or size != len(answer):
        raise _odd("a message of another form", f"version {major}, type {kind}, size {size}")
    selected, length = struct.unpack_from("<II", answer, _HEADER.size)
    start = _HEADER.size + 8 + selected
    if start + length != len(answer) or length == 0:
        raise _odd("a quote of a length that is none", length)
    return answer[start:]


def _receive(service: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = service.recv(count - len(found))
        if not part:
            raise _odd("nothing more", f"{len(found)} of {count} bytes")
        found += part
    return found


def _vsock() -> Any:  # noqa: ANN401 -- a constant that not every platform has
    family = getattr(socket, "AF_VSOCK", None)
    if family is None:
        raise _odd("nothing", "this platform has no vsock")
    return family


def _odd(what: str, got: object) -> EndpointUnavailable:
    return EndpointUnavailable(
        f"Intel's quote service gives {what}", id="endpoint.devices", got=str(got)[:80]
    )
