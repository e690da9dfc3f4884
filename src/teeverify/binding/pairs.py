"""Which dialect may show which layout: exactly these pairs, and a test holds that.

What a dialect shows of them follows from what was requested, never from the answer.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["PAIRS"]

PAIRS: Mapping[str, tuple[str, ...]] = {
    "near": ("near-tls", "dstack-padded", "near-compose-manager"),
    "near-direct": ("near-tls", "dstack-padded", "near-compose-manager"),
    "venice": ("dstack-padded", "near-compose-manager"),
    "phala": ("dstack-padded",),
    "nanogpt": ("dstack-padded",),
    "0g": ("dstack-padded",),
    "0g-broker": ("ascii-address",),
    "opengradient": (),
    "dstack": ("dstack-padded",),
    "chutes": ("chutes",),
    "chutes-resold": ("chutes",),
    "tinfoil": ("tinfoil-v3",),
    "tinfoil-v2": ("tinfoil-v2",),
    "tinfoil-bundle": ("tinfoil-v2",),
    "secretvm": ("secretvm",),
    "morpheus": ("secretvm",),
    "nilcc": ("nilcc",),
    "nilai": (),
    "panda": ("sha256-pubkey",),
    "near-ita": ("near-ita",),
    "teeverify/1": ("teeverify/1", "teeverify/1-vtpm"),
}
"""Layouts by dialect. Azure's ``hcl`` belongs to no dialect: its envelope is recognised alone."""
