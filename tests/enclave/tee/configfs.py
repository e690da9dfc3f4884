"""A faithful configfs-tsm: a file system in this process, with the kernel's semantics.

As Documentation/ABI/testing/configfs-tsm-report and drivers/virt/coco/guest/report.c have it: a
directory is made and has its attributes; each write to ``inblob`` is a new generation; a read of
``outblob`` makes the quote of the current generation, and fails before any question; unknown names
and removal of single attributes are refused.
"""

from __future__ import annotations

import errno
import stat
from pathlib import PurePosixPath

import mfusepy

_FILES = ("provider", "generation", "inblob", "outblob", "auxblob")


class Entry:
    def __init__(self):
        self.generation = 0
        self.inblob = b""
        self.made = {}


class TsmFileSystem(mfusepy.Operations):
    """Its behaviour can be spoiled by the tests' attributes.

    Attributes:
        provider: What ``provider`` holds.
        make: Makes quote and auxiliary blob of a question; may raise ``OSError``.
        interfere: Called before ``outblob`` is made: another writer in the same directory.
    """

    use_ns = True

    def __init__(self, provider, make):
        self.provider = provider
        self.make = make
        self.interfere = lambda entry: None
        self.without = ()
        self.entries = {}
        self.most = 0

    def _find(self, path):
        parts = PurePosixPath(path).parts[1:]
        if not parts:
            return None, None
        entry = self.entries.get(parts[0])
        name = parts[1] if len(parts) > 1 else None
        if entry is None or (name is not None and (name not in _FILES or name in self.without)):
            raise mfusepy.FuseOSError(errno.ENOENT)
        return entry, name

    def getattr(self, path, fh=None):
        entry, name = self._find(path)
        mode = stat.S_IFDIR | 0o755 if entry is None or name is None else stat.S_IFREG | 0o600
        return {"st_mode": mode, "st_nlink": 1, "st_size": 4096, "st_uid": 0, "st_gid": 0}

    def readdir(self, path, fh):
        entry, _ = self._find(path)
        return [".", "..", *(self.entries if entry is None else _FILES)]

    def mkdir(self, path, mode):
        self.entries[PurePosixPath(path).parts[1]] = Entry()
        self.most = max(self.most, len(self.entries))
        return 0

    def rmdir(self, path):
        self.entries.pop(PurePosixPath(path).parts[1])
        return 0

    def open(self, path, flags):
        self._find(path)
        return 0

    def truncate(self, path, length, fh=None):
        return 0  # configfs ignores it: opening for writing truncates nothing

    def write(self, path, data, offset, fh):
        entry, name = self._find(path)
        if name != "inblob" or offset != 0:
            raise mfusepy.FuseOSError(errno.EACCES)
        if len(data) > 64:
            raise mfusepy.FuseOSError(errno.EINVAL)
        entry.inblob = bytes(data)
        entry.generation += 1
        return len(data)

    def read(self, path, size, offset, fh):
        entry, name = self._find(path)
        if name == "provider":
            content = self.provider.encode() + b"\n"
        elif name == "generation":
            content = b"%d\n" % entry.generation
        elif name == "inblob":
            raise mfusepy.FuseOSError(errno.EACCES)
        else:
            if offset == 0 and name == "outblob":
                self.interfere(entry)
            content = self._blob(entry, name)
        return content[offset : offset + size]

    def _blob(self, entry, name):
        if not entry.inblob:
            raise mfusepy.FuseOSError(errno.EINVAL)
        if entry.generation not in entry.made:
            try:
                entry.made[entry.generation] = self.make(entry.inblob)
            except OSError as error:
                raise mfusepy.FuseOSError(error.errno) from None
        quote, extra = entry.made[entry.generation]
        return quote if name == "outblob" else extra
