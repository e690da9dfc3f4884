"""The 64 bytes of each layout, as the field's enclaves fill them.

Sources: each provider's server code as described in docs/providers; checked on recorded evidence
where docs/providers says so.
"""

from __future__ import annotations

import hashlib
import json

from teeverify.binding.bound import ID, Bound
from teeverify.errors import BindingMismatch

__all__ = [
    "actions",
    "ascii_address",
    "chutes",
    "chutes_gpu_nonce",
    "dstack_padded",
    "hcl",
    "ita_gpu_nonce",
    "near_ita",
    "near_tls",
    "nilcc",
    "secretvm",
    "sha256_pubkey",
    "teeverify1",
    "teeverify1_gpu_nonce",
    "teeverify1_vtpm",
    "tinfoil_v2",
    "tinfoil_v3",
]

_HEAD, _ALL = 32, 64
_ADDRESS = 20
_POINT = 65
_UNCOMPRESSED = b"\x04"
_HASHES = ("sha256", "sha384", "sha512")


def dstack_padded(bound: Bound) -> bytes:
    """Signing address padded with zeros, then the nonce."""
    key = bound.signer().identifier
    if len(key) == _HEAD and not any(key[_ADDRESS:]):
        raise BindingMismatch(
            "this layout cannot tell such an ed25519 key from an address padded with zeros",
            id=ID,
            got=key.hex(),
        )
    return key.ljust(_HEAD, b"\0") + bound.need("nonce")


def near_tls(bound: Bound) -> bytes:
    """SHA-256 of signing address and TLS fingerprint (no padding), then the nonce."""
    hashed = bound.signer().identifier + bound.need("tls_spki_sha256")
    return hashlib.sha256(hashed).digest() + bound.need("nonce")


def actions(bound: Bound) -> bytes:
    """Hash of a compose-manager's action log, then the nonce."""
    return bound.need("actions_hash") + bound.need("nonce")


def near_ita(bound: Bound) -> bytes:
    """SHA-512 of Intel Trust Authority's nonce and the gateway's runtime data, all 64 bytes.

    The runtime data is compact JSON in this order of members; the caller's nonce is in it.
    """
    key = bound.signer()
    prefix = "0x" if key.algorithm == "ecdsa" else ""
    runtime = {
        "signing_algo": key.algorithm,
        "signing_address": prefix + key.identifier.hex(),
        "caller_nonce": bound.need("nonce").hex(),
    }
    if bound.tls_spki_sha256 is not None:
        runtime["tls_cert_fingerprint"] = bound.need("tls_spki_sha256").hex()
    text = json.dumps(runtime, separators=(",", ":")).encode("ascii")
    return hashlib.sha512(bound.need("verifier_nonce", None) + text).digest()


def ita_gpu_nonce(bound: Bound) -> bytes:
    """SHA-256 of Intel Trust Authority's nonce."""
    return hashlib.sha256(bound.need("verifier_nonce", None)).digest()


def chutes_gpu_nonce(bound: Bound) -> bytes:
    """SHA-256 of two texts: the nonce's hex digits, and the encryption key's base64."""
    return hashlib.sha256(
        bound.need("nonce").hex().encode("ascii") + bound.need("e2e_public_key", None)
    ).digest()


def chutes(bound: Bound) -> bytes:
    """The GPUs' nonce, then the fingerprint of the instance's TLS key."""
    return chutes_gpu_nonce(bound) + bound.need("tls_spki_sha256")


def tinfoil_v2(bound: Bound) -> bytes:
    """Fingerprint of the TLS key, then the HPKE key."""
    return bound.need("tls_spki_sha256") + bound.need("hpke_key")


def tinfoil_v3(bound: Bound) -> bytes:
    """SHA-256 of TLS fingerprint, HPKE key, nonce and the hashes of GPU evidence; then zeros.

    Parts that are not there are left out, so nothing but the presence of the evidence itself may
    decide about them.
    """
    if bound.nvswitch_evidence_sha256 is not None and bound.gpu_evidence_sha256 is None:
        raise BindingMismatch(
            "switches without GPUs: this layout could not tell one hash from the other", id=ID
        )
    parts = [bound.need(name) for name in ("tls_spki_sha256", "hpke_key", "nonce")]
    hashes = (bound.gpu_evidence_sha256, bound.nvswitch_evidence_sha256)
    digest = hashlib.sha256(b"".join([*parts, *(each for each in hashes if each is not None)]))
    return digest.digest().ljust(_ALL, b"\0")


def secretvm(bound: Bound) -> bytes:
    """Fingerprint of the TLS key, then the nonce that the machine chose for its GPUs."""
    return bound.need("tls_spki_sha256") + bound.need("gpu_nonce")


def nilcc(bound: Bound) -> bytes:
    """Version 0, fingerprint of the TLS key, zeros."""
    return (b"\0" + bound.need("tls_spki_sha256")).ljust(_ALL, b"\0")


def ascii_address(bound: Bound) -> bytes:
    """The 42 characters of the signing address as EIP-55 spells it, then zeros."""
    key = bound.signer()
    if key.algorithm != "ecdsa":
        raise BindingMismatch("this layout binds an Ethereum address", id=ID, got=key.algorithm)
    return str(key).encode("ascii").ljust(_ALL, b"\0")


def sha256_pubkey(bound: Bound) -> bytes:
    """SHA-256 of the uncompressed public key, then zeros."""
    point = bound.need("public_key", _POINT)
    if not point.startswith(_UNCOMPRESSED):
        raise BindingMismatch(
            "this layout binds an uncompressed point", id=ID, got=point[:1].hex(), want="04"
        )
    return hashlib.sha256(point).digest().ljust(_ALL, b"\0")


def hcl(bound: Bound) -> bytes:
    """Hash of the paravisor's claims, then zeros."""
    if bound.runtime_hash not in _HASHES:
        raise BindingMismatch("unknown hash", id=ID, got=bound.runtime_hash[:16])
    claims = bound.need("runtime_claims", None)
    return hashlib.new(bound.runtime_hash, claims).digest().ljust(_ALL, b"\0")


def teeverify1(bound: Bound) -> bytes:
    """The binding, rebuilt from its parts; see :mod:`teeverify.binding.teeverify1`."""
    process = bound.server()
    if bound.key != process.keys[0] or bound.tls_spki_sha256 != process.tls_spki_sha256:
        raise BindingMismatch("the keys beside the binding are others than those in it", id=ID)
    return process.report_data(bound.need("nonce"))


def teeverify1_vtpm(bound: Bound) -> bytes:
    """What a virtual TPM signs as its nonce: fewer bytes than report_data has, so their hash."""
    return hashlib.sha256(teeverify1(bound)).digest()


def teeverify1_gpu_nonce(bound: Bound) -> bytes:
    """What all devices answer: derived from the process's own keys."""
    return bound.server().gpu_nonce(bound.need("nonce"))
