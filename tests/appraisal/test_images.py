"""Images pinned by digest: what is read off a Compose file, and what cannot hide in one."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import Any

import pytest

from teeverify.appraisal import Outcome
from teeverify.simulator.dstack import Dstack

DIGEST = f"@sha256:{'ab' * 32}"
GOOD = f"services:\n  a:\n    image: registry.example/a{DIGEST}\n"


@pytest.fixture(scope="module")
def finding(stage):
    """What the check says of a configuration."""

    def appraise(compose: object, **more: Any):
        config = {"runner": "docker-compose", "docker_compose_file": compose, **more}
        guest = Dstack(app_compose=json.dumps({k: v for k, v in config.items() if v is not None}))
        twin = dataclasses.replace(stage.endpoint.model, guest=guest)
        data = twin.report_data(stage.endpoint.nonce, tls=False)
        changes = {
            "intel_quote": twin.quote(data).hex(),
            "event_log": guest.event_log,
            "info": {"tcb_info": {"app_compose": guest.app_compose}},
            "compose_manager_attestation": None,
        }
        report = stage.endpoint.venice_report(**changes)
        result = stage.appraise(stage.capture(provider="venice", report=report))
        assert result.exit_code == 0
        return result.finding("code.images-pinned", "model")

    return appraise


@pytest.mark.parametrize(
    "more",
    [
        "",
        f"  b:\n    image: 'b{DIGEST}'\n",
        f'  b:\n    "image" : "b{DIGEST}" # image: c\n',
        f"  b:\n    image: b:1.0{DIGEST}\n",
        f"  - image: b{DIGEST}\n",
        "  # image: b\n",
        "configs:\n  otel:\n    content: |\n      receivers:\n        include: [/var/log]\n",
    ],
)
def test_pinned(finding, more):
    assert finding(GOOD + more).outcome is Outcome.PROVEN


@pytest.mark.parametrize(
    "image",
    [
        "b",
        "b:latest",
        "b@sha256:abcd",
        f"b@sha256:{'AB' * 32}",
        f"b@sha512:{'ab' * 32}",
        f"b{DIGEST}0",
        f"${{IMAGE:-b{DIGEST}}}",
        f"$IMAGE{DIGEST}",
        f"{DIGEST[1:]}",
        "*alias",
        ">-",
    ],
)
def test_by_a_name_that_can_be_moved(finding, image):
    found = finding(f"{GOOD}  b:\n    image: {image}\n")
    assert found.outcome is Outcome.ABSENT
    assert found.message.startswith("1 image is not pinned by digest: ")
    assert ("A variable can put another image" in found.message) == ("$" in image)


def test_several_and_long_names(finding):
    names = ["b", "c" * 81, "d", "e", "f"]
    more = "".join(f"  {index}:\n    image: {name}\n" for index, name in enumerate(names))
    message = finding(f"{GOOD}{more}").message
    assert message == f"5 images are not pinned by digest: b, {'c' * 80}…, d and 2 more."


@pytest.mark.parametrize(
    "more",
    [
        "  b:\n    build: .\n",
        "  b:\n    image:\n      evil\n",
        "  b:\n    image: !!str evil\n",
        "  b:\n    &x image: evil\n",
        "  b:\n    !!str image: evil\n",
        '  b:\n    "\\x69mage": evil\n',
        '  b:\n    "im\\u0061ge": evil\n',
        "  b:\n    ? image\n    : evil\n",
        "  b: {? image : evil}\n",
        "  b: {image: evil}\n",
        "  b: { image\n  : evil}\n",
        '  b: {"image": evil}\n',
        '  b: {labels: ["x#y"], image: evil}\n',
        '  b: {labels: ["x\n# y"], image: evil}\n',
        "  b: {labels: ['x\n# y'], image: evil}\n",
        "x-key: &k image\n",
        "  b:\n    *k : evil\n",
        "  b:\n    extends: {file: other.yml, service: b}\n",
        "  b: {extends: c}\n",
        "include: [other.yml]\n",
        '"include":\n  - other.yml\n',
        "include : other.yml\n",
    ],
)
def test_what_could_name_an_image_unseen(finding, more):
    """Never "every image is pinned" where a line could hide one (YAML 1.2)."""
    found = finding(GOOD + more)
    assert found.outcome is Outcome.ABSENT
    assert "cannot be told" in found.message


@pytest.mark.parametrize(
    "compose",
    [
        "",
        "services: {}\n",
        "services:\n  a: {}\n",
        f"  a:\n    image: a{DIGEST}\n",
        f"{{services: {{a: {{image: a{DIGEST}}}}}}}",
        f'{{"services": {{"a": {{"image": "a{DIGEST}"}}}}}}',
        f"x:\n  services:\n    a:\n      image: a{DIGEST}\n",
        f" services:\n  a:\n    image: a{DIGEST}\n include: [other.yml]\n",
        None,
        1,
        [],
    ],
)
def test_no_plain_compose_file(finding, compose):
    assert finding(compose).outcome is Outcome.ABSENT


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"runner": "bash"}, "something else than Docker Compose"),
        ({"runner": None}, "something else than Docker Compose"),
        ({"pre_launch_script": "docker run evil"}, "pre_launch_script"),
    ],
)
def test_what_runs_beside_the_images(finding, more, words):
    found = finding(GOOD, **more)
    assert found.outcome is Outcome.ABSENT
    assert words in found.message


def test_an_empty_script_runs_nothing(finding):
    assert finding(GOOD, pre_launch_script="").outcome is Outcome.PROVEN


# --- the TCB at launch and now -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("launch", "current", "code"), [(4, 4, 0), (4, 3, 1), (3, 4, 1), (3, 3, 1)]
)
def test_the_worse_of_launch_and_current_tcb(stage, launch, current, code):
    intel = stage.endpoint.intel
    old = copy.deepcopy(intel.level("OutOfDate", date="2024-03-13T00:00:00Z"))
    old["tcb"]["tdxtcbcomponents"][2]["svn"] = 3
    collateral = intel.collateral(tcb_info={"tcbLevels": [intel.level("UpToDate"), old]})
    svns = {
        name: bytes([11, 1, svn, *([0] * 13)])
        for name, svn in (("tee_tcb_svn", launch), ("tee_tcb_svn_2", current))
    }
    quote = {"body": "1.5", "version": 5, **svns}
    manager = {"compose_manager_attestation": stage.endpoint.compose_manager(quoted=quote)}
    report = stage.endpoint.near_report(model={"quote": quote, **manager})
    result = stage.appraise(stage.capture(report=report, collateral=collateral))
    assert result.exit_code == code
    assert result.finding("tdx.tcb-status", "model").exit_code == code
