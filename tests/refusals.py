"""What tests of every room demand of a refusal."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from teeverify.errors import TeeVerifyError


def refused(error: type[TeeVerifyError], check: str, act: Callable[[], object]) -> TeeVerifyError:
    """Demand that it is refused with this very class and check id; give the error."""
    with pytest.raises(TeeVerifyError) as caught:
        act()
    assert (type(caught.value), caught.value.id) == (error, check), str(caught.value)
    return caught.value
