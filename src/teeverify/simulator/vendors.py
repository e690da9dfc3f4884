"""The fake Intel and NVIDIA that stand together behind whatever shows evidence of both."""

from __future__ import annotations

from teeverify.roots import UnsafeTestRoots
from teeverify.simulator.intel import Intel
from teeverify.simulator.nvidia import Nvidia

__all__ = ["Vendors"]


class Vendors:
    """What has a fake Intel and a fake NVIDIA, and so roots of this run.

    Attributes:
        intel: The fake Intel.
        nvidia: The fake NVIDIA.
    """

    intel: Intel
    nvidia: Nvidia

    def roots(self) -> UnsafeTestRoots:
        """The only roots under which any of this verifies."""
        return UnsafeTestRoots([self.roots_pem()])

    def roots_pem(self) -> bytes:
        """The same as PEM, for ``--unsafe-test-roots``."""
        return self.intel.roots_pem() + self.nvidia.roots_pem()
