"""What an operator starts from: `examples/enclave/` says only what there is."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from pathlib import Path
from types import MappingProxyType

import pytest

from teeverify.cli.serve_options import add_options, complete

PLACE = Path(__file__).parents[2] / "examples" / "enclave"


def serve_options(arguments, environment=MappingProxyType({})):
    parser = argparse.ArgumentParser()
    add_options(parser)
    return complete(parser.parse_args(arguments), environment)


def test_the_file_of_options():
    found = serve_options(["--tee", "auto", "--config", str(PLACE / "serve.toml")])
    assert (found.port, found.log) == (8443, "json")
    assert found.vllm.startswith("/")


def test_the_commands_of_unit_and_image():
    unit = re.search(
        r"^ExecStart=\S+ serve (.+)$", (PLACE / "teeverify.service").read_text(), re.MULTILINE
    )
    image = re.search(r"^CMD \[(.+)\]$", (PLACE / "Dockerfile").read_text(), re.MULTILINE)
    started = unit[1].replace("/etc/teeverify/serve.toml", str(PLACE / "serve.toml"))
    words = re.findall(r'"([^"]+)"', image[1])
    assert serve_options(words).upstream.startswith("unix:/")
    for told in (serve_options(started.split()), serve_options(words)):
        assert (told.tee, told.tls) == ("auto", True), "no prompt crosses the network in the clear"


def test_what_the_image_copies_is_there():
    copied = re.findall(r"^COPY (.+) \S+$", (PLACE / "Dockerfile").read_text(), re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert names
    assert [name for name in names if not (PLACE.parents[1] / name).exists()] == []


def test_the_compose_file():
    yaml = pytest.importorskip("yaml", reason="there is no reader of YAML")
    found = yaml.safe_load((PLACE / "docker-compose.yaml").read_text())
    services = found["services"]
    assert all("@sha256:" in one["image"] for one in services.values()), "named by digest"
    assert services["engine"]["network_mode"] == "none"
    for name, library in (("engine", "gpu"), ("server", "utility")):  # utility: NVML is in it
        (devices,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert (devices["driver"], devices["count"]) == ("nvidia", "all"), name
        assert {"gpu", library} <= set(devices["capabilities"]), name
    named = {one.split(":")[0] for each in services.values() for one in each["volumes"]}
    assert {one for one in named if not one.startswith("/")} == set(found["volumes"])
    told = serve_options(["--tee", "auto"], services["server"]["environment"])
    assert told.store == "/state/signatures.db"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit(tmp_path):
    unit = (PLACE / "teeverify.service").read_text()
    copy = tmp_path / "teeverify.service"
    copy.write_text(unit.replace("/opt/teeverify/bin/teeverify", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
