"""Recorded HTTP exchanges: ``NNNN_*.http.json`` beside ``NNNN_*.body`` in one directory.

What is in them is the recorder's word. URLs are read, to know what was asked; none is followed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from teeverify.encoding.fields import JsonObject
from teeverify.errors import ConfigurationError, MalformedEvidence

__all__ = ["Exchange", "is_directory", "list_files", "read_exchanges", "read_file"]

_ID = "capture.exchange"
_MAX_FILES = 4096
_MAX_FILE = 4 * 1024 * 1024
_MAX_QUERY = 64
_SUFFIX = ".http.json"
OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One recorded request with its answer.

    Attributes:
        name: File name without its endings.
        scheme: Scheme of the requested URL.
        host: Host of the requested URL, lower case.
        path: Path of the requested URL.
        query: Its query, one value a name.
        status: HTTP status.
        headers: The answer's headers that were recorded; names in lower case, values joined.
        body_file: Where the answer's exact bytes are.
        peer_spki: DER of the public key at the other end of the TLS connection, if recorded.
        peer_spki_sha256: Its SHA-256, which may have been recorded alone.
    """

    name: str
    scheme: str
    host: str
    path: str
    query: Mapping[str, str]
    status: int
    headers: Mapping[str, str]
    body_file: Path
    peer_spki: bytes | None
    peer_spki_sha256: bytes | None = None

    @property
    def ok(self) -> bool:
        """Whether the answer was a success."""
        return self.status == OK

    def body(self) -> bytes:
        """The answer's exact bytes.

        Raises:
            ConfigurationError: The file is not there or cannot be read.
            MalformedEvidence: It is larger than anything that is read here.
        """
        return read_file(self.body_file)


def is_directory(path: Path) -> bool:
    """Whether there is a directory; a path that the system refuses to look at is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def list_files(folder: Path) -> tuple[Path, ...]:
    """The files of a directory, in the order of their names.

    Raises:
        ConfigurationError: It is no directory, cannot be read, or holds too many files.
    """
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file())
    except (OSError, ValueError) as error:
        raise _unreadable(folder, error) from None
    if len(files) > _MAX_FILES:
        raise ConfigurationError(
            "the directory holds too many files",
            id="usage.source",
            got=str(len(files)),
            want=f"at most {_MAX_FILES}",
        )
    return tuple(files)


def read_exchanges(folder: Path) -> tuple[Exchange, ...]:
    """Read the heads of all exchanges in a directory, in their order.

    Raises:
        ConfigurationError: The directory or a file cannot be read.
        MalformedEvidence: A head does not have the form it must have.
    """
    heads = (file for file in list_files(folder) if file.name.endswith(_SUFFIX))
    return tuple(_exchange(file) for file in heads)


def _exchange(file: Path) -> Exchange:
    name = file.name.removesuffix(_SUFFIX)
    head = JsonObject.parse(read_file(file), path=name, id=_ID)
    try:
        parts = urlsplit(head.text("url"))
        values = parse_qs(parts.query, keep_blank_values=True, max_num_fields=_MAX_QUERY)
        host = parts.hostname or ""
    except ValueError:
        raise MalformedEvidence(f"{name}.url: not a URL", id=_ID, field=f"{name}.url") from None
    for parameter, given in values.items():
        if len(given) != 1:  # two readers would see two requests
            raise MalformedEvidence(
                f"{name}.url: the query names a parameter twice",
                id=_ID,
                field=f"{name}.url",
                got=parameter[:40],
            )
    headers = head.object("headers") if "headers" in head else None
    peer_spki, peer_sha256 = _peer(head)
    return Exchange(
        name=name,
        scheme=parts.scheme,
        host=host,
        path=parts.path,
        query={parameter: given[0] for parameter, given in values.items()},
        status=head.integer("status"),
        headers={h.lower(): "".join(headers.texts(h)) for h in headers.names()} if headers else {},
        body_file=file.with_name(f"{name}.body"),
        peer_spki=peer_spki,
        peer_spki_sha256=peer_sha256,
    )


def _peer(head: JsonObject) -> tuple[bytes | None, bytes | None]:
    """The key at the other end of the connection, and its fingerprint."""
    stated = head.hex("peer_spki_sha256", 32) if "peer_spki_sha256" in head else None
    if "peer_spki_der_base64" not in head:
        return None, stated
    spki = head.base64("peer_spki_der_base64")
    fingerprint = hashlib.sha256(spki).digest()
    if stated is not None and stated != fingerprint:
        raise MalformedEvidence(
            f"{head.path}.peer_spki_sha256: not the hash of the key beside it",
            id=_ID,
            field=f"{head.path}.peer_spki_sha256",
            got=stated.hex(),
            want=fingerprint.hex(),
        )
    return spki, fingerprint


def read_file(file: Path) -> bytes:
    """Read one recorded file, within a cap.

    Raises:
        ConfigurationError: It is not there or cannot be read.
        MalformedEvidence: It is too large.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_FILE + 1)
    except (OSError, ValueError) as error:
        raise _unreadable(file, error) from None
    if len(data) > _MAX_FILE:
        raise MalformedEvidence(
            f"{file.name}: too large",
            id=_ID,
            field=file.name,
            need=f"at most {_MAX_FILE} bytes",
            have="more",
        )
    return data


def _unreadable(path: Path, error: Exception) -> ConfigurationError:
    reason = getattr(error, "strerror", None) or "not a usable path"
    return ConfigurationError(
        f"{path.name or path} cannot be read: {reason}", id="usage.source", got=str(path)
    )
