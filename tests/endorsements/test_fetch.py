"""Fetching over the network: what is refused, and when it ends."""

from __future__ import annotations

import time

import pytest

from teeverify.endorsements.fetch import Fetcher, require_https
from teeverify.errors import ConfigurationError, EndorsementUnavailable
from teeverify.simulator.nvidia_services import Reply as ServiceReply

PATH = "/sgx/certification/v4/rootcacrl"
NAMES = {"what": "a list", "id": "tdx.root-crl"}


def refused(pccs, **options):
    fetcher = Fetcher(**{"ca_file": pccs.ca_file, "timeout": 5, **options})
    with pytest.raises(EndorsementUnavailable) as caught:
        fetcher.get(pccs.url + PATH, **NAMES)
    assert caught.value.id == "tdx.root-crl"
    assert caught.value.exit_code == 3
    return caught.value


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/x", "ftp://localhost", "https://", "https:///x", "//localhost", "",
        "https://user:word@localhost/", "https://localhost/#x", "https://localhost/ x",
        "https://localhost:x/", "https://localhost:0/", "https://[::1", "file:///etc/passwd",
        "https://localhost/\n", "https://l\u00f6calhost/", None, 7,
    ],
)  # fmt: skip
def test_https_only(url):
    with pytest.raises(ConfigurationError) as caught:
        require_https(url)
    assert caught.value.id == "usage.endorsements"
    with pytest.raises(ConfigurationError):
        Fetcher().get(url, **NAMES)


@pytest.mark.parametrize("timeout", [0, -1, 601, "5", None, float("nan")])
def test_a_time_out_is_a_number_of_seconds(timeout):
    with pytest.raises(ConfigurationError):
        Fetcher(timeout=timeout)


def test_a_file_of_authorities_must_be_there(tmp_path):
    with pytest.raises(ConfigurationError):
        Fetcher(ca_file=tmp_path / "none.pem")


@pytest.mark.network
def test_it_fetches_and_keeps_only_what_belongs_to_the_answer(pccs, reply):
    headers = {"SGX-PCK-CRL-Issuer-Chain": "chain", "Set-Cookie": "a=b"}
    pccs.replies[PATH] = [reply(body=b"bytes", headers=headers)]
    answer = Fetcher(ca_file=pccs.ca_file).get(
        pccs.url + PATH, **NAMES, keep=("sgx-pck-crl-issuer-chain", "other")
    )
    assert (answer.body, answer.headers) == (b"bytes", {"sgx-pck-crl-issuer-chain": "chain"})
    assert "Authorization" not in pccs.sent[0]


@pytest.mark.network
def test_an_unknown_authority_is_refused(pccs):
    error = refused(pccs, ca_file=None)
    assert "no connection" in error.message
    assert pccs.asked == []


@pytest.mark.network
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (301, "redirect"), (302, "redirect"), (307, "redirect"), (404, "nothing of that name"),
        (410, "retired"), (400, "no answer of use"), (500, "no answer of use"),
        (201, "no answer of use"),
    ],
)  # fmt: skip
def test_other_answers(pccs, reply, status, words):
    pccs.replies[PATH] = [reply(status, b"", {"Location": f"{pccs.url}/elsewhere"})]
    assert words in refused(pccs).message
    assert len(pccs.asked) == 1


@pytest.mark.network
def test_a_busy_server_is_asked_again_when_it_says(pccs, reply):
    pccs.replies[PATH] = [reply(429, headers={"Retry-After": "1"}), reply(body=b"late")]
    start = time.monotonic()
    answer = Fetcher(ca_file=pccs.ca_file).get(pccs.url + PATH, **NAMES)
    assert answer.body == b"late"
    assert time.monotonic() - start >= 1


