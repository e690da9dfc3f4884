"""Which model answered? Each source of its name is told of by itself, and none may contradict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.evidence import Deployed
from teeverify.appraisal.examined import ExaminedMachine
from teeverify.appraisal.observation import Observation, Outcome
from teeverify.errors import AppraisalFailed

__all__ = ["deployed", "identity", "reported", "requested", "signed"]

_IDENTITY = "model.identity"
_DEPLOYED = "model.deployed"


def requested(subject: Subject) -> Iterator[Observation]:
    """Who says which model was asked for."""
    answer, evidence = subject.answer, subject.examined.evidence
    named = answer.requested_model if answer else None
    if subject.model is not None:
        text = "You said which model you asked for."
        yield Observation.proven("model.requested", text, got=subject.model)
    elif named is not None:
        text = "The request names the model."
        yield Observation.proven("model.requested", text, got=named)
    elif evidence.requested_model is None:
        yield Observation.absent("model.requested", "Nobody says which model was asked for.")
    elif evidence.live:
        text = "The evidence was asked for this model."
        yield Observation.proven("model.requested", text, got=evidence.requested_model)
    else:
        yield Observation.asserted(
            "model.requested",
            "The evidence was asked for this model.",
            by="the recorder",
            got=evidence.requested_model,
        )


def reported(subject: Subject) -> Iterator[Observation]:
    """What the machines' reports call it: a field beside the quote, which nobody signed."""
    for machine in subject.model_machines:
        names, label = machine.machine.model_names, machine.machine.label
        if names:
            yield Observation.asserted(
                "model.reported",
                "The report names the model, in a field that nobody signed.",
                by="the report",
                subject=label,
                got=", ".join(names),
            )
        else:
            text = "The report does not name the model."
            yield Observation.absent("model.reported", text, subject=label)


def signed(subject: Subject) -> Iterator[Observation]:
    """What the signed text and the signed answer call it."""
    answer = subject.answer
    if answer is None:
        return
    names = [name for name in (answer.signed_model, answer.response_model) if name]
    if answer.signer is None or not names:
        yield Observation.absent("model.signed", "Nothing that is signed names the model.")
        return
    where = "signed text" if answer.signed_model else "signed answer"
    got = " and ".join(dict.fromkeys(names))
    if answer.signer in [key for key, _ in subject.attested_keys]:
        text = f"The attested key signed it: the {where} names the model."
        yield Observation.proven("model.signed", text, got=got)
    else:
        text = f"The {where} names the model."
        by = "whoever holds the key, which nothing attests"
        yield Observation.asserted("model.signed", text, by=by, got=got)


def deployed(subject: Subject) -> Iterator[Observation]:
    """Which files a compose-manager's proven log deployed, and whether the policy lists them."""
    listed = {entry.lower() for entry in subject.policy["model.deployments"]}
    managers = [m for m in subject.machines if m.machine.role == "compose-manager"]
    for manager in managers:
        files, label = manager.machine.deployed, manager.machine.label
        if manager.layout is None:
            why = "the log's own quote or binding did not verify"
            yield Observation.not_reached(_DEPLOYED, why, subject=label)
        elif not files:
            text = "The log deploys nothing that is still up."
            yield Observation.absent(_DEPLOYED, text, subject=label)
        elif listed and (foreign := [f for f in files if _hash(f) not in listed]):
            yield Observation.failed(_foreign(foreign), subject=label, hard=True)
        else:
            yield Observation.proven(_DEPLOYED, _files(files), subject=label, got=_hash(files[-1]))
    if listed and not managers and subject.scope != "evidence":
        text = "You listed deployments, and nothing shows what was deployed."
        yield Observation.absent(_DEPLOYED, text, want="a compose-manager's log")


def _hash(found: Deployed) -> str:
    return found.sha256.hex() if found.sha256 is not None else "no hash"


def _files(files: Sequence[Deployed]) -> str:
    others = len(files) - 1
    names = "other version or file" if others == 1 else "other versions or files"
    more = f", and {others} {names} that may still run" if others else ""
    return f"The quoted log deployed {files[-1].file} last{more}."


def _foreign(files: Sequence[Deployed]) -> AppraisalFailed:
    return AppraisalFailed(
        f"a deployed file is not on your list: {files[-1].file}",
        id=_DEPLOYED,
        got=_hash(files[-1]),
        want="one of model.deployments",
        hint="Whatever was brought up and never taken down whole may still run.",
    )


def identity(subject: Subject) -> Iterator[Observation]:
    """Requested, reported, signed and answered model must be one."""
    answer = subject.answer
    asked = [
        subject.model,
        answer.requested_model if answer else None,
        subject.examined.evidence.requested_model,
    ]
    wanted = [name for name in asked if name is not None]
    named = [m.machine.model_names for m in _answering(subject) if m.machine.model_names]
    said = [n for n in (answer.signed_model, answer.response_model) if n] if answer else []
    if not said and not named:
        yield Observation.absent(_IDENTITY, "Nothing names the model.")
        return
    wrong = _contradiction(wanted, named or [()], said)
    if wrong:
        yield Observation.failed(
            AppraisalFailed(
                "another model answered than the one that was asked for",
                id=_IDENTITY,
                got=wrong[0],
                want=wrong[1],
            ),
            hard=True,
        )
        return
    name = (said or [n for names in named for n in names])[0]
    if wanted and _deployment_listed(subject):
        text = "All names agree, and only files that you listed were deployed."
        yield Observation.proven(_IDENTITY, text, got=name)
        return
    by = "the attested code" if said else "the report"
    sources = (("requested", wanted), ("reported", named), ("signed", said))
    *agree, last = [source for source, names in sources if names]
    names = f"The {', '.join(agree)} and {last} model agree" if wanted else "No model was asked for"
    text = f"{names}; which weights stand behind the name is {by}'s word."
    yield Observation.asserted(_IDENTITY, text, by=by, got=name)


def _deployment_listed(subject: Subject) -> bool:
    """Whether the policy lists deployments, and every model's machine shows only such."""
    if not subject.policy["model.deployments"]:
        return False
    found = list(deployed(subject))
    return (
        bool(found)
        and all(one.outcome is Outcome.PROVEN for one in found)
        and len(found) == len(subject.model_machines)
    )


def _answering(subject: Subject) -> tuple[ExaminedMachine, ...]:
    """The model's machine that signed; where none of them did, any of them may have answered."""
    signer = subject.answer.signer if subject.answer else None
    own = tuple(m for key, m in subject.attested_keys if key == signer)
    return tuple(m for m in own if m.machine.role == "model") or subject.model_machines


def _contradiction(
    wanted: list[str], named: Sequence[tuple[str, ...]], signed: list[str]
) -> tuple[str, str] | None:
    """The first two names that cannot both be true, of any machine."""
    for aliases in named:
        for name in signed:
            if aliases and name not in aliases:
                return name, ", ".join(aliases)
            if signed[0] != name and not {signed[0], name} <= set(aliases):
                return name, signed[0]
        known = sorted({*aliases, *signed})
        for name in wanted:
            if name not in known:
                return ", ".join(known), name
    return None
