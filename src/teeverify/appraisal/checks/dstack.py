"""What dstack's operating system wrote down of the application: claims that a policy may list."""

from __future__ import annotations

from collections.abc import Iterator

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.examined import ExaminedMachine
from teeverify.appraisal.observation import Observation
from teeverify.errors import AppraisalFailed

__all__ = ["identity", "listed"]

_LISTED = "code.dstack-listed"


def _values(machine: ExaminedMachine) -> dict[str, str | None]:
    """By parameter of the policy: what the replayed log, the quote or the report says."""
    known = machine.log.identity if machine.log is not None else None
    compose = machine.compose.compose_hash if machine.compose is not None else None
    device = machine.machine.device_id
    if known is None or not known.sealed:  # else the application could have written it itself
        return {"compose_hashes": compose.hex()} if compose is not None else {}
    provider = known.key_provider
    return {
        "app_ids": known.app_id.hex() if known.app_id is not None else None,
        "compose_hashes": compose.hex() if compose is not None else None,
        "os_images": known.os_image_hash.hex() if known.os_image_hash is not None else None,
        "key_providers": provider.id if provider is not None else None,
        "instances": known.instance_id.hex() if known.instance_id else None,
        "devices": device.hex() if device is not None else None,
    }


def identity(subject: Subject) -> Iterator[Observation]:
    """Tell the application's identity, as far as the replayed log gives it."""
    for machine in subject.machines:
        values, label = _values(machine), machine.machine.label
        if "app_ids" not in values or machine.machine.role == "compose-manager":
            continue
        provider = machine.log.identity.key_provider if machine.log is not None else None
        words = {
            "app": values["app_ids"],
            "instance": values["instances"],
            "OS image": values["os_images"],
            "compose": values["compose_hashes"],
            "key provider": provider.name if provider is not None else None,
        }
        shown = ", ".join(f"{name} {_short(value)}" for name, value in words.items())
        text = f"By the replayed log: {shown}."
        yield Observation.proven("code.dstack", text, subject=label, got=values["app_ids"])
        if values["devices"] is not None:
            yield Observation.asserted(
                "code.device",
                "The report names the device, in a field that nobody signed.",
                by="the report",
                subject=label,
                got=values["devices"],
            )


def _short(value: str | None) -> str:
    return "not said" if value is None else value[:12]


def listed(subject: Subject) -> Iterator[Observation]:
    """Hold the application's identity against the lists of the policy, where there are any."""
    lists = {
        name: {entry.lower() for entry in subject.policy[f"dstack.{name}"]}
        for name in ("app_ids", "compose_hashes", "os_images", "key_providers", "instances",
                     "devices")
    }  # fmt: skip
    wanted = {name: entries for name, entries in lists.items() if entries}
    if not wanted:
        return
    for machine in subject.machines:
        if machine.machine.role not in ("model", "gateway"):
            continue
        label, values = machine.machine.label, _values(machine)
        wrong = next(
            (name for name, entries in wanted.items()
             if (values.get(name) or "").lower() not in entries), None
        )  # fmt: skip
        if wrong is not None:
            yield Observation.failed(
                AppraisalFailed(
                    "the application is not one that your policy lists",
                    id=_LISTED,
                    got=f"{wrong} {values.get(wrong) or 'not shown'}",
                    want=f"one of dstack.{wrong}",
                ),
                subject=label,
                hard=True,
            )
        elif "devices" in wanted:
            text = "All values are listed; which device it is, the report alone says."
            yield Observation.asserted(_LISTED, text, by="the report", subject=label)
        else:
            yield Observation.proven(_LISTED, "All values are listed.", subject=label)
