"""Is AMD's firmware new enough, and do the guest's policy and its host leave nobody a way in?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from teeverify import snp
from teeverify.appraisal.checks.subject import Subject
from teeverify.appraisal.observation import Observation
from teeverify.appraisal.policy import Policy
from teeverify.appraisal.snp_floors import FLOORS, NEWEST, Floor
from teeverify.errors import AppraisalFailed

__all__ = ["csp", "launch", "min_tcb", "platform", "policy", "vmpl"]

# Clouds that ask for their guests' reports at another level than 0 (their own layer is there).
_CLOUD_LEVELS: Mapping[str, tuple[int, ...]] = {".amazonaws.com": (0, 1)}
_OPERATOR = "Only the machine's operator can update it."


def _machines(subject: Subject) -> Iterator[tuple[snp.Claims, str]]:
    for machine in subject.machines:
        if machine.snp is not None:
            yield machine.snp, machine.machine.label


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
    own = _own_floor(rules, claims.product)
    floor = own or FLOORS[claims.product]
    newest = NEWEST[claims.product]
    tcbs = {name: getattr(claims, f"{name}_tcb") for name in rules["snp.tcb_parts"]}
    got = "; ".join(f"{name}: {tcb}" for name, tcb in tcbs.items()) or "none"
    low = _below(tcbs, floor)
    lacks = _below(tcbs, newest)
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
    if lacks and rules["snp.newest_fixes"]:
        return _failed(
            "snp.min-tcb",
            f"the machine lacks AMD's newest fixes, of {newest.bulletin} for {newest.about} "
            f"({lacks})",
            got,
            _shown(newest),
            label,
            _OPERATOR,
        )
    if lacks:
        text = f"The machine lacks AMD's newest fixes, of {newest.bulletin} for {newest.about}."
        return Observation.proven("snp.min-tcb", text, subject=label, got=got, concern=True)
    text = f"The firmware has AMD's fixes of {newest.bulletin} and before."
    return Observation.proven("snp.min-tcb", text, subject=label, got=got)


def _own_floor(rules: Policy, product: snp.Product) -> Floor | None:
    """The user's floor for a product, each entry's versions together."""
    least: dict[str, int] = {}
    for entry in rules["snp.min_tcb"]:
        name, *parts = entry.split()
        if name == product.value:
            for part in parts:
                component, _, value = part.partition("=")
                least[component] = max(least.get(component, 0), int(value))
    if not least:
        return None
    return Floor(components=least, bulletin="your policy", about="whatever you had in mind")


def _below(tcbs: Mapping[str, snp.TcbVersion], floor: Floor) -> str:
    found = [f"{name} {part}" for name, tcb in tcbs.items() for part in tcb.below(floor.components)]
    return ", ".join(found)


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
            what = [*refused, *(f"no {name}" for name in lacking), *(f"ABI below {t}" for t in low)]
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
            text = f"Your policy passes over what may be a way in: {', '.join(over)}."
        elif warned:
            text = f"Unusual, or weaker than it could be: {', '.join(warned)}."
        yield Observation.proven("snp.policy", text, subject=label, got=got, concern=bool(present))


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
    "host_data": lambda report: report.host_data.hex(),
    "id_key_digests": lambda report: report.id_key_digest.hex(),
    "author_key_digests": _author_key,
}
