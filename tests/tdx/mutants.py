"""Forged and mutated quotes with their collateral, as many as are wanted, the same for one seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from teeverify.simulator.intel import Intel

STATUSES = (
    "UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded",
    "OutOfDate", "OutOfDateConfigurationNeeded", "Revoked",
)  # fmt: skip
MODULE_STATUSES = ("UpToDate", "OutOfDate", "Revoked")
QE_STATUSES = (
    "UpToDate", "OutOfDate", "ConfigurationNeeded", "OutOfDateConfigurationNeeded", "Revoked",
)  # fmt: skip
SHAPES = ((4, "1.0"), (5, "1.0"), (5, "1.5"), (5, "1.5ex"))
ROLES = ("root", "ca", "pck", "signer")


@dataclass(frozen=True)
class Mutant:
    """One quote with collateral, and what was done to them.

    ``ordered`` is the same collateral with all levels in descending order, where they are not.
    """

    kind: str
    quote: bytes
    collateral: dict[str, str]
    ordered: dict[str, str] | None = None


class Mutants:
    """Makes mutants of one fake Intel's evidence."""

    def __init__(self, intel: Intel, seed: int) -> None:
        self.intel = intel
        self.random = random.Random(seed)
        self._good = intel.collateral()
        self._quotes = [
            intel.quote(version=version, body=body, padding=padding)
            for version, body in SHAPES
            for padding in (0, 70)
        ]
        self._kinds: tuple[tuple[Callable[[], Mutant], int], ...] = (
            (self.flipped, 24), (self.cut, 4), (self.spliced, 6), (self.svns, 24),
            (self.statuses, 16), (self.attributes, 6), (self.members, 12), (self.dates, 6),
            (self.certificates, 8), (self.text, 8), (self.quoting_enclave, 6),
        )  # fmt: skip

    def some(self, count: int) -> Iterator[Mutant]:
        """This many mutants."""
        makers, weights = zip(*self._kinds, strict=True)
        for maker in self.random.choices(makers, weights, k=count):
            yield maker()

    def _quote(self) -> bytes:
        return self.random.choice(self._quotes)

    def flipped(self) -> Mutant:
        """One to three bits anywhere in the quote."""
        raw = bytearray(self._quote())
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            # Every second one outside of the long certificate text.
            limit = len(raw) if self.random.random() < 0.5 else min(1400, len(raw))
            raw[self.random.randrange(limit)] ^= 1 << self.random.randrange(8)
        return Mutant("flipped", bytes(raw), self._good)

    def cut(self) -> Mutant:
        """Shortened, or longer."""
        raw = self._quote()
        if self.random.random() < 0.7:
            return Mutant("cut", raw[: self.random.randrange(len(raw))], self._good)
        return Mutant("longer", raw + self.random.randbytes(self.random.randrange(200)), self._good)

    def spliced(self) -> Mutant:
        """A part of another quote in the same place."""
        raw, other = bytearray(self._quote()), self._quote()
        start = self.random.randrange(min(len(raw), len(other)))
        end = min(start + self.random.randrange(1, 600), len(raw), len(other))
        raw[start:end] = other[start:end]
        return Mutant("spliced", bytes(raw), self._good)

    def svns(self) -> Mutant:
        """Levels in any order around the machine's SVNs, and a TD on any module."""
        choose = self.random.choice
        own = self.intel.platform
        levels = []
        for _ in range(self.random.randrange(1, 7)):
            sgx = [max(svn + choose((-1, 0, 0, 0, 0, 0, 1)), 0) for svn in own.components]
            tdx = [choose((10, 11, 12)), choose((0, 0, 1)), choose((3, 4, 5)), *([0] * 13)]
            tcb = {
                "sgxtcbcomponents": [{"svn": svn} for svn in sgx],
                "pcesvn": own.pce_svn + choose((-1, 0, 1)),
                "tdxtcbcomponents": [{"svn": svn} for svn in tdx],
            }
            levels.append(self._level(tcb, STATUSES))
        if self.random.random() < 0.9:  # else nearly no machine would match a level
            lowest = {
                "sgxtcbcomponents": [{"svn": 0}] * 16,
                "pcesvn": 0,
                "tdxtcbcomponents": [{"svn": 0}] * 16,
            }
            levels.insert(self.random.randrange(len(levels)), self._level(lowest, STATUSES[:6]))
        module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
        identities = [
            {"id": f"TDX_{major:02X}", **module, "tcbLevels": self._svn_levels(MODULE_STATUSES, 11)}
            for major in (1, 3)
        ]
        info = {"tcbLevels": levels, "tdxModuleIdentities": identities}
        identity = {"tcbLevels": self._svn_levels(QE_STATUSES, 4)}
        version, body = choose(SHAPES)
        fields = {"tee_tcb_svn": self._tee_tcb_svn()}
        if body in ("1.5", "1.5ex"):
            fields["tee_tcb_svn_2"] = self._tee_tcb_svn()
        quote = self.intel.quote(version=version, body=body, **fields)
        form = self.intel.collateral(tcb_info=info, qe_identity=identity)
        for each in identities:
            each["tcbLevels"] = _descending(each["tcbLevels"])
        ordered = self.intel.collateral(
            tcb_info=info, qe_identity={"tcbLevels": _descending(identity["tcbLevels"])}
        )
        same = all(form[name] == ordered[name] for name in ("tcb_info", "qe_identity"))
        return Mutant("svns", quote, form, None if same else ordered)

    def _tee_tcb_svn(self) -> bytes:
        choose = self.random.choice
        return bytes([choose((10, 11, 12)), choose((0, 1, 1, 2, 3)), choose((3, 4, 5))]) + bytes(13)

    def _level(self, tcb: dict[str, Any], statuses: tuple[str, ...]) -> dict[str, Any]:
        year, month = self.random.randrange(2020, 2026), self.random.randrange(1, 10)
        level: dict[str, Any] = {
            "tcb": tcb,
            "tcbDate": f"{year}-0{month}-15T00:00:00Z",
            "tcbStatus": self.random.choice(statuses),
        }
        if self.random.random() < 0.4:
            level["advisoryIDs"] = [f"INTEL-SA-0{self.random.randrange(1000, 1005)}"]
        return level

    def _svn_levels(self, statuses: tuple[str, ...], near: int) -> list[dict[str, Any]]:
        svns = [0, *self.random.sample(range(near - 2, near + 3), self.random.randrange(1, 4))]
        levels = [self._level({"isvsvn": svn}, statuses) for svn in svns]
        # dcap-qvl takes these as they come; every second list is in the order that it needs.
        if self.random.random() < 0.5:
            levels.sort(key=lambda level: level["tcb"]["isvsvn"], reverse=True)
        return levels

    def statuses(self) -> Mutant:
        """Any statuses of the three parts."""
        choose = self.random.choice
        version, body = choose(SHAPES)
        form = self.intel.collateral(
            tcb_status=choose(STATUSES),
            module_status=choose(MODULE_STATUSES),
            qe_status=choose(QE_STATUSES),
            advisory_ids=choose(((), ("INTEL-SA-00001",))),
        )
        return Mutant("statuses", self.intel.quote(version=version, body=body), form)

    def attributes(self) -> Mutant:
        """Any attributes of the TD and of its module."""
        fields = {"td_attributes": (1 << 28 ^ 1 << self.random.randrange(64)).to_bytes(8, "little")}
        version, body = self.random.choice(SHAPES)
        if self.random.random() < 0.3:
            fields = {"seam_attributes": bytes([self.random.choice((0, 1)), *([0] * 7)])}
        if self.random.random() < 0.3:
            fields["mr_signer_seam"] = bytes([self.random.choice((0, 1)), *([0] * 47)])
        if body != "1.0" and self.random.random() < 0.5:
            fields["mr_service_td"] = bytes([self.random.choice((0, 1)), *([0] * 47)])
        quote = self.intel.quote(version=version, body=body, **fields)
        return Mutant("attributes", quote, self._good)

    def members(self) -> Mutant:
        """One member of a signed document is missing or another."""
        name = self.random.choice(("tcb_info", "qe_identity"))
        known = json.loads(self._good[name])
        member = self.random.choice(sorted(known))
        value = known[member]
        others = [None, "", 0, [], {}, "ff", 3, -1, True, [value], "2019-01-01T00:00:00Z"]
        if isinstance(value, str):
            others += [value.lower(), value + "0", value[:-1], value.replace("0", "1")]
        if isinstance(value, int):
            others += [value + 1, value + 0.5, str(value)]
        form = self.intel.collateral(**{name: {member: self.random.choice(others)}})
        return Mutant(f"member {name}.{member}", self._quote(), form)

    def dates(self) -> Mutant:
        """Issued and replaced around now."""
        days = self.random.sample(range(-5, 6), 2)
        form = self.intel.collateral(
            issue_date=self.intel.at + timedelta(days=min(days), hours=1),
            next_update=self.intel.at + timedelta(days=max(days), hours=1),
        )
        return Mutant("dates", self._quote(), form)

    def certificates(self) -> Mutant:
        """Revoked, swapped, or signed by the wrong one."""
        choice = self.random.randrange(4)
        if choice == 0:
            revoked = self.random.sample(ROLES, self.random.randrange(1, 3))
            return Mutant("revoked", self._quote(), self.intel.collateral(revoked=revoked))
        names = sorted(self._good)
        if choice == 1:
            one, two = self.random.sample(names, 2)
            form = {**self._good, one: self._good[two], two: self._good[one]}
            return Mutant("swapped", self._quote(), form)
        if choice == 2:
            form = {**self._good}
            for name in ("tcb_info", "qe_identity"):
                form[f"{name}_issuer_chain"] = self.intel.pck_chain().decode()
                form[f"{name}_signature"] = self.intel.pck.sign_raw(form[name].encode()).hex()
            return Mutant("signed by the CPU", self._quote(), form)
        name = self.random.choice(names)
        return Mutant("missing", self._quote(), {**self._good, name: ""})

    def text(self) -> Mutant:
        """One character of the collateral is another."""
        name = self.random.choice(sorted(self._good))
        value = self._good[name]
        place = self.random.randrange(len(value))
        other = self.random.choice('0123456789abcdef\n "ABC{}[]:,')
        form = {**self._good, name: value[:place] + other + value[place + 1 :]}
        return Mutant(f"text {name}", self._quote(), form)

    def quoting_enclave(self) -> Mutant:
        """Another quoting enclave, or another form of what it adds."""
        choose = self.random.choice
        attributes = bytes([choose((0x11, 0x13, 0x15, 0x91)), *([0] * 14), choose((0, 1))])
        qe = choose(
            (
                {"attributes": attributes}, {"isv_svn": choose((2, 3, 4, 5, 300))},
                {"isv_prod_id": choose((1, 2))}, {"misc_select": bytes([choose((0, 1)), 0, 0, 0])},
                {"mr_signer": bytes(32)}, {},
            )
        )  # fmt: skip
        quote = {"qe_auth_data": bytes(choose((0, 31, 32, 32, 32, 64)))}
        version, body = choose(SHAPES)
        raw = self.intel.quote(version=version, body=body, qe=qe, quote=quote)
        return Mutant("quoting enclave", raw, self._good)


def _descending(levels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(levels, key=lambda level: level["tcb"]["isvsvn"], reverse=True)
