"""Verified types are made by the step that verifies them, and by nothing else."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import InitVar, dataclass

import pytest

from teeverify.encoding.sealed import Seal, Sealed
from teeverify.errors import ConfigurationError

OWN = Seal("verify_thing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims(Sealed):
    value: int
    seal: InitVar[Seal]

    def __post_init__(self, seal):
        self._check_seal(seal, OWN)


def made():
    return Claims(value=1, seal=OWN)


def refused(act):
    with pytest.raises(ConfigurationError) as caught:
        act()
    assert caught.value.id == "usage.sealed"
    assert "Claims" in caught.value.message
    assert caught.value.hint


def test_the_step_makes_it():
    assert made().value == 1
    assert made() == made()


@pytest.mark.parametrize(
    "seal",
    [None, True, "verify_thing", Seal("verify_thing"), Seal, object()],
    ids=["none", "true", "its name", "another seal", "the class", "an object"],
)
def test_nobody_else_makes_it(seal):
    """A seal is compared by identity: another one of the same name is another one."""
    refused(lambda: Claims(value=1, seal=seal))


def test_not_without_a_seal():
    with pytest.raises(TypeError):
        Claims(value=1)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_pickle(protocol):
    refused(lambda: pickle.dumps(made(), protocol))
    refused(lambda: pickle.dumps([made()], protocol))


def test_no_copy():
    refused(lambda: copy.copy(made()))
    refused(lambda: copy.deepcopy(made()))
    refused(lambda: copy.deepcopy({"a": [made()]}))


def test_no_copy_with_changes():
    # The dataclass machinery refuses before the seal does (ValueError, TypeError from 3.13 on): the
    # seal is an InitVar without default.
    with pytest.raises((ConfigurationError, TypeError, ValueError)):
        dataclasses.replace(made(), value=2)
    refused(lambda: dataclasses.replace(made(), value=2, seal=None))
    if hasattr(copy, "replace"):
        with pytest.raises((ConfigurationError, TypeError, ValueError)):
            copy.replace(made(), value=2)
    else:
        refused(lambda: made().__replace__(value=2))


def test_no_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        made().value = 2


def test_the_seal_does_not_stay_on_the_object():
    assert not hasattr(made(), "seal")
    assert "seal" not in repr(made())
    assert [field.name for field in dataclasses.fields(made())] == ["value"]


def test_subclass_is_checked_too():
    @dataclass(frozen=True, kw_only=True)
    class More(Claims):
        extra: int = 0

    with pytest.raises(ConfigurationError):
        More(value=1, seal=None)
