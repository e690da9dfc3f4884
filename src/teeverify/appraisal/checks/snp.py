"""Is AMD's firmware new enough, and do the guest's policy and its host leave nobody a way in?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from teeverify import snp
from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.observation import Observation
from teeverify.appraisal.policy import Policy
from teeverify.appraisal.snp_floors import FLOORS, NEWEST, Floor
from teeverify.errors import AppraisalFailed, EndorsementUnavailable, TeeVerifyError

__all__ = ["csp", "firmware", "launch", "min_tcb", "platform", "policy", "report_data", "vmpl"]

# Clouds that ask for their guests' reports at another level than 0 (their own layer is there).
_CLOUD_LEVELS: Mapping[str, tuple[int, ...]] = {".amazonaws.com": (0, 1)}
_MEANINGS: Mapping[str, str] = {
    "migrate_ma": "a migration agent may move the VM to another machine",
    "host_made": "the host asked for the report, so what it binds is the host's choice",
    "smt": "a sibling thread of the VM's may be the host's",
    "cxl": "the VM's memory may be on a CXL device",
    "provisional": "the firmware that runs is not committed: the host can still go back",
    "masked_chip_id": "the host hides which chip it is",
}
_OPERATOR = "Only the machine's operator can update it."


def _machines(subject: Subject) -> Iterator[tuple[snp.Claims, str]]:
    for machine in subject.machines:
        if machine.snp is not None:
            yield machine.snp, machine.machine.label


def firmware(subject: Subject) -> Iterator[Observation]:
    """Who endorses the firmware that the launch digest is of, where somebody does."""
    named = subject.policy["snp.firmware_by"]
    for machine in subject.machines:
        seen, label = machine.firmware_maker, machine.machine.label
        if machine.snp is None:
            continue
        if isinstance(seen, snp.FirmwareClaims):
            yield Observation.proven(
                "snp.firmware",
                f"The firmware is endorsed by {seen.endorser} (version {seen.svn}, "
                f"{seen.made_at:%Y-%m-%d}); what it boots is not part of the measurement.",
                subject=label,
                got=f"UEFI {seen.uefi_sha384.hex()[:16]}…, "
                f"{' or '.join(map(str, seen.vcpus))} virtual CPUs",
            )
        elif seen is not None and not seen.retryable:
            yield Observation.failed(seen, subject=label, hard=True)
        elif named:
            yield Observation.failed(_unendorsed(machine.snp, seen, named), subject=label)


def _unendorsed(
    claims: snp.Claims, seen: TeeVerifyError | None, named: list[str]
) -> EndorsementUnavailable:
    """That the endorsement which the user's policy asks for is not at hand."""
    return EndorsementUnavailable(
        f"the firmware's endorsement by {' or '.join(named)} is not at hand"
        + (f": {seen.message}" if seen is not None else ""),
        id="snp.firmware",
        got="none" if seen is None else seen.got,
        want=f"an endorsement of measurement {claims.measurement.hex()}",
        hint=(seen.hint if seen is not None else None)
        or "Fetch it with: teeverify endorsements fetch SOURCE --firmware --to FILE",
    )


def _failed(  # noqa: PLR0913 -- what an error and an observation hold
    id: str,
    message: str,
    got: str,
    want: str,
    label: str,
    hint: str = "",
    *,
    hard: bool = False,
) -> Observation:
    error = AppraisalFailed(message, id=id, got=got, want=want, hint=hint or None)
    return Observation.failed(error, subject=label, hard=hard)


def min_tcb(subject: Subject) -> Iterator[Observation]:
    """Compare the firmware's versions with the floor, component by component."""
    for claims, label in _machines(subject):
        yield _min_tcb(subject.policy, claims, label)


