"""``teeverify policy release``: a signed release as the code that is expected."""

from __future__ import annotations

import argparse
from pathlib import Path

from teeverify.client.sources import read_bytes
from teeverify.errors import EXIT_SATISFIED, ConfigurationError
from teeverify.providers.releases import Release, Workflow, tinfoil_references, verify_release

__all__ = ["add_release", "release"]

_HARDWARE = "tinfoilsh/hardware-measurements"
_HARDWARE_WORKFLOW = ".github/workflows/build.yml"


def add_release(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument("bundle", metavar="BUNDLE", help="the Sigstore bundle of the release")
    parser.add_argument(
        "--repository", required=True, metavar="OWNER/NAME", help="where it must be built"
    )
    parser.add_argument(
        "--workflow", required=True, metavar="F", help="for example .github/workflows/release.yml"
    )
    parser.add_argument("--tag", required=True, metavar="TAG", help="of the release")
    parser.add_argument(
        "--hardware",
        metavar="BUNDLE",
        help=f"for Intel's machines: the bundle of {_HARDWARE}, whose measurements they must have",
    )
    parser.add_argument("--hardware-tag", metavar="TAG", help="of that bundle's release")
    parser.add_argument(
        "--trusted-root", metavar="F", help="Sigstore's trusted root, if not the packaged one"
    )


def release(options: argparse.Namespace) -> int:
    """Verify a release offline, and print the policy that expects its code."""
    root = None if options.trusted_root is None else Path(options.trusted_root)
    own = Workflow(repository=options.repository, file=options.workflow, tag=options.tag)
    hardware = None
    if (options.hardware is None) != (options.hardware_tag is None):
        raise ConfigurationError(
            "the hardware's measurements need a bundle and the tag of its release",
            id="usage.arguments",
            want="--hardware BUNDLE --hardware-tag TAG",
        )
    if options.hardware is not None:
        firmware = Workflow(repository=_HARDWARE, file=_HARDWARE_WORKFLOW, tag=options.hardware_tag)
        hardware = _verified(options.hardware, firmware, root)
    code = _verified(options.bundle, own, root)
    references = tinfoil_references(code, hardware)
    print(f"# Signed by {own.identity}")
    print(f"# over a file with sha256 {code.sha256}.")
    print('extends = "genuine"')
    print(references.to_toml(), end="")
    return EXIT_SATISFIED


def _verified(path: str, workflow: Workflow, root: Path | None) -> Release:
    return verify_release(read_bytes(path, what="bundle"), workflow, trusted_root=root)
