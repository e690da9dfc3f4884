"""Whatever a provider sends, only the library's own errors leave a reader (law 10)."""

from __future__ import annotations

import contextlib
import json
import random

import pytest

from teeverify.binding import SigningKey
from teeverify.errors import TeeVerifyError
from teeverify.providers import DIALECTS

MAKERS = {
    "chutes": lambda c: c.chutes(1),
    "chutes-resold": lambda c: c.chutes_resold(),
    "tinfoil": lambda c: c.tinfoil(),
    "tinfoil-v2": lambda c: c.tinfoil_v2(platform="tdx"),
    "secretvm": lambda c: c.secretvm(),
    "nilcc": lambda c: c.nilcc(),
    "panda": lambda c: c.panda(),
    "near-ita": lambda c: c.near_ita(key=SigningKey("ecdsa", bytes(range(20)))),
}
VALUES = [None, True, 0, -1, 1.5, "", "x", "00", "AA==", [], {}, [None], [[]], [{}], "\ud800"]


def places(value, path=()):
    """The paths of all members and items."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in items:
        yield (*path, name)
        if isinstance(item, (dict, list)) and item:
            yield from places(item, (*path, name))


def replaced(value, path, new):
    copy = json.loads(json.dumps(value))
    target = copy
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = new
    return copy


@pytest.mark.parametrize("name", MAKERS)
def test_every_member_of_another_kind(field, name):
    shown = MAKERS[name](field.channels)
    if name == "secretvm":
        return  # its report is a text: below
    body = json.loads(shown.body)
    for path in list(places(body))[:60]:
        for new in VALUES:
            changed = json.dumps(replaced(body, path, new)).encode()
            _read(field, shown, body=changed)


@pytest.mark.parametrize("name", MAKERS)
def test_flipped_cut_and_longer_bytes(field, name):
    shown = MAKERS[name](field.channels)
    chance = random.Random(name)
    for _ in range(150):
        body = bytearray(shown.body)
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        _read(field, shown, body=bytes(body))
        _read(field, shown, body=shown.body[: chance.randrange(len(shown.body))])
        _read(field, shown, body=shown.body + bytes([chance.randrange(256)]))


@pytest.mark.parametrize("name", ["chutes", "tinfoil-v2", "secretvm", "panda"])
def test_what_stands_beside(field, name):
    shown = MAKERS[name](field.channels)
    (key,) = DIALECTS[name].beside
    chance = random.Random(name)
    for _ in range(150):
        body = bytearray(shown.exchanges[1].body)
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
        for raw in (bytes(body), bytes(body)[: chance.randrange(len(body))]):
            _read(field, shown, beside={key: raw})


def _read(field, shown, **changes):
    """Read; what could be read is appraised nowhere, for nothing was signed anew."""
    with contextlib.suppress(TeeVerifyError):
        field.read(shown, **changes)
