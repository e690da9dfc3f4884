"""Keccak-256 as Ethereum uses it: the padding of the Keccak submission, not of FIPS 202."""

from __future__ import annotations

import struct

__all__ = ["keccak256"]

_MASK = (1 << 64) - 1
_RATE = 136
_LANES = 17
_ROUNDS = 24


def keccak256(data: bytes) -> bytes:
    """Hash bytes with Keccak-256.

    The extra ``fast`` brings ``safe-pysha3``, which is used where it is installed.
    """
    try:
        from sha3 import keccak_256  # noqa: PLC0415 -- optional, and imported on use
    except ImportError:
        return _keccak256(data)
    return bytes(keccak_256(data).digest())


def _keccak256(data: bytes) -> bytes:
    """The sponge: rate 1088, capacity 512 (The Keccak reference 3.0, section 1.1)."""
    padding = bytearray(_RATE - len(data) % _RATE)
    padding[0] = 0x01
    padding[-1] |= 0x80
    padded = data + padding
    state = [0] * 25
    for start in range(0, len(padded), _RATE):
        for lane, value in enumerate(struct.unpack_from(f"<{_LANES}Q", padded, start)):
            state[lane] ^= value
        state = _permute(state)
    return struct.pack("<4Q", *state[:4])


def _permute(state: list[int]) -> list[int]:
    """Keccak-f[1600] (The Keccak reference 3.0, section 1.2); lane (x, y) is ``state[x + 5y]``."""
    for constant in _ROUND_CONSTANTS:
        p0, p1, p2, p3, p4 = (
            state[x] ^ state[x + 5] ^ state[x + 10] ^ state[x + 15] ^ state[x + 20]
            for x in range(5)
        )
        theta = (
            p4 ^ _rotate(p1, 1),
            p0 ^ _rotate(p2, 1),
            p1 ^ _rotate(p3, 1),
            p2 ^ _rotate(p4, 1),
            p3 ^ _rotate(p0, 1),
        )
        moved = [
            ((lane := state[source] ^ theta[column]) << left | lane >> right) & _MASK
            for source, column, left, right in _FROM
        ]
        state = [moved[a] ^ (~moved[b] & moved[c]) for a, b, c in _CHI]
        state[0] ^= constant
    return state


def _rotate(lane: int, offset: int) -> int:
    return ((lane << offset) | (lane >> (64 - offset))) & _MASK


def _rho_pi() -> tuple[tuple[int, int], ...]:
    """For each lane, where pi moves it and how far rho rotates it."""
    offsets = [0] * 25
    x, y = 1, 0
    for step in range(24):
        offsets[x + 5 * y] = (step + 1) * (step + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    return tuple(
        (lane // 5 + 5 * ((2 * (lane % 5) + 3 * (lane // 5)) % 5), offsets[lane])
        for lane in range(25)
    )


def _round_constants() -> tuple[int, ...]:
    """The linear feedback shift register of iota."""
    constants, register = [], 1
    for _ in range(_ROUNDS):
        constant = 0
        for power in range(7):
            if register & 1:
                constant |= 1 << ((1 << power) - 1)
            register <<= 1
            if register & 0x100:
                register ^= 0x171
        constants.append(constant)
    return tuple(constants)


# Where each lane comes from: its place, its column for theta, and its rotation to either side.
_FROM = tuple(
    (lane, lane % 5, offset, 64 - offset)
    for _, lane, offset in sorted((to, lane, by) for lane, (to, by) in enumerate(_rho_pi()))
)
_CHI = tuple(
    (row + x, row + (x + 1) % 5, row + (x + 2) % 5) for row in range(0, 25, 5) for x in range(5)
)
_ROUND_CONSTANTS = _round_constants()
