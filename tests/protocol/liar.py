"""A lying enclave: ``python liar.py DIALECT URL ROOTS`` serves with the GPUs of another's machine.

Its CPU and its code are its own. For GPU evidence it asks the enclave at URL, in that dialect, for
whatever nonce its own protocol wants.
"""

from __future__ import annotations

import json
import sys
import urllib.request

from teeverify.cli.main import main
from teeverify.simulator import tee as simulated

DIALECT, URL, ROOTS = sys.argv[1:]


class Lying(simulated.SimulatedTee):
    """A machine that shows devices which are elsewhere, with their endorsements."""

    def devices(self, nonce):
        query = f"nonce={nonce.hex()}&dialect={DIALECT}"
        with urllib.request.urlopen(f"{URL}/attestation/report?{query}") as answer:  # noqa: S310
            report = json.load(answer)
        self._theirs = report["endorsements"]["nvidia"]
        entries = report.get("devices") or json.loads(report["nvidia_payload"])["evidence_list"]
        return [
            simulated.SimulatedDevice(
                certificate=one["certificate"], evidence=one["evidence"], arch="HOPPER"
            )
            for one in entries
        ]

    def endorsements(self, *, at=None):
        return {**super().endorsements(at=at), "nvidia": self._theirs}


simulated.SimulatedTee = Lying
sys.exit(main(["serve", "--simulated", "--even-on-a-tee", "--gpus", "1", "--roots-file", ROOTS]))
