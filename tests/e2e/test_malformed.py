"""Whatever comes in: an error of ours with its field, and never a better verdict (T61 to T70)."""

from __future__ import annotations

import base64
import copy as copying
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from teeverify.client.sources import load_evidence
from teeverify.errors import MalformedEvidence, TeeVerifyError
from teeverify.providers.dialect import Recorded
from teeverify.providers.near import NEAR

DELETED = object()
VALUES = (DELETED, None, -1, True, "", "x", [1], {})
LAYOUT = {"include_tls_fingerprint": "true"}


@pytest.fixture(scope="module")
def small(tmp_path_factory, request):
    """A provider with one GPU, so that thousands of reports are appraised in seconds."""
    stage = request.getfixturevalue("stage")
    return type(stage)(tmp_path_factory.mktemp("small"), gpus=1)


# --- every member of a report --------------------------------------------------------------------


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every member; ``$`` steps into JSON inside a text. Of long lists, three items."""
    if path and path[-1] != "$":
        yield path
    if isinstance(value, dict):
        for name, member in value.items():
            yield from paths(member, (*path, name))
    elif isinstance(value, list):
        for index in sorted({0, len(value) // 2, len(value) - 1} & set(range(len(value)))):
            yield from paths(value[index], (*path, index))
    elif isinstance(value, str) and value[:1] in ("{", "["):
        yield from paths(json.loads(value), (*path, "$"))


def changed(value: Any, path: tuple[Any, ...], new: object) -> Any:
    """A copy with one member replaced or deleted."""
    if not path:
        return new
    step, *rest = path
    if step == "$":
        return json.dumps(changed(json.loads(value), tuple(rest), new))
    shallow = copying.copy(value)
    if not rest and new is DELETED:
        del shallow[step]
    else:
        shallow[step] = changed(shallow[step], tuple(rest), new)
    return shallow


def _names(path: tuple[Any, ...]) -> str:
    return ".".join(str(step) for step in path if not isinstance(step, int))


# What may be left out of a report, or be something else, and the verdict is a warning still; with
# the reason. Whoever adds a line here gives whoever holds the report one more thing to change.
HARMLESS = {
    "signing_algo": "without it an address is one of ecdsa",
    "signing_public_key": "unsigned copy: the quote binds the address",
    "request_nonce": "unsigned copy: the quote binds the nonce",
    "event_log.event_type": "of firmware events only the digest is measured",
    "event_log.event": "of firmware events only the digest is measured",
    "event_log.event_payload": "of firmware events only the digest; of others, where it is empty",
    "event_log.digest": "of runtime events the digest is computed, and may be left out",
    "model_name": "then nothing names the model, and model.identity is absent",
    "info.device_id": "the report alone says it: told, and compared only with a list of yours",
    "nvidia_payload.$.nonce": "unsigned copy: the reports sign the nonce",
    "nvidia_payload.$.arch": "unsigned copy: the certificate names the chip",
    "nvidia_payload.$.evidence_list.arch": "unsigned copy: the certificate names the chip",
}
PREFIXES = ("gateway_attestation.", "model_attestations.", "compose_manager_attestation.")


def _harmless(path: tuple[Any, ...]) -> bool:
    name = _names(path)
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name.replace("event_log.$.", "event_log.") in HARMLESS


def test_every_member_of_a_report(small):
    evidence = load_evidence(small.good)
    verifier = small.verifier()
    report = small.endpoint.near_report()
    peer = evidence.machines[0].peer_spki_sha256

    def appraise(body: Any) -> tuple[int, str]:
        raw = json.dumps(body).encode()
        recorded = Recorded(path=NEAR.report_path, query=LAYOUT, body=raw, peer_spki_sha256=peer)
        try:
            machines = NEAR.read(recorded)
            result = verifier.appraise(dataclasses.replace(evidence, machines=machines))
        except TeeVerifyError as error:
            return error.exit_code, "none"
        return result.exit_code, result.tier

    assert appraise(report) == (0, "warning")
    passed = set()
    for path in paths(report):
        for value in VALUES:
            body = changed(report, path, value)
            if body == report:
                continue
            code, tier = appraise(body)
            assert code in (0, 1, 2, 3), (path, value)
            assert tier != "affirming", (path, value)
            if code == 0:
                passed.add(path)
    assert {_names(path) for path in passed if not _harmless(path)} == set()
    seen = {_names(path) for path in passed}
    assert {name for name in HARMLESS if not any(path.endswith(name) for path in seen)} <= {
        "event_log.event_type"
    }


# What may be changed in the other files of a recording without a refusal.
HARMLESS_ELSEWHERE = {
    "manifest.json": {"provider", "model", "nonce_hex"},
    "0001_report.http.json": {"method", "headers", "peer_spki_der_base64"},
    "0002_nras.http.json": {"method", "headers"},
    "0003_jwks.http.json": {"method", "headers"},
}


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "0001_report.http.json",
        "0002_nras.http.json",
        "0002_nras.body",
        "0003_jwks.http.json",
        "0003_jwks.body",
    ],
)
def test_every_member_of_the_other_files(small, name):
    folder = small.capture()
    file = folder / name
    original = json.loads(file.read_bytes())
    verifier = small.verifier()
    passed = set()
    for path in paths(original):
        for value in VALUES:
            new = changed(original, path, value)
            if new == original:
                continue
            file.write_text(json.dumps(new))
            try:
                result = verifier.appraise(folder)
                code, tier = result.exit_code, result.tier
            except TeeVerifyError as error:
                code, tier = error.exit_code, "none"
            assert code in (0, 1, 2, 3), (path, value)
            assert tier != "affirming", (path, value)
            if code == 0:
                passed.add(_names(path))
    assert passed == HARMLESS_ELSEWHERE.get(name, set())


# --- files that are cut, swollen or something else -----------------------------------------------


def refused(small, source, **arguments) -> MalformedEvidence:
    """The source is refused as malformed, before or in its verification."""
    try:
        result = small.appraise(source, **{"scope": "evidence", **arguments})
    except MalformedEvidence as error:
        return error
    assert result.exit_code == 2
    error = result.error()
    assert isinstance(error, MalformedEvidence)
    return error


DEEP = (b"[" * 100_000, b'{"evidence_list":' * 5_000, b"[" * 40 + b"]" * 40)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"\0",
        b"\0" * 8,
        b"\0" * 5_000,
        b"\0" * 10_000_000,
        b"\xff" * 5_000,
        b"0x",
        b"0" * 4_999,
        b"04" * 2_500,
        b"zz" * 2_500,
        b"{}",
        b"[]",
        b"[{}]",
        b"null",
        b'{"evidence_list": [], "quote": "", "event_log": []}',
        b'{"quote": 1, "event_log": []}',
        b'{"quote": "zz", "event_log": []}',
        b'{"quote": "", "event_log": []}',
        b'{"quote": null, "event_log": null}',
        b'{"evidence_list": []}',
        b'{"evidence_list": 1}',
        b'{"evidence_list": [1]}',
        b'{"evidence_list": [{"evidence": "!", "certificate": "!"}]}',
        b'{"evidence_list": [], "evidence_list": []}',
        b'[{"evidence": 1}]',
        b'{"a": "\\ud800"}',
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b"\xef\xbb\xbf{}",
        b"{",
        b"\xff{",
        *DEEP,
    ],
    ids=lambda raw: f"{raw[:12]!r}-{len(raw)}",
)
def test_a_source_that_is_nothing_known(small, raw, tmp_path):
    error = refused(small, raw)
    assert error.field
    file = tmp_path / "source"
    file.write_bytes(raw)
    again = refused(small, file)
    assert (again.id, again.field) == (error.id, error.field)


def test_a_quote_cut_short(small):
    """At every 97th byte, and around each field: with the field, the offset, need and have."""
    quote = small.endpoint.model.quote(bytes(64))
    sizes = {*range(8, len(quote), 97), 8, 47, 48, 49, 631, 632, 635, 636, 700, 764, 768, 770}
    for size in sorted(sizes):
        error = refused(small, quote[:size], endorsements=small.good, at=small.endpoint.at)
        assert error.id == "tdx.quote"
        assert error.field.startswith("tdx.quote")
        assert error.offset is not None
        assert error.offset <= size
        assert error.need is not None


def test_gpu_evidence_cut_short(small):
    endpoint = small.endpoint
    entry = endpoint.nvidia.gpu(0).evidence(endpoint.nonce)
    raw = base64.b64decode(entry["evidence"])
    for size in range(0, len(raw), 97):
        cut = {**entry, "evidence": base64.b64encode(raw[:size]).decode()}
        error = refused(small, json.dumps([cut]).encode(), at=endpoint.at)
        assert error.field


def test_a_report_cut_short(small):
    folder = small.capture()
    file = folder / "0001_report.body"
    raw = file.read_bytes()
    for size in range(0, len(raw), 1_997):
        file.write_bytes(raw[:size])
        error = refused(small, folder)
        assert (error.id, error.field) == ("report", "report")


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 10_000_000, b"[]", b"null", b"{", b'{"a":1,"a":2}', b"\xff", *DEEP],
    ids=lambda raw: f"{raw[:12]!r}-{len(raw)}",
)
def test_any_file_of_a_recording_is_something_else(small, content):
    """The body of an answer that no dialect asks for may be anything; all others may not."""
    folder = small.capture()
    for file in sorted(folder.iterdir()):
        original = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(TeeVerifyError) as caught:
            small.appraise(folder).require()
        assert caught.value.exit_code in (2, 3), file.name
        file.write_bytes(original)
    assert small.appraise(folder).exit_code == 0


def test_any_file_of_a_recording_is_not_there(small):
    folder = small.capture()
    for file in sorted(folder.iterdir()):
        original = file.read_bytes()
        file.unlink()
        with pytest.raises(TeeVerifyError) as caught:
            small.appraise(folder).require()
        assert caught.value.exit_code in (2, 3, 64), file.name
        file.write_bytes(original)


@pytest.mark.parametrize("field", ["intel_quote", "tls_cert_fingerprint", "request_nonce"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "0",
        lambda text: text + " ",
        lambda text: " " + text,
        lambda text: text + "\n",
        lambda text: text[:8] + " " + text[8:],
        lambda text: text[:8] + "_" + text[9:],
        lambda text: text[:-2] + "\uff11\uff11",
        lambda text: "0x0x" + text,
        lambda text: "",
        lambda text: "g" * len(text),
    ],
)
def test_hexadecimal_that_is_none(small, field, change):
    report = small.endpoint.near_report()
    node = report["model_attestations"][0]
    node[field] = change(node[field])
    assert refused(small, small.capture(report=report))


@pytest.mark.parametrize("field", ["evidence", "certificate"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.rstrip("=")[:-1],
        lambda text: text + "=",
        lambda text: text[:8] + "\n" + text[8:],
        lambda text: text[:8] + "-" + text[9:],
        lambda text: text[:8] + "!" + text[9:],
        lambda text: "",
        lambda text: "AAAA",
        lambda text: "A" * 5_000_000,
    ],
)
def test_base64_that_is_none(small, field, change):
    endpoint = small.endpoint
    entry = endpoint.nvidia.gpu(0).evidence(endpoint.nonce)
    entry[field] = change(entry[field])
    payload = json.dumps({"evidence_list": [entry]})
    with pytest.raises(TeeVerifyError) as caught:
        small.appraise(small.near(model={"nvidia_payload": payload}, nras=None)).require()
    assert caught.value.exit_code == 2


def test_too_many_of_anything(small):
    endpoint = small.endpoint
    entry = endpoint.nvidia.gpu(0).evidence(endpoint.nonce)
    events = endpoint.model.guest.event_log
    for changes in (
        {"nvidia_payload": json.dumps({"evidence_list": [entry] * 100})},
        {"event_log": events * 1_000},
        {"event_log": [{**events[0], "event_payload": "00" * 2_000_000}]},
    ):
        assert small.appraise(small.near(model=changes, nras=None)).exit_code == 2


def test_the_command_line_names_field_and_offset(cli, small, tmp_path):
    file = tmp_path / "quote.bin"
    file.write_bytes(small.endpoint.model.quote(bytes(64))[:500])
    given = ("verify", file, "--for", "evidence", "--endorsements", small.good,
             "--unsafe-test-roots", small.roots_file, "--at", "2026-06-29T02:06:57Z")  # fmt: skip
    ran = cli(*given)
    assert ran.code == 2
    for raw in (b"", b"\0" * 10_000_000, b"{"):
        file.write_bytes(raw)
        ran = cli(*given, "--json")
        assert ran.code == 2
        error = ran.json["error"]
        assert (error["class"], bool(error["field"])) == ("MalformedEvidence", True)
        assert error["offset"] is not None or raw == b"{"
