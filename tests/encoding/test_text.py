"""Numbers in sentences."""

from __future__ import annotations

import pytest

from teeverify.encoding.text import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 answers"), (1, "1 answer"), (2, "2 answers"), (21, "21 answers")]
)
def test_one_is_no_plural(number, text):
    assert counted(number, "answer") == text
