"""Which code runs inside, and is it the code that was expected?"""

from __future__ import annotations

import re
from collections.abc import Iterator

from teeverify import snp
from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.examined import ExaminedMachine
from teeverify.appraisal.observation import Observation
from teeverify.appraisal.reference import (
    CodeReference,
    Identity,
    complete_code,
    first_difference,
)
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.text import counted
from teeverify.errors import AppraisalFailed, BindingMismatch, MalformedEvidence

__all__ = ["changed", "compose_manager", "identity", "identity_of", "images_pinned"]

_IMAGE_LINE = re.compile(
    r"""^\s*(?:-\s+)?["']?image["']?\s*:\s*["']?([^\s"'#]+)["']?\s*(?:\s#.*)?$"""
)
_SERVICES = re.compile(r"""(\s*)["']?services["']?\s*:\s*(?:#.*)?""")
_INCLUDE = re.compile(r"""(\s*)["']?include["']?\s*:.*""")
# A comment, unless the line may also be the end of a quoted text that began above it.
_COMMENT = re.compile(r"""\s*#[^"']*""")
# What could name an image in a way that a reader of lines does not see (YAML 1.2 chapters 6 to 8,
# and Compose's own way to take a service from elsewhere).
_UNREADABLE = re.compile(
    r"""
    \b(?:image|build|extends)\b\s*["']?\s*(?::|$)  # a key in another form, or half of one
    | (?:^|[\s{,\[-])\?(?:\s|$)                    # an explicit key
    | "[^"]*\\[^"]*"\s*:                           # a key with escapes
    | \*[^\s,\[\]{}]+\s+:                          # a key by alias
    """,
    re.VERBOSE,
)
_SHOWN, _LONGEST = 3, 80
_PINNED = re.compile(r"[^\s$@]+@sha256:[0-9a-f]{64}")


def identity_of(machine: ExaminedMachine) -> Identity | None:
    """The verified measurements of a machine; ``None`` if its quote was not verified."""
    if machine.snp is not None:
        return _snp_identity(machine, machine.snp)
    if machine.cpu is None or not machine.cpu.is_td:
        return None
    td = machine.cpu.td
    registers = {
        "mr_td": td.mr_td.hex(),
        **{f"rtmr{n}": value.hex() for n, value in enumerate(td.rtmrs)},
        "mr_config_id": td.mr_config_id.hex(),
    }
    registers |= _pcrs(machine)
    if machine.compose is not None:
        registers["compose_hash"] = machine.compose.compose_hash.hex()
    if machine.log is not None and machine.log.identity.os_image_hash is not None:
        registers["os_image_hash"] = machine.log.identity.os_image_hash.hex()
    return Identity(role=machine.machine.role, registers=registers)


def _snp_identity(machine: ExaminedMachine, claims: snp.Claims) -> Identity:
    """The launch digest, what the launch chose besides, and what a virtual TPM quoted."""
    report = claims.report
    chosen = {
        "host_data": report.host_data,
        "id_key_digest": report.id_key_digest,
        "author_key_digest": report.author_key_digest if report.author_key_enabled else b"",
    }
    registers = {name: value.hex() for name, value in chosen.items() if any(value)}
    registers |= _pcrs(machine)
    return Identity(
        role=machine.machine.role,
        registers={"measurement": report.measurement.hex(), **registers},
        unmeasured=_unmeasured(machine),
    )


def _pcrs(machine: ExaminedMachine) -> dict[str, str]:
    """What a virtual TPM quoted, where there is one."""
    quoted = {} if machine.vtpm is None else machine.vtpm.pcrs
    return {f"pcr{number}": value.hex() for number, value in quoted.items()}


def _unmeasured(machine: ExaminedMachine) -> str:
    """What the launch digest is known to leave out: it may be that of a mere loader."""
    if machine.machine.hcl is not None:
        return "the PCRs of Azure's virtual TPM"
    if isinstance(machine.firmware_maker, snp.FirmwareClaims):
        return f"what {machine.firmware_maker.endorser}'s firmware boots"
    return ""


