"""Where many receipts come from: a directory, lines of JSON, or a Parquet file.

A record is the text of one receipt, or of parts that several receipts name and do not hold
(``teeverify.attachments/1``). In a ``.jsonl`` file each line is one; in a ``.parquet`` file each
value of the column ``receipt``; in a directory each ``.json`` file, and the records of the other
two kinds of files. Parts come before the receipts that name them; of a directory they are read
first.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from teeverify.encoding.strict import MAX_JSON_BYTES, json_value
from teeverify.errors import ConfigurationError, MalformedEvidence, TeeVerifyError
from teeverify.responses.receipt import (
    ATTACHMENTS_SCHEMA,
    SCHEMA,
    shared_parts,
    write_attachments,
    write_receipt,
)
from teeverify.responses.receipt_reader import read_attachments

if TYPE_CHECKING:
    from teeverify.client.receipts import Receipt

__all__ = ["Batch", "Records", "is_records", "write_records"]

COLUMN = "receipt"
_ID = "receipt"
_BATCH = 256
_LINES, _PARQUET, _JSON = ".jsonl", ".parquet", ".json"
_NAMED = re.compile(rb'"([0-9a-f]{64})"')
# Near the start of what we write; what is written otherwise is decoded to find out.
_HEAD = 400
_MAX_SHARED = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Raw receipts for one worker, with the shared parts that they name.

    Attributes:
        receipts: Each receipt's name for people, and its text.
        shared: The parts, by hash.
    """

    receipts: tuple[tuple[str, bytes], ...]
    shared: dict[bytes, bytes] = field(repr=False)


class Records:
    """The receipts of several sources, in batches.

    Args:
        sources: Directories, ``.jsonl``, ``.parquet`` and ``.json`` files.

    Raises:
        ConfigurationError: A source that is not there, or that holds no records.
    """

    def __init__(self, sources: Sequence[str | Path]) -> None:
        self._files = [file for source in sources for file in _files(Path(source))]
        self._shared: dict[bytes, bytes] = {}
        self._size = 0
        if not self._files:
            raise _wrong("there are no receipts in it", ", ".join(map(str, sources)))

    def batches(self, size: int) -> Iterator[Batch]:
        """Read, a batch at a time.

        Args:
            size: Receipts in a batch.

        Raises:
            ConfigurationError: A file that cannot be read.
            MalformedEvidence: Shared parts that are not what their names say, or too many.
        """
        waiting: list[tuple[str, bytes]] = []
        for name, text in self._texts():
            if self._is_attachments(text):
                self._learn(text, name)
                continue
            waiting.append((name, text))
            if len(waiting) == size:
                yield self._batch(waiting)
                waiting = []
        if waiting:
            yield self._batch(waiting)

    def _texts(self) -> Iterator[tuple[str, bytes]]:
        for file in self._files:
            if file.suffix == _PARQUET:
                yield from _rows(file)
            elif file.suffix == _LINES:
                yield from _lines(file)
            else:
                yield file.name, _read(file)

    def _is_attachments(self, text: bytes) -> bool:
        return ATTACHMENTS_SCHEMA.encode() in text[:_HEAD] and SCHEMA.encode() not in text[:_HEAD]

    def _learn(self, text: bytes, name: str) -> None:
        parts = read_attachments(json_value(text, field=name[:80], id=_ID))
        self._shared.update(parts)
        self._size += sum(map(len, parts.values()))
        if self._size > _MAX_SHARED:
            raise MalformedEvidence(
                "the shared parts of the receipts are too large",
                id=_ID,
                field=name[:80],
                need=f"at most {_MAX_SHARED} bytes",
                have="more",
            )

    def _batch(self, receipts: list[tuple[str, bytes]]) -> Batch:
        if not self._shared:
            return Batch(receipts=tuple(receipts), shared={})
        named = {match for _, text in receipts for match in _NAMED.findall(text)}
        shared = {k: v for k, v in self._shared.items() if k.hex().encode() in named}
        return Batch(receipts=tuple(receipts), shared=shared)


