"""An endpoint that was attested: what is sent to it under which attestation, and what came back."""

from teeverify.client.session.session import AsyncAttestedSession, AttestedSession

__all__ = ["AsyncAttestedSession", "AttestedSession"]
