"""The examples run as their own first lines say."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import warnings
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import teeverify

PLUGIN = "teeverify.testing.plugin"
SOURCES = str(Path(teeverify.__file__).parent.parent)
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def environment() -> dict[str, str]:
    """For programs that run elsewhere: the package as it is here."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([SOURCES, *sys.path])}


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.vectors
def test_verify_recorded(vectors):
    done = run("verify_recorded.py", vectors / "endpoints/captures/venice-20260610")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Genuine, but ")
    assert "fresh: the recorder says so" in done.stdout


@pytest.mark.vectors
def test_verify_recorded_strict(vectors):
    done = run("verify_recorded.py", vectors / "endpoints/captures/venice-20260610", "strict")
    assert done.returncode == 1
    assert done.stdout.startswith("Refused by your policy (strict): ")


@pytest.mark.vectors
def test_verify_quote(vectors):
    quote = vectors / "tdx/v4_b0c06f.quote.bin"
    collateral = vectors / "tdx/collateral_b0c06f_20250619.json"
    done = run("verify_quote.py", quote, collateral, "2025-07-04T10:16:31Z")
    assert done.returncode == 0
    assert "TCB status UpToDate" in done.stdout
    later = run("verify_quote.py", quote, collateral, "2026-07-04T10:16:31Z")
    assert later.returncode == 3
    assert later.stdout.startswith("refused: ")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """What a simulated endpoint sent, and receipts of it."""
    import json

    from teeverify.audit import write_records
    from teeverify.client.receipts import Receipt
    from teeverify.simulator.receipts import ReceiptForge
    from teeverify.simulator.tee import SimulatedTee

    folder = tmp_path_factory.mktemp("kept")
    tee = SimulatedTee(gpus=1)
    tee.write_roots(folder / "roots.pem")
    made = [Receipt(ReceiptForge(tee).receipt(f"question {number}")) for number in range(3)]
    write_records(folder / "receipts.jsonl", made, bodies=True)
    parts = made[0].parts
    for name, raw in (
        ("report", parts.report),
        ("request", parts.request.raw),
        ("answer", parts.response.raw),
        ("signature", parts.signature),
        ("nonce", parts.nonce.hex().encode()),
        ("other", json.dumps({"id": "other"}).encode()),
    ):
        (folder / name).write_bytes(raw)
    return folder


def test_many_receipts(kept):
    done = run("many_receipts.py", kept / "receipts.jsonl", kept / "roots.pem")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "3 receipts, by exit code: {0: 3}\n"
    refused = run("many_receipts.py", kept / "receipts.jsonl")
    assert refused.returncode == 2


def test_plain_functions(kept):
    names = ["report", "request", "answer", "signature"]
    nonce, roots = (kept / "nonce").read_text(), kept / "roots.pem"
    done = run("plain_functions.py", *(kept / name for name in names), nonce, roots)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("SIMULATED.")
    names[2] = "other"
    wrong = run("plain_functions.py", *(kept / name for name in names), nonce, roots)
    assert wrong.returncode == 2
    assert "Do not use this answer." in wrong.stdout


@pytest.mark.network
def test_my_app():
    for package in ("openai", "uvicorn"):
        pytest.importorskip(package, reason="the extras 'openai' and 'server' are not installed")
    installed = {point.value for point in entry_points(group="pytest11")}
    plugin = () if PLUGIN in installed else ("-p", PLUGIN)
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, "-c", os.devnull,
               "--rootdir", EXAMPLES, EXAMPLES / "test_my_app.py"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *command], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


@pytest.mark.network
def test_the_notebook(tmp_path, monkeypatch):
    """Executed for real; each card is in it as HTML."""
    for package in ("openai", "uvicorn", "ipykernel"):
        pytest.importorskip(package, reason="what notebooks need is not installed")
    nbformat = pytest.importorskip("nbformat", reason="what notebooks need is not installed")
    nbclient = pytest.importorskip("nbclient", reason="what notebooks need is not installed")
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # outputs are not kept
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Jupyter's own
        client = nbclient.NotebookClient(
            notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
        )
        client.execute()
    cards = [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "text/html" in output.get("data", {})
    ]
    assert len(cards) == 3
    assert "unverified" in cards[1]
    assert all("SIMULATED" in card for card in (cards[0], cards[2]))
    assert not any("<script" in card for card in cards)


@pytest.fixture(scope="module")
def endpoint():
    pytest.importorskip("uvicorn", reason="the extra 'server' is not installed")
    from teeverify.testing import start

    with start(gpus=2) as server:
        yield server


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "package", "said"),
    [
        ("openai_sync.py", "openai", "held back: "),
        ("openai_async.py", "openai", "3 answers, each verified"),
        ("with_requests.py", "requests", "SIMULATED."),
        ("with_langchain.py", "langchain_openai", "SIMULATED."),
    ],
)
def test_asking_an_endpoint(endpoint, need, name, package, said):
    if importlib.util.find_spec(package) is None:
        need("sdks", f"{package} is not installed, which the example is about")
    done = run(name, endpoint.url, endpoint.model, endpoint.roots_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout
    refused = run(name, endpoint.url, endpoint.model)
    assert refused.returncode == 2
    assert refused.stderr.startswith("not verified: ")
