"""The few TPM 2.0 commands that evidence needs, in the TPM's own bytes.

TCG's "TPM 2.0 Library", part 3: four commands, no software stack.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from teeverify.encoding.reader import Reader
from teeverify.errors import EndpointUnavailable, MalformedEvidence

__all__ = ["DEVICE", "Tpm"]

DEVICE = Path("/dev/tpmrm0")
"""The kernel's resource manager: several processes may use it at once."""

_ID = "endpoint.devices"
_PLAIN, _SESSIONS = 0x8001, 0x8002
_NV_READ, _NV_READ_PUBLIC, _QUOTE, _PCR_READ = 0x14E, 0x169, 0x158, 0x17E
_OWNER, _PASSWORD = 0x40000001, 0x40000009
_RSASSA, _SHA256 = 0x0014, 0x000B
_PCRS, _CHUNK, _LARGEST = 24, 1024, 4096
_HEADER = 10
# TPM_RC_HANDLE for the first handle: there is no such index.
_NO_SUCH_HANDLE = 0x18B
# TPM_RC_RETRY and TPM_RC_YIELDED: busy.
_AGAIN = (0x922, 0x908)
_TRIES = 5


class Tpm:
    """An open TPM; a context manager.

    Args:
        path: Its device, or a unix socket on which one answers.

    Raises:
        EndpointUnavailable: It cannot be opened.
    """

    def __init__(self, path: Path = DEVICE) -> None:
        self._path = path
        try:
            if stat.S_ISSOCK(path.stat().st_mode):
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.connect(str(path))
                self._handle = connection.detach()
            else:
                self._handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise self._refused(error.strerror or type(error).__name__) from None

    def __enter__(self) -> Tpm:  # noqa: PYI034 -- Python 3.10 has no Self
        """Use it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        os.close(self._handle)

    def nv_size(self, index: int) -> int | None:
        """How many bytes an NV index holds; ``None`` if there is no such index."""
        answer = self._ask(_NV_READ_PUBLIC, struct.pack(">I", index), absent=_NO_SUCH_HANDLE)
        if answer is None:
            return None
        public = _Answer(answer.sized("public"))
        public.take(4 + 2 + 4, "index, algorithm, attributes")
        public.sized("policy")
        return public.number(2, "size")

    def nv_read(self, index: int) -> bytes:
        """Read an NV index whole, with the owner's empty password.

        Raises:
            EndpointUnavailable: There is none, or it is not given.
        """
        size = self.nv_size(index)
        if size is None:
            raise self._refused(f"there is no NV index {index:#x}")
        handles, found = struct.pack(">II", _OWNER, index), b""
        while len(found) < size:
            count = min(_CHUNK, size - len(found))
            part = self._authorized(_NV_READ, handles, struct.pack(">HH", count, len(found)))
            data = part.sized("data")
            if len(data) != count:
                raise self._refused("fewer bytes than were asked for")
            found += data
        return found

    def pcrs(self) -> tuple[bytes, ...]:
        """The values of all PCRs of the SHA-256 bank; a TPM gives eight at a time."""
        found: dict[int, bytes] = {}
        while len(found) < _PCRS:
            wanted = [number for number in range(_PCRS) if number not in found]
            answer = self._require(self._ask(_PCR_READ, _selection(wanted)))
            answer.take(4, "counter")
            if answer.number(4, "selections") != 1 or answer.number(2, "bank") != _SHA256:
                raise self._refused("no SHA-256 bank")
            selected = answer.take(answer.number(1, "size"), "selection")
            bits = int.from_bytes(selected, "little")
            given = [number for number in wanted if bits >> number & 1]
            if not given or answer.number(4, "digests") != len(given):
                raise self._refused("no PCRs of the SHA-256 bank")
            for number in given:
                found[number] = answer.sized("digest")
        return tuple(found[number] for number in range(_PCRS))

    def quote(self, key: int, nonce: bytes) -> tuple[bytes, bytes]:
        """Have a persistent RSA key sign all PCRs of the SHA-256 bank, and a nonce.

        Returns:
            What was signed, and the signature (RSASSA-PKCS1-v1_5 with SHA-256).
        """
        parameters = struct.pack(">H", len(nonce)) + nonce
        parameters += struct.pack(">HH", _RSASSA, _SHA256) + _selection(range(_PCRS))
        answer = self._authorized(_QUOTE, struct.pack(">I", key), parameters)
        message = answer.sized("message")
        scheme = (answer.number(2, "scheme"), answer.number(2, "hash"))
        if scheme != (_RSASSA, _SHA256):
            raise self._refused(f"a signature of another scheme ({scheme[0]:#x}, {scheme[1]:#x})")
        return message, answer.sized("signature")

    def _authorized(self, code: int, handles: bytes, parameters: bytes) -> _Answer:
        """A command that wants an authorization: one session, the empty password."""
        session = struct.pack(">IIHBH", 9, _PASSWORD, 0, 0, 0)
        answer = self._require(self._ask(code, handles + session + parameters, tag=_SESSIONS))
        return _Answer(answer.take(answer.number(4, "parameters"), "parameters"))

    def _require(self, answer: _Answer | None) -> _Answer:
        if answer is None:
            raise self._refused("nothing")
        return answer

    def _ask(
        self, code: int, body: bytes, *, tag: int = _PLAIN, absent: int | None = None
    ) -> _Answer | None:
        """Send a command; ``None`` where the TPM says that what it names is absent."""
        command = struct.pack(">HII", tag, _HEADER + len(body), code) + body
        status, answer = self._transmit(command)
        for _ in range(_TRIES):
            if status not in _AGAIN:
                break
            status, answer = self._transmit(command)
        if status != 0 and status == absent:
            return None
        if status != 0:
            raise self._refused(f"error {status:#x} to command {code:#x}")
        return answer

    def _transmit(self, command: bytes) -> tuple[int, _Answer]:
        try:
            os.write(self._handle, command)
            raw = os.read(self._handle, _LARGEST)
        except OSError as error:
            raise self._refused(error.strerror or type(error).__name__) from None
        answer = _Answer(raw)
        answer.take(2, "tag")
        if answer.number(4, "size") != len(raw):
            raise self._refused("an answer of another length than it says")
        return answer.number(4, "status"), answer

    def _refused(self, why: str) -> EndpointUnavailable:
        return _refused(f"{self._path}: {why}")


class _Answer:
    """An answer, taken apart from its start; everything in it is big-endian."""

    def __init__(self, data: bytes) -> None:
        self._reader = Reader(data, name="tpm", id=_ID)

    def take(self, size: int, field: str) -> bytes:
        """Take bytes."""
        try:
            return self._reader.take(size, field)
        except MalformedEvidence as error:
            raise _refused(error.message) from None

    def number(self, size: int, field: str) -> int:
        """Take a number."""
        return int.from_bytes(self.take(size, field), "big")

    def sized(self, field: str) -> bytes:
        """Take bytes behind their length."""
        return self.take(self.number(2, field), field)


def _selection(numbers: Iterable[int]) -> bytes:
    bits = sum(1 << number for number in numbers)
    return struct.pack(">IHB", 1, _SHA256, 3) + bits.to_bytes(3, "little")


def _refused(got: str) -> EndpointUnavailable:
    return EndpointUnavailable("the TPM gives no evidence", id=_ID, got=got[:160])
