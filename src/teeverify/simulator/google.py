"""A fake Google that endorses firmware, as its confidential VMs have it.

What it makes has the form of the real thing and verifies under :meth:`Google.roots_pem`, which is
random in every run::

    google = Google(at=moment)
    raw = google.endorsement({2: measurement})
    claims = snp.verify_firmware(raw, claims_of_report, at=moment, certificates=google.certificates,
                                 roots=UnsafeTestRoots([amd.roots_pem(), google.roots_pem()]))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from teeverify.crypto.x509 import Certificate, parse_certificate
from teeverify.simulator.amd import pem
from teeverify.simulator.authority import SIMULATOR

__all__ = ["Google", "message"]

_KEY_BITS = 3072
_SHA256 = hashes.SHA256()
_PSS = padding.PSS(padding.MGF1(_SHA256), 32)
_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
_YEAR = timedelta(days=365)


class Google:
    """A root, a key below it that signs endorsements, and what it signs.

    Args:
        at: When the endorsements are asked for.
        certificates: Overrides by role (``root``, ``signer``), as :meth:`certificate` takes them.
    """

    def __init__(
        self, *, at: datetime, certificates: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self.at = at
        given = certificates or {}
        self.root_key, self.signer_key = (
            rsa.generate_private_key(65537, _KEY_BITS) for _ in range(2)
        )
        self.root = self.certificate(**{
            "common_name": "GCE-cc-tcb-root",
            "key": self.root_key,
            "key_usage": ("key_cert_sign", "crl_sign"),
            "ca": True,
            **given.get("root", {}),
        })  # fmt: skip
        self.signer = self.certificate(**given.get("signer", {}))

    def certificate(  # noqa: PLR0913 -- every field can be overridden
        self,
        *,
        common_name: str = "GCE-uefi-signer",
        issuer_name: str = "GCE-cc-tcb-root",
        key: rsa.RSAPrivateKey | None = None,
        signed_by: rsa.RSAPrivateKey | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        ca: bool = False,
        key_usage: Iterable[str] = ("digital_signature",),
        pss: bool = True,
    ) -> bytes:
        """Make a certificate, in DER."""
        chosen = frozenset(key_usage)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(_name(issuer_name))
            .public_key((key or self.signer_key).public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before or self.at - _YEAR)
            .not_valid_after(not_after or self.at + 5 * _YEAR)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(**{name: name in chosen for name in _USAGES}), critical=True
            )
        )
        made = builder.sign(signed_by or self.root_key, _SHA256, rsa_padding=_PSS if pss else None)
        return made.public_bytes(Encoding.DER)

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """The root's certificate, as endorsements hold it."""
        return (parse_certificate(self.root, id="simulator", what="Google's root"),)

    def roots_pem(self) -> bytes:
        """The root certificate, for :class:`~teeverify.roots.UnsafeTestRoots`."""
        return pem(self.root)

    def endorsement(
        self,
        measurements: Mapping[int, bytes],
        *,
        key: rsa.RSAPrivateKey | None = None,
        signature: bytes | None = None,
        snp: Mapping[int, Any] | None = None,
        **golden: Any,  # noqa: ANN401 -- one override a field
    ) -> bytes:
        """Make a signed endorsement.

        Args:
            measurements: The launch digest by number of virtual CPUs.
            key: Sign with this key instead of the signer's.
            signature: The signature instead of one.
            snp: Overrides by field number of the part about SEV-SNP.
            golden: Overrides of ``made_at``, ``change``, ``commit``, ``certificate``,
                ``uefi_sha384``, ``chain`` and ``sev_snp`` (bytes; ``None`` leaves the part out).
        """
        entries = [message({1: count, 2: digest}) for count, digest in measurements.items()]
        part = message(
            {1: 3, 2: entries, 3: b"\x0f" * 16, 4: b"\x01" * 16, 5: 0x70000, **(snp or {})}
        )
        fields = {
            "made_at": message({1: int((self.at - timedelta(days=30)).timestamp())}),
            "change": 12345,
            "commit": b"",
            "certificate": self.signer,
            "uefi_sha384": b"\xfd" * 48,
            "chain": b"",
            "sev_snp": part,
            **golden,
        }
        numbered = dict(enumerate(fields.values(), start=1))
        signed = message({n: value for n, value in numbered.items() if value is not None})
        if signature is None:
            signature = (key or self.signer_key).sign(signed, _PSS, _SHA256)
        return message({1: signed, 2: signature})


def message(fields: Mapping[int, Any]) -> bytes:
    """A message of Protocol Buffers; a list is a repeated field."""
    out = b""
    for number, value in fields.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, int):
                out += _varint(number << 3) + _varint(one)
            else:
                out += _varint(number << 3 | 2) + _varint(len(one)) + one
    return out


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:  # noqa: PLR2004 -- seven bits a byte
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def _name(common_name: str) -> x509.Name:
    return x509.Name([
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, SIMULATOR),
        x509.NameAttribute(NameOID.COMMON_NAME, common_name),
    ])  # fmt: skip
