"""What ``report_data`` commits to: one exact, named layout a scheme, never guessed."""

from teeverify.binding.keys import SigningKey
from teeverify.binding.layouts import LAYOUTS, Bound, GpuLink, Layout, verify_report_data

__all__ = ["LAYOUTS", "Bound", "GpuLink", "Layout", "SigningKey", "verify_report_data"]
