"""What ``report_data`` commits to: one exact, named layout a scheme, never guessed."""

from teeverify.binding.bound import WORDS, Bound
from teeverify.binding.keys import SigningKey
from teeverify.binding.layouts import LAYOUTS, GpuLink, Layout, layout_of, verify_report_data
from teeverify.binding.pairs import PAIRS
from teeverify.binding.teeverify1 import Process

__all__ = [
    "LAYOUTS",
    "PAIRS",
    "WORDS",
    "Bound",
    "GpuLink",
    "Layout",
    "Process",
    "SigningKey",
    "layout_of",
    "verify_report_data",
]
