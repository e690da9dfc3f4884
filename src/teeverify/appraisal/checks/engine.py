"""Where the engine is that makes the answers, says the configuration of an attested server."""

from __future__ import annotations

from collections.abc import Iterator

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.observation import Observation
from teeverify.encoding.fields import JsonObject

__all__ = ["location"]

_ID = "engine.location"
_SUPERVISED = "supervised"


def location(subject: Subject) -> Iterator[Observation]:
    """The hash of the configuration is in the quote; what stands in it is the code's word."""
    for machine in subject.machines:
        process = machine.machine.commits.process
        if process is None or machine.layout is None:
            continue
        config = JsonObject.parse(process.config, path="config", id="report")
        found = config.object("engine").text("location")
        supervised = found == _SUPERVISED
        text = "The attested server started the engine and watches it, says its configuration."
        if not supervised:
            text = f"The engine is in the same machine ({found}), and not the server's own process."
            if found == "process":
                text = "The engine is the small one inside the server, says its configuration."
        yield Observation.proven(
            _ID, text, subject=machine.machine.label, got=found, concern=not supervised
        )
