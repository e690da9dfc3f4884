"""Linux's configfs-tsm (Documentation/ABI/testing/configfs-tsm-report; Linux 6.7 and later).

A directory is made for each quote, so that nobody else's question gets between ours and its answer.
``generation`` counts what was written to the directory: it is read before and after, and a quote
that another's writing has touched is not taken.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from teeverify.enclave.tee.machine import Quote
from teeverify.errors import EndpointUnavailable

__all__ = ["REPORTS", "Tsm"]

REPORTS = Path("/sys/kernel/config/tsm/report")
_PLATFORMS = {"tdx_guest": "tdx", "sev_guest": "sev-snp"}
_REPORT_DATA = 64
_QUOTE_SIZES = {"tdx": range(1020, 64 * 1024), "sev-snp": range(1184, 1185)}
_TRIES = 5
_PAUSE_SECONDS = 0.05
# The host's side is busy, or somebody wrote between our write and our read.
_AGAIN = (errno.EBUSY, errno.EWOULDBLOCK, errno.EINTR, errno.ETIMEDOUT)


class Tsm:
    """The kernel's own interface.

    Args:
        folder: Where configfs is mounted.

    Raises:
        EndpointUnavailable: No provider answers there.
    """

    def __init__(self, folder: Path = REPORTS) -> None:
        self._folder = folder
        with self._entry() as entry:
            provider = _read(entry / "provider").decode("ascii", "replace").strip()
        platform = _PLATFORMS.get(provider)
        if platform is None:
            raise EndpointUnavailable(
                "the kernel offers quotes of a machine that is not supported",
                id="endpoint.devices",
                got=provider[:40],
                want=", ".join(_PLATFORMS),
            )
        self.platform = platform

    def quote(self, report_data: bytes) -> Quote:
        """See :class:`~teeverify.enclave.tee.machine.CpuSource`."""
        for _ in range(_TRIES):
            found = self._try(report_data)
            if found is not None:
                return found
            time.sleep(_PAUSE_SECONDS)
        raise EndpointUnavailable(
            "the kernel gives no quote: it stays busy, or somebody else writes there",
            id="endpoint.devices",
            got=f"{_TRIES} attempts",
        )

    def _try(self, report_data: bytes) -> Quote | None:
        with self._entry() as entry:
            try:
                before = _generation(entry)
                _write(entry / "inblob", report_data)
                if _generation(entry) != before + 1:
                    return None
                quote = _read(entry / "outblob")
                certificates = _optional(entry / "auxblob") if self.platform == "sev-snp" else b""
                if _generation(entry) != before + 1:
                    return None
            except OSError as error:
                if error.errno in _AGAIN:
                    return None
                raise _refused(error) from None
        if len(quote) not in _QUOTE_SIZES[self.platform]:
            raise EndpointUnavailable(
                "the kernel's quote has no possible length",
                id="endpoint.devices",
                got=f"{len(quote)} bytes",
            )
        return Quote(quote=quote, certificates=certificates)

    @contextlib.contextmanager
    def _entry(self) -> Iterator[Path]:
        """A directory of our own, for one quote."""
        entry = self._folder / f"teeverify-{os.getpid()}-{secrets.token_hex(8)}"
        try:
            entry.mkdir()
        except OSError as error:
            raise _refused(error) from None
        try:
            yield entry
        finally:
            with contextlib.suppress(OSError):
                entry.rmdir()


def _generation(entry: Path) -> int:
    text = _read(entry / "generation").decode("ascii", "replace").strip()
    if not text.isdigit():
        raise EndpointUnavailable(
            "the kernel's counter of writes is no number", id="endpoint.devices", got=text[:40]
        )
    return int(text)


def _read(path: Path) -> bytes:
    # One read of the whole: configfs makes a blob when its file is read from the start.
    with path.open("rb", buffering=0) as file:
        parts = []
        while part := file.read(64 * 1024):
            parts.append(part)
    return b"".join(parts)


def _optional(path: Path) -> bytes:
    try:
        return _read(path)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENXIO, errno.EOPNOTSUPP}:
            return b""
        raise


def _write(path: Path, data: bytes) -> None:
    # One write of the whole: a second one would be another question.
    with path.open("wb", buffering=0) as file:
        if file.write(data) != len(data):
            raise OSError(errno.EIO, "short write")


def _refused(error: OSError) -> EndpointUnavailable:
    hints = {
        errno.EACCES: "Run the server as root, or give it the right to write there.",
        errno.EPERM: "Run the server as root, or give it the right to write there.",
        errno.ENOENT: "Mount configfs, and load tdx_guest or sev-guest (Linux 6.7 or later).",
    }
    return EndpointUnavailable(
        "the kernel gives no quote",
        id="endpoint.devices",
        got=f"{error.filename or REPORTS}: {error.strerror}",
        hint=hints.get(error.errno or 0),
    )
