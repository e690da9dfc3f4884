"""What ties an application's configuration to a quote: dstack's compose hash.

The hash is over the exact bytes of ``app-compose.json``; a text that was parsed and written again
has another one. It stands in MRCONFIGID, which the host sets at launch and the OS compares with the
file it was given, or (or also) in an event of RTMR3. Either way the measured OS image is what
enforces it: by itself it proves only what the VM was *told* to run.
"""

from __future__ import annotations

import hashlib
from dataclasses import InitVar, dataclass
from typing import Literal, TypeAlias

from teeverify.crypto.ethereum import keccak256
from teeverify.encoding.fields import JsonObject
from teeverify.encoding.sealed import Seal, Sealed
from teeverify.encoding.strict import hex_bytes
from teeverify.errors import BindingMismatch, ConfigurationError, MalformedEvidence
from teeverify.tdx.eventlog import AppIdentity, EventLogClaims
from teeverify.tdx.quote import Quote

__all__ = ["AppConfigClaims", "MrConfigVersion", "Tie", "compose_hash", "verify_app_compose"]

CHECK = "code.compose"
Tie: TypeAlias = Literal["mr_config_id", "event_log"]
MrConfigVersion: TypeAlias = Literal["unset", "1", "2", "3", "foreign"]
_SEAL = Seal("teeverify.tdx.verify_app_compose")
_UNSET = bytes(48)
_MAX_COMPOSE = 4 * 1024 * 1024
_V3_DOMAIN = b"dstack-mr-config-v3:\x00"
_VERSIONS: dict[int, MrConfigVersion] = {1: "1", 2: "2", 3: "3"}
# dstack-types, KeyProviderKind; the event log calls the local provider "local-sgx".
_KEY_PROVIDERS = {"none": 0, "local": 1, "local-sgx": 1, "kms": 2, "tpm": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class AppConfigClaims(Sealed):
    """How a configuration is tied to a quote.

    Attributes:
        compose_hash: SHA-256 of the configuration as shown.
        ties: What in the evidence equals it; empty where nothing does, and then the configuration
            is only what somebody says.
        mr_config_id: What MRCONFIGID holds.
    """

    compose_hash: bytes
    ties: frozenset[Tie]
    mr_config_id: MrConfigVersion
    seal: InitVar[Seal]

    def __post_init__(self, seal: Seal) -> None:
        """Refuse construction by anything but the verification."""
        self._check_seal(seal, _SEAL)

    @property
    def absent(self) -> bool:
        """Whether nothing in the evidence commits to the configuration."""
        return not self.ties


def compose_hash(app_compose: str | bytes) -> bytes:
    """SHA-256 of an ``app-compose.json`` as it was served, byte for byte.

    Raises:
        MalformedEvidence: Too large, or not Unicode text.
        ConfigurationError: Neither text nor bytes.
    """
    if not isinstance(app_compose, (str, bytes)):
        raise ConfigurationError(
            "app_compose is the text as served", id="usage.tdx", got=type(app_compose).__name__
        )
    try:
        data = app_compose.encode("utf-8") if isinstance(app_compose, str) else app_compose
    except UnicodeEncodeError:
        raise MalformedEvidence(
            "app_compose: not Unicode text", id=CHECK, field="app_compose"
        ) from None
    if len(data) > _MAX_COMPOSE:
        raise MalformedEvidence(
            "app_compose: too large",
            id=CHECK,
            field="app_compose",
            need=f"at most {_MAX_COMPOSE}",
            have=len(data),
        )
    return hashlib.sha256(data).digest()


def verify_app_compose(
    app_compose: str | bytes,
    quote: Quote,
    event_log: EventLogClaims | None = None,
    *,
    mr_config: str | bytes | None = None,
) -> AppConfigClaims:
    """Compare a configuration with what a quote and its event log commit to.

    Args:
        app_compose: The exact text that was served.
        quote: The quote; pass ``claims.quote``, so that it is a verified one.
        event_log: The log, verified against the same quote.
        mr_config: The version 3 document, exactly as served, where MRCONFIGID is its hash.

    Returns:
        The ties found. None at all is an answer too: ``absent``.

    Raises:
        BindingMismatch: MRCONFIGID, its document or the event log names another configuration.
        MalformedEvidence: A text cannot be read.
        ConfigurationError: The quote is of an SGX enclave, or the log belongs to another quote.
    """
    if event_log is not None and event_log.quote.signed_bytes != quote.signed_bytes:
        raise ConfigurationError("the event log was verified for another quote", id="usage.tdx")
    digest = compose_hash(app_compose)
    found = quote.td.mr_config_id
    identity = event_log.identity if event_log is not None else None
    version: MrConfigVersion = "unset" if found == _UNSET else _VERSIONS.get(found[0], "foreign")
    ties: set[Tie] = set()
    if identity is not None and identity.compose_hash is not None:
        _require_equal("the event log's compose-hash", identity.compose_hash, digest)
        ties.add("event_log")
    wanted = _mr_config_id(version, digest, identity, mr_config)
    if wanted is not None:
        _require_equal("MRCONFIGID", found, wanted)
        ties.add("mr_config_id")
    return AppConfigClaims(
        compose_hash=digest, ties=frozenset(ties), mr_config_id=version, seal=_SEAL
    )


def _require_equal(where: str, got: bytes, want: bytes) -> None:
    if got != want:
        raise BindingMismatch(
            f"{where} is not that of the configuration shown",
            id=CHECK,
            got=got.hex(),
            want=want.hex(),
            hint="The VM was started with another configuration, or the text was re-encoded.",
        )


def _mr_config_id(
    version: MrConfigVersion,
    digest: bytes,
    identity: AppIdentity | None,
    mr_config: str | bytes | None,
) -> bytes | None:
    """What MRCONFIGID must be; ``None`` where it is unset or its other inputs are not there."""
    if version == "1":
        return (b"\x01" + digest).ljust(48, b"\0")
    if version == "2" and identity is not None:
        return _version_2(digest, identity)
    if version == "3" and mr_config is not None:
        return _version_3(digest, mr_config)
    return None


def _version_2(digest: bytes, identity: AppIdentity) -> bytes | None:
    """dstack-types, MrConfig::V2."""
    provider = identity.key_provider
    if identity.app_id is None or provider is None or provider.name not in _KEY_PROVIDERS:
        return None
    provider_id = hex_bytes(provider.id, field="event_log.key-provider.id", id=CHECK)
    kind = bytes([_KEY_PROVIDERS[provider.name]])
    return (b"\x02" + keccak256(digest + identity.app_id + kind + provider_id)).ljust(48, b"\0")


def _version_3(digest: bytes, mr_config: str | bytes) -> bytes:
    """dstack-types, MrConfigV3: a hash of a document, which names the compose hash."""
    data = mr_config if isinstance(mr_config, bytes) else mr_config.encode("utf-8", "replace")
    document = JsonObject.parse(data, path="mr_config", id=CHECK)
    if document.integer("version") != 3:  # noqa: PLR2004 -- the version
        raise MalformedEvidence("mr_config.version: not 3", id=CHECK, field="mr_config.version")
    _require_equal("the compose_hash of mr_config", document.hex("compose_hash", 32), digest)
    return (b"\x03" + hashlib.sha256(_V3_DOMAIN + data).digest()).ljust(48, b"\0")
