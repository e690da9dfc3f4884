"""What is imported only on use (law 14)."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"aiohttp", "coincurve", "ecdsa", "httpx2", "jwt", "numpy", "requests", "sha3"}
ROOM = ("certificates", "crl", "ecdsa", "ed25519", "ethereum", "jws", "keccak", "pem", "x509")


def test_the_room_imports_no_heavy_package():
    modules = ", ".join(f"teeverify.crypto.{name}" for name in ROOM)
    program = f"import sys, {modules}; print(' '.join(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    loaded = set(done.stdout.split())
    assert "teeverify.crypto.certificates" in loaded
    assert not loaded & HEAVY
    assert "teeverify.simulator" not in loaded
