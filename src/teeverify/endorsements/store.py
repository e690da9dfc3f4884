"""Answers and counters kept on disk, between runs.

Nothing that is read back is trusted: answers are verified again by the vendors' signatures each
time, and a counter can only make a verification stricter.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from teeverify.encoding.fields import JsonObject
from teeverify.endorsements.answers import Answer
from teeverify.errors import ConfigurationError, MalformedEvidence

__all__ = ["Store", "default_folder"]

_ID = "endorsements.store"
_SUFFIX = ".answer.json"
_COUNTERS = "counters.json"
_MAX_FILE = 8 * 1024 * 1024
_MAX_ENTRIES = 4096
_MAX_COUNTER = 2**160


def default_folder() -> Path:
    """Where answers are kept unless the caller says so: ``$TEEVERIFY_CACHE``, or the user's cache.

    Raises:
        ConfigurationError: The system names no folder of the user's.
    """
    named = os.environ.get("TEEVERIFY_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "teeverify" / "endorsements"
    except RuntimeError:
        raise ConfigurationError(
            "there is no home directory for the cache",
            id="usage.cache",
            hint="Name a folder with TEEVERIFY_CACHE.",
        ) from None


class Store:
    """A folder of answers that only its owner may read or write.

    Args:
        folder: The folder; made when something is first kept.

    Raises:
        ConfigurationError: It is a symbolic link, or something else than a folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._check_folder()

    def load(self, url: str) -> Answer | None:
        """The answer kept for a URL; ``None`` where there is none, or what is there is broken."""
        with contextlib.suppress(MalformedEvidence):
            form = self._read(self._file(url))
            answer = None if form is None else Answer.from_json(form)
            return answer if answer is not None and answer.url == url else None
        return None

    def save(self, answer: Answer) -> None:
        """Keep an answer in place of an earlier one for the same URL.

        Raises:
            ConfigurationError: The folder cannot be written.
        """
        self._write(self._file(answer.url), answer.to_json())

    def answers(self) -> Iterator[Answer]:
        """All answers that can be read, in the order of their files."""
        for file in self._files():
            with contextlib.suppress(MalformedEvidence):
                form = self._read(file)
                if form is not None:
                    yield Answer.from_json(form)

    def remove(self, urls: Iterable[str]) -> None:
        """Forget the answers for these URLs.

        Raises:
            ConfigurationError: The folder cannot be written.
        """
        try:
            for url in urls:
                self._file(url).unlink(missing_ok=True)
        except OSError as error:
            raise _unusable(self.folder, error) from None

    def counters(self) -> dict[str, int]:
        """The highest numbers seen so far, by name.

        Raises:
            ConfigurationError: The file was there and cannot be read: starting anew would forget.
        """
        try:
            form = self.record(_COUNTERS)
            return {} if form is None else {name: form.integer(name) for name in form.names()}
        except MalformedEvidence:
            raise ConfigurationError(
                "the counters against rollback cannot be read",
                id="usage.cache",
                got=str(self.folder / _COUNTERS),
                hint="If you know why, remove the file; older collateral then counts as new.",
            ) from None

    def raise_counters(self, seen: Mapping[str, int]) -> None:
        """Remember higher numbers; lower ones change nothing.

        Raises:
            ConfigurationError: The folder cannot be written, or the counters cannot be read.
        """
        if not _higher(self.counters(), seen):
            return
        with self._turn():  # another process may have written meanwhile
            known = self.counters()
            self._write(self.folder / _COUNTERS, {**known, **_higher(known, seen)})

    # --- what must not be forgotten ---------------------------------------------------------

    def record(self, name: str) -> JsonObject | None:
        """A file of this folder; ``None`` only where there is none.

        Raises:
            MalformedEvidence: It is broken.
            ConfigurationError: It is there, and is no plain file that can be read.
        """
        file = self.folder / name
        form = self._read(file)
        if form is None and os.path.lexists(file):
            raise ConfigurationError(
                "a file of the cache is there, and cannot be read",
                id="usage.cache",
                got=ascii(str(file)),
                hint="It is not passed over, for what it holds against forgeries would be lost.",
            )
        return form

    def keep(self, name: str, form: Mapping[str, object], *, anew: bool) -> bool:
        """Write a file of this folder.

        Args:
            name: Its name.
            form: What to write.
            anew: Whether to leave a file alone that somebody wrote before us.

        Returns:
            Whether it was written.

        Raises:
            ConfigurationError: The folder cannot be written.
        """
        with self._turn():
            if anew and os.path.lexists(self.folder / name):
                return False
            self._write(self.folder / name, form)
        return True

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Only one process at a time; the system lets go when a process ends, however it ends."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_folder()
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            handle = os.open(self.folder / ".lock", flags, 0o600)
        except OSError as error:
            raise _unusable(self.folder, error) from None
        try:
            _lock(handle)
            yield
        finally:
            os.close(handle)

    # --- files ------------------------------------------------------------------------------

    def _file(self, url: str) -> Path:
        return self.folder / (hashlib.sha256(url.encode()).hexdigest()[:40] + _SUFFIX)

    def _files(self) -> list[Path]:
        try:
            files = sorted(self.folder.glob(f"*{_SUFFIX}"))
        except OSError as error:
            raise _unusable(self.folder, error) from None
        return files[:_MAX_ENTRIES]

    def _check_folder(self) -> None:
        try:
            mode = self.folder.lstat().st_mode
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise _unusable(self.folder, error) from None
        if not stat.S_ISDIR(mode):
            raise ConfigurationError(
                "the cache is no folder, or a symbolic link, which is not followed",
                id="usage.cache",
                got=str(self.folder),
            )

    def _read(self, file: Path) -> JsonObject | None:
        """Read one of our files; ``None`` where there is none, or it is no plain file."""
        self._check_folder()
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            handle = os.open(file, flags)
        except OSError:
            return None
        with os.fdopen(handle, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_FILE:
                return None
            data = stream.read(_MAX_FILE + 1)
        return JsonObject.parse(data, path=file.name, id=_ID)

    def _write(self, file: Path, form: Mapping[str, object]) -> None:
        """Write to a new file beside it, then put that in its place: never half a file."""
        draft = file.with_name(f".{secrets.token_hex(8)}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_folder()
            with os.fdopen(os.open(draft, flags, 0o600), "wb") as stream:
                stream.write(json.dumps(form).encode("ascii"))
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(file)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise _unusable(self.folder, error) from None


def _higher(known: Mapping[str, int], seen: Mapping[str, int]) -> dict[str, int]:
    return {
        name: number for name, number in seen.items() if known.get(name, -1) < number < _MAX_COUNTER
    }


def _lock(handle: int) -> None:
    """Wait until nobody else holds the lock of an open file."""
    if sys.platform == "win32":
        import msvcrt  # noqa: PLC0415 -- of that system only

        msvcrt.locking(handle, msvcrt.LK_LOCK, 1)
    else:
        import fcntl  # noqa: PLC0415 -- of all others

        fcntl.flock(handle, fcntl.LOCK_EX)


def _unusable(folder: Path, error: Exception) -> ConfigurationError:
    reason = getattr(error, "strerror", None) or "not a usable path"
    return ConfigurationError(
        f"the cache cannot be used: {reason}", id="usage.cache", got=ascii(str(folder))
    )
