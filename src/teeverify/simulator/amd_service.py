"""A fake of AMD's key distribution service (KDS): from a request to an answer, without a socket.

AMD document 57230, chapter 4: certificates of chips, chains of CAs and revocation lists, as the
real one gives them, with the status codes that it is known for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from teeverify.simulator.amd import Amd
from teeverify.snp.product import Product, TcbVersion

__all__ = ["KeyService", "Reply"]

_PARAMETERS = {
    "fmcSPL": "fmc",
    "blSPL": "bootloader",
    "teeSPL": "tee",
    "snpSPL": "snp",
    "ucodeSPL": "microcode",
}
_MAX_FIELDS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer of HTTP.

    Attributes:
        status: The status code.
        headers: The headers.
        body: The body.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class KeyService:
    """What AMD's service answers, for one or several fake AMDs.

    Args:
        vendors: The fake AMDs, one a product.
        replies: Answers by path that come before all others: to break one, or to serve more.

    Attributes:
        asked: Methods and targets that were asked for, in order.
        busy: How many of the next requests are answered with 429.
        retry_after: What such an answer says of when to ask again; AMD's mostly say nothing.
    """

    def __init__(
        self, vendors: Iterable[Amd], *, replies: Mapping[str, Reply] | None = None
    ) -> None:
        self._vendors = tuple(vendors)
        self._replies = dict(replies or {})
        self.asked: list[tuple[str, str]] = []
        self.busy = 0
        self.retry_after: str | None = None

    def __call__(self, method: str, target: str) -> Reply:
        """Answer a request.

        Args:
            method: The method.
            target: Path and query.
        """
        self.asked.append((method, target))
        if method != "GET":
            return Reply(status=405)
        if self.busy:
            self.busy -= 1
            later = {} if self.retry_after is None else {"Retry-After": self.retry_after}
            return Reply(status=429, headers=later)
        parts = urlsplit(target)
        if parts.path in self._replies:
            return self._replies[parts.path]
        for vendor in self._vendors:
            reply = self._of(vendor, parts.path, parts.query)
            if reply is not None:
                return reply
        return Reply(status=404)

    def _of(self, vendor: Amd, path: str, query: str) -> Reply | None:
        body = vendor.kds(path)
        if body is None:
            return None
        kind = "application/pkix-crl" if path.endswith("/crl") else "application/octet-stream"
        if path.endswith("/cert_chain"):
            kind = "application/x-pem-file"
        if path.rpartition("/")[2] == vendor.hwid.hex():
            tcb = _tcb(vendor.product, query)
            if tcb is None:
                return Reply(status=400)
            if tcb != vendor.tcb:
                body = vendor.leaf("vcek", tcb=tcb)
        return Reply(status=200, headers={"Content-Type": kind}, body=body)


def _tcb(product: Product, query: str) -> dict[str, int] | None:
    """The firmware versions of a query; ``None`` unless it has exactly those of the product."""
    try:
        pairs = parse_qsl(query, strict_parsing=True, max_num_fields=_MAX_FIELDS)
        found = {_PARAMETERS[name]: int(value) for name, value in pairs}
    except (KeyError, ValueError):
        return None
    complete = set(found) == set(TcbVersion.names(product)) and len(pairs) == len(found)
    return found if complete and all(0 <= n <= 0xFF for n in found.values()) else None  # noqa: PLR2004
