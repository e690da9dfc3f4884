"""Endorsements: what NVIDIA's services said, and what of NVIDIA's chains was verified already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from teeverify.encoding.fields import JsonObject
from teeverify.endorsements import Answer as KeptAnswer
from teeverify.endorsements import read_bundle, read_file
from teeverify.endorsements.answers import BUNDLE_SCHEMA
from teeverify.endorsements.remembered import Remembering
from teeverify.errors import ConfigurationError, EndorsementInvalid, EndorsementUnavailable
from teeverify.nvidia.claims import DeviceClaims, device_nonce
from teeverify.nvidia.eat import Answer, parse_answer
from teeverify.nvidia.jwks import KeySet
from teeverify.nvidia.measurements import (
    MeasurementClaims,
    compare_measurements,
    refute_measurements,
)
from teeverify.nvidia.nras import NrasClaims, merge, verify_answer
from teeverify.nvidia.recorded import Recorded, RimFile, read_answers, read_directory
from teeverify.nvidia.revocation import RevocationClaims, verify_crls, verify_revocation
from teeverify.roots.anchors import RootsInput

__all__ = ["Endorsements"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endorsements:
    """Recorded answers of NVIDIA's services: untrusted until they are verified.

    What a verification has proved about NVIDIA's intermediate CAs stays on this object, so use one
    for all machines (law 13).

    Attributes:
        nras_answers: Bodies of answers of the remote attestation service, NRAS.
        jwks: Bodies of NRAS's lists of keys.
        rims: Reference manifests.
        ocsp: Answers of NVIDIA's OCSP responder.
        crls: NVIDIA's revocation lists, in DER.
        memory: What was verified with this object.
    """

    nras_answers: tuple[bytes, ...] = ()
    jwks: tuple[bytes, ...] = ()
    rims: tuple[RimFile, ...] = ()
    ocsp: tuple[bytes, ...] = ()
    crls: tuple[bytes, ...] = ()
    memory: Remembering = field(default_factory=Remembering, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse what is no recorded body.

        Raises:
            ConfigurationError: Something else than bytes.
        """
        bodies = (*self.nras_answers, *self.jwks, *self.ocsp, *self.crls)
        if not all(isinstance(body, bytes) for body in bodies):
            raise ConfigurationError("recorded answers are bytes", id="usage.endorsements")
        if not all(isinstance(rim, RimFile) for rim in self.rims):
            raise ConfigurationError("manifests are nvidia.RimFile", id="usage.endorsements")

    @classmethod
    def union(cls, *several: Endorsements) -> Endorsements:
        """Put endorsements together."""
        return cls(
            nras_answers=tuple(body for one in several for body in one.nras_answers),
            jwks=tuple(body for one in several for body in one.jwks),
            rims=tuple(rim for one in several for rim in one.rims),
            ocsp=tuple(body for one in several for body in one.ocsp),
            crls=tuple(body for one in several for body in one.crls),
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in it that could be verified."""
        return not (self.nras_answers or self.rims or self.ocsp or self.crls)

    @classmethod
    def load(cls, path: str | Path) -> Endorsements:
        """Read a capture, or a bundle that ``teeverify endorsements`` wrote.

        An exchange is ``NAME.http.json`` (``url``, ``status``) beside ``NAME.body``; plain files
        are ``*eat.json`` (answers of NRAS), ``*jwks.json`` (its keys), ``ID.xml``, ``ID.swidtag``
        or ``NV_ID.json`` (manifests), ``*.ocsp`` (OCSP answers) and ``lN-NAME.crl`` (revocation
        lists, as NVIDIA calls them). What is of another service is left alone.

        Args:
            path: The directory, or the bundle's file.

        Raises:
            ConfigurationError: It is neither, or cannot be read.
            MalformedEvidence: The record of an exchange has another form, or a file is too large.
            EndorsementInvalid: The RIM service answered about another manifest.
        """
        file = Path(path)
        if file.is_file() and BUNDLE_SCHEMA.encode("ascii") in (raw := read_file(file)):
            form = JsonObject.parse(raw, path="bundle", id="endorsements.bundle")
            return cls.of(*read_bundle(form))
        return cls._of(read_directory(path))

    @classmethod
    def of(cls, *answers: KeptAnswer) -> Endorsements:
        """Read answers that were fetched or kept; those of other services are left alone.

        Raises:
            MalformedEvidence: A manifest's answer of another form.
            EndorsementInvalid: The RIM service answered about another manifest.
        """
        return cls._of(read_answers(answers))

    @classmethod
    def _of(cls, found: Recorded) -> Endorsements:
        return cls(
            nras_answers=found.nras_answers,
            jwks=found.jwks,
            rims=found.rims,
            ocsp=found.ocsp,
            crls=found.crls,
        )

    def without_nras(self) -> Endorsements:
        """The same, without what NRAS is said to have answered."""
        return replace(self, nras_answers=(), jwks=())

    def remembering_in(self, memory: Remembering) -> Endorsements:
        """The same, with what was verified before with others."""
        return replace(self, memory=memory)

    def find_rim(self, name: str) -> bytes | None:
        """The manifest with an id; ``None`` where there is none.

        Raises:
            EndorsementInvalid: There are two that differ.
        """
        found = {rim.xml for rim in self.rims if rim.id == name}
        if len(found) > 1:
            raise EndorsementInvalid(
                "there are two different manifests under one id",
                id="rim.present",
                got=f"{len(found)} files {name}",
                want="one",
                hint="Keep the one that NVIDIA's service gives today.",
            )
        return found.pop() if found else None

    def verify_measurements(
        self,
        devices: Sequence[DeviceClaims],
        *,
        at: datetime | str,
        roots: RootsInput = None,
        allow_expired_signers: bool = False,
    ) -> MeasurementClaims:
        """Compare the devices' measurements with the manifests that are at hand.

        Args:
            devices: All devices of the machine, as verified here.
            at: The time at which the manifests' signers must be valid.
            roots: Other roots than the embedded ones.
            allow_expired_signers: Let manifests pass whose signer has expired; the claims say so.

        Raises:
            EndorsementUnavailable: A manifest is missing, or its signer is outside its dates.
            TeeVerifyError: See :func:`teeverify.nvidia.compare_measurements` for the others.
        """
        return compare_measurements(
            devices,
            self.find_rim,
            at=at,
            roots=roots,
            memory=self.memory,
            allow_expired_signers=allow_expired_signers,
        )

    def refute_measurements(
        self,
        devices: Sequence[DeviceClaims],
        *,
        at: datetime | str,
        roots: RootsInput = None,
        allow_expired_signers: bool = False,
    ) -> None:
        """Where some manifest is missing: see :func:`teeverify.nvidia.refute_measurements`.

        Args:
            devices: All devices of the machine, as verified here.
            at: The time at which the manifests' signers must be valid.
            roots: Other roots than the embedded ones.
            allow_expired_signers: As for :meth:`verify_measurements`.

        Raises:
            TeeVerifyError: A manifest that is at hand is wrong, or a measurement contradicts it.
        """
        refute_measurements(
            devices,
            self.find_rim,
            at=at,
            roots=roots,
            memory=self.memory,
            allow_expired_signers=allow_expired_signers,
        )

    def verify_revocation(
        self,
        devices: Sequence[DeviceClaims],
        *,
        at: datetime | str,
        measurements: MeasurementClaims | None = None,
    ) -> RevocationClaims:
        """Verify by the OCSP answers at hand that no certificate is revoked.

        Args:
            devices: All devices of the machine, as verified here.
            at: The time at which the answers must be current.
            measurements: The manifests that were used: their signers are looked at too.

        Raises:
            EndorsementUnavailable: An answer is missing or outside its dates.
            EndorsementInvalid: A certificate is revoked, on hold or unknown.
            TeeVerifyError: See :func:`teeverify.nvidia.verify_revocation` for the others.
        """
        return verify_revocation(
            devices, self.ocsp, at=at, measurements=measurements, memory=self.memory
        )

    def verify_crls(
        self,
        devices: Sequence[DeviceClaims],
        *,
        at: datetime | str,
        measurements: MeasurementClaims | None = None,
    ) -> None:
        """Verify that no revocation list at hand names a certificate.

        Args:
            devices: All devices of the machine, as verified here.
            at: The time at which the lists must be current.
            measurements: The manifests that were used.

        Raises:
            EndorsementInvalid: A list names one.
            TeeVerifyError: See :func:`teeverify.nvidia.verify_crls` for the others.
        """
        verify_crls(devices, self.crls, at=at, measurements=measurements, memory=self.memory)

    def verify_nras(
        self,
        *,
        devices: Sequence[DeviceClaims],
        nonce: bytes | str,
        at: datetime | str,
        roots: RootsInput = None,
    ) -> NrasClaims:
        """Verify what NRAS was recorded to say about exactly these devices.

        Every answer that may be about them must say yes: one that says no is not passed over. NRAS
        is asked about GPUs and about switches apart, so there must be an answer for each kind.

        Args:
            devices: All devices of the machine, as verified here.
            nonce: The nonce that they signed.
            at: The time at which the answers must be valid.
            roots: Other roots than the embedded ones.

        Returns:
            What NVIDIA states. Who recorded it, and whether he left something out, is not known.

        Raises:
            ConfigurationError: There are no devices, or a wrong argument.
            EndorsementUnavailable: No answer is about these devices, its key is not listed, or it
                is outside its dates.
            TeeVerifyError: See :func:`teeverify.nvidia.verify_answer` for the others.
        """
        want = device_nonce(nonce)
        if not devices:
            raise ConfigurationError("there is no device to ask about", id="usage.evidence")
        answers = [(raw, parse_answer(raw)) for raw in self.nras_answers]
        kinds = sorted({device.device_type for device in devices})
        said: list[NrasClaims] = []
        for kind in kinds:
            asked = [device for device in devices if device.device_type == kind]
            about = [pair for pair in answers if _may_be_about(pair[1], asked, want)]
            if len(answers) == len(kinds) == 1:
                about = answers  # the only one: then its own error says what is wrong with it
            if not about:
                raise EndorsementUnavailable(
                    "no recorded answer of NRAS is about these devices",
                    id="nras.devices",
                    got=f"{len(answers)} answers",
                    want=f"one about {len(asked)} of type {kind} and nonce {want.hex()}",
                )
            verified = [
                verify_answer(
                    raw, self._keys(answer), nonce=want, devices=asked, at=at, roots=roots
                )
                for raw, answer in about
            ]
            said.append(verified[0])
        return merge(said)

    def _keys(self, answer: Answer) -> bytes:
        """The list that has the answer's key; any list, where none has it."""
        kid = answer.overall.header.text("kid")
        found = [*(raw for raw in self.jwks if kid in KeySet(raw)), *self.jwks]
        if not found:
            raise EndorsementUnavailable(
                "NRAS: no list of its keys was recorded beside its answer", id="nras.key"
            )
        return found[0]


def _may_be_about(answer: Answer, devices: Sequence[DeviceClaims], nonce: bytes) -> bool:
    """Whether an answer claims our nonce, and does not name foreign devices only."""
    named = answer.claimed_ueids
    ours = {device.ueid for device in devices}
    return answer.claimed_nonce == nonce.hex() and (not named or bool(named & ours))
