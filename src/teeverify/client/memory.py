"""What is remembered between runs: the code of each endpoint, and the newest date seen.

``genuine`` accepts code that nobody listed, but only at first sight of an endpoint. The complete
code identity seen then is kept on this machine; later evidence with another one is refused until
``teeverify policy pin`` accepts it. Everything is kept apart by the root that anchored the CPU's
chain: what somebody shows under test roots changes nothing that is known of real hardware.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from teeverify.appraisal import AttestationResult, Evidence, Examined, Policy
from teeverify.appraisal.examined import ExaminedMachine
from teeverify.appraisal.reference import (
    CompleteCode,
    KnownCode,
    complete_code,
    first_difference,
)
from teeverify.clock import RELEASED, show_time
from teeverify.encoding.fields import JsonObject
from teeverify.endorsements.store import Store, default_folder
from teeverify.errors import AppraisalFailed, ConfigurationError, MalformedEvidence

__all__ = ["EndpointMemory"]

_SCHEMA = "teeverify.endpoint/1"
_ID = "endpoint.memory"
_PORTS = {"http": 80, "https": 443}


class EndpointMemory:
    """The folder ``endpoints`` of the cache: a file for each endpoint, model and root.

    Args:
        folder: The folder; that of the user's cache unless named.
        accepts: Whether whatever genuine code is seen takes the place of what was known, as
            ``teeverify policy pin`` wants it.
    """

    def __init__(self, folder: str | Path | None = None, *, accepts: bool = False) -> None:
        self._folder = folder
        self._accepts = accepts

    def recall(self, examined: Examined, policy: Policy) -> Examined:
        """Evidence of now, with what this machine remembers that concerns it.

        Args:
            examined: The evidence.
            policy: The policy in force: one that lists the code it accepts asks for no memory.

        Raises:
            ConfigurationError: What is remembered cannot be read, or the cache cannot be used.
        """
        moment = examined.question.at
        if examined.question.at_by != "now":
            return examined
        roots = examined.question.roots
        names = {f"{anchor.fingerprint[:16]}/issued-at" for anchor in (*roots.intel, *roots.amd)}
        known = self._store().counters()
        newest = {name: seconds for name, seconds in known.items() if name in names}
        seen = replace(examined, newest=newest)
        if not examined.evidence.live:
            return seen
        if moment >= RELEASED:
            past = {n: issued for n, issued in seen.dates.items() if issued <= moment.timestamp()}
            self._store().raise_counters(past)
        if policy.references.entries or self._accepts:
            return seen
        return replace(seen, known_code=self._known(examined))

    def learn(self, examined: Examined, result: AttestationResult) -> None:
        """Keep the code of a live endpoint that satisfied the policy, at first sight.

        Raises:
            ConfigurationError: It cannot be written.
            AppraisalFailed: Another program has just seen other code there.
        """
        asked = examined.evidence.live and not result.policy.references.entries
        if not asked or not result.satisfied or examined.known_code is not None:
            return
        if self._keep(examined, result, anew=not self._accepts):
            return
        known = self._known(examined)  # somebody saw it first, at the same time
        if known is not None and known.code != complete_code(result.identities):
            raise AppraisalFailed(
                "the endpoint showed other code to another program at the same time",
                id="code.changed",
                got=first_difference(known.code, complete_code(result.identities)),
                hint="If you know why, 'teeverify policy pin' accepts it.",
            )

    def _known(self, examined: Examined) -> KnownCode | None:
        root = _root(examined.machines)
        if root is None:  # nothing was verified that could be compared
            return None
        name = _name(_place(examined.evidence, root))
        try:
            form = self._store().record(name)
            return None if form is None else _read(form)
        except MalformedEvidence:
            raise ConfigurationError(
                "what is remembered of this endpoint cannot be read, so whether it runs the same "
                "code as before cannot be told",
                id=_ID,
                got=ascii(str(self._store().folder / name)),
                hint="If you know why, remove the file; the endpoint is then seen for the first "
                "time.",
            ) from None

    def _keep(self, examined: Examined, result: AttestationResult, *, anew: bool) -> bool:
        root = _root(examined.machines)
        if root is None:
            return True
        place = _place(examined.evidence, root)
        form = {
            "schema": _SCHEMA,
            "place": place,
            "since": show_time(result.verified_at),
            "code": sorted(list(machine) for machine in complete_code(result.identities)),
        }
        return self._store().keep(_name(place), form, anew=anew)

    def _store(self) -> Store:
        return Store(default_folder() / "endpoints" if self._folder is None else self._folder)


def _root(machines: tuple[ExaminedMachine, ...]) -> str | None:
    """The key that anchored the CPUs' chains."""
    for machine in machines:
        claims = machine.cpu or machine.snp
        if claims is not None:
            return claims.anchor_fingerprint
    return None


def _place(evidence: Evidence, root: str) -> dict[str, str]:
    parts = urlsplit(evidence.source)
    return {
        "scheme": parts.scheme,
        "host": parts.hostname or "",
        "port": str(parts.port or _PORTS.get(parts.scheme, 0)),
        "model": evidence.requested_model or "",
        "root": root,
    }


def _name(place: Mapping[str, str]) -> str:
    text = json.dumps(dict(place), sort_keys=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:40] + ".json"


def _read(form: JsonObject) -> KnownCode:
    if form.text("schema") != _SCHEMA:
        raise MalformedEvidence("another version", id=_ID, field="schema")
    machines = form.array("code")
    good = all(
        isinstance(machine, list) and machine and all(isinstance(part, str) for part in machine)
        for machine in machines
    )
    if not machines or not good:
        raise MalformedEvidence("not the code of machines", id=_ID, field="code")
    code: CompleteCode = frozenset(tuple(machine) for machine in machines)
    return KnownCode(code=code, since=form.text("since"))
