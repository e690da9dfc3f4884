"""``teeverify ask``: attested first, shown, and then the verdict."""

from __future__ import annotations

import pytest

import teeverify.testing
from teeverify.client.receipts import Receipt

pytestmark = pytest.mark.network
pytest.importorskip("openai", reason="the extra 'openai' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'server' is not installed")


@pytest.fixture(scope="module")
def server():
    with teeverify.testing.start(gpus=1) as running:
        yield running


def test_ask(cli, server, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    saved = tmp_path / "receipt.json"
    for flags in ((), ("--hold",)):
        ran = cli("ask", server.url, "What is two and two?", "--model", server.model, "--save",
                  saved, "--unsafe-test-roots", server.roots_file, *flags)  # fmt: skip
        assert ran.code == 0, ran.err
        assert "SIMULATED." in ran.out
        assert "sk-canary" not in ran.out + ran.err + saved.read_text()
        assert Receipt.load(saved).parts.response.raw is not None
        again = cli("verify", saved, "--offline", "--unsafe-test-roots", server.roots_file)
        assert again.code == 0
    assert ("nothing is verified until" in ran.err) is False


def test_the_vendors_roots_refuse_it(cli, server):
    ran = cli("ask", server.url, "hello", "--model", server.model)
    assert ran.code == 2
    assert "hello" not in ran.out + ran.err


def test_a_refusal_follows_what_was_shown_of_the_answer(cli):
    """Who keeps stdout keeps the verdict with it."""
    with teeverify.testing.start(gpus=1, fault="tampered-answer") as faulty:
        asked = ("ask", faulty.url, "hello", "--model", faulty.model,
                 "--unsafe-test-roots", faulty.roots_file)  # fmt: skip
        for flags in ((), ("--hold",)):
            ran = cli(*asked, *flags)
            assert ran.code == 2
            assert "Do not use this answer." in ran.out.splitlines()[-1]
    assert ran.out.strip().startswith("SIMULATED. Refused: ")
