"""Flags that several commands take: each is written once, and means the same everywhere."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    # argparse gives the type of what add_argument_group returns no public name.
    _Flags: TypeAlias = argparse.ArgumentParser | argparse._ArgumentGroup  # noqa: SLF001

__all__ = ["add_dialect", "add_endorsements_path", "add_policy", "add_recorded", "add_test_roots"]


def add_policy(flags: _Flags) -> None:
    """Add ``--policy``."""
    flags.add_argument(
        "--policy",
        default="genuine",
        metavar="genuine|strict|F.toml",
        help="what you accept; default: genuine",
    )


def add_endorsements_path(flags: _Flags) -> None:
    """Add ``--endorsements``."""
    flags.add_argument(
        "--endorsements",
        action="append",
        default=[],
        metavar="PATH",
        help="the vendors' collateral; replaces what was recorded beside the evidence",
    )


def add_dialect(flags: _Flags) -> None:
    """Add ``--dialect``."""
    flags.add_argument(
        "--dialect",
        metavar="NAME",
        help="how the endpoint shows its evidence: see 'teeverify providers'",
    )


def add_test_roots(flags: _Flags) -> None:
    """Add ``--unsafe-test-roots``."""
    flags.add_argument(
        "--unsafe-test-roots", metavar="F", help="PEM file of test roots: proves nothing"
    )


def add_recorded(flags: _Flags) -> None:
    """Add what recorded evidence is appraised with."""
    flags.add_argument("--nonce", metavar="HEX", help="the nonce that you asked for: 64 hex digits")
    flags.add_argument(
        "--at", metavar="TIME", help="time of the appraisal, such as 2026-06-29T02:06:57Z"
    )
    add_endorsements_path(flags)
    add_dialect(flags)
