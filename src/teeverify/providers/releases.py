"""Reference values from releases that a repository's own workflow signed (Sigstore).

A bundle is verified offline: against a trusted root that was given, or the one that the package
``sigstore`` carries. Who signed must be exactly one workflow file of exactly one repository, at a
tag; what is signed names the measurements. Nothing here decides who may sign: the caller does.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from teeverify.appraisal.reference import CodeReference, ReferenceValues
from teeverify.crypto.foreign import FOREIGN_ERRORS
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.strict import json_members
from teeverify.errors import (
    ChainInvalid,
    ConfigurationError,
    MalformedEvidence,
    SignatureInvalid,
)

__all__ = ["Release", "Workflow", "tinfoil_references", "verify_release"]

_ID = "release"
_ISSUER = "https://token.actions.githubusercontent.com"
_STATEMENT = "application/vnd.in-toto+json"
_CODE = "https://tinfoil.sh/predicate/snp-tdx-multiplatform/v1"
_HARDWARE = "https://tinfoil.sh/predicate/hardware-measurements/v1"
_REGISTER = 48
_UNSET = bytes(_REGISTER).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """Who must have signed.

    Attributes:
        repository: ``OWNER/NAME`` on GitHub.
        file: The workflow's file, for example ``.github/workflows/release.yml``.
        tag: The release's tag.
    """

    repository: str
    file: str
    tag: str

    @property
    def identity(self) -> str:
        """The one identity that a certificate of this workflow names."""
        return f"https://github.com/{self.repository}/{self.file}@refs/tags/{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What a workflow stated of a file that it released.

    Attributes:
        workflow: Who.
        sha256: Hash of the released file, in hex.
        predicate_type: What kind of statement it is.
        predicate: The statement.
    """

    workflow: Workflow
    sha256: str
    predicate_type: str
    predicate: JsonObject


def verify_release(
    bundle: bytes, workflow: Workflow, *, trusted_root: Path | None = None
) -> Release:
    """Verify one Sigstore bundle, and open no socket.

    Args:
        bundle: The bundle's JSON; GitHub's answer about attestations, or a file that has it as
            ``sigstoreBundle``, is taken too.
        workflow: Who must have signed it.
        trusted_root: Sigstore's trusted root as a file; the one in the package ``sigstore`` unless
            given.

    Returns:
        What was stated.

    Raises:
        ConfigurationError: The extra ``sigstore`` is not installed, or the root cannot be read.
        MalformedEvidence: The bundle or the statement has another form.
        ChainInvalid: Another workflow, repository or tag signed it.
        SignatureInvalid: Certificate, signature, transparency log or time do not hold.
    """
    kind, payload = _verified(_bundle(bundle), workflow, trusted_root)
    if kind != _STATEMENT:
        raise MalformedEvidence(
            "the release: not an in-toto statement", id=_ID, field="payloadType", got=kind[:80]
        )
    statement = JsonObject.parse(payload, path="statement", id=_ID)
    subjects = statement.objects("subject")
    if len(subjects) != 1:
        raise MalformedEvidence(
            "the release: not exactly one released file", id=_ID, field="statement.subject"
        )
    return Release(
        workflow=workflow,
        sha256=subjects[0].object("digest").hex("sha256", 32).hex(),
        predicate_type=statement.text("predicateType"),
        predicate=statement.object("predicate"),
    )


def _bundle(raw: bytes) -> bytes:
    """The bundle, out of what it came in; what is signed is inside, in base64."""
    members = json_members(raw, field="bundle", id=_ID)
    if "sigstoreBundle" in members:
        return members["sigstoreBundle"]
    if "attestations" not in members:
        return raw
    listed = JsonObject.parse(raw, path="bundle", id=_ID).objects("attestations")
    if len(listed) != 1:
        raise MalformedEvidence(
            "the release: not exactly one attestation", id=_ID, field="bundle.attestations"
        )
    return json.dumps(listed[0].raw("bundle")).encode("utf-8")


