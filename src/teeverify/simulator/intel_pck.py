"""The Intel extension of a fake PCK certificate, in DER."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from teeverify.crypto.der_writer import element, integer, octets, sequence

__all__ = ["SimulatedPlatform"]

_ARC = bytes.fromhex("2a864886f84d010d01")  # 1.2.840.113741.1.13.1
_OID = 0x06


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPlatform:
    """What a PCK certificate says of its CPU; a field that is ``None`` is left out.

    Attributes:
        fmspc: The CPU's model, in hex.
        pce_id: Its provisioning certification enclave, in hex.
        components: Its component SVNs; 16 unless a test wants another number.
        pce_svn: SVN of its provisioning certification enclave.
        ppid: Names the machine.
        platform_instance_id: Names its registration.
        configuration: Dynamic platform, cached keys, hyper-threading.
        sgx_type: 0 standard, 1 scalable, 2 scalable with integrity.
        raw: The whole value instead of all the above.
    """

    fmspc: str
    pce_id: str
    components: tuple[int, ...]
    pce_svn: int
    ppid: bytes
    platform_instance_id: bytes | None
    configuration: Sequence[bool] | None
    sgx_type: int = 1
    raw: bytes | None = None

    def extension(self) -> bytes:
        """The extension's value."""
        if self.raw is not None:
            return self.raw
        cpu_svn = bytes(min(svn, 0xFF) for svn in self.components)
        tcb = [_pair(_ARC + b"\x02", n, integer(svn)) for n, svn in enumerate(self.components, 1)]
        tcb.append(_pair(_ARC + b"\x02", 17, integer(self.pce_svn)))
        tcb.append(_pair(_ARC + b"\x02", 18, octets(cpu_svn)))
        fields = [
            _pair(_ARC, 1, octets(self.ppid)),
            _pair(_ARC, 2, sequence(*tcb)),
            _pair(_ARC, 3, octets(bytes.fromhex(self.pce_id))),
            _pair(_ARC, 4, octets(bytes.fromhex(self.fmspc))),
            _pair(_ARC, 5, b"\x0a\x01" + bytes([self.sgx_type])),
        ]
        if self.platform_instance_id is not None:
            fields.append(_pair(_ARC, 6, octets(self.platform_instance_id)))
        if self.configuration is not None:
            booleans = [
                _pair(_ARC + b"\x07", n, b"\x01\x01\xff" if flag else b"\x01\x01\x00")
                for n, flag in enumerate(self.configuration, 1)
            ]
            fields.append(_pair(_ARC, 7, sequence(*booleans)))
        return sequence(*fields)


def _pair(arc: bytes, number: int, value: bytes) -> bytes:
    return sequence(element(_OID, arc + bytes([number])), value)