def _min_tcb(rules: Policy, claims: snp.Claims, label: str) -> Observation:
    floor = _own_floor(rules, claims.product) or FLOORS[claims.product]
    tcbs = {name: getattr(claims, f"{name}_tcb") for name in rules["snp.tcb_parts"]}
    got = "; ".join(f"{name}: {tcb}" for name, tcb in tcbs.items()) or "none"
    low = _below(tcbs, floor)
    at_launch = _own_floor(rules, claims.product, "min_launch_tcb")
    if at_launch is not None and not low:
        floor, low = at_launch, _below({"launch": claims.launch_tcb}, at_launch)
    if not tcbs:
        return _failed("snp.min-tcb", "your policy compares no TCB version (snp.tcb_parts)", got,
                       "reported", label)  # fmt: skip
    if low:
        return _failed(
            "snp.min-tcb",
            f"the machine lacks AMD's security fixes of {floor.bulletin} for {floor.about}, so "
            f"what happened inside may have been seen or changed ({low})",
            got,
            _shown(floor),
            label,
            _OPERATOR,
        )
    missed = _missed(claims, tcbs)
    if missed and rules["snp.newest_fixes"]:
        return _failed(
            "snp.min-tcb",
            f"the machine lacks AMD's newest fixes, of {_fixes(missed, tcbs)}",
            got,
            "; ".join(map(_shown, missed)),
            label,
            _OPERATOR,
        )
    if missed:
        text = f"The machine lacks AMD's newest fixes, of {_fixes(missed, tcbs)}."
        return Observation.proven("snp.min-tcb", text, subject=label, got=got, concern=True)
    newest = NEWEST[claims.product][0]
    text = f"The firmware has AMD's fixes of {newest.bulletin} and before."
    return Observation.proven("snp.min-tcb", text, subject=label, got=got)


def _missed(claims: snp.Claims, tcbs: Mapping[str, snp.TcbVersion]) -> list[Floor]:
    """The newest fixes that this machine lacks, of those that are for its CPU."""
    return [
        floor
        for floor in NEWEST[claims.product]
        if floor.cpu in (None, claims.report.cpuid) and _below(tcbs, floor)
    ]


def _fixes(missed: list[Floor], tcbs: Mapping[str, snp.TcbVersion]) -> str:
    return ", and of ".join(
        f"{floor.bulletin} ({_below(tcbs, floor)}) for {floor.about}" for floor in missed
    )


def _own_floor(rules: Policy, product: snp.Product, name: str = "min_tcb") -> Floor | None:
    """The user's floor for a product, each entry's versions together."""
    least: dict[str, int] = {}
    for entry in rules[f"snp.{name}"]:
        line, *parts = entry.split()
        if line == product.value:
            for part in parts:
                component, _, value = part.partition("=")
                least[component] = max(least.get(component, 0), int(value))
    if not least:
        return None
    return Floor(components=least, bulletin="your policy", about="whatever you had in mind")


def _below(tcbs: Mapping[str, snp.TcbVersion], floor: Floor) -> str:
    """Which versions are too low, and in which of the report's statements."""
    low: dict[str, list[str]] = {}
    for name, tcb in tcbs.items():
        for part in tcb.below(floor.components):
            seen = tcb.components.get(part, "none")
            low.setdefault(f"{part} {seen}, not {floor.components[part]}", []).append(name)
    return ", ".join(
        what if len(names) == len(tcbs) else f"{what}: {' and '.join(names)}"
        for what, names in low.items()
    )


def _shown(floor: Floor) -> str:
    parts = " ".join(f"{name}={value}" for name, value in floor.components.items())
    return f"at least {parts} ({floor.bulletin})"


