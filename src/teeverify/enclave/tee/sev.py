"""``/dev/sev-guest``: AMD SEV-SNP before Linux 6.7 (include/uapi/linux/sev-guest.h).

The extended report is asked for, which brings the host's certificate table along; where the host
has none, the report alone.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from pathlib import Path

from teeverify.enclave.tee.machine import Quote
from teeverify.errors import EndpointUnavailable

__all__ = ["DEVICE", "SevDevice"]

DEVICE = Path("/dev/sev-guest")
_REPORT, _RESPONSE, _PAGE = 1184, 4000, 4096
_MOST_CERTIFICATES = 16 * _PAGE
# The host wants a larger buffer for its table (SNP_GUEST_VMM_ERR_INVALID_LEN, GHCB 4.1.5).
_TOO_SMALL = 1
_HEADER = 32


class _Request(ctypes.Structure):
    """``struct snp_guest_request_ioctl``."""

    _fields_ = (
        ("version", ctypes.c_uint8),
        ("request", ctypes.c_uint64),
        ("response", ctypes.c_uint64),
        ("firmware_error", ctypes.c_uint32),
        ("vmm_error", ctypes.c_uint32),
    )


class _Question(ctypes.Structure):
    """``struct snp_ext_report_req``."""

    _fields_ = (
        ("user_data", ctypes.c_uint8 * 64),
        ("vmpl", ctypes.c_uint32),
        ("reserved", ctypes.c_uint8 * 28),
        ("certificates", ctypes.c_uint64),
        ("certificates_size", ctypes.c_uint32),
    )


# _IOWR('S', 2, struct snp_guest_request_ioctl)
_GET_EXTENDED = (3 << 30) | (ctypes.sizeof(_Request) << 16) | (ord("S") << 8) | 2


class SevDevice:
    """The older interface.

    Args:
        device: The kernel's device.
        vmpl: The privilege level that the report is for.
    """

    platform = "sev-snp"

    def __init__(self, device: Path = DEVICE, *, vmpl: int = 0) -> None:
        self._device = device
        self._vmpl = vmpl

    def quote(self, report_data: bytes) -> Quote:
        """See :class:`~teeverify.enclave.tee.machine.CpuSource`."""
        try:
            handle = os.open(self._device, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise self._refused(error.strerror) from None
        try:
            return self._ask(handle, report_data)
        finally:
            os.close(handle)

    def _ask(self, handle: int, report_data: bytes) -> Quote:
        size = _PAGE
        while size <= _MOST_CERTIFICATES:
            table = (ctypes.c_uint8 * size)()
            question = _Question(
                user_data=(ctypes.c_uint8 * 64)(*report_data),
                vmpl=self._vmpl,
                certificates=ctypes.addressof(table),
                certificates_size=size,
            )
            response = (ctypes.c_uint8 * _RESPONSE)()
            request = _Request(
                version=1,
                request=ctypes.addressof(question),
                response=ctypes.addressof(response),
            )
            try:
                fcntl.ioctl(handle, _GET_EXTENDED, request)
            except OSError as error:
                if error.errno == errno.EIO and request.vmm_error == _TOO_SMALL:
                    size = max(2 * size, question.certificates_size)
                    continue
                raise self._refused(
                    f"{error.strerror}, firmware {request.firmware_error:#x}, "
                    f"host {request.vmm_error:#x}"
                ) from None
            return self._read(bytes(response), bytes(table))
        raise self._refused("the host's certificate table is too large")

    def _read(self, response: bytes, table: bytes) -> Quote:
        """MSG_REPORT_RSP (SEV-SNP firmware ABI, table 25): status, size, reserved, report."""
        status, size = (int.from_bytes(response[at : at + 4], "little") for at in (0, 4))
        if status != 0 or size != _REPORT:
            raise self._refused(f"status {status:#x}, {size} bytes")
        # A host without a table leaves the buffer as it was: zeros.
        certificates = table if any(table) else b""
        return Quote(quote=response[_HEADER : _HEADER + _REPORT], certificates=certificates)

    def _refused(self, why: str | None) -> EndpointUnavailable:
        return EndpointUnavailable(
            "the AMD security processor gives no report",
            id="endpoint.devices",
            got=f"{self._device}: {why}",
        )
