"""Faithful ``/dev/tdx_guest`` and ``/dev/sev-guest``: files of a file system in this process.

FUSE hands the argument of an ioctl over by the size in its number, as the kernel's drivers copy it;
pointers inside it are of this very process.
"""

from __future__ import annotations

import ctypes
import errno
import stat
import struct

import mfusepy

TDX_GET_REPORT = 0xC4405401
SEV_GET_EXTENDED = 0xC0205302


class Device(mfusepy.Operations):
    """One device file, ``/device``.

    Attributes:
        answer: Called with the ioctl's number, the address of a copy of its argument, and the
            argument's own.
    """

    use_ns = True

    def __init__(self, answer):
        self.answer = answer

    def getattr(self, path, fh=None):
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path != "/device":
            raise mfusepy.FuseOSError(errno.ENOENT)
        return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": 0}

    def open(self, path, flags):
        return 0

    def ioctl(self, path, cmd, arg, fip, flags, data):
        try:
            # FUSE copies nothing back from a call that fails; the kernel's drivers do. So they get
            # the caller's own address too.
            self.answer(cmd & 0xFFFFFFFF, data, arg)
        except OSError as error:
            raise mfusepy.FuseOSError(error.errno) from None
        return 0


def tdx_guest(make_report):
    """TDX_CMD_GET_REPORT0: 64 bytes in, 1,024 out (include/uapi/linux/tdx-guest.h)."""

    def answer(cmd, address, _own):
        if cmd != TDX_GET_REPORT:
            raise OSError(errno.ENOTTY, "no such ioctl")
        report = make_report(ctypes.string_at(address, 64))
        ctypes.memmove(address + 64, report, 1024)

    return Device(answer)


class SevGuest:
    """SNP_GET_EXT_REPORT (include/uapi/linux/sev-guest.h).

    Attributes:
        report: Makes 1,184 bytes of the user data.
        table: The host's certificate table.
        status: Of the firmware's answer.
        firmware_error: Fails the call with this code.
    """

    def __init__(self):
        self.report = lambda user_data: bytes(80) + user_data + bytes(1040)
        self.table = b""
        self.status = 0
        self.firmware_error = 0
        self.vmpl = None
        self.device = Device(self.answer)

    def answer(self, cmd, address, own):
        if cmd != SEV_GET_EXTENDED:
            raise OSError(errno.ENOTTY, "no such ioctl")
        version, request, response = struct.unpack("<B7xQQ", ctypes.string_at(address, 24))
        if version != 1:
            raise OSError(errno.EINVAL, "message version")
        raw = ctypes.string_at(request, 112)
        user_data, self.vmpl = raw[:64], int.from_bytes(raw[64:68], "little")
        pointer, size = struct.unpack("<QI", raw[96:108])
        if self.firmware_error:
            ctypes.memmove(own + 24, struct.pack("<II", self.firmware_error, 0), 8)
            raise OSError(errno.EIO, "firmware")
        if len(self.table) > size:
            ctypes.memmove(request + 104, struct.pack("<I", len(self.table)), 4)
            ctypes.memmove(own + 24, struct.pack("<II", 0, 1), 8)
            raise OSError(errno.EIO, "too small")
        ctypes.memmove(pointer, self.table, len(self.table))
        header = struct.pack("<II24x", self.status, 1184)
        ctypes.memmove(response, header + self.report(user_data), 32 + 1184)
