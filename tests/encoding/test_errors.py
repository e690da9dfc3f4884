"""The one exception tree: which exit code, what may be retried, and what a message says."""

from __future__ import annotations

import pytest

from teeverify import errors
from teeverify.errors import (
    AppraisalFailed,
    BindingMismatch,
    ChainInvalid,
    ConfigurationError,
    DebugEnabled,
    EndorsementInvalid,
    EndorsementUnavailable,
    EndpointUnavailable,
    EvidenceError,
    MalformedEvidence,
    ResponseNotVerified,
    SignatureInvalid,
    SignatureUnavailable,
    StaleEvidence,
    TcbRejected,
    TeeVerifyError,
    Unavailable,
)

WRONG = [
    BindingMismatch,
    ChainInvalid,
    DebugEnabled,
    EndorsementInvalid,
    EvidenceError,
    MalformedEvidence,
    SignatureInvalid,
    StaleEvidence,
    TcbRejected,
]
MISSING = [EndorsementUnavailable, EndpointUnavailable, SignatureUnavailable, Unavailable]


def make(kind, message="thing: wrong", **more):
    if kind is MalformedEvidence:
        more.setdefault("field", "thing")
    return kind(message, id="test.error", **more)


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_is_final(kind):
    error = make(kind)
    assert (error.exit_code, error.retryable) == (2, False)
    assert isinstance(error, EvidenceError)
    assert not isinstance(error, Unavailable)


@pytest.mark.parametrize("kind", MISSING)
def test_missing_may_be_retried(kind):
    error = make(kind)
    assert (error.exit_code, error.retryable) == (3, True)
    assert isinstance(error, Unavailable)
    assert not isinstance(error, EvidenceError)


def test_the_others():
    assert make(AppraisalFailed).exit_code == 1
    assert make(ResponseNotVerified).exit_code == 2
    assert make(ConfigurationError).exit_code == 64
    assert make(TeeVerifyError).exit_code == 70
    for kind in (AppraisalFailed, ResponseNotVerified, ConfigurationError, TeeVerifyError):
        assert not make(kind).retryable


def test_everything_exported_is_of_the_tree():
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, TeeVerifyError)
        assert kind.__doc__


def test_message():
    error = make(ChainInvalid, "the chain ends elsewhere", got="A", want="B", hint="Do C.")
    assert str(error) == "the chain ends elsewhere; got A; want B. Do C. [test.error]"
    assert str(make(ChainInvalid)) == "thing: wrong [test.error]"
    assert str(make(ChainInvalid, got="A")) == "thing: wrong; got A [test.error]"
    assert error.args == ("the chain ends elsewhere",)
    assert error.result is None


def test_docs_anchor():
    assert make(ChainInvalid).docs == "checks.html#test-error"


def test_malformed_says_where():
    error = MalformedEvidence(
        "truncated", id="test.error", field="quote.body", offset=0x4A2, need=384, have=12
    )
    assert str(error) == ("truncated in quote.body at offset 0x4a2: need 384, have 12 [test.error]")
    assert "in thing" not in str(make(MalformedEvidence))
    zero = make(MalformedEvidence, need=0, have=1, offset=0)
    assert "at offset 0x0: need 0, have 1" in str(zero)


@pytest.mark.parametrize("kind", [TeeVerifyError, ChainInvalid])
def test_an_id_is_required(kind):
    with pytest.raises(TypeError):
        kind("message")
