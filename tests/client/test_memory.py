"""What is remembered of an endpoint's code between runs, and of the newest date seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import teeverify
from teeverify import AppraisalFailed, ConfigurationError, UnsafeTestRoots
from teeverify.client.memory import EndpointMemory
from teeverify.endorsements.store import Store

pytestmark = pytest.mark.network


@pytest.fixture
def connect(enclave, roots):
    return lambda **options: teeverify.connect(enclave.url, **{"roots": roots, **options})


def memory() -> list[Path]:
    folder = Path(os.environ["TEEVERIFY_CACHE"]) / "endpoints"
    return [file for file in folder.glob("*.json") if file.name != "counters.json"]


def outcome(session):
    return session.result.finding("code.changed").outcome.value


def test_first_sight_then_the_same(connect):
    first = connect()
    assert outcome(first) == "absent"
    assert "First sight" in first.result.finding("code.changed").message
    assert outcome(connect()) == "proven"
    (file,) = memory()
    assert file.stat().st_mode & 0o777 == 0o600


def test_other_code_is_refused_until_it_is_accepted(connect, enclave, tee, roots):
    connect()
    enclave.tee = tee.with_other_code()
    for _ in range(2):
        with pytest.raises(AppraisalFailed) as refused:
            connect()
        assert refused.value.id == "code.changed"
        assert "policy pin" in refused.value.hint
    _accept(enclave, roots)
    assert outcome(connect()) == "proven"
    enclave.tee = tee
    with pytest.raises(AppraisalFailed):
        connect()


def _accept(enclave, roots):
    """What the command does."""
    teeverify.Verifier(roots=roots, memory=EndpointMemory(accepts=True)).verify(enclave.url)


def test_code_that_the_policy_lists_is_no_matter_of_memory(connect, enclave, tee):
    seen = connect().result.identities
    enclave.tee = tee.with_other_code()
    with pytest.raises(AppraisalFailed):
        connect()
    from teeverify import ReferenceValues

    other = ReferenceValues.pin(seen, seen="2026-11-22")
    policy = teeverify.Policy.genuine().replace(code=other.to_list())
    with pytest.raises(AppraisalFailed) as refused:
        connect(policy=policy)
    assert refused.value.id == "code.identity"
    (before,) = (file.read_bytes() for file in memory())
    listed = {"name": "release", "source": "release", "mr_td": [seen[0].registers["mr_td"]]}
    connect(policy=teeverify.Policy.genuine().replace(code=[listed]))
    (after,) = (file.read_bytes() for file in memory())
    assert before == after


def test_each_model_and_each_root_has_a_memory_of_its_own(connect, enclave, other_tee):
    connect(model="one")
    connect(model="two")
    assert len(memory()) == 2
    enclave.tee = other_tee
    teeverify.connect(enclave.url, model="one", roots=UnsafeTestRoots([other_tee.roots_pem()]))
    assert len(memory()) == 3


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"schema":"teeverify.endpoint/2"}', b"\xff" * 10,
     b'{"schema":"teeverify.endpoint/1","place":{},"since":"x","code":[]}',
     b'{"schema":"teeverify.endpoint/1","place":{},"since":"x","code":[[1]]}'],
)  # fmt: skip
def test_a_broken_memory_is_no_first_sight(connect, content):
    connect()
    (file,) = memory()
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as refused:
        connect()
    assert refused.value.id == "endpoint.memory"
    assert "cannot be read" in str(refused.value)


def test_a_memory_that_may_not_be_read_is_no_first_sight(connect):
    connect()
    (file,) = memory()
    target = file.with_suffix(".moved")
    file.rename(target)
    file.symlink_to(target)
    with pytest.raises(ConfigurationError):
        connect()


def test_a_folder_that_cannot_be_written(connect, monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("TEEVERIFY_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigurationError) as refused:
        connect()
    assert refused.value.id == "usage.cache"


def test_two_at_the_same_time_see_one_code(connect, enclave, tee, monkeypatch):
    """Both find no memory; the second learns that other code was shown to the first."""
    both = threading.Barrier(2)
    original = EndpointMemory._known
    first = threading.local()

    def known(self, examined):
        found = original(self, examined)
        if not getattr(first, "passed", False):
            first.passed = True
            both.wait(10)
        return found

    monkeypatch.setattr(EndpointMemory, "_known", known)
    reports = iter([enclave.tee, tee.with_other_code()])
    turn = threading.Lock()
    report = enclave.report

    def one_each(query):
        with turn:
            enclave.tee = next(reports)
            return report(query)

    enclave.report = one_each
    errors = []

    def work():
        try:
            connect()
        except AppraisalFailed as error:
            errors.append(error.id)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == ["code.changed"]
    assert len(memory()) == 1


def test_files_have_no_memory(stage):
    found = stage.appraise().finding("code.changed")
    assert (found.outcome.value, found.severity.value) == ("absent", "informs")
    assert "Files have no memory" in found.message
    assert memory() == []


# --- dates ----------


def test_a_clock_before_this_version_is_behind(connect, monkeypatch):
    from teeverify.client.session import core

    behind = datetime(2026, 10, 1, tzinfo=timezone.utc)
    monkeypatch.setattr(core, "now", lambda: behind)
    with pytest.raises(teeverify.TeeVerifyError) as refused:
        connect()
    assert refused.value.result.finding("clock.behind").exit_code == 1


def test_a_clock_before_what_was_verified_here_is_behind(connect, enclave, roots, monkeypatch):
    connect()
    session_at = datetime.now(timezone.utc) - timedelta(hours=30)
    counters = Path(os.environ["TEEVERIFY_CACHE"]) / "endpoints" / "counters.json"
    kept = json.loads(counters.read_bytes())
    ((name, seconds),) = kept.items()
    assert name.endswith("/issued-at")
    from teeverify.client.session import core

    monkeypatch.setattr(core, "now", lambda: session_at)
    with pytest.raises(teeverify.TeeVerifyError) as refused:
        connect()
    found = refused.value.result.finding("clock.behind")
    assert found.outcome.value == "failed"
    assert json.loads(counters.read_bytes()) == {name: seconds}


# --- many at once ----------

COUNT = """
import sys
from teeverify.endorsements.store import Store
store = Store(sys.argv[1])
for number in range(40):
    shared = int(sys.argv[2]) * 100 + number
    store.raise_counters({f"own/{sys.argv[2]}": number + 1, "shared": shared})
    assert store.counters()["shared"] >= shared
