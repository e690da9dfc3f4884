"""The layouts of ``report_data`` (64 bytes), and the one way to compare them.

A layout is chosen by the dialect and by what was requested, never by a field of the answer, and
none is tried in turn.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from teeverify.binding import schemes
from teeverify.binding.bound import ID, Bound
from teeverify.errors import BindingMismatch, ConfigurationError, StaleEvidence

__all__ = ["LAYOUTS", "GpuLink", "Layout", "NoncePlace", "layout_of", "verify_report_data"]

GpuLink: TypeAlias = Literal["none", "same-nonce", "hash-in-quote", "mutual"]
NoncePlace: TypeAlias = Literal["tail", "hashed", "none"]
_TAIL = slice(32, 64)


def _no_nonce(bound: Bound) -> bytes | None:
    del bound
    return None


def _same_nonce(bound: Bound) -> bytes | None:
    return bound.nonce


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One exact layout.

    Attributes:
        id: Its name.
        binds: The names of the :class:`Bound` values it commits to.
        build: Builds all 64 bytes.
        text: How docs and findings describe it.
        nonce: Where the caller's nonce is: bytes 32 to 63, within a hash, or nowhere. Evidence
            without one says nothing of when it was made.
        gpu_link: How GPU evidence beside such a quote is tied to it (policy.md).
        gpu_nonce: The nonce that the GPUs must answer, from the same values.
        by_tpm: Whether a virtual TPM carries it, as the nonce that it signed; the CPU's report is
            from boot then, and binds the TPM's key.
        dstack: Whether such a machine is a guest of dstack, which shows its event log and its
            application's configuration.
    """

    id: str
    binds: tuple[str, ...]
    build: Callable[[Bound], bytes]
    text: str
    nonce: NoncePlace = "tail"
    gpu_link: GpuLink = "none"
    gpu_nonce: Callable[[Bound], bytes | None] = _no_nonce
    by_tpm: bool = False
    dstack: bool = False


