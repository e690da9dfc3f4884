"""``teeverify providers``: every dialect, and what it can and cannot prove."""

from __future__ import annotations

import argparse

from teeverify.binding import PAIRS
from teeverify.client.network.endpoint import DEFAULT_DIALECT
from teeverify.e2ee import METHODS
from teeverify.errors import EXIT_SATISFIED
from teeverify.providers import DIALECTS

__all__ = ["providers"]


def providers(options: argparse.Namespace) -> int:
    """List every dialect with what it can and cannot prove."""
    del options
    for dialect in DIALECTS.values():
        hosts = ", ".join(dialect.hosts) or "named with --dialect only"
        hosts = "every host without a dialect here" if dialect.id == DEFAULT_DIALECT else hosts
        live = "live and recorded" if dialect.live else "recorded only"
        layouts = ", ".join(PAIRS.get(dialect.id, ())) or "none"
        signs = dialect.form.signs if dialect.form is not None else "no answer"
        print(f"{dialect.id:<14} {hosts} ({live})\n    {dialect.text}")
        print(f"    report_data: {layouts}\n    signs: {signs}")
        if dialect.encryption:
            print(f"    encrypts: {METHODS[dialect.encryption].about}")
        for word, clauses in (("proves", dialect.proves), ("cannot prove", dialect.cannot)):
            for clause in clauses:
                print(f"    {word} {clause}")
    return EXIT_SATISFIED
