"""Times what verification adds to an answer on the client, and what opening a session costs.

No network: a line that answers at once. Without the extra ``fast`` the same runs once more in an
interpreter that lacks it. What peers' scripts call is in :mod:`benchmarks.peers`.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.peers import milliseconds, print_peers_report
from teeverify.client.network.fetch import Get, Got
from teeverify.client.network.steps import Blocking, Either
from teeverify.client.session.core import SessionCore
from teeverify.client.transports.gate import Gate
from teeverify.client.transports.wishes import Wishes
from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.keys import SimulatedKey
from teeverify.simulator.tee import SimulatedTee

GPUS = 8
URL = "http://127.0.0.1:8000/v1"
# Milliseconds that one answer may cost, and bare P-384 verifications that opening may.
MOST_FAST, MOST_PLAIN, MOST_OPENING = 0.5, 2.5, 45
OPENING = f"opening, {GPUS} known GPUs"
AGAIN = "the same, vendors' word unchanged"
BARE = "one bare P-384 verification"
HIDDEN = "import sys; sys.modules['coincurve'] = sys.modules['sha3'] = None; "


class Enclave:
    """What a server would answer, made beforehand."""

    def __init__(self) -> None:
        self.tee = SimulatedTee(gpus=GPUS)
        self.roots = UnsafeTestRoots([self.tee.roots_pem()])
        self.key = SimulatedKey()
        self.signatures: dict[str, bytes] = {}
        self.endorsements: object = None
        """Those that it shows again, as while they are current; new ones each time if ``None``."""

    def fetch(self, get: Get) -> Got:
        """Evidence for whatever nonce, or a signature."""
        if "/signature/" in get.url:
            name = get.url.rpartition("/")[2].partition("?")[0]
            return Got(status=200, content_type="application/json", body=self.signatures[name])
        nonce = bytes.fromhex(get.url.partition("nonce=")[2][:64])
        value = self.tee.report(nonce, key=self.key.key, public_key=self.key.public_bytes)
        if self.endorsements is not None:
            value["endorsements"] = self.endorsements
        return Got(status=200, content_type="application/json", body=json.dumps(value).encode())

    def exchange(self, number: int) -> tuple[bytes, bytes]:
        """A request and its answer, whose signature is then to be had."""
        name = f"chatcmpl-{number:032x}"
        request = json.dumps({"model": "default", "messages": [], "seed": number}).encode()
        head = {"id": name, "created": int(time.time()), "model": "default"}
        answer = json.dumps({**head, "choices": [{"message": {"content": "x" * 1000}}]}).encode()
        text = ":".join(hashlib.sha256(part).hexdigest() for part in (request, answer))
        signed = {"text": text, "signature": self.key.sign(text),
                  "signing_address": str(self.key.key), "signing_algo": "ecdsa"}  # fmt: skip
        self.signatures[name] = json.dumps(signed).encode()
        return request, answer


class Line:
    """Hands an answer over that is already there."""

    errors = (OSError,)

    def __init__(self, request: bytes, answer: bytes) -> None:
        self.request, self.answer = request, answer
        self.status_code = 200
        self.headers = {"content-type": "application/json"}
        self._chunks: Iterator[bytes | None] = iter([answer, None])

    def target(self, request: object) -> tuple[str, str]:
        """One of the signed routes."""
        del request
        return "POST", f"{URL}/chat/completions"

    def read(self, request: object) -> Either:
        """The request."""
        del request
        return _now(self.request)

    def authorization(self, request: object) -> None:
        """Nothing."""

    def send(
        self, request: object, content: bytes, keys: frozenset[bytes], headers: Mapping[str, str]
    ) -> Either:
        """The answer is there."""
        del request, content, keys, headers
        return _now(self)

    def peer(self, response: object) -> None:
        """No TLS."""

    def incoming(self, response: object) -> Line:
        """The answer's body."""
        del response
        return self

    def chunk(self) -> Either:
        """The body, then its end."""
        return _now(next(self._chunks))

    def close(self) -> Either:
        """Nothing."""
        return _now(None)

    def whole(self, response: object, body: bytes) -> bytes:
        """The body."""
        del response
        return body


def _now(value: object) -> Either:
    return Either(lambda: value, lambda: value)  # type: ignore[arg-type, return-value]


