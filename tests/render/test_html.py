"""The card and the report: nothing in them acts, and the report can be verified again."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser

import pytest

from teeverify.appraisal.observation import CLAIM_NAMES
from teeverify.client.receipts import Receipt
from teeverify.errors import MalformedEvidence
from teeverify.render import embedded_receipt, is_report, render_card, render_report
from teeverify.simulator.receipts import ReceiptForge
from teeverify.simulator.tee import SimulatedTee

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x1b[31m\"'&"
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "article", "h2", "h3", "p", "span", "table",
    "thead", "tbody", "tr", "th", "td", "details", "summary", "pre", "code", "em", "br", "footer",
    "a",
}  # fmt: skip


class Tags(HTMLParser):
    """What a browser would build."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def tags(text):
    parser = Tags()
    parser.feed(text)
    return parser.found


@pytest.fixture(scope="module")
def kept():
    tee = SimulatedTee(gpus=1)
    receipt = Receipt(ReceiptForge(tee).receipt("why?", answer=HOSTILE))
    raw = receipt.to_bytes(include="bytes")
    roots = tee.roots()
    return raw, Receipt.load(raw).verify(roots=roots), roots


def test_a_report_is_verified_again(kept, tmp_path):
    import teeverify

    raw, result, roots = kept
    page = render_report(result, receipt=raw).encode()
    assert is_report(page)
    assert embedded_receipt(page) == raw
    file = tmp_path / "report.html"
    file.write_bytes(page)
    again = teeverify.verify(file, roots=roots, offline=True)
    assert again.summary == result.summary
    forged = page.replace(b"Genuine, but", b"Verified, and")
    assert teeverify.appraise(forged, roots=roots, offline=True).summary == result.summary


def test_a_report_with_none_or_two_receipts(kept):
    raw, result, _ = kept
    without = render_report(result).encode()
    one = render_report(result, receipt=raw).encode()
    # What a reader opens must be what is verified, in whatever way the other link is written.
    another = one.replace(b"</body>", b"<A HREF = 'data:application/json;base64,e30='>x</a></body>")
    for page in (without, one * 2, another):
        with pytest.raises(MalformedEvidence):
            embedded_receipt(page)


def test_nothing_acts_and_nothing_is_fetched(kept):
    raw, result, _ = kept
    page = render_report(result, receipt=raw, answer=Receipt.load(raw).parts.response.raw)
    assert "alert(1)" in page  # it was shown, as text
    for tag, attributes in tags(page):
        assert tag in ALLOWED
        assert not any(name.startswith("on") for name in attributes)
        assert set(attributes) <= {
            "class", "title", "scope", "lang", "charset", "content", "name", "http-equiv", "href",
            "id", "download",
        }  # fmt: skip
        assert attributes.get("href", "data:application/json;base64,").startswith(
            "data:application/json;base64,"
        )
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize("text", [HOSTILE, "\u202e\u2066", "<b>", "\x00\x1b[2J"], ids=ascii)
def test_hostile_texts_of_evidence(stage, text):
    for asked in ({"model": text}, stage.signed(model=text), stage.signed(signing_algo=text)):
        result = stage.appraise(**asked, policy="strict")
        card = render_card(result)
        assert {tag for tag, _ in tags(card)} <= ALLOWED
        assert not re.search("[\x00-\x08\x0b-\x1f\u202a-\u202e\u2066-\u2069]", card)


def test_the_first_sentence_is_the_heading(stage):
    for asked in ({}, {"policy": "strict"}, {"nonce": bytes(32)}):
        result = stage.appraise(**asked)
        heading = re.search("<h2>(.*?)</h2>", render_card(result))[1]
        shown = re.sub("<[^>]*>", "", heading)
        assert html.unescape(shown).endswith(result.summary)


def test_simulated_is_in_every_section(stage):
    card = render_card(stage.appraise(**stage.signed()))
    sections = re.findall("<h3>.*?</h3>", card)
    assert len(sections) == 3
    assert all("SIMULATED" in section for section in sections)


def test_all_claims_the_failed_ones_first(stage):
    card = render_card(stage.appraise(nonce=bytes(32)))
    names = re.findall('<th scope="row">([a-z_]+)</th><td class="[a-z]+">', card)
    assert sorted(names) == sorted(CLAIM_NAMES)
    assert names[0] == "fresh"


def test_what_keeps_a_claim_from_a_good_sign_is_told(stage):
    result = stage.appraise()
    told = html.escape(result.finding("signer.origin").message)
    assert f"<br>but: {told}</td>" in render_card(result)
    signs = re.findall('<tr><td class="sign (.*?)".*?</tr>', render_card(result).split("Checks")[0])
    assert render_card(result).count("<br>but: ") >= signs.count("warned") > 0


def test_a_long_title_is_cut_with_a_sign(stage):
    page = render_report(stage.appraise())
    title = page.partition("<title>")[2].partition("</title>")[0]
    assert title.endswith("…")


def test_the_answers_text_only_where_it_was_proven(kept, stage):
    raw, result, _ = kept
    answer = Receipt.load(raw).parts.response.raw
    assert "the signed bytes" in render_card(result, answer=answer)
    assert "the signed bytes" not in render_card(result, answer=b"another")
    assert "the signed bytes" not in render_card(result)
    wrong = stage.appraise(**{**stage.signed(), "answer": b"{}"})
    assert "the signed bytes" not in render_card(wrong, answer=b"{}")


def test_a_long_answer_is_cut():
    tee = SimulatedTee(gpus=1)
    receipt = Receipt(ReceiptForge(tee).receipt("why?", answer="x" * 100_000))
    result = receipt.verify(roots=tee.roots())
    page = render_card(result, answer=receipt.parts.response.raw)
    assert "x" * 1000 in page
    assert "x" * 2100 not in page


def test_a_notebook_asks_the_result_and_the_receipt(kept):
    raw, result, _ = kept
    assert result._repr_html_() == render_card(result)
    receipt = Receipt.load(raw)
    assert "unverified" in receipt._repr_html_()
    assert "<h2>" not in receipt._repr_html_()
    assert "This card is a picture" in Receipt(receipt.parts, result)._repr_html_()
    assert json.loads(result.to_json())["receipt"]["id"] == receipt.receipt_id
