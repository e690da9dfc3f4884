"""The pytest plugin, as other projects use it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import urllib.request
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import teeverify
from teeverify import UnsafeTestRoots
from teeverify.errors import ConfigurationError

PLUGIN = "teeverify.testing.plugin"
# Schemathesis is a plugin of the tests of the server, and loads much wherever it is installed.
RUN = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-q")


SOURCES = str(Path(teeverify.__file__).parent.parent)


def pytest_in(folder, *arguments):
    """Run pytest as another project does: the plugin comes by its entry point, once installed."""
    installed = {point.value for point in entry_points(group="pytest11")}
    plugin = () if PLUGIN in installed else ("-p", PLUGIN)
    return subprocess.run(
        [*RUN, *plugin, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([SOURCES, *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.network
def test_the_fixture(teeverify_server):
    assert teeverify_server.url.startswith("http://127.0.0.1:")
    assert teeverify_server.url.endswith("/v1")
    assert isinstance(teeverify_server.roots, UnsafeTestRoots)
    assert teeverify_server.policy == "genuine"
    UnsafeTestRoots.load(teeverify_server.roots_file)
    with urllib.request.urlopen(teeverify_server.url.removesuffix("/v1") + "/health") as answer:  # noqa: S310 -- ours
        assert answer.status == 200


def test_a_project_that_has_nothing_but_the_plugin(tmp_path, serve):
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            import urllib.request

            def test_one(teeverify_server):
                with urllib.request.urlopen(teeverify_server.url + "/models") as answer:
                    assert b"not vLLM" in answer.read()

            def test_two(teeverify_server):
                assert teeverify_server.process.poll() is None
            """
        )
    )
    done = pytest_in(tmp_path, "-W", "error")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_it_costs_nothing_where_it_is_not_used(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            import sys

            def test_nothing_is_loaded():
                heavy = {"numpy", "uvicorn", "openai", "requests", "teeverify.testing.server"}
                assert not heavy & set(sys.modules)
                assert not [name for name in sys.modules if name.startswith("teeverify.enclave")]
            """
        )
    )
    done = pytest_in(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_process_ends_with_the_block(serve):
    with serve(gpus=1) as server:
        assert server.process.poll() is None
    assert server.process.poll() == 0
    assert not server.roots_file.exists()


def test_the_process_ends_although_the_block_fails(serve):
    with pytest.raises(RuntimeError), serve(gpus=1) as server:
        raise RuntimeError
    assert server.process.poll() is not None


def test_a_server_that_does_not_start_says_why(serve):
    with pytest.raises(ConfigurationError) as caught, serve(gpus=0):
        pass
    assert "too few GPUs" in str(caught.value)