def open_gate(enclave: Enclave) -> Gate:
    """A client's gate, attested."""
    gate = Wishes(roots=enclave.roots, dialect="dstack").gate(URL, Blocking(enclave.fetch))
    gate.runner.run(gate._session("default").ensure())  # type: ignore[arg-type] # noqa: SLF001
    return gate


def measure(rounds: int) -> dict[str, tuple[float, float]]:
    """Least and median: of an answer, and of opening a session.

    The least is what it costs: whatever else this computer does can only add to it.
    """
    enclave = Enclave()
    gate = open_gate(enclave)
    exchanges = [enclave.exchange(number) for number in range(rounds + 1)]
    times: dict[str, list[float]] = {}
    for number, (request, answer) in enumerate(exchanges):
        line: Any = Line(request, answer)
        took = milliseconds(lambda line=line: gate.runner.run(gate.pass_on(line, line)))  # type: ignore[arg-type,misc]
        if not number:
            times["answer, the signer's first"] = [took]
            continue
        times.setdefault("answer", []).append(took)
    times.update(_opening(enclave, max(rounds // 10, 5)))
    return {name: (min(values), statistics.median(values)) for name, values in times.items()}


def _opening(enclave: Enclave, rounds: int) -> dict[str, list[float]]:
    """CPU time of attesting once more with GPUs that are known, without making the evidence."""
    bare = _bare_p384()
    times: dict[str, list[float]] = {OPENING: [], AGAIN: [], BARE: []}
    for name in (OPENING, AGAIN):
        enclave.endorsements = enclave.tee.endorsements() if name == AGAIN else None
        core = open_gate(enclave)._session("default")  # noqa: SLF001
        for _ in range(rounds):
            times[name].append(_attesting(core, enclave))
            times[BARE].append(milliseconds(lambda: [bare() for _ in range(10)]) / 10)
    return times


def _attesting(core: SessionCore, enclave: Enclave) -> float:
    """Milliseconds of one attestation, less those that the enclave took."""
    spent: list[float] = []

    def fetch(get: Get) -> Got:
        start = time.process_time()
        got = enclave.fetch(get)
        spent.append(time.process_time() - start)
        return got

    whole = milliseconds(lambda: Blocking(fetch).run(core._admit(None)))  # noqa: SLF001
    return whole - sum(spent) * 1000


def _bare_p384() -> Callable[[], object]:
    own, message = ec.generate_private_key(ec.SECP384R1()), bytes(4096)
    der = own.sign(message, ec.ECDSA(hashes.SHA384()))
    return lambda: own.public_key().verify(der, message, ec.ECDSA(hashes.SHA384()))


def without_fast(rounds: int) -> dict[str, tuple[float, float]]:
    """The same in an interpreter without coincurve and safe-pysha3."""
    program = HIDDEN + (
        f"import json; from benchmarks.client import measure; print(json.dumps(measure({rounds})))"
    )
    done = subprocess.run(  # noqa: S603 -- our own interpreter, and constants
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    found: dict[str, tuple[float, float]] = json.loads(done.stdout)
    return found


def print_client_report(rounds: int) -> None:
    """Print a table, with what each may cost at most."""
    with tempfile.TemporaryDirectory() as folder:
        kept = os.environ.get("TEEVERIFY_CACHE")
        os.environ["TEEVERIFY_CACHE"] = folder
        try:
            fast, plain = measure(rounds), without_fast(max(rounds // 4, 10))
        finally:
            os.environ.pop("TEEVERIFY_CACHE")
            if kept is not None:
                os.environ["TEEVERIFY_CACHE"] = kept
    print(f"\nThe client, milliseconds of CPU time (least, median of {rounds}), no network")
    print(f"{'':36}{'[fast]':>18}{'without':>18}")
    for name, (least, middle) in fast.items():
        without = "".join(f"{value:9.3f}" for value in plain.get(name, ()))
        print(f"{name:36}{least:9.3f}{middle:9.3f}{without}")
    bare = fast[BARE][0]
    print(f"an answer: at most {MOST_FAST} with [fast], {MOST_PLAIN} without")
    print(
        f"opening: {fast[OPENING][0] / bare:.0f} bare P-384 verifications, at most {MOST_OPENING};"
    )
    print(f"  {fast[AGAIN][0] / bare:.0f} where the vendors' answers are those of the last time")
    print_peers_report(rounds)


if __name__ == "__main__":
    print_client_report(200)