def policy(subject: Subject) -> Iterator[Observation]:
    """Refuse or warn of what leaves somebody a way in, by the policy's two lists."""
    rules = subject.policy
    for claims, label in _machines(subject):
        present = _concerns(claims)
        refused = [name for name in present if name in rules["snp.refused"]]
        lacking = sorted(set(rules["snp.required"]) - claims.policy.requires)
        abi = (claims.policy.abi_major, claims.policy.abi_minor)
        low = [text for text in rules["snp.min_abi"] if abi < _version(text)]
        got = f"policy {claims.policy.value:#x}"
        if refused or lacking or low:
            what = [
                *map(_told, refused),
                *(f"no {name}" for name in lacking),
                *(f"ABI below {t}" for t in low),
            ]
            yield _failed(
                "snp.policy",
                f"the guest's policy or its host leaves a way in: {', '.join(what)}",
                got,
                "none of these",
                label,
                "The operator must launch the VM with another policy.",
            )
            continue
        warned = [name for name in present if name in rules["snp.warned"]]
        over = [name for name in present if name not in warned]
        text = "Nothing in the guest's policy leaves a way in."
        if over:
            text = f"Your policy passes over what may be a way in: {', '.join(map(_told, over))}."
        elif warned:
            text = f"Unusual, or weaker than it could be: {', '.join(map(_told, warned))}."
        yield Observation.proven("snp.policy", text, subject=label, got=got, concern=bool(present))


def _told(name: str) -> str:
    """A concern by its name, and what it means."""
    return f"{name} ({_MEANINGS[name]})"


def _concerns(claims: snp.Claims) -> list[str]:
    """What may leave a way in, by the names that policies use."""
    permits = claims.policy.permits
    present = {
        "migrate_ma": "migrate_ma" in permits,
        "host_made": claims.report.made_by_host,
        "smt": "smt" in permits,
        "cxl": "cxl" in permits,
        "provisional": claims.provisional,
        "masked_chip_id": claims.chip_id is None and claims.signer is snp.Signer.VCEK,
    }
    return [name for name, there in present.items() if there]


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def vmpl(subject: Subject) -> Iterator[Observation]:
    """The level at which the report was asked for: above 0, another layer is over the asker."""
    named = [int(level) for level in subject.policy["snp.vmpls"]]
    for claims, label in _machines(subject):
        level = claims.report.vmpl
        usual = next(
            (
                levels
                for end, levels in _CLOUD_LEVELS.items()
                if (claims.csp_id or "").endswith(end)
            ),
            (),
        )
        if level in named:
            text = f"The report was asked for at privilege level {level}."
            yield Observation.proven("snp.vmpl", text, subject=label, got=str(level))
        elif level in usual and not claims.report.made_by_host:
            text = (
                f"The report was asked for at privilege level {level}, as is usual in this cloud."
            )
            yield Observation.proven("snp.vmpl", text, subject=label, got=str(level), concern=True)
        else:
            shown = "the host" if claims.report.made_by_host else str(level)
            yield _failed(
                "snp.vmpl",
                "the report was asked for at another privilege level than you expect",
                shown,
                ", ".join(map(str, named)) or "none",
                label,
                "Name it in snp.vmpls if the VM's software runs at that level.",
            )


def csp(subject: Subject) -> Iterator[Observation]:
    """A VLEK says which cloud, not which chip: any cloud with one would pass."""
    named = subject.policy["snp.csp_ids"]
    for claims, label in _machines(subject):
        if claims.csp_id is None:
            continue
        if claims.csp_id in named:
            text = "The VLEK is of a cloud that you named."
            yield Observation.proven("snp.csp", text, subject=label, got=claims.csp_id)
        elif named:
            message = "the report's VLEK is of another cloud than you named"
            wanted = ", ".join(named)
            yield _failed("snp.csp", message, claims.csp_id, wanted, label, hard=True)
        else:
            yield Observation.absent(
                "snp.csp",
                "You have not said which cloud you expect; any with a VLEK of AMD's would pass.",
                subject=label,
                got=claims.csp_id,
                want="snp.csp_ids",
            )


def platform(subject: Subject) -> Iterator[Observation]:
    """Firmware version, configuration and mitigations of the host, where the user named any."""
    rules = subject.policy
    for claims, label in _machines(subject):
        wrong = _platform(rules, claims)
        if wrong is None:
            continue
        if wrong:
            yield _failed(
                "snp.platform",
                f"the host is not as you demand: {', '.join(wrong)}",
                f"firmware {claims.report.committed}, platform {claims.platform_info.value:#x}",
                "what your policy names",
                label,
                _OPERATOR,
            )
        else:
            text = "The host has the firmware, configuration and mitigations that you named."
            yield Observation.proven("snp.platform", text, subject=label)


