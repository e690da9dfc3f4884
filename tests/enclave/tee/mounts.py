"""A file system of the tests, mounted for one test."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import mfusepy

MOST_SECONDS = 60


class Mounted:
    """A mount. After a minute it is taken away by force: no test hangs on it for ever.

    Args:
        folder: Where.
        system: The file system.
        apart: Whether it runs in a process of its own. It must where the code under test holds the
            interpreter's lock while the kernel waits for us: an ioctl with over 1,024 bytes does.
            What the test changes in the system afterwards is not seen there.
    """

    def __init__(self, folder, system, *, apart=False):
        self.folder = folder
        self.system = system
        make = multiprocessing.get_context("fork").Process if apart else threading.Thread
        self._server = make(target=self._serve, daemon=True)

    def _serve(self):
        # direct_io: each read reaches us, as each read of configfs reaches the kernel.
        mfusepy.FUSE(self.system, str(self.folder), foreground=True, nothreads=True, direct_io=True)

    def __enter__(self):
        here = Path.cwd()
        self._server.start()
        # A process of its own, which no lock of ours can stop; by force ends what waits for us.
        late = f"sleep {MOST_SECONDS}; umount -f '{self.folder}'"
        self._watchdog = subprocess.Popen(
            ["sh", "-c", late],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 10
        while not self.folder.is_mount():
            if time.monotonic() > deadline or not self._server.is_alive():
                raise RuntimeError("the file system could not be mounted")
            time.sleep(0.01)
        # libfuse goes to the root folder before it answers the first question, which was ours.
        os.chdir(here)
        return self

    def __exit__(self, *_error):
        subprocess.run(["umount", "-l", str(self.folder)], check=False)
        self._server.join(10)
        os.killpg(self._watchdog.pid, signal.SIGKILL)
        self._watchdog.wait()