_DSTACK = (
    Layout(
        id="dstack-padded",
        binds=("key", "nonce"),
        build=schemes.dstack_padded,
        text="signing address, padded with zeros to 32 bytes; then the nonce",
        gpu_link="same-nonce",
        gpu_nonce=_same_nonce,
        dstack=True,
    ),
    Layout(
        id="near-tls",
        binds=("key", "tls_spki_sha256", "nonce"),
        build=schemes.near_tls,
        text="SHA-256 of signing address and TLS key fingerprint; then the nonce",
        gpu_link="same-nonce",
        gpu_nonce=_same_nonce,
        dstack=True,
    ),
    Layout(
        id="near-compose-manager",
        binds=("actions_hash", "nonce"),
        build=schemes.actions,
        text="hash of the compose-manager's action log; then the nonce",
        dstack=True,
    ),
    Layout(
        id="near-ita",
        binds=("verifier_nonce", "key", "nonce", "tls_spki_sha256"),
        build=schemes.near_ita,
        text="SHA-512 of Intel Trust Authority's nonce and of the gateway's runtime data, in which "
        "are signing address, nonce and, where it was asked for, the TLS key fingerprint",
        nonce="hashed",
        gpu_link="same-nonce",
        gpu_nonce=schemes.ita_gpu_nonce,
        dstack=True,
    ),
    Layout(
        id="ascii-address",
        binds=("key",),
        build=schemes.ascii_address,
        text="the signing address as 42 characters; then zeros",
        nonce="none",
        dstack=True,
    ),
    Layout(
        id="sha256-pubkey",
        binds=("public_key",),
        build=schemes.sha256_pubkey,
        text="SHA-256 of the uncompressed public key; then zeros",
        nonce="none",
        dstack=True,
    ),
)
_OTHERS = (
    Layout(
        id="chutes",
        binds=("nonce", "e2e_public_key", "tls_spki_sha256"),
        build=schemes.chutes,
        text="SHA-256 of the nonce's and the encryption key's texts; then the fingerprint of the "
        "instance's TLS key",
        nonce="hashed",
        gpu_link="same-nonce",
        gpu_nonce=schemes.chutes_gpu_nonce,
    ),
    Layout(
        id="tinfoil-v2",
        binds=("tls_spki_sha256", "hpke_key"),
        build=schemes.tinfoil_v2,
        text="fingerprint of the TLS key; then the HPKE key",
        nonce="none",
    ),
    Layout(
        id="tinfoil-v3",
        binds=("tls_spki_sha256", "hpke_key", "nonce", "gpu_evidence_sha256"),
        build=schemes.tinfoil_v3,
        text="SHA-256 of TLS key fingerprint, HPKE key, nonce and the hash of the GPU evidence; "
        "then zeros",
        nonce="hashed",
        gpu_link="hash-in-quote",
        gpu_nonce=_same_nonce,
    ),
    Layout(
        id="secretvm",
        binds=("tls_spki_sha256", "gpu_nonce"),
        build=schemes.secretvm,
        text="fingerprint of the TLS key; then the nonce that the machine chose for its GPUs",
        nonce="none",
        gpu_link="same-nonce",
        gpu_nonce=lambda bound: bound.gpu_nonce,
    ),
    Layout(
        id="nilcc",
        binds=("tls_spki_sha256",),
        build=schemes.nilcc,
        text="version 0, fingerprint of the TLS key; then zeros",
        nonce="none",
        gpu_link="same-nonce",
        gpu_nonce=lambda bound: bound.tls_spki_sha256,
    ),
    Layout(
        id="teeverify/1",
        binds=("key", "tls_spki_sha256", "nonce", "process"),
        build=schemes.teeverify1,
        text="SHA-256 of the nonce, the server's keys, the hashes of its configuration and of its "
        "devices, and the hash of their evidence; then the protocol's name",
        nonce="hashed",
        gpu_link="mutual",
        gpu_nonce=schemes.teeverify1_gpu_nonce,
    ),
    Layout(
        id="teeverify/1-vtpm",
        binds=("key", "tls_spki_sha256", "nonce", "process"),
        build=schemes.teeverify1_vtpm,
        text="SHA-256 of the 64 bytes of `teeverify/1`, as the nonce that the virtual TPM signed; "
        "report_data itself is `hcl`",
        nonce="hashed",
        gpu_link="mutual",
        gpu_nonce=schemes.teeverify1_gpu_nonce,
        by_tpm=True,
    ),
    Layout(
        id="hcl",
        binds=("runtime_claims",),
        build=schemes.hcl,
        text="hash of the paravisor's claims; then zeros",
        nonce="none",
    ),
)

LAYOUTS: Mapping[str, Layout] = {layout.id: layout for layout in (*_DSTACK, *_OTHERS)}


def layout_of(layout_id: str) -> Layout:
    """The layout of a name.

    Raises:
        ConfigurationError: There is none.
    """
    layout = LAYOUTS.get(layout_id)
    if layout is None:
        raise ConfigurationError(
            "no such report_data layout", id="usage.layout", got=layout_id, want=", ".join(LAYOUTS)
        )
    return layout


def verify_report_data(layout_id: str, report_data: bytes, bound: Bound) -> Layout:
    """Compare all 64 bytes of a ``report_data`` with what a layout demands.

    Args:
        layout_id: A key of :data:`LAYOUTS`.
        report_data: The 64 bytes of a verified quote or report.
        bound: What they must commit to; the nonce is ours, or the recorder's.

    Returns:
        The layout that holds.

    Raises:
        ConfigurationError: No such layout.
        StaleEvidence: The nonce alone is another one (``freshness.nonce``).
        BindingMismatch: Anything else differs (``binding.report-data``).
    """
    layout = layout_of(layout_id)
    want = layout.build(bound)
    if hmac.compare_digest(want, report_data):
        return layout
    if layout.nonce == "tail" and hmac.compare_digest(want[:32], report_data[:32]):
        raise StaleEvidence(
            "the evidence does not answer your question: it carries another nonce",
            id="freshness.nonce",
            got=report_data[_TAIL].hex(),
            want=want[_TAIL].hex(),
            hint="It is cached or recorded, and does not show which machine answers you now.",
        )
    raise BindingMismatch(
        f"report_data is not what the layout {layout.id} makes of what was presented "
        f"({layout.text})",
        id=ID,
        got=report_data.hex(),
        want=want.hex(),
        hint="Something else is bound than what was presented: another key, nonce, log or GPU.",
    )
