"""Which measurements say that two machines run the same code."""

import pytest

from teeverify.appraisal.reference import Identity, ReferenceValues, complete_code

IMAGE = {"mr_td": "1" * 96, "rtmr0": "2" * 96, "rtmr1": "3" * 96, "rtmr2": "4" * 96}
BARE = {**IMAGE, "rtmr3": "5" * 96, "mr_config_id": "0" * 96}
DSTACK = {**BARE, "compose_hash": "6" * 64, "os_image_hash": "7" * 64}
CONFIGURED = {**DSTACK, "mr_config_id": "8" * 96}
AZURE = {**BARE, "pcr4": "9" * 64, "pcr11": "a" * 64}
AMD = {"measurement": "b" * 96, "host_data": "c" * 64, "id_key_digest": "d" * 96}

# Of each machine: the registers in which others with the same code may differ.
MACHINES = [
    (BARE, set()),
    (DSTACK, {"rtmr3"}),
    (CONFIGURED, {"rtmr3", "compose_hash", "os_image_hash"}),
    (AZURE, set()),
    (AMD, set()),
]


def _is_same(registers, name):
    changed = {**registers, name: "e" * len(registers[name])}
    before, after = (
        complete_code([Identity(role="model", registers=one)]) for one in (registers, changed)
    )
    return before == after


@pytest.mark.parametrize(("registers", "own"), MACHINES)
def test_what_tells_two_pieces_of_code_apart(registers, own):
    assert {name for name in registers if _is_same(registers, name)} == own


@pytest.mark.parametrize(("registers", "own"), MACHINES)
def test_a_pin_holds_for_another_machine_of_the_same_code(registers, own):
    identity = Identity(role="model", registers=registers)
    (entry,) = ReferenceValues.pin([identity], seen="2026-11-23").entries
    assert not entry.missing_for(identity)
    assert not entry.differences(identity)
    other = {**registers, **{name: "e" * len(registers[name]) for name in own}}
    assert not entry.differences(Identity(role="model", registers=other))
    for name in entry.registers:
        changed = {**registers, name: "e" * len(registers[name])}
        assert entry.differences(Identity(role="model", registers=changed)) == (name,)
