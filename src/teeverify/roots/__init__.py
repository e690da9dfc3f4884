"""Trust anchors as data (law 6): a name and a public key, with where each came from.

An anchor is written down, never taken from evidence; a root that arrives with evidence is only
compared with it. ``simulated`` of a result is derived from the anchors that were really used.
"""

from teeverify.roots.anchors import (
    EMBEDDED,
    Roots,
    RootsInput,
    TrustAnchor,
    UnsafeTestRoots,
    as_roots,
    custom_roots,
)
from teeverify.roots.timestamps import TimestampRoots

__all__ = [
    "EMBEDDED",
    "Roots",
    "RootsInput",
    "TimestampRoots",
    "TrustAnchor",
    "UnsafeTestRoots",
    "as_roots",
    "custom_roots",
]
