"""ID blocks: whose signature stands for a launch."""

from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from teeverify import snp
from teeverify.errors import (
    BindingMismatch,
    ConfigurationError,
    MalformedEvidence,
    SignatureInvalid,
    TeeVerifyError,
)
from teeverify.simulator.amd import sign_report
from teeverify.simulator.amd_id_block import id_auth, id_block, packed_key
from teeverify.snp.id_block import id_key_digest, parse_id_auth, parse_id_block, verify_id_block

LD = b"\x07" * 48
KEY, AUTHOR, OTHER = (ec.generate_private_key(ec.SECP384R1()) for _ in range(3))
BLOCK = id_block(measurement=LD, family_id=b"f" * 16, image_id=b"i" * 16, guest_svn=5)


def digest(key):
    return hashlib.sha384(packed_key(key)).digest()


@pytest.fixture(scope="module")
def launch(forge):
    """A verified report of a guest that was launched with the block."""

    def make(*, author=False, **fields):
        values = {
            "measurement": LD, "family_id": b"f" * 16, "image_id": b"i" * 16, "guest_svn": 5,
            "id_key_digest": digest(KEY), "key_info": 1 if author else 0,
            "author_key_digest": digest(AUTHOR) if author else b"", **fields,
        }  # fmt: skip
        return forge.verify(forge.amd.report(**values))

    return make


def refused(kind, act):
    with pytest.raises(kind) as caught:
        act()
    assert caught.value.id == "snp.id-block", str(caught.value)
    return caught.value


def test_good(launch):
    claims = verify_id_block(BLOCK, id_auth(BLOCK, KEY), launch())
    assert claims.id_key_digest == digest(KEY) == id_key_digest(KEY.public_key())
    assert claims.author_key_digest is None
    assert claims.block.guest_svn == 5
    assert verify_id_block(parse_id_block(BLOCK), parse_id_auth(id_auth(BLOCK, KEY)), launch())


def test_author(launch):
    claims = verify_id_block(BLOCK, id_auth(BLOCK, KEY, AUTHOR), launch(author=True))
    assert claims.author_key_digest == digest(AUTHOR)
    # An author key that the launch did not demand proves nothing, so nothing is said of it.
    assert verify_id_block(BLOCK, id_auth(BLOCK, KEY, AUTHOR), launch()).author_key_digest is None


def test_other_keys_than_the_reports(launch):
    refused(BindingMismatch, lambda: verify_id_block(BLOCK, id_auth(BLOCK, OTHER), launch()))
    author = launch(author=True)
    for wrong in (id_auth(BLOCK, KEY, OTHER), id_auth(BLOCK, KEY)):
        refused(BindingMismatch, lambda wrong=wrong: verify_id_block(BLOCK, wrong, author))


def test_no_id_block_at_the_launch(launch):
    claims = launch(id_key_digest=b"")
    refused(BindingMismatch, lambda: verify_id_block(BLOCK, id_auth(BLOCK, KEY), claims))


def test_signatures(launch):
    for wrong in (sign_report(OTHER, BLOCK), sign_report(KEY, BLOCK + b"x"), bytes(512)):
        auth = id_auth(BLOCK, KEY, block_signature=wrong)
        refused(SignatureInvalid, lambda auth=auth: verify_id_block(BLOCK, auth, launch()))
    claims = launch(author=True)
    for wrong in (sign_report(OTHER, packed_key(KEY)), bytes(512)):
        auth = id_auth(BLOCK, KEY, AUTHOR, key_signature=wrong)
        refused(SignatureInvalid, lambda auth=auth: verify_id_block(BLOCK, auth, claims))


@pytest.mark.parametrize(
    "fields",
    [
        {"measurement": b"\x08" * 48},
        {"family_id": b"g" * 16},
        {"image_id": b"j" * 16},
        {"guest_svn": 6},
        {"policy": 0x20000},
    ],
)
def test_another_launch(launch, fields):
    """The owner's key may have signed many blocks: this one must be of this launch."""
    error = refused(
        BindingMismatch, lambda: verify_id_block(BLOCK, id_auth(BLOCK, KEY), launch(**fields))
    )
    assert next(iter(fields)) in error.message


@pytest.mark.parametrize(
    "raw", [b"", BLOCK[:-1], BLOCK + b"\0", None, id_block(measurement=LD, version=2)]
)
def test_malformed_block(raw):
    refused(MalformedEvidence, lambda: parse_id_block(raw))


@pytest.mark.parametrize(
    "changes",
    [{"id_algo": 0}, {"id_algo": 2}, {"author_algo": 2}, {"tail": b"x"},
     {"block_signature": b"\1" * 512}],
)  # fmt: skip
def test_malformed_information(changes):
    refused(MalformedEvidence, lambda: parse_id_auth(id_auth(BLOCK, KEY, **changes)))
    refused(MalformedEvidence, lambda: parse_id_auth(id_auth(BLOCK, KEY)[:-1]))


@pytest.mark.parametrize(
    "key",
    [
        packed_key(KEY, curve=1),
        packed_key(KEY)[:-1] + b"x",
        (2).to_bytes(4, "little") + b"\1" * 48 + bytes(976),
    ],
)
def test_malformed_key(launch, key):
    auth = id_auth(BLOCK, KEY, id_key=key)
    claims = launch(id_key_digest=hashlib.sha384(key).digest())
    refused(MalformedEvidence, lambda: verify_id_block(BLOCK, auth, claims))


def test_every_byte(launch):
    claims, auth = launch(author=True), id_auth(BLOCK, KEY, AUTHOR)
    assert verify_id_block(BLOCK, auth, claims)
    for raw, offset in [*((0, n) for n in range(len(BLOCK))), *((1, n) for n in range(0, 4096, 7))]:
        parts = [bytearray(BLOCK), bytearray(auth)]
        parts[raw][offset] ^= 1 << offset % 8
        with pytest.raises(TeeVerifyError):
            verify_id_block(bytes(parts[0]), bytes(parts[1]), claims)


def test_digest_of_another_curve():
    for key in (ec.generate_private_key(ec.SECP256R1()).public_key(), None):
        with pytest.raises(ConfigurationError):
            id_key_digest(key)


def test_sealed(launch):
    with pytest.raises(ConfigurationError):
        snp.IdBlockClaims(
            block=parse_id_block(BLOCK), id_key_digest=b"", author_key_digest=None, seal=None
        )
