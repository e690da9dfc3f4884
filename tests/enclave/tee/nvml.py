"""A fake NVIDIA driver behind a stub of its library, which the real binding ``pynvml`` loads."""

from __future__ import annotations

import base64
import ctypes
import shutil
import socket
import struct
import subprocess
import threading
from pathlib import Path

ENVIRONMENT = "TEEVERIFY_TEST_NVML"
UNKNOWN, GPU_IS_LOST = 999, 15


def build(folder):
    """Compile the stub; gives its path, or nothing where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = Path(folder) / "libnvidia-ml.so.1"
    flags = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-Wl,-soname,libnvidia-ml.so.1"]
    source = Path(__file__).with_name("nvml_stub.c")
    subprocess.run([compiler, *flags, "-o", library, source], check=True)
    return library


def load(library):
    """Load it first: whoever then asks for its name gets it."""
    return ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


class Driver:
    """What a driver and its GPUs answer.

    Attributes:
        gpus: Simulated devices.
        state: Environment, confidential feature, developer mode, several GPUs as one.
        errors: Return codes by the question's first word.
        architecture: Of each GPU.
        on_question: Called before each answer.
    """

    def __init__(self, path, gpus):
        self.gpus = list(gpus)
        self.state = {"environment": 2, "feature": 1, "devtools": 0, "multi": 0}
        self.errors = {}
        self.architecture = 9
        self.certificates = {}
        self.on_question = lambda question: None
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self):
        self._socket.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                question = lines.readline().decode().split()
                code, answer = self._answer(question)
                connection.sendall(struct.pack("<II", code, len(answer)) + answer)

    def _answer(self, question):
        self.on_question(question)
        name, *rest = question
        if name in self.errors:
            return self.errors[name], b""
        if rest and int(rest[0]) >= len(self.gpus):
            return 2, b""
        return 0, getattr(self, f"_{name}")(*rest)

    def _init(self):
        return b""

    def _version(self):
        return b"580.95.05"

    def _state(self):
        return struct.pack("<III", *(self.state[n] for n in ("environment", "feature", "devtools")))

    def _settings(self):
        return self._state() + struct.pack("<I", self.state["multi"])

    def _count(self):
        return struct.pack("<I", len(self.gpus))

    def _handle(self, _index):
        return b""

    def _architecture(self, _index):
        return struct.pack("<I", self.architecture)

    def _certificate(self, index):
        made = self.gpus[int(index)].evidence(bytes(32))["certificate"]
        # As drivers do that count the text's closing NUL.
        return self.certificates.get(int(index), base64.b64decode(made) + b"\0")

    def _report(self, index, nonce):
        made = self.gpus[int(index)].evidence(bytes.fromhex(nonce))["evidence"]
        return base64.b64decode(made)
