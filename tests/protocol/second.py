"""A second implementation of the byte rules of teeverify/1, written from docs/protocol.md alone.

It imports nothing of teeverify: plain ``struct`` and ``hashlib``, eth-account for EIP-712, and the
package ``rfc8785`` for canonical JSON where it is installed.
"""

from __future__ import annotations

import hashlib
import json
import struct

TYPES = {
    "Answer": [
        {"name": "statement", "type": "bytes32"},
        {"name": "instance", "type": "bytes32"},
        {"name": "challenge", "type": "bytes32"},
        {"name": "request", "type": "bytes32"},
        {"name": "response", "type": "bytes32"},
        {"name": "sequence", "type": "uint64"},
        {"name": "time", "type": "uint64"},
        {"name": "status", "type": "uint16"},
        {"name": "end", "type": "uint8"},
    ]
}
DOMAIN = {"name": "teeverify", "version": "1"}


def h(data):
    return hashlib.sha256(data).digest()


def device_set(devices):
    """Devices: (kind, leaf DER, evidence), in any order."""
    if not devices:
        return b"\0" * 32
    rows = sorted(struct.pack(">B32s", kind, h(leaf)) for kind, leaf, _ in devices)
    return h(b"teeverify/1 devs" + struct.pack(">H", len(rows)) + b"".join(rows))


def gpu_evidence(devices):
    if not devices:
        return b"\0" * 32
    rows = sorted(struct.pack(">B32s32s", kind, h(leaf), h(shown)) for kind, leaf, shown in devices)
    return h(b"teeverify/1 gpue" + struct.pack(">H", len(rows)) + b"".join(rows))


def mid(address, ed25519, tls, hpke, config, devices):
    flags = sum(
        bool(value) << bit for bit, value in enumerate((address, ed25519, tls, hpke, devices))
    )
    return struct.pack(
        ">H20s32s32s32s32s32s",
        flags,
        address or b"",
        ed25519 or b"",
        tls or b"",
        hpke or b"",
        h(config),
        device_set(devices),
    )


def gpu_nonce(nonce, middle):
    return h(b"teeverify/1 gpun" + nonce + middle)


def instance(middle):
    return h(b"teeverify/1 inst" + middle)


def binding(nonce, middle, devices):
    return struct.pack(">16s32s182s32s", b"teeverify/1 bind", nonce, middle, gpu_evidence(devices))


def report_data(bound):
    return struct.pack("32s32s", h(bound), b"teeverify/1")


def nonce(random, beacon):
    return h(b"teeverify/1 nonc" + random + beacon)


def challenge(random, attestation, beacon):
    return h(b"teeverify/1 chal" + random + h(attestation) + beacon)


def canonical(value):
    """RFC 8785 of ASCII texts and whole numbers is what this gives."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def hash_bytes(text):
    return bytes(32) if text is None else bytes.fromhex(text.split(":")[1])


def typed(statement):
    """The members of EIP-712's Answer for a statement, as decoded JSON."""
    return {
        "statement": h(canonical(statement)),
        "instance": bytes.fromhex(statement["instance"]),
        "challenge": bytes.fromhex(statement["challenge"] or "00" * 32),
        "request": hash_bytes(statement["request"]["hash"]),
        "response": hash_bytes(statement["response"]["hash"]),
        "sequence": statement["sequence"],
        "time": statement["time_ms"],
        "status": statement["response"]["status"],
        "end": {"complete": 1, "aborted": 2}[statement["end"]],
    }


def signable(statement):
    from eth_account.messages import encode_typed_data

    return encode_typed_data(DOMAIN, TYPES, typed(statement))


def digest(statement):
    from eth_utils import keccak

    found = signable(statement)
    return keccak(b"\x19" + found.version + found.header + found.body)


def ed25519_message(statement):
    return b"teeverify/1 stmt" + canonical(statement)