def _platform(rules: Policy, claims: snp.Claims) -> list[str] | None:
    """What is wrong; ``None`` where nothing was asked."""
    names = ("platform_required", "platform_refused", "min_firmware", "mitigations")
    if not any(rules[f"snp.{name}"] for name in names):
        return None
    info, report = claims.platform_info, claims.report
    wrong = [f"no {name}" for name in rules["snp.platform_required"] if name not in info.names]
    on = {*info.names, *(["unknown"] if info.unknown_bits else [])}
    wrong += [f"{name} is on" for name in rules["snp.platform_refused"] if name in on]
    committed = (report.committed.major, report.committed.minor, report.committed.build)
    wrong += [f"older than {t}" for t in rules["snp.min_firmware"] if committed < _version(t)]
    both = (report.launch_mitigations or 0) & (report.current_mitigations or 0)
    wrong += [
        f"no mitigation {bit}" for bit in rules["snp.mitigations"] if not both >> int(bit) & 1
    ]
    return wrong


def launch(subject: Subject) -> Iterator[Observation]:
    """What the launch measured besides the code, where the user named any."""
    rules = subject.policy
    for claims, label in _machines(subject):
        report = claims.report
        asked = [name for name in _LAUNCH if rules[f"snp.{name}"]]
        wrong = [
            name.removesuffix("s")
            for name in asked
            if _LAUNCH[name](report) not in {value.lower() for value in rules[f"snp.{name}"]}
        ]
        lacking = [name for name in rules["snp.launch_required"] if not _HAS[name](report)]
        asked += rules["snp.launch_required"]
        wrong += [f"no {name}" for name in lacking]
        if rules["snp.min_guest_svn"]:
            asked.append("min_guest_svn")
            if report.guest_svn < rules["snp.min_guest_svn"]:
                wrong.append(f"guest_svn {report.guest_svn}")
        if wrong:
            yield _failed(
                "snp.launch",
                f"the VM was launched with other values than you named: {', '.join(wrong)}",
                ", ".join(wrong),
                "what your policy names",
                label,
            )
        elif asked:
            text = f"The launch is the one that you named ({', '.join(asked)})."
            yield Observation.proven("snp.launch", text, subject=label)


def _author_key(report: snp.Report) -> str:
    """Only where AUTHOR_KEY_EN is set does the field say anything."""
    return report.author_key_digest.hex() if report.author_key_enabled else ""


_LAUNCH: Mapping[str, Callable[[snp.Report], str]] = {
    "family_ids": lambda report: report.family_id.hex(),
    "image_ids": lambda report: report.image_id.hex(),
    "report_ids": lambda report: report.report_id.hex(),
    "report_ids_ma": lambda report: report.report_id_ma.hex(),
    "host_data": lambda report: report.host_data.hex(),
    "id_key_digests": lambda report: report.id_key_digest.hex(),
    "author_key_digests": _author_key,
}
_HAS: Mapping[str, Callable[[snp.Report], bool]] = {
    "id_block": lambda report: any(report.id_key_digest),
    "author_key": lambda report: report.author_key_enabled,
}


def report_data(subject: Subject) -> Iterator[Observation]:
    """All 64 bytes, where the user named what they must be."""
    named = {value.lower() for value in subject.policy["snp.report_data"]}
    for claims, label in _machines(subject):
        seen = claims.report_data.hex()
        if named and seen not in named:
            yield _failed(
                "snp.report-data",
                "the report binds another value than you named",
                seen,
                " or ".join(sorted(named)),
                label,
                hard=True,
            )
        elif named:
            text = "The report binds exactly the value that you named."
            yield Observation.proven("snp.report-data", text, subject=label, got=seen)