def identity(subject: Subject) -> Iterator[Observation]:
    """Hold every machine's measurements against the reference values."""
    references = subject.policy.references.entries
    for machine in subject.machines:
        seen = identity_of(machine)
        if seen is None or machine.machine.role == "compose-manager":
            continue
        label = machine.machine.label
        candidates = [r for r in references if r.role in ("", seen.role)]
        if candidates:
            yield _compare(candidates, seen, label)
        elif references:
            yield _not_listed(f"no reference value is for the {seen.role}", seen, label)
        elif subject.scope != "evidence":
            text = "You have not said which code you expect."
            yield Observation.absent("code.identity", text, subject=label)


def _compare(candidates: list[CodeReference], seen: Identity, label: str) -> Observation:
    equal = [r for r in candidates if not r.differences(seen)]
    if not equal:
        nearest = min(candidates, key=lambda r: len(r.differences(seen)))
        different = ", ".join(nearest.differences(seen))
        return _not_listed(f"{different} differ from {nearest.name}", seen, label)
    # The entry that says most: complete before partial, reviewed before merely seen.
    best = min(equal, key=lambda r: (len(r.missing_for(seen)), not r.reviewed))
    missing = best.missing_for(seen)
    if missing:
        return Observation.absent(
            "code.identity",
            f"Only partially compared with {best.name}: {', '.join(missing)} not listed, "
            "so other code could show the same values.",
            subject=label,
        )
    if not best.reviewed:
        return Observation.asserted(
            "code.identity",
            f"It is the same code as on {best.seen or 'an unknown day'}, which nobody reviewed.",
            by=f"a value pinned on {best.seen or 'an unknown day'}",
            subject=label,
            got=best.name,
        )
    return Observation.proven(
        "code.identity",
        f"All measurements equal {best.name} ({best.source}).",
        subject=label,
        got=best.name,
    )


def _not_listed(why: str, seen: Identity, label: str) -> Observation:
    first = next(iter(seen.registers))
    return Observation.failed(
        AppraisalFailed(
            f"it runs other code than you listed: {why}",
            id="code.identity",
            got=f"{first} {seen.registers[first][:16]}…",
            want="code of your reference values",
            hint="Compare the two with what the operator published; do not pin it blindly.",
        ),
        subject=label,
        hard=True,
    )


def changed(subject: Subject) -> Iterator[Observation]:
    """Code that nobody listed is accepted at first sight only; then it must stay the same."""
    check = "code.changed"
    seen = [found for machine in subject.machines if (found := identity_of(machine)) is not None]
    if not seen:
        return
    known = subject.examined.known_code
    if subject.policy.references.entries:
        yield Observation.proven(check, "Not asked: your policy lists the code that it accepts.")
    elif not subject.examined.evidence.live:
        text = "Files have no memory: whether other code ran there before is not known."
        yield Observation.absent(check, text)
    elif known is None:
        text = "First sight of this endpoint on this machine: this code is remembered from now on."
        yield Observation.absent(check, text)
    elif complete_code(seen) == known.code:
        yield Observation.proven(check, f"The same complete code as on {known.since}.")
    else:
        yield Observation.failed(
            AppraisalFailed(
                f"the endpoint runs other code than on {known.since}, and nobody has accepted it",
                id=check,
                got=first_difference(known.code, complete_code(seen)),
                hint="If you know why, 'teeverify policy pin' accepts it.",
            ),
            hard=True,
        )


def images_pinned(subject: Subject) -> Iterator[Observation]:
    """A configuration that names images by tag pins nothing: a tag can be moved."""
    for machine in subject.machines:
        if machine.compose is None or machine.machine.app_compose is None:
            continue
        label = machine.machine.label
        unpinned, unreadable = _images(machine.machine.app_compose)
        if unreadable:
            text = f"Whether every image is pinned cannot be told: {unreadable}."
        elif unpinned:
            text = _unpinned(unpinned)
        else:
            text = "Every image that the configuration names is pinned by digest."
            yield Observation.proven("code.images-pinned", text, subject=label)
            continue
        yield Observation.absent("code.images-pinned", text, subject=label)


