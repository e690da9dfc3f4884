"""The notebook's card and the report in one file: no script, no remote asset, nothing unescaped."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterable

from teeverify.appraisal import AttestationResult, Finding, Outcome
from teeverify.appraisal.observation import CLAIM_QUESTIONS
from teeverify.clock import show_time
from teeverify.encoding.strict import base64_bytes
from teeverify.errors import MalformedEvidence
from teeverify.render.escape import printable
from teeverify.render.words import (
    FANCY,
    claim_state,
    ends,
    finding_state,
    reservations,
    verdict_state,
)

__all__ = ["embedded_receipt", "is_report", "render_card", "render_report"]

_ID = "receipt"
_MOST_TEXT = 2000
_MARK = 'id="teeverify-receipt" download="receipt.json" href="data:application/json;base64,'
_EMBEDDED = re.compile(re.escape(_MARK.encode("ascii")) + rb'([A-Za-z0-9+/=]{0,8000000})"')
_ANY_LINK = re.compile(rb"href[\s=\"']{1,9}data:", re.IGNORECASE)
_WORDS = {
    "good": "verified",
    "warned": "with reservations",
    "asserted": "asserted",
    "bad": "refused",
    "none": "undecided",
}
# Notebooks bring styles of their own for tables, which are stronger than a class.
_STYLE = """
.teeverify{font:14px/1.5 system-ui,sans-serif;max-width:62rem;color:#1b1b1b;background:#fff;
border:1px solid #bbb;border-radius:6px;padding:1rem 1.25rem}
.teeverify h2{font-size:1.05rem;margin:.2rem 0 .6rem;line-height:1.45}
.teeverify h3{font-size:.95rem;margin:1rem 0 .3rem}
.teeverify table{border-collapse:collapse;width:100%;table-layout:auto !important;margin:0}
.teeverify th,.teeverify td{text-align:left !important;vertical-align:top;max-width:none !important;
padding:.2rem .6rem .2rem 0 !important;border-top:1px solid #ddd;font-weight:normal}
.teeverify thead th{border-top:0;font-weight:600}
.teeverify .sign{font-weight:700;white-space:nowrap}
.teeverify .good{color:#0b6b2b}.teeverify .bad{color:#a4121c}
.teeverify .warned,.teeverify .asserted{color:#7a5200}.teeverify .none{color:#555}
.teeverify code,.teeverify pre{font:12px/1.4 ui-monospace,monospace;overflow-wrap:anywhere;
white-space:pre-wrap}
.teeverify .simulated{background:#7a5200;color:#fff;padding:.1rem .5rem;border-radius:3px;
font-weight:700}
.teeverify footer,.teeverify .when{color:#555}
.teeverify summary{cursor:pointer}
"""


def render_card(
    result: AttestationResult, *, receipt: bytes | None = None, answer: bytes | None = None
) -> str:
    """Draw a result as a fragment of HTML, as notebooks show it.

    Args:
        result: The result.
        receipt: The bytes of the receipt that was verified, whose hash the footer names.
        answer: The answer's bytes; shown only if exactly they were proven to be signed.
    """
    state = verdict_state(result)
    sections = [
        _simulated(result),
        (
            f'<h2><span class="sign {state}">{FANCY[state]} {_WORDS[state]}</span> '
            f"{_text(result.summary)}</h2>"
        ),
        _when(result),
        _claims(result),
        _answer(result, answer),
        _identities(result),
        _findings(result),
        _footer(receipt),
    ]
    return f'<style>{_STYLE}</style><article class="teeverify">{"".join(sections)}</article>'


def render_report(
    result: AttestationResult, *, receipt: bytes | None = None, answer: bytes | None = None
) -> str:
    """Draw a result as one HTML file that holds its receipt, so that it can be verified again.

    Args:
        result: The result.
        receipt: The bytes of the receipt that was verified, if it was one.
        answer: The answer's bytes; shown only if exactly they were proven to be signed.
    """
    link = ""
    if receipt is not None:
        link = (
            f'<p class="teeverify-link"><a {_MARK}{base64.b64encode(receipt).decode("ascii")}">'
            "The receipt itself</a>: this page says what somebody's computer found; "
            "<code>teeverify verify</code> on this page or on the receipt finds it anew.</p>"
        )
    policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{_text(result.summary, 80)}</title></head><body>\n"
        f"{render_card(result, receipt=receipt, answer=answer)}\n{link}</body></html>\n"
    )


def is_report(raw: bytes) -> bool:
    """Whether bytes are an HTML file."""
    return raw[:64].lstrip().lower().startswith(b"<!doctype html")


def embedded_receipt(raw: bytes) -> bytes:
    """The receipt in a report; everything else in the report is somebody's word.

    Raises:
        MalformedEvidence: There is none, or more than one.
    """
    found = _EMBEDDED.findall(raw)
    links = len(_ANY_LINK.findall(raw))  # one in another spelling is what a reader would open
    if len(found) != 1 or links > 1:
        raise MalformedEvidence(
            "the page holds no receipt" if not found else "the page holds several receipts",
            id=_ID,
            field="report",
            got=f"{max(len(found), links)} receipts",
            want="exactly one, as --html writes it",
        )
    return base64_bytes(found[0].decode("ascii"), field="report.receipt", id=_ID)


def _text(text: str, limit: int = _MOST_TEXT) -> str:
    return html.escape(printable(text, limit=limit))


def _simulated(result: AttestationResult) -> str:
    if not result.simulated:
        return ""
    return '<p><span class="simulated">SIMULATED</span> Proves nothing about any hardware.</p>'


def _title(result: AttestationResult, words: str) -> str:
    """A section's title; each says that it is simulated, so that no part is taken alone."""
    mark = ' <span class="simulated">SIMULATED</span>' if result.simulated else ""
    return f"<h3>{words}{mark}</h3>"


def _when(result: AttestationResult) -> str:
    parts = [f"As of {show_time(result.as_of)}"]
    if result.satisfied and result.expires_at is not None and ends(result.expires_at):
        parts.append(f"valid until {show_time(result.expires_at)}")
    kept = "" if result.receipt is None else f"<br>{_text(result.receipt.sentence)}"
    policy = f"policy {_text(result.policy.name)}, <code>{_text(result.policy.hash)}</code>"
    return f'<p class="when">{"; ".join(_text(part) for part in parts)}; {policy}.{kept}</p>'


def _claims(result: AttestationResult) -> str:
    rows = []
    for name, claim in result.claims.items():
        findings = [f for f in result.findings if f.claim == name]
        state = claim_state(claim, findings)
        by = f" <em>(by {_text(claim.by)})</em>" if claim.by else ""
        but = reservations(findings) if state == "warned" else []
        by += "".join(f"<br>but: {_text(message)}" for message in but)
        first = claim.outcome is Outcome.FAILED or any(f.exit_code for f in findings)
        row = (
            f'<tr><td class="sign {state}">{FANCY[state]}</td><th scope="row">{_text(name)}</th>'
            f'<td class="{state}">{claim.outcome.value}</td>'
            f'<td title="{_text(CLAIM_QUESTIONS[name])}">{_text(claim.text)}{by}</td></tr>'
        )
        rows.append((not first, row))
    body = "".join(row for _, row in sorted(rows, key=lambda pair: pair[0]))
    head = (
        '<thead><tr><th></th><th scope="col">claim</th><th scope="col">how it is known</th>'
        '<th scope="col">what</th></tr></thead>'
    )
    return f"{_title(result, 'Claims')}<table>{head}<tbody>{body}</tbody></table>"


def _answer(result: AttestationResult, answer: bytes | None) -> str:
    """The answer's text, only where the very bytes were proven to be those that were signed."""
    proven = any(
        f.id == "response.hash-equal" and f.outcome is Outcome.PROVEN and f.got
        for f in result.findings
    )
    if answer is None or not proven:
        return ""
    signed = next(f.got for f in result.findings if f.id == "response.hash-equal")
    if hashlib.sha256(answer).hexdigest() != signed:
        return ""
    text = answer[: 4 * _MOST_TEXT].decode("utf-8", "replace")
    return (
        f"{_title(result, 'Answer')}<details><summary>the signed bytes, {len(answer)} in all"
        f"</summary><pre>{_text(text)}</pre></details>"
    )


def _identities(result: AttestationResult) -> str:
    if not result.identities and result.signer is None:
        return ""
    rows = []
    if result.signer is not None:
        rows.append(("signer", str(result.signer)))
    for one in result.identities:
        rows += [(f"{one.role} {name}", value) for name, value in one.registers.items()]
    body = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td><code>{_text(value)}</code></td></tr>'
        for name, value in rows
    )
    return (
        f"{_title(result, 'Identities')}<details><summary>key and measurements</summary>"
        f"<table><tbody>{body}</tbody></table></details>"
    )


def _findings(result: AttestationResult) -> str:
    items = "".join(_finding(finding) for finding in _worst_first(result.findings))
    return (
        f"{_title(result, 'Checks')}<details><summary>all {len(result.findings)} checks</summary>"
        f"<table><tbody>{items}</tbody></table></details>"
    )


def _worst_first(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: not finding.exit_code)


def _finding(finding: Finding) -> str:
    state = finding_state(finding)
    subject = f" [{_text(finding.subject)}]" if finding.subject else ""
    facts = "".join(
        f"<br>{name} <code>{_text(value, 400)}</code>"
        for name, value in (("got", finding.got), ("want", finding.want), ("by", finding.by))
        if value is not None
    )
    hint = f"<br>do {_text(finding.hint)}" if finding.hint else ""
    return (
        f'<tr><td class="sign {state}">{FANCY[state]}</td>'
        f'<th scope="row"><code>{_text(finding.id)}</code>{subject}</th>'
        f'<td class="{state}">{finding.outcome.value}, {finding.severity.value}</td>'
        f"<td>{_text(finding.message)}{facts}{hint}</td></tr>"
    )


def _footer(receipt: bytes | None) -> str:
    if receipt is None:
        return "<footer>This card is a picture, and proves nothing by itself.</footer>"
    digest = hashlib.sha256(receipt).hexdigest()
    return (
        "<footer>This card is a picture. To check it: <code>teeverify verify receipt.json</code> "
        f"(sha256 <code>{digest}</code>).</footer>"
    )
