"""Sources that hold GPU evidence."""

from __future__ import annotations

from typing import Any

from teeverify.appraisal import evidence as neutral
from teeverify.appraisal.evidence import Machine
from teeverify.nvidia.cmw import is_collection

__all__ = ["from_json", "is_evidence"]


def is_evidence(value: Any) -> bool:  # noqa: ANN401 -- decoded JSON
    """Whether decoded JSON is evidence of GPUs."""
    if isinstance(value, dict):
        return "evidence_list" in value or is_collection(value)
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and "evidence" in item for item in value)
    )


def from_json(value: Any, name: str) -> neutral.Evidence:  # noqa: ANN401 -- decoded JSON
    """Evidence of GPUs that stands alone."""
    machine = Machine(role="component", label="gpus", gpus=value)
    return neutral.Evidence(
        kind="component", provider="NVIDIA GPU evidence", source=name, machines=(machine,)
    )
