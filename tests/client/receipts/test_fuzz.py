"""Receipts that somebody changed anywhere: only our errors leave, and the command has an answer."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import random

import pytest

from teeverify.cli.main import main
from teeverify.client import Verifier
from teeverify.client.receipts import Receipt
from teeverify.errors import EXIT_BUG, TeeVerifyError
from teeverify.responses.receipt import core_hash
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.receipts import ReceiptForge
from teeverify.simulator.tee import SimulatedTee

ODD = (
    None, True, -1, 2**63, 10**400, 1.5, "", "0x", "\u00e9", "\u202ex", "\0", "a" * 5000, [], {},
    [[[]]], {"a": {}}, "\u0661\u0662", "\uff41", ["x"] * 300,
)  # fmt: skip
ROUNDS = 60


@pytest.fixture(scope="module")
def tee():
    return SimulatedTee(gpus=1)


@pytest.fixture(scope="module")
def kept(tee):
    return json.loads(Receipt(ReceiptForge(tee).receipt("why?")).to_bytes(include="bytes"))


def places(value, path=()):
    yield path
    if isinstance(value, (dict, list)):
        for name in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[name], (*path, name))


def changed(value, chance):
    """One member, anywhere, is another one, is missing, or stands twice as deep."""
    value = copy.deepcopy(value)
    *above, name = chance.choice(list(places(value))[1:])
    owner = value
    for step in above:
        owner = owner[step]
    old, how = owner[name], chance.randrange(5)
    if how == 0:
        owner[name] = chance.choice(ODD)
    elif how == 1:
        del owner[name]
    elif how == 2 and isinstance(old, str) and old:
        place = chance.randrange(len(old))
        owner[name] = old[:place] + chance.choice("0Af\n =-\uff10\u00e9") + old[place + 1 :]
    elif how == 3 and isinstance(old, str):
        owner[name] = old[: chance.randrange(len(old) + 1)]
    else:
        owner[name] = [old]
    return value


def anew(value):
    """As a forger closes it again: under the id of what it holds now."""
    try:
        return {**value, "receipt_id": core_hash(value["core"]).hex()}
    except (TeeVerifyError, KeyError, TypeError, AttributeError):
        return value


def part(kept, chance, *names):
    """A part is another one, and is named by its own hash."""
    value = copy.deepcopy(kept)
    owner = value["core"][names[0]]
    old = json.loads(base64.b64decode(value["attachments"].pop(owner[names[1]])))
    raw = json.dumps(changed(old, chance)).encode()
    owner[names[1]] = hashlib.sha256(raw).hexdigest()
    value["attachments"][owner[names[1]]] = base64.b64encode(raw).decode()
    return anew(value)


def cut(kept, chance):
    raw = bytearray(json.dumps(kept).encode())
    place = chance.randrange(len(raw))
    raw[place : place + chance.randrange(1, 99)] = bytes([chance.randrange(256)])
    return bytes(raw)


WAYS = {
    "file": changed,
    "core": lambda kept, chance: anew({**kept, "core": changed(kept["core"], chance)}),
    "report": lambda kept, chance: part(kept, chance, "attestation", "report"),
    "signature": lambda kept, chance: part(kept, chance, "answer", "signature"),
    "bytes": cut,
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_but_our_errors_leaves(kept, tee, tmp_path, capsys, way):
    chance = random.Random(f"teeverify {way}")
    file, roots = tmp_path / "receipt.json", tmp_path / "roots.pem"
    tee.write_roots(roots)
    verifier = Verifier(roots=UnsafeTestRoots([tee.roots_pem()]), offline=True)
    for number in range(ROUNDS):
        made = WAYS[way](kept, chance)
        raw = made if isinstance(made, bytes) else json.dumps(made).encode()
        try:
            code = verifier.appraise(raw).exit_code
        except TeeVerifyError as error:
            code = error.exit_code
        assert code in (0, 1, 2, 3)
        if number % 6 == 0:
            file.write_bytes(raw)
            asked = ["verify", str(file), "--offline", "--unsafe-test-roots", str(roots)]
            told = main(asked)
            assert told == code != EXIT_BUG
            assert "Traceback" not in "".join(capsys.readouterr())