def _verified(bundle: bytes, workflow: Workflow, trusted_root: Path | None) -> tuple[str, bytes]:
    """What ``sigstore`` verifies: certificate, log entry, time, signature; and who it was."""
    try:
        from sigstore import errors, models  # noqa: PLC0415 -- heavy, and an extra
        from sigstore.verify import Verifier, policy  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "verifying releases needs the package sigstore",
            id="usage.extra",
            hint="Run: pip install 'teeverify[sigstore]'.",
        ) from None
    foreign: tuple[type[Exception], ...] = (OSError, errors.Error)
    foreign += FOREIGN_ERRORS
    logging.getLogger("sigstore").setLevel(logging.ERROR)  # it warns that it stays offline
    try:
        verifier = (
            Verifier.production(offline=True)
            if trusted_root is None
            else Verifier(trusted_root=models.TrustedRoot.from_file(str(trusted_root)))
        )
    except foreign as error:
        raise ConfigurationError(
            "Sigstore's trusted root cannot be read",
            id="usage.roots",
            got=type(error).__name__,
        ) from None
    try:
        parsed = models.Bundle.from_json(bundle)
    except foreign as error:
        raise MalformedEvidence(
            "the release: not a Sigstore bundle", id=_ID, field="bundle", got=type(error).__name__
        ) from None
    who = policy.AllOf(
        [
            policy.Identity(identity=workflow.identity, issuer=_ISSUER),
            policy.GitHubWorkflowRepository(workflow.repository),
            policy.GitHubWorkflowRef(f"refs/tags/{workflow.tag}"),
        ]
    )
    try:
        kind, payload = verifier.verify_dsse(parsed, policy.UnsafeNoOp())
    except foreign as error:
        raise SignatureInvalid(
            "the release: certificate, transparency log, time or signature do not hold",
            id=_ID,
            got=f"{type(error).__name__}: {error}"[:200],
        ) from None
    try:
        who.verify(parsed.signing_certificate)
    except errors.VerificationError as error:
        raise ChainInvalid(
            "the release was signed by somebody else than you named",
            id=_ID,
            got=str(error)[:200],
            want=workflow.identity,
        ) from None
    return kind, payload


def tinfoil_references(release: Release, hardware: Release | None) -> ReferenceValues:
    """The code that a release of Tinfoil's stands for.

    For AMD that is the launch digest. For Intel the release names RTMR1 and RTMR2; the firmware
    (MRTD, RTMR0) is one of those in the release of the hardware's measurements, and RTMR3 is
    unused.

    Args:
        release: The release of the enclave's image.
        hardware: The release of the hardware's measurements; without it there is nothing to say of
            Intel's machines.

    Raises:
        MalformedEvidence: Another kind of statement, or a member of another form.
    """
    code = _predicate(release, _CODE)
    name = f"{release.workflow.repository} {release.workflow.tag}"
    entries = [
        CodeReference(
            name=name,
            source="release",
            registers={"measurement": (code.hex("snp_measurement", _REGISTER).hex(),)},
        )
    ]
    if hardware is not None:
        tdx = code.object("tdx_measurement")
        own = {
            "rtmr1": (tdx.hex("rtmr1", _REGISTER).hex(),),
            "rtmr2": (tdx.hex("rtmr2", _REGISTER).hex(),),
            "rtmr3": (_UNSET,),
        }
        entries += [
            CodeReference(name=f"{name} on {kind}", source="release", registers={**firmware, **own})
            for kind, firmware in _hardware(hardware).items()
        ]
    return ReferenceValues(entries=tuple(entries))


def _predicate(release: Release, kind: str) -> JsonObject:
    if release.predicate_type != kind:
        raise MalformedEvidence(
            "the release: another kind of statement",
            id=_ID,
            field="statement.predicateType",
            got=release.predicate_type[:80],
            want=kind,
        )
    return release.predicate


def _hardware(release: Release) -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    listed = _predicate(release, _HARDWARE)
    return {
        name: {
            "mr_td": (listed.object(name).hex("mrtd", _REGISTER).hex(),),
            "rtmr0": (listed.object(name).hex("rtmr0", _REGISTER).hex(),),
        }
        for name in sorted(listed.names())
    }