"""


def test_processes_that_count_at_the_same_time_lose_nothing(tmp_path):
    folder = tmp_path / "cache"
    running = [
        subprocess.Popen([sys.executable, "-c", COUNT, str(folder), str(n)]) for n in range(6)
    ]
    assert [process.wait(60) for process in running] == [0] * 6
    assert Store(folder).counters() == {f"own/{n}": 40 for n in range(6)} | {"shared": 539}


# --- rollback of collateral that the endpoint hands over ------------------------------------------


NUMBERED = {
    "the platform's levels": ("tcb_info", "tcbEvaluationDataNumber"),
    "the quoting enclave's identity": ("qe_identity", "tcbEvaluationDataNumber"),
    "the root's revocation list": ("root_crl", "number"),
    "the platforms' revocation list": ("pck_crl", "number"),
}


@pytest.mark.parametrize(("part", "field"), NUMBERED.values(), ids=NUMBERED)
def test_older_collateral_from_the_endpoint(connect, enclave, monkeypatch, part, field):
    day = timedelta(days=1)

    def show(number):
        def collateral(moment):
            return enclave.tee.intel.collateral(
                issue_date=moment - day, next_update=moment + day, **{part: {field: number}}
            )

        monkeypatch.setattr(enclave.tee, "_collateral", collateral)

    show(30)
    assert connect().result.finding("tcb.evaluation-number").outcome.value == "proven"
    show(29)
    with pytest.raises(AppraisalFailed) as refused:
        connect()
    assert refused.value.id == "tcb.evaluation-number"
    assert "29, was 30" in refused.value.got
    show(30)
    connect()
    kept = Store(Path(os.environ["TEEVERIFY_CACHE"])).counters()  # beside what is fetched
    assert 30 in kept.values()
