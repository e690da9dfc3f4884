"""The layouts of ``report_data`` (64 bytes), as the field's enclaves fill it.

A layout is chosen by the dialect and by what was requested, never by a field of the answer.
Sources: each provider's server code as described in docs/providers; checked on recorded evidence.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from teeverify.binding.keys import SigningKey
from teeverify.errors import BindingMismatch, ConfigurationError, StaleEvidence

__all__ = ["LAYOUTS", "Bound", "GpuLink", "Layout", "verify_report_data"]

GpuLink: TypeAlias = Literal["none", "same-nonce", "hash-in-quote", "mutual"]
_ID = "binding.report-data"
_HEAD = 32
_ADDRESS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """The values that a ``report_data`` must commit to; a layout takes the ones it knows.

    Attributes:
        nonce: 32 bytes.
        key: The response-signing key.
        tls_spki_sha256: SHA-256 of the TLS key's SubjectPublicKeyInfo, 32 bytes.
        actions_hash: SHA-256 of a compose-manager's action log, 32 bytes.
    """

    nonce: bytes
    key: SigningKey | None = None
    tls_spki_sha256: bytes | None = None
    actions_hash: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One exact layout.

    Attributes:
        id: Its name.
        binds: The names of the :class:`Bound` values it commits to.
        gpu_link: How GPU evidence beside such a quote is tied to it (policy.md).
        head: Builds bytes 0 to 31; bytes 32 to 63 are the nonce in every layout here.
        text: How docs and findings describe it.
    """

    id: str
    binds: tuple[str, ...]
    gpu_link: GpuLink
    head: Callable[[Bound], bytes]
    text: str


def _need(value: bytes | None, name: str) -> bytes:
    if value is None:
        raise BindingMismatch(
            f"the layout binds {name}, and there is none to compare", id=_ID, got="absent"
        )
    return value


def _key(bound: Bound) -> bytes:
    return _need(bound.key.identifier if bound.key else None, "the signing key")


def _padded(bound: Bound) -> bytes:
    key = _key(bound)
    if len(key) == _HEAD and not any(key[_ADDRESS:]):
        raise BindingMismatch(
            "this layout cannot tell such an ed25519 key from an address padded with zeros",
            id=_ID,
            got=key.hex(),
        )
    return key.ljust(_HEAD, b"\0")


def _near_tls(bound: Bound) -> bytes:
    spki = _need(bound.tls_spki_sha256, "the TLS key")
    return hashlib.sha256(_key(bound) + spki).digest()


def _actions(bound: Bound) -> bytes:
    return _need(bound.actions_hash, "the action log")


LAYOUTS: Mapping[str, Layout] = {
    layout.id: layout
    for layout in (
        Layout(
            id="dstack-padded",
            binds=("key", "nonce"),
            gpu_link="same-nonce",
            head=_padded,
            text="signing address, padded with zeros to 32 bytes; then the nonce",
        ),
        Layout(
            id="near-tls",
            binds=("key", "tls_spki_sha256", "nonce"),
            gpu_link="same-nonce",
            head=_near_tls,
            text="SHA-256 of signing address and TLS key fingerprint; then the nonce",
        ),
        Layout(
            id="near-compose-manager",
            binds=("actions_hash", "nonce"),
            gpu_link="none",
            head=_actions,
            text="hash of the compose-manager's action log; then the nonce",
        ),
    )
}


def verify_report_data(layout_id: str, report_data: bytes, bound: Bound) -> Layout:
    """Compare all 64 bytes of a ``report_data`` with what a layout demands.

    Args:
        layout_id: A key of :data:`LAYOUTS`.
        report_data: The 64 bytes of a verified quote.
        bound: What they must commit to; the nonce is ours, or the recorder's.

    Returns:
        The layout that holds.

    Raises:
        ConfigurationError: No such layout.
        StaleEvidence: The nonce alone is another one (``freshness.nonce``).
        BindingMismatch: Anything else differs (``binding.report-data``).
    """
    layout = LAYOUTS.get(layout_id)
    if layout is None:
        raise ConfigurationError(
            "no such report_data layout", id="usage.layout", got=layout_id, want=", ".join(LAYOUTS)
        )
    head = layout.head(bound)
    tail = bound.nonce
    head_equal = hmac.compare_digest(head, report_data[:32])
    if head_equal and hmac.compare_digest(tail, report_data[32:]):
        return layout
    if head_equal:
        raise StaleEvidence(
            "the evidence does not answer your question: it carries another nonce",
            id="freshness.nonce",
            got=report_data[32:].hex(),
            want=tail.hex(),
            hint="It is cached or recorded, and does not show which machine answers you now.",
        )
    raise BindingMismatch(
        f"report_data is not what the layout {layout.id} makes of the key and nonce "
        f"({layout.text})",
        id=_ID,
        got=report_data.hex(),
        want=(head + tail).hex(),
        hint="Another key, TLS key or action log is bound than the one presented.",
    )
