"""Times the verification of an AMD report, cold and warm.

Cold: certificate and revocation list are read and everything is verified. Warm: the same
endorsements object again, as for the second report of a chip. ``one signature`` is the bare P-384
verification that nothing can do without. Another verifier of such reports, the ``tinfoil``
package, is timed too, in a process of the Python that ``make bench`` sets up for it (or of the one
named by TEEVERIFY_BENCH_PYTHON), on the same report and certificate, at the same time.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from teeverify import snp
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.amd import Amd

__all__ = ["report_times"]

REPOSITORY = Path(__file__).resolve().parent.parent
AT = datetime(2026, 9, 1, tzinfo=timezone.utc)
_HALF = 48
_OWN_PYTHON = REPOSITORY / ".venv-tinfoil/bin/python"
# What is held: the ratio of two contenders, and what it may be at most; and milliseconds.
_RATIOS = (
    ("teeverify, cold", "tinfoil", 0.75),
    ("teeverify, warm", "one signature", 1.15),
)
_MOST_PARSING = 0.040
# Runs in another Python; prints the median in milliseconds.
_OTHER = """
import base64, contextlib, gzip, io, logging, statistics, sys, time, warnings
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tinfoil.attestation.attestation_sev import verify_sev_report
report, vcek = (open(name, "rb").read() for name in sys.argv[1:3])
body = base64.b64encode(gzip.compress(report)).decode()
der = x509.load_pem_x509_certificate(vcek).public_bytes(Encoding.DER)
times = []
for number in range(int(sys.argv[3]) + 3):
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        verify_sev_report(body, vcek_der=der)
    times.append((time.perf_counter() - start) * 1000)
print(statistics.median(times[3:]))
"""


def report_times(rounds: int) -> tuple[str, dict[str, list[float]]]:
    """What was timed, and milliseconds of each run by contender."""
    folder = Path(os.environ.get("TEEVERIFY_VECTORS", REPOSITORY / "../shared/vectors")) / "snp"
    recorded = folder.is_dir()
    roots = None
    if recorded:
        raw = (folder / "genoa_v3/report.bin").read_bytes()
        files = [folder / "genoa_v3/vcek.pem", folder / "crl/genoa_vcek.crl"]
        pieces = [file.read_bytes() for file in files]
    else:
        amd = Amd(at=AT, product="Genoa")
        raw, roots = amd.report(), UnsafeTestRoots([amd.roots_pem()])
        pieces = [amd.vcek, amd.chain_pem(), amd.crl()]

    def load() -> snp.Endorsements:
        return snp.Endorsements.union(*(snp.Endorsements.load(piece) for piece in pieces))

    def verify(endorsements: snp.Endorsements) -> snp.Claims:
        return snp.verify_report(raw, endorsements, at=AT, roots=roots)

    warm = load()
    functions: dict[str, Callable[[], object]] = {
        "teeverify, cold": lambda: verify(load()),
        "teeverify, warm": lambda: verify(warm),
        "one signature": _signature(raw, warm),
        "parsing the report": lambda: snp.parse_report(raw),
    }
    times = _measure(functions, rounds)
    other = _other(folder, rounds) if recorded else None
    if other is not None:
        times["tinfoil"] = [other]
    return ("recorded" if recorded else "forged"), times


def _signature(raw: bytes, endorsements: snp.Endorsements) -> Callable[[], object]:
    report = snp.parse_report(raw)
    key = endorsements.found.leaves[0].public_key
    r, s = (
        int.from_bytes(part, "big") for part in (report.signature[:_HALF], report.signature[_HALF:])
    )
    signature, signed = encode_dss_signature(r, s), report.signed_bytes
    return lambda: key.verify(signature, signed, ec.ECDSA(hashes.SHA384()))


def _measure(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if number:
                times[name].append((time.perf_counter() - start) * 1000)
    return times


def _other(folder: Path, rounds: int) -> float | None:
    """The median of the other verifier, in its own Python; ``None`` where there is none."""
    python = os.environ.get("TEEVERIFY_BENCH_PYTHON") or str(_OWN_PYTHON)
    if not Path(python).is_file():
        return None
    files = [str(folder / "genoa_v3/report.bin"), str(folder / "genoa_v3/vcek.pem")]
    done = subprocess.run(  # noqa: S603 -- the caller named that Python
        [python, "-c", _OTHER, *files, str(rounds)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    if done.returncode:
        print(f"the other verifier could not be timed: {done.stderr[-400:]}", file=sys.stderr)
        return None
    return float(done.stdout.split()[-1])


def print_report(rounds: int) -> None:
    """Print a table of medians, and the two ratios that are held."""
    name, times = report_times(rounds)
    medians = {contender: statistics.median(values) for contender, values in times.items()}
    print(f"\nOne AMD SEV-SNP report (Genoa, {name}), milliseconds, {rounds} rounds")
    for contender, median in medians.items():
        print(f"{contender:24}{median:8.3f}")
    for ours, theirs, most in _RATIOS:
        if theirs in medians:
            label = f"{ours.removeprefix('teeverify, ')} / {theirs}"
            print(f"{label:24}{medians[ours] / medians[theirs]:8.2f}   at most {most:.2f}")
    parsing = medians["parsing the report"]
    print(f"{'parsing, in ms':24}{parsing:8.3f}   at most {_MOST_PARSING:.3f}")