def is_records(source: str | Path) -> bool:
    """Whether a source holds many receipts: lines, Parquet, or a directory of receipts."""
    path = Path(source)
    if path.suffix in (_LINES, _PARQUET):
        return True
    try:
        return path.is_dir() and any(_is_of_receipts(file) for file in _files(path)[:8])
    except (OSError, ValueError, TeeVerifyError):
        return False


def _is_of_receipts(file: Path) -> bool:
    if file.suffix in (_LINES, _PARQUET):
        return True
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError:
        return False
    return b"teeverify.receipt/" in head or ATTACHMENTS_SCHEMA.encode() in head


def _files(source: Path) -> list[Path]:
    """The files of a source; of a directory the shared parts first, then by name."""
    try:
        if not source.is_dir():
            return [source]
        found = [f for f in source.iterdir() if f.suffix in (_JSON, _LINES, _PARQUET)]
    except (OSError, ValueError) as error:
        raise _wrong(getattr(error, "strerror", None) or "no path", str(source)) from None
    kept = [f for f in found if not f.name.endswith(".http.json") and f.name != "manifest.json"]
    return sorted(kept, key=lambda f: (not f.name.startswith("attachments"), f.name))


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_JSON_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _wrong(getattr(error, "strerror", None) or "no path", str(file)) from None
    return text  # one that is too large is refused where it is decoded


def _lines(file: Path) -> Iterator[tuple[str, bytes]]:
    try:
        with file.open("rb") as stream:
            number = 0
            while line := stream.readline(MAX_JSON_BYTES + 2):
                number += 1
                if line.strip():
                    yield f"{file.name}:{number}", line
    except (OSError, ValueError) as error:
        raise _wrong(getattr(error, "strerror", None) or "no path", str(file)) from None


def _rows(file: Path) -> Iterator[tuple[str, bytes]]:
    """The values of the column ``receipt``, a few row groups at a time."""
    parquet = _pyarrow()
    number = 0
    try:
        table = parquet.ParquetFile(file)
        if COLUMN not in table.schema_arrow.names:
            raise KeyError
        for part in table.iter_batches(batch_size=_BATCH, columns=[COLUMN]):
            for value in part.column(0).to_pylist():
                number += 1
                text = value.encode("utf-8") if isinstance(value, str) else value
                yield f"{file.name}:{number}", text if isinstance(text, bytes) else b""
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are these
        reason = f"not a Parquet file with a column '{COLUMN}' ({type(error).__name__})"
        raise _wrong(reason, str(file)) from None


def _pyarrow() -> Any:  # noqa: ANN401 -- a module
    try:
        from pyarrow import parquet  # noqa: PLC0415 -- an extra
    except ImportError:
        raise ConfigurationError(
            "Parquet files need a package that is not installed",
            id="usage.extra",
            got="pyarrow",
            hint="Run: pip install 'teeverify[audit]'",
        ) from None
    return parquet


def write_records(path: str | Path, receipts: Iterable[Receipt], *, bodies: bool = False) -> None:
    """Write many receipts into one ``.jsonl`` file, each part of an attestation only once.

    Args:
        path: Where to.
        receipts: The receipts.
        bodies: Whether the bytes of request and answer go with them, or their hashes only.

    Raises:
        ConfigurationError: It cannot be written.
    """
    written: set[bytes] = set()
    try:
        with Path(path).open("wb") as stream:
            for receipt in receipts:
                parts = {hashlib.sha256(raw).digest(): raw for raw in shared_parts(receipt.parts)}
                new = [raw for digest, raw in parts.items() if digest not in written]
                if new:
                    stream.write(write_attachments(new))
                    written |= parts.keys()
                stream.write(
                    write_receipt(receipt.parts, bodies=bodies, without=parts, indent=None)
                )
    except (OSError, ValueError) as error:
        raise _wrong(getattr(error, "strerror", None) or "no path", str(path)) from None


def _wrong(reason: str, path: str) -> ConfigurationError:
    return ConfigurationError(
        f"receipts cannot be read or written: {reason}", id="usage.records", got=path[:200]
    )
