"""The vendors' root keys, written down.

Each was read from the vendor's own certificate; the tests compare them with the certificates that
real evidence carries and, where installed, with those in NVIDIA's packages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

__all__ = [
    "INTEL_SGX_ROOT",
    "NVIDIA_CORIM_SIGNING",
    "NVIDIA_DEVICE_IDENTITY",
    "NVIDIA_NRAS_INTERMEDIATE_004",
    "VendorRoot",
]


class _Anchor(TypedDict):
    name: str
    subject: bytes
    spki: bytes
    certificate_sha256: str
    issued_sha256: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorRoot:
    """One root as its vendor publishes it.

    Attributes:
        name: Common name of the certificate.
        subject_hex: DER of the subject name, in hex.
        spki_hex: DER of the SubjectPublicKeyInfo, in hex.
        certificate_sha256: SHA-256 of the vendor's certificate (DER), in hex.
        not_before: First day of the certificate.
        not_after: Last day of the certificate.
        url: Where the vendor publishes it.
        issued_sha256: SHA-256 of certificates (DER) of the vendor's own authorities that this key
            signed, in hex. The tests verify each signature.
    """

    name: str
    subject_hex: str
    spki_hex: str
    certificate_sha256: str
    not_before: str
    not_after: str
    url: str
    issued_sha256: frozenset[str] = frozenset()

    def anchor(self) -> _Anchor:
        """The part that verification uses: name, subject, key, and certificates of that key."""
        return {
            "name": self.name,
            "subject": bytes.fromhex(self.subject_hex),
            "spki": bytes.fromhex(self.spki_hex),
            "certificate_sha256": self.certificate_sha256,
            "issued_sha256": self.issued_sha256,
        }


INTEL_SGX_ROOT = VendorRoot(
    name="Intel SGX Root CA",
    subject_hex=(
        "3068311a301806035504030c11496e74656c2053475820526f6f74204341311a3018060355040a0c11496e74"
        "656c20436f72706f726174696f6e3114301206035504070c0b53616e746120436c617261310b300906035504"
        "080c024341310b3009060355040613025553"
    ),
    spki_hex=(
        "3059301306072a8648ce3d020106082a8648ce3d030107034200040ba9c4c0c0c86193a3fe23d6b02cda10a8"
        "bbd4e88e48b4458561a36e705525f567918e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904"
        "ae7394"
    ),
    certificate_sha256="44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",
    not_before="2018-05-21",
    not_after="2049-12-31",
    url="https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer",
    issued_sha256=frozenset(
        {
            # Intel SGX PCK Platform CA and Intel SGX PCK Processor CA, both to 2033-05-21
            "22eb770dca215b607b5ccfc21a672b1da5cc660b1ad0365020567979edcaa0e1",
            "13b2dccef8fc4ec977ee5249743b0f758ebd1e28d768b2e1e12bc348adaa09fb",
            # Intel SGX TCB Signing, to 2025-05-21 and to 2032-05-06
            "ec37d98107bfb7dab6ff8de4d4dda6fde30a6f50b0d7b03eefb5652f1e652969",
            "c0575e76d0303b61d09cde8cbdb70db34a74f38318300d7c0e6ba8cf4bf45aea",
        }
    ),
)

NVIDIA_DEVICE_IDENTITY = VendorRoot(
    name="NVIDIA Device Identity CA",
    subject_hex=(
        "30353122302006035504030c194e564944494120446576696365204964656e74697479204341310f300d0603"
        "55040a0c064e5649444941"
    ),
    spki_hex=(
        "3076301006072a8648ce3d020106052b81040022036200040e4c14a33bf8a5626658db4129607e4cbf4519c4"
        "412716f4d0d917c4978005bdeabeaefd57bc66082d718a4f8b6052e1516ee8a7c422b84de857071bb58fd395"
        "bea0cfa1c63ee7c80d6bd63901d91cbbd187d3857dc16b5cceaf238ff8c27dbd"
    ),
    certificate_sha256="102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48",
    not_before="2021-11-05",
    not_after="9999-12-31",
    url="https://github.com/NVIDIA/nvtrust (verifier_device_root.pem)",
)

NVIDIA_CORIM_SIGNING = VendorRoot(
    name="NVIDIA CoRIM signing Root CA",
    subject_hex=(
        "3045310b3009060355040613025553310f300d060355040a0c064e56494449413125302306035504030c1c4e"
        "564944494120436f52494d207369676e696e6720526f6f74204341"
    ),
    spki_hex=(
        "3076301006072a8648ce3d020106052b8104002203620004b840b28bdbcd33e230da57d4cf2065747030682d"
        "4717b4c2829d7641c1325139b74da831c2be3c779e7e2b65489566080e4ecd94021075c57f15fedeb862c8f9"
        "06ae8fddc7b12238597dbdf0fa56e78453833f6d0be43af3871a47f057584799"
    ),
    certificate_sha256="12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1",
    not_before="2023-03-16",
    not_after="2053-03-08",
    url="https://github.com/NVIDIA/nvtrust (verifier_RIM_root.pem)",
)

# NVIDIA does not publish the root above this one, so the intermediate's key is the anchor.
NVIDIA_NRAS_INTERMEDIATE_004 = VendorRoot(
    name="NVIDIA Attestation Service GPU Intermediate 004",
    subject_hex=(
        "30643138303606035504030c2f4e5649444941204174746573746174696f6e20536572766963652047505520"
        "496e7465726d65646961746520303034311b3019060355040a0c124e564944494120436f72706f726174696f"
        "6e310b3009060355040613025553"
    ),
    spki_hex=(
        "30820122300d06092a864886f70d01010105000382010f003082010a0282010100c298e510ce5294fa22b375"
        "7c09641a6323090ed9986b6de7af212726a8be9076464c763f452b11517ac39d3e8240d08c4c0f0605332f3b"
        "30825857f851028f6eb7aab4399899c0f1527f1a8df99703c853246049c7bcc805692b98c4c88d5a6f5670e7"
        "0e8a1f05757d2cf2a9a41eaf8d338f25f11ed53615f41c1d886769b1a789c7fddc6915c6e945abda10212f2e"
        "a6d44af48d02683ec4d08256c8a128f17fae4b0664ad70932e84f07732758c7274ad8c3fde5d7393afaaaf34"
        "08ec423e0b2381437f253f46afd88d5daa1ff56d992aa6ac0a300345f2134bb37d490b29ec9bfa52e753e6d1"
        "5b14aa7b8022b0a638d4810114a372645931e206e46b0595850203010001"
    ),
    certificate_sha256="2df8907cf4d6c277b855d407ec178a649930a8e73f7294e8fce66e6ee27c5175",
    not_before="2025-12-08",
    not_after="2029-12-08",
    url="https://nras.attestation.nvidia.com/.well-known/jwks.json",
)
