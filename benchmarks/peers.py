"""Times one recorded answer and the quote of its signer's key, here and as peers' scripts do it.

They recover the signer with ``eth-account`` and verify the quote with ``dcap-qvl``, in the
environment that ``.ci/peers`` sets up for them. Both sides get the same bytes and take turns; what
counts is how long each keeps a core busy.
"""

from __future__ import annotations

import json
import os
import ssl
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from teeverify import tdx
from teeverify.responses import examine_answer, known_keys
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.receipts import ReceiptForge
from teeverify.simulator.tee import SimulatedTee

REPOSITORY = Path(__file__).resolve().parent.parent
_PYTHON = REPOSITORY / ".venv-peers/bin/python"
_PROGRAM = REPOSITORY / "benchmarks/peers_calls.py"
_AT = datetime(2026, 3, 20, tzinfo=timezone.utc)


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One answer, and the quote that binds its signer's key; no roots are Intel's own."""

    name: str
    request: bytes
    response: bytes
    signature: bytes
    quote: bytes
    public_key: bytes
    collateral: str
    root: bytes
    at: datetime
    roots: UnsafeTestRoots | None = None

    def answer(self) -> None:
        """All that is done with an answer whose signer is attested: four hashes and a signature."""
        seen = examine_answer(
            signature=self.signature,
            answer=self.response,
            request=self.request,
            keys=known_keys([self.public_key]),
        )
        if seen.signer is None or any(each.outcome == "failed" for each in seen.observations):
            raise SystemExit("the recorded answer does not verify")

    def verify_quote(self) -> tdx.Claims:
        """Read the collateral and verify the quote."""
        endorsements = tdx.Endorsements.load(self.collateral)
        return tdx.verify_quote(self.quote, endorsements, at=self.at, roots=self.roots)

    def asked(self) -> str:
        """The same for the other side."""
        return json.dumps({
            "signature": json.loads(self.signature),
            "quote": self.quote.hex(),
            "collateral": self.collateral,
            "root": self.root.hex(),
            "at": int(self.at.timestamp()),
        })  # fmt: skip


def find_recorded() -> Recorded:
    """The recorded answer of the folder TEEVERIFY_VECTORS, or a forged one."""
    folder = Path(os.environ.get("TEEVERIFY_VECTORS", REPOSITORY / "../shared/vectors"))
    return _recorded(folder) if folder.is_dir() else _forged()


def _recorded(folder: Path) -> Recorded:
    """A chat, and the quote of its signer's key, which was recorded a few days later."""
    chat = folder / "endpoints/signed-chats/near-docs-2026-06"
    capture = folder / "endpoints/captures/venice-20260610"
    report = json.loads((capture / "0001_api.venice.ai_api_v1_tee_attestation.body").read_bytes())
    return Recorded(
        name="recorded",
        request=(chat / "request.bin").read_bytes(),
        response=(chat / "response.sse").read_bytes(),
        signature=(chat / "signature.json").read_bytes(),
        quote=bytes.fromhex(report["intel_quote"]),
        public_key=bytes.fromhex(report["signing_public_key"])[-64:],
        collateral=(folder / "tdx/collateral_90c06f_20260316.json").read_text(encoding="utf-8"),
        root=(folder / "tdx/intel_sgx_root_ca.der").read_bytes(),
        at=_AT,
    )


def _forged() -> Recorded:
    tee = SimulatedTee(gpus=1)
    forge = ReceiptForge(tee)
    parts = forge.receipt("What is two and two?")
    report = json.loads(parts.report)
    return Recorded(
        name="forged",
        request=parts.request.raw or b"",
        response=parts.response.raw or b"",
        signature=parts.signature or b"",
        quote=bytes.fromhex(report["intel_quote"]),
        public_key=forge.key.public_bytes,
        collateral=json.dumps(report["endorsements"]["tdx"]),
        root=ssl.PEM_cert_to_DER_cert(tee.intel.roots_pem().decode("ascii")),
        at=forge.at,
        roots=UnsafeTestRoots([tee.roots_pem()]),
    )


def milliseconds(work: Callable[[], object]) -> float:
    """How long it keeps a core busy: others on this computer do not count."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1000


def measure(recorded: Recorded, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of each, here and there, taking turns; the first round only warms up."""
    ours = {"answer": recorded.answer, "quote": recorded.verify_quote}
    times: dict[str, dict[str, list[float]]] = {what: {"ours": [], "theirs": []} for what in ours}
    with tempfile.TemporaryDirectory() as scratch:
        asked = Path(scratch) / "asked.json"
        asked.write_text(recorded.asked(), encoding="utf-8")
        with subprocess.Popen(  # noqa: S603 -- our own program
            [str(_PYTHON), "-I", str(_PROGRAM), str(asked)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as peers:  # fmt: skip
            for number in range(rounds + 1):
                for what, work in ours.items():
                    here = milliseconds(work)
                    there = _theirs(peers, what)
                    if number:
                        times[what]["ours"].append(here)
                        times[what]["theirs"].append(there)
    return times


def _theirs(peers: subprocess.Popen[str], what: str) -> float:
    if peers.stdin is None or peers.stdout is None:
        raise RuntimeError("no pipes")
    peers.stdin.write(f"{what}\n")
    peers.stdin.flush()
    return float(peers.stdout.readline())


def print_peers_report(rounds: int) -> None:
    """Print what both sides need, and the ratio; of medians and of the quickest runs."""
    if not _PYTHON.exists():
        print("\neth-account and dcap-qvl are not installed (.ci/peers): not compared with.")
        return
    recorded = find_recorded()
    names = {
        "answer": ("teeverify, all of the answer", "eth-account, recovery alone"),
        "quote": ("teeverify, its signer's quote", "dcap-qvl"),
    }
    print(f"\nThe same {recorded.name} answer, milliseconds of CPU time, {rounds} rounds in turns")
    print(f"{'':34}{'least':>9}{'median':>9}{'ratio':>9}")
    for what, found in measure(recorded, rounds).items():
        for name, values in zip(names[what], (found["ours"], found["theirs"]), strict=True):
            ratio = statistics.median(found["ours"]) / statistics.median(values)
            shown = f"{min(values):9.3f}{statistics.median(values):9.3f}{ratio:9.2f}"
            print(f"{name:34}{shown}")


if __name__ == "__main__":
    print_peers_report(200)
