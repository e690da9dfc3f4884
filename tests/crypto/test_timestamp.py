"""Timestamps (RFC 3161): of this hash, by an authority that the caller named, or refused."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from datetime import datetime, timedelta, timezone

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from teeverify.crypto.timestamp import parse_timestamp, verify_timestamp
from teeverify.errors import (
    BindingMismatch,
    ChainInvalid,
    ConfigurationError,
    EndorsementUnavailable,
    MalformedEvidence,
    SignatureInvalid,
    TeeVerifyError,
)
from teeverify.roots import TimestampRoots
from teeverify.simulator.timestamps import TimestampAuthority

AT = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
TWICE = bytes.fromhex("301a06092a864886f70d010903310d060b2a864886f70d0109100104")
DIGEST = hashlib.sha256(b"a receipt").digest()


@pytest.fixture(scope="module", params=[False, True], ids=["ecdsa", "rsa"])
def authority(request):
    return TimestampAuthority(rsa_keys=request.param)


@pytest.fixture(scope="module")
def roots(authority):
    return TimestampRoots([authority.roots_pem()])


def checked(raw, roots, of=DIGEST):
    stamp = parse_timestamp(raw, of=of)
    return stamp.time, verify_timestamp(stamp, roots.anchors)


def test_a_good_one(authority, roots):
    answer = authority.stamp(DIGEST, AT)
    assert checked(answer, roots) == (AT, "teeverify simulator TSA")
    token = parse_timestamp(answer, of=DIGEST).token
    assert checked(token, roots) == (AT, "teeverify simulator TSA")
    assert parse_timestamp(token, of=DIGEST).token == token


def test_accuracy_makes_it_later(authority, roots):
    accuracy = bytes.fromhex("300a020102800201f4810103")
    time, _ = checked(authority.stamp(DIGEST, AT, accuracy=accuracy), roots)
    assert time == AT + timedelta(seconds=2, milliseconds=500, microseconds=3)
    fraction, _ = checked(authority.stamp(DIGEST, AT, time=b"20260601120000.25Z"), roots)
    assert fraction == AT + timedelta(milliseconds=250)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"status": 2}, MalformedEvidence),
        ({"imprint": bytes(32)}, BindingMismatch),
        ({"imprint_algorithm": bytes.fromhex("608648016503040203")}, BindingMismatch),
        ({"version": 2}, MalformedEvidence),
        ({"accuracy": bytes.fromhex("3003020180")}, MalformedEvidence),
        ({"accuracy": bytes.fromhex("30050203015181")}, MalformedEvidence),
        ({"time": b"20260601120000"}, MalformedEvidence),
        ({"time": b"20261301120000Z"}, MalformedEvidence),
        ({"time": b"20260601120000+0100"}, MalformedEvidence),
        ({"content_type": bytes.fromhex("2a864886f70d010701")}, BindingMismatch),
        ({"message_digest": bytes(32)}, BindingMismatch),
        ({"named": bytes([1]) * 32}, BindingMismatch),
        ({"with_certificate": False}, ChainInvalid),
        ({"more_attributes": TWICE},
         MalformedEvidence),
        ({"time": b"20990601120000Z"}, EndorsementUnavailable),
        ({"time": b"19990601120000Z"}, EndorsementUnavailable),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)  # fmt: skip
def test_a_wrong_one(authority, roots, changes, error):
    with pytest.raises(error) as refused:
        checked(authority.stamp(DIGEST, AT, **changes), roots)
    assert refused.value.id == "receipt.time"


def test_of_another_hash(authority, roots):
    with pytest.raises(BindingMismatch):
        checked(authority.stamp(DIGEST, AT), roots, of=bytes(32))


def test_signed_by_another_key(authority, roots):
    other = TimestampAuthority()
    with pytest.raises(SignatureInvalid):
        checked(authority.stamp(DIGEST, AT, signer=other.signer), roots)


def test_of_another_authority(authority, roots):
    with pytest.raises(ChainInvalid):
        checked(TimestampAuthority(ca_name="another").stamp(DIGEST, AT), roots)
    with pytest.raises(SignatureInvalid):  # one that took the name
        checked(TimestampAuthority(rsa_keys=True).stamp(DIGEST, AT), roots)


@pytest.mark.parametrize(
    "options",
    [
        {"critical": False},
        {"usages": (ExtendedKeyUsageOID.CODE_SIGNING,)},
        {"usages": (ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING)},
    ],
    ids=str,
)
def test_a_certificate_for_something_else(options):
    authority = TimestampAuthority(**options)
    with pytest.raises(ChainInvalid, match="timestamps alone"):
        checked(authority.stamp(DIGEST, AT), TimestampRoots([authority.roots_pem()]))


def test_every_byte_counts(authority, roots):
    """A changed byte is refused, or was no part of what is signed: then nothing changes."""
    token = parse_timestamp(authority.stamp(DIGEST, AT), of=DIGEST).token
    same = 0
    for place in range(len(token)):
        forged = token[:place] + bytes([token[place] ^ 1]) + token[place + 1 :]
        try:
            found = checked(forged, roots)
        except TeeVerifyError:
            continue
        assert found == (AT, "teeverify simulator TSA")
        same += 1
    assert same <= 13  # the unsigned set of digest algorithms repeats what the signer says


@pytest.mark.parametrize("cut", [1, 50, 400])
def test_half_a_token(authority, roots, cut):
    with pytest.raises(MalformedEvidence):
        checked(authority.stamp(DIGEST, AT)[:-cut], roots)


@pytest.mark.parametrize("raw", [b"", b"0\x00", b"0\x03\x02\x01\x00", b"x" * 70_000])
def test_no_token(raw):
    with pytest.raises(MalformedEvidence):
        parse_timestamp(raw, of=DIGEST)


def test_roots(tmp_path, authority):
    with pytest.raises(ConfigurationError):
        TimestampRoots([])
    with pytest.raises(ConfigurationError):
        TimestampRoots.load(tmp_path / "none.pem")
    path = tmp_path / "roots.pem"
    path.write_bytes(authority.roots_pem())
    assert repr(TimestampRoots.load(path)) == "TimestampRoots(1 CAs)"
    path.write_bytes(b"x" * 300_000)
    with pytest.raises(ConfigurationError):
        TimestampRoots.load(path)


CONFIG = """
[tsa]
default_tsa = tsa1
[tsa1]
serial = serial
default_policy = 1.2.3.4
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
signer_digest = sha256
[v3]
extendedKeyUsage = critical,timeStamping
keyUsage = critical,digitalSignature
[ca]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
"""


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_token_that_openssl_made(tmp_path):
    """A second implementation: what it signs is read here, with its own clock's time."""

    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], cwd=tmp_path, check=True,
                       capture_output=True)  # fmt: skip

    (tmp_path / "c.cnf").write_text(CONFIG + "[req]\ndistinguished_name=dn\n[dn]\n")
    (tmp_path / "serial").write_text("01\n")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem",
            "-subj", "/CN=ca", "-config", "c.cnf", "-extensions", "ca")  # fmt: skip
    openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "tsa.key", "-out", "tsa.csr",
            "-subj", "/CN=tsa", "-config", "c.cnf")  # fmt: skip
    openssl("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-out",
            "tsa.pem", "-extfile", "c.cnf", "-extensions", "v3", "-set_serial", "5")  # fmt: skip
    openssl("ts", "-query", "-digest", DIGEST.hex(), "-sha256", "-cert", "-out", "q.tsq")
    openssl("ts", "-reply", "-config", "c.cnf", "-queryfile", "q.tsq", "-signer", "tsa.pem",
            "-inkey", "tsa.key", "-out", "r.tsr")  # fmt: skip
    roots = TimestampRoots.load(tmp_path / "ca.pem")
    time, name = checked((tmp_path / "r.tsr").read_bytes(), roots)
    assert name == "tsa"
    assert abs(time - datetime.now(timezone.utc)) < timedelta(minutes=5)
