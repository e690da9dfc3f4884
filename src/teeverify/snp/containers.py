"""What a report comes in: the answer of the firmware, of Linux, or of a web route."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from teeverify.encoding.reader import Reader
from teeverify.encoding.strict import base64_bytes, hex_bytes, utf8_text
from teeverify.errors import MalformedEvidence
from teeverify.snp.report import REPORT_BYTES
from teeverify.snp.table import is_certificate_table

__all__ = ["Unwrapped", "looks_like_report", "unwrap_report"]

CHECK = "snp.container"
_MAX_BYTES = 512 * 1024
_HEADER_BYTES = 32
_RESPONSE_BYTES = 4000
_GZIP = b"\x1f\x8b\x08"
_GZIP_WINDOW = 31  # zlib's code for "gzip only"
_VERSIONS = (2, 3, 4, 5)
_SHORTEST_TEXT = 64
_TEXT = re.compile(rb"[A-Za-z0-9+/=\s]{64,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unwrapped:
    """A report without its container; nothing was verified.

    Attributes:
        report: The 1184 bytes.
        table: The certificate table that came behind it.
        form: What the container was, for people.
    """

    report: bytes
    table: bytes | None
    form: str


def looks_like_report(raw: bytes) -> bool:
    """Whether bytes have the size and the first field of a report; only to recognise a source."""
    return len(raw) == REPORT_BYTES and int.from_bytes(raw[:4], "little") in _VERSIONS


def unwrap_report(raw: bytes) -> Unwrapped:
    """Take a report out of the container that it came in.

    Known are: the report itself (configfs-tsm's ``outblob``); MSG_REPORT_RSP (AMD document 56860,
    table 25), also in the kernel's buffer of 4000 bytes; the report with its certificate table
    behind it (extended report); and each of them in gzip, base64 or hex.

    Raises:
        MalformedEvidence: None of these, an error of the firmware, or something left over.
    """
    if not isinstance(raw, (bytes, bytearray)):
        raise _error("not bytes", type(raw).__name__)
    data, form = bytes(raw), ""
    if len(data) > _MAX_BYTES:
        raise _error("too large", f"{len(data)} bytes")
    if len(data) >= _SHORTEST_TEXT and _TEXT.fullmatch(data):
        data, form = _decoded(data), "text of "
    if data.startswith(_GZIP):
        data, form = _inflated(data), f"{form}gzip of "
    if looks_like_report(data):
        return Unwrapped(report=data, table=None, form=f"{form}a report")
    if looks_like_report(data[:REPORT_BYTES]) and _is_table_or_zero(data[REPORT_BYTES:]):
        table = data[REPORT_BYTES:]
        return Unwrapped(report=data[:REPORT_BYTES], table=table, form=f"{form}an extended report")
    return Unwrapped(report=_response(data), table=None, form=f"{form}MSG_REPORT_RSP")


def _is_table_or_zero(raw: bytes) -> bool:
    return is_certificate_table(raw) or (len(raw) >= 24 and not any(raw))  # noqa: PLR2004 -- an empty table


def _response(data: bytes) -> bytes:
    """The report in MSG_REPORT_RSP: status, size, 24 reserved bytes, then the report."""
    if len(data) not in (_HEADER_BYTES + REPORT_BYTES, _RESPONSE_BYTES):
        raise _error(
            "no container that is known here", f"{len(data)} bytes starting {data[:8].hex()}"
        )
    reader = Reader(data, name="snp.container", id=CHECK)
    status, size = reader.u32("status"), reader.u32("report_size")
    reader.zeros(24, "reserved")
    if status or size != REPORT_BYTES:
        raise _error("the firmware gave no report", f"status {status}, size {size}")
    report = reader.take(REPORT_BYTES, "report")
    reader.zeros(reader.remaining, "padding")
    return report


def _decoded(data: bytes) -> bytes:
    text = "".join(utf8_text(data, field="snp.container", id=CHECK).split())
    if re.fullmatch(r"[0-9a-fA-F]+", text):
        return hex_bytes(text, field="snp.container", id=CHECK)
    return base64_bytes(text, field="snp.container", id=CHECK)


def _inflated(data: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=_GZIP_WINDOW)
    try:
        out = stream.decompress(data, _MAX_BYTES + 1)
    except zlib.error:
        raise _error("not gzip", f"{len(data)} bytes") from None
    if not stream.eof or stream.unused_data or len(out) > _MAX_BYTES:
        raise _error("gzip that is cut off, too large, or followed by something", None)
    return out


def _error(problem: str, got: str | None) -> MalformedEvidence:
    return MalformedEvidence(
        f"report container: {problem}",
        id=CHECK,
        field="report container",
        got=got,
        want="a report of 1184 bytes, or MSG_REPORT_RSP, or a report with its certificate table",
    )
