"""An error of ours that other SDKs do not take for a broken connection.

Anthropic's SDK asks again after every exception of its transport, and wraps it; only its own errors
pass. So where it is loaded, what is raised there is one of its errors too.
"""

from __future__ import annotations

import sys

from teeverify.errors import TeeVerifyError

__all__ = ["pass_through_sdks"]


def pass_through_sdks(error: TeeVerifyError) -> None:
    """Let an error reach the user of an SDK as it is: at once, and under its own name."""
    own, theirs = type(error), getattr(sys.modules.get("anthropic"), "AnthropicError", None)
    if theirs is None or isinstance(error, theirs):
        return
    error.__class__ = type(own.__name__, (own, theirs), {"__module__": own.__module__})
