"""What the tests of the appraisal have in common."""

from __future__ import annotations

from typing import Any

import pytest

from teeverify.appraisal import Policy
from teeverify.appraisal.presets import ROWS
from teeverify.appraisal.reference import REGISTERS


@pytest.fixture(scope="session")
def references(stage) -> list[dict[str, Any]]:
    """Code references that the good recording meets, complete and from a release."""
    return [
        {
            "name": f"{machine.role} v1",
            "source": "release",
            "role": machine.role,
            **{k: v for k, v in machine.registers.items() if k in REGISTERS},
        }
        for machine in stage.appraise().identities
        if machine.role != "compose-manager"
    ]


@pytest.fixture(scope="session")
def best(stage, references) -> dict[str, Any]:
    """The best that can be shown today: what to appraise, and with which expectations."""
    recording = stage.capture(
        nras={"claims_version": "3.0"},
        manifest={"captured_at": None, "nonce_hex": None},
        rims={},
        ocsp={},
    )
    return {
        "source": recording,
        "nonce": stage.endpoint.nonce,
        "at": stage.endpoint.at,
        "scope": "answer",
        **stage.signed(),
    }


@pytest.fixture(scope="session")
def only(references):
    """The policy that demands of one row what ``strict`` demands, and of the others little."""

    def make(row_id: str, **sections: Any) -> Policy:
        lowest = {row.id: row.floor for row in ROWS if row.id != row_id}
        given = {
            "require": lowest,
            "verdict": {"accept": "warning"},
            "gpu": {"count": 2, "architectures": ["Hopper"]},
            "code": references,
            **sections,
        }
        return Policy.strict().replace(**given)

    return make