@pytest.mark.network
@pytest.mark.parametrize("wait", ["3600", "", "soon", "-1", "1e9", "9" * 50, None])
def test_a_busy_server_is_not_waited_for_without_end(pccs, reply, wait):
    headers = {} if wait is None else {"Retry-After": wait}
    pccs.replies[PATH] = [reply(429, headers=headers)]
    start = time.monotonic()
    assert "too many questions" in refused(pccs).message
    assert time.monotonic() - start < 2
    assert len(pccs.asked) == 1


@pytest.mark.network
def test_it_gives_up_on_a_server_that_stays_busy(pccs, reply):
    pccs.replies[PATH] = [reply(503, headers={"Retry-After": "0"})]
    refused(pccs)
    assert len(pccs.asked) == 3


@pytest.mark.network
def test_a_dripping_server_does_not_hold_it_up(pccs, reply):
    pccs.replies[PATH] = [reply(body=bytes(1000), pause=0.05)]
    start = time.monotonic()
    assert "did not come" in refused(pccs, timeout=0.5).message
    assert time.monotonic() - start < 3


@pytest.mark.network
def test_too_much(pccs, reply):
    pccs.replies[PATH] = [reply(body=bytes(4 * 1024 * 1024 + 1))]
    assert "too large" in refused(pccs).message


@pytest.mark.network
def test_compressed(pccs, reply):
    pccs.replies[PATH] = [reply(body=b"x", headers={"Content-Encoding": "gzip"})]
    assert "compressed" in refused(pccs).message


@pytest.mark.network
def test_nobody_there(pccs):
    pccs.close()
    assert "no connection" in refused(pccs).message


# --- questions that are posted ------------------------------------------------------------------


def post(host, body=b"question", url=None, **options):
    fetcher = Fetcher(**{"timeout": 10, "ca_file": host.ca_file, **options})
    return fetcher.post(
        url or f"{host.url}/v4/attest/gpu", body, content_type="text/x", what="a word", id="x.y"
    )


@pytest.mark.network
def test_a_question_is_posted_with_its_type_and_nothing_else(nvidia_host):
    seen = []
    nvidia_host.services.reply = lambda method, path, body: (
        seen.append((method, path, body)) or ServiceReply(body=b"answer")
    )
    assert post(nvidia_host) == b"answer"
    assert seen == [("POST", "/v4/attest/gpu", b"question")]
    (headers,) = nvidia_host.sent
    assert headers["Content-Type"] == "text/x"
    assert not headers.keys() & {"Authorization", "Cookie", "Expect"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.network
def test_a_posted_question_is_never_sent_elsewhere(nvidia_host, status):
    elsewhere = {"Location": f"{nvidia_host.url}/other"}
    nvidia_host.services.reply = lambda *_: ServiceReply(status=status, headers=elsewhere)
    with pytest.raises(EndorsementUnavailable, match="redirect"):
        post(nvidia_host)
    assert len(nvidia_host.asked) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 500, 502, 503])
@pytest.mark.network
def test_a_posted_question_that_is_not_answered(nvidia_host, status):
    nvidia_host.services.reply = lambda *_: ServiceReply(status=status)
    with pytest.raises(EndorsementUnavailable):
        post(nvidia_host)


@pytest.mark.network
def test_an_answer_that_is_too_large_or_drips(nvidia_host):
    nvidia_host.services.reply = lambda *_: ServiceReply(body=b"x" * (4 * 1024 * 1024 + 1))
    with pytest.raises(EndorsementUnavailable, match="too large"):
        post(nvidia_host)
    nvidia_host.services.reply = lambda *_: ServiceReply(body=b"x" * 100)
    nvidia_host.pause = 0.1
    with pytest.raises(EndorsementUnavailable, match="did not come"):
        post(nvidia_host, timeout=0.5)


@pytest.mark.network
def test_what_may_not_be_posted(nvidia_host):
    with pytest.raises(ConfigurationError):
        post(nvidia_host, url="http://localhost/")
    with pytest.raises(ConfigurationError):
        post(nvidia_host, b"x" * (1024 * 1024 + 1))
    assert nvidia_host.asked == []
