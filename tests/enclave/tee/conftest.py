"""Mounts of file systems that stand for the kernel's interfaces."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def mount(tmp_path, need):
    """Mounts a file system of the tests for one test; gives its folder."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0:
        need("tee", "mounting needs root and /dev/fuse")
    try:
        from mounts import Mounted
    except (ImportError, OSError) as error:
        need("tee", f"no FUSE here: {error}")
    import contextlib

    with contextlib.ExitStack() as stack:

        def enter(system, *, apart=False):
            folder = tmp_path / "mount"
            folder.mkdir(exist_ok=True)
            stack.enter_context(Mounted(folder, system, apart=apart))
            return folder

        yield enter


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory, need):
    """The stub of NVIDIA's library."""
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    import nvml

    library = nvml.build(tmp_path_factory.mktemp("nvml"))
    if library is None:
        need("tee", "no C compiler (cc)")
    return library
