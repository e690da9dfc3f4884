"""What is kept on disk: never trusted, never half written, never through a link."""

from __future__ import annotations

import json
import os
import stat

import pytest

from teeverify.encoding.fields import JsonObject
from teeverify.endorsements import Answer, read_bundle, write_bundle
from teeverify.endorsements.store import Store, default_folder
from teeverify.errors import ConfigurationError, MalformedEvidence

URL = "https://example.org/tdx/certification/v4/tcb?fmspc=00"
ANSWER = Answer(url=URL, headers={"tcb-info-issuer-chain": "x"}, body=b"\x00\xff")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "cache")


def only_file(store):
    (file,) = store.folder.iterdir()
    return file


def test_what_is_saved_is_read(store):
    assert store.load(URL) is None
    store.save(ANSWER)
    assert store.load(URL) == ANSWER
    assert store.load(URL + "0") is None
    assert list(store.answers()) == [ANSWER]


def test_only_the_owner_may_read(store):
    store.save(ANSWER)
    assert stat.S_IMODE(only_file(store).stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


def test_a_later_answer_takes_the_place(store):
    store.save(ANSWER)
    later = Answer(url=URL, headers={}, body=b"new")
    store.save(later)
    assert list(store.answers()) == [later]
    assert len(list(store.folder.iterdir())) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"url": 1, "headers": {}, "body": ""}',
     b'{"url": "https://other", "headers": {}, "body": ""}',
     b'{"url": "x", "headers": {"a": 1}, "body": ""}', b"\xff" * 100,
     b'{"url": "https://[", "headers": {}, "body": ""}'],
)  # fmt: skip
def test_a_broken_file_is_no_answer(store, content):
    store.save(ANSWER)
    only_file(store).write_bytes(content)
    assert store.load(URL) is None


def test_an_answer_kept_under_another_url_is_none(store):
    store.save(ANSWER)
    form = json.loads(only_file(store).read_text())
    form["url"] = URL + "1"
    only_file(store).write_text(json.dumps(form))
    assert store.load(URL) is None


def test_a_link_is_not_followed(store, tmp_path):
    store.save(ANSWER)
    file = only_file(store)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert store.load(URL) is None
    store.save(ANSWER)
    assert not file.is_symlink()
    assert store.load(URL) == ANSWER


def test_a_pipe_is_not_waited_for(store):
    store.save(ANSWER)
    file = only_file(store)
    file.unlink()
    os.mkfifo(file)
    assert store.load(URL) is None


def test_a_folder_that_is_a_link_or_a_file_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_bytes(b"")
    for name in ("link", "file"):
        with pytest.raises(ConfigurationError) as caught:
            Store(tmp_path / name)
        assert caught.value.id == "usage.cache"
    store = Store(tmp_path / "late")
    (tmp_path / "late").symlink_to(tmp_path / "real")
    for use in (lambda: store.save(ANSWER), lambda: store.load(URL)):
        with pytest.raises(ConfigurationError):
            use()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError):
        Store(tmp_path / "file" / "below").save(ANSWER)


def test_it_forgets(store):
    store.save(ANSWER)
    store.remove([URL, URL + "1"])
    assert list(store.answers()) == []


def test_counters_only_rise(store):
    assert store.counters() == {}
    store.raise_counters({"a": 3, "b": 1})
    store.raise_counters({"a": 2, "c": 5})
    assert store.counters() == {"a": 3, "b": 1, "c": 5}
    assert list(store.answers()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": "1"}', b'{"a": 1, "a": 2}'])
def test_counters_that_cannot_be_read_are_not_forgotten(store, content):
    store.raise_counters({"a": 1})
    (store.folder / "counters.json").write_bytes(content)
    for use in (store.counters, lambda: store.raise_counters({"a": 2})):
        with pytest.raises(ConfigurationError) as caught:
            use()
        assert caught.value.id == "usage.cache"


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("TEEVERIFY_CACHE", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.delenv("TEEVERIFY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "teeverify" / "endorsements"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "teeverify" / "endorsements"


def parse(raw):
    return read_bundle(JsonObject.parse(raw, path="bundle", id="test"))


def test_a_bundle_holds_the_exact_bytes():
    assert parse(write_bundle([ANSWER])) == (ANSWER,)
    assert write_bundle([ANSWER]) == write_bundle([ANSWER])


@pytest.mark.parametrize(
    "raw",
    [b"{}", b'{"schema": "x", "answers": []}', b'{"schema": "teeverify.endorsements/1"}',
     b'{"schema": "teeverify.endorsements/1", "answers": [1]}',
     b'{"schema": "teeverify.endorsements/1", "answers": [{"url": "", "headers": {}}]}'],
)  # fmt: skip
def test_another_form_is_no_bundle(raw):
    with pytest.raises(MalformedEvidence):
        parse(raw)