def _unpinned(images: list[str]) -> str:
    """Says which images a tag or a variable names: either can come to mean other code."""
    count = f"{counted(len(images), 'image')} {'is' if len(images) == 1 else 'are'}"
    shown = [image if len(image) <= _LONGEST else f"{image[:_LONGEST]}…" for image in images]
    more = f" and {len(images) - _SHOWN} more" if len(images) > _SHOWN else ""
    why = " A variable can put another image in its place." if "$" in "".join(images) else ""
    return f"{count} not pinned by digest: {', '.join(shown[:_SHOWN])}{more}.{why}"


def _images(app_compose: str) -> tuple[list[str], str]:
    """Images without a digest; and why they cannot be read off line by line, if they cannot."""
    try:
        config = JsonObject.parse(app_compose, path="app_compose", id="code.images-pinned")
        lines = config.text("docker_compose_file").splitlines()
    except MalformedEvidence:
        return [], "there is no Compose file in the configuration"
    if config.raw("runner") != "docker-compose":
        return [], "something else than Docker Compose runs it"
    images = _image_lines(lines)
    if not images:
        return [], "its Compose file is written in a way that is not read here"
    unpinned = [image for image in images if not _PINNED.fullmatch(image)]
    if config.raw("pre_launch_script") and not unpinned:
        return [], "a script of the configuration (pre_launch_script) may fetch others"
    return unpinned, ""


def _image_lines(lines: list[str]) -> list[str]:
    """The images of a Compose file; none at all where a line could name one unseen."""
    images = []
    for line in lines:
        match = _IMAGE_LINE.match(line)
        if match:
            images.append(match.group(1))
        elif _UNREADABLE.search(line) and not _COMMENT.fullmatch(line):
            return []
    return images if _plain_services(lines) else []


def _plain_services(lines: list[str]) -> bool:
    """Whether there are services at the top of the file, and no other files are included there."""
    depths = [
        len(line) - len(line.lstrip())
        for line in lines
        if line.strip() and not _COMMENT.fullmatch(line)
    ]
    top = min(depths, default=0)
    services = [match for line in lines if (match := _SERVICES.fullmatch(line))]
    includes = [match for line in lines if (match := _INCLUDE.fullmatch(line))]
    return any(len(match.group(1)) == top for match in services) and not any(
        len(match.group(1)) == top for match in includes
    )


def compose_manager(subject: Subject) -> Iterator[Observation]:
    """The compose-manager's quote must come from the very machine whose log it is."""
    managers = [m for m in subject.machines if m.machine.role == "compose-manager"]
    managed = {m.machine.label for m in managers}
    for machine in subject.model_machines:
        label = machine.machine.label
        if machine.machine.managed and f"{label} compose-manager" not in managed:
            text = (
                "There is no compose-manager's log, which every model's machine of this dialect "
                "has: it may be another machine, shown in its place."
            )
            yield Observation.absent("code.compose-manager", text, subject=label)
    for manager in managers:
        own = identity_of(manager)
        label = manager.machine.label
        others = [
            identity_of(m)
            for m in subject.model_machines
            if label == f"{m.machine.label} compose-manager"
        ]
        if own is None or manager.layout is None:
            why = "its own quote or binding did not verify"
            yield Observation.not_reached("code.compose-manager", why, subject=label)
        elif any(o is not None and _same_machine(own, o) for o in others):
            yield Observation.proven(
                "code.compose-manager",
                "The log of actions is quoted under the same MRTD and RTMR0 to RTMR3 as the "
                "model's machine.",
                subject=label,
            )
        else:
            yield Observation.failed(
                BindingMismatch(
                    "the compose-manager's quote is of another machine than the model's",
                    id="code.compose-manager",
                    got=f"rtmr3 {own.registers['rtmr3'][:16]}…",
                ),
                subject=label,
            )


def _same_machine(one: Identity, other: Identity) -> bool:
    names = ("mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
    return all(one.registers[name] == other.registers[name] for name in names)
