"""``teeverify serve``: the enclave server, put together from what it was told."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from teeverify import __version__
from teeverify.cli.serve_options import add_options, complete
from teeverify.errors import EXIT_SATISFIED, ConfigurationError

if TYPE_CHECKING:
    from teeverify.enclave.asgi import Application
    from teeverify.enclave.collectors import Tee
    from teeverify.enclave.dialects import ServerDialect
    from teeverify.enclave.engines.backend import Backend
    from teeverify.enclave.metrics import Metrics
    from teeverify.enclave.store import SignatureStore
    from teeverify.enclave.tls import EnclaveTls
    from teeverify.simulator.tee import SimulatedTee

__all__ = ["add_serve", "serve"]

_OTHER_KEY, _TRUNCATED = "other-key", "truncated-stream"
_ID = "usage.serve"
_REDIS = ("redis://", "rediss://", "unix://")
# Options that say nothing without another: who gives one of these alone expects what is not so.
_MEANT_FOR = {
    "tls_name": ("tls",),
    "upstream_key_file": ("upstream",),
    "unsafe_remote_upstream": ("upstream",),
    "upstream_silence": ("upstream", "vllm"),
    "wait": ("upstream",),
    "vllm_argument": ("vllm",),
    "vllm_command": ("vllm",),
    "nvidia_sdk": ("tee",),
    "switches": ("nvidia_sdk",),
    "gpus": ("simulated",),
    "roots_file": ("simulated",),
    "even_on_a_tee": ("simulated",),
}
_GPUS = 8
_SILENCE_SECONDS = 600.0

add_serve = add_options


def serve(options: argparse.Namespace) -> int:
    """Serve until told to stop. Prints the URL; when simulated, then the path of the test roots.

    Raises:
        ConfigurationError: Wrong flags, or what they name cannot be used.
        EndpointUnavailable: The engine does not answer, or the machine gives no evidence.
    """
    complete(options)
    if options.simulated == (options.tee is not None):
        raise ConfigurationError(
            "say on which machine to serve: --tee auto for this one, or --simulated for tests",
            id=_ID,
            got="both" if options.simulated else "neither",
        )
    for name, others in _MEANT_FOR.items():
        if _given(options, name) and not any(_given(options, other) for other in others):
            want = " or ".join(_flag(other) for other in others)
            raise ConfigurationError("one option lacks another", id=_ID, got=_flag(name), want=want)
    if options.simulated:
        _simulate(options)
    else:
        _serve(options, _machine(options), announced=())
    return EXIT_SATISFIED


def _given(options: argparse.Namespace, name: str) -> bool:
    value = getattr(options, name)
    return value is not None and value is not False and value != []


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _machine(options: argparse.Namespace) -> Tee:
    """This very machine; never a simulated one instead."""
    from teeverify.enclave.devices import SdkDevices  # noqa: PLC0415
    from teeverify.enclave.dialects.flat import FLAT_DIALECTS  # noqa: PLC0415
    from teeverify.enclave.tee import SdkGpus, find_machine  # noqa: PLC0415

    if options.fault is not None:
        raise ConfigurationError(
            "only a simulated machine does things wrong on purpose", id=_ID, got=options.fault
        )
    gpus = None
    if options.nvidia_sdk is not None:
        gpus = SdkGpus(SdkDevices(options.nvidia_sdk, switches=options.switches))
    machine = find_machine(options.tee, gpus=gpus)
    flat = [name for name in options.dialect if name in FLAT_DIALECTS]
    if flat and not machine.has_event_log:
        raise ConfigurationError(
            "this dialect needs a quote of Intel TDX and dstack's event log: every client would "
            "refuse",
            id=_ID,
            got=f"--dialect {flat[0]} on {machine.platform} without dstack",
        )
    return machine


def _simulate(options: argparse.Namespace) -> None:
    from teeverify.enclave.tee import kernel_interfaces  # noqa: PLC0415

    found = [one for one in kernel_interfaces() if one.exists()]
    if found and not options.even_on_a_tee:
        raise ConfigurationError(
            "this machine is a real TEE, and nothing is simulated on one",
            id=_ID,
            got=str(found[0].path),
            hint="For tests, type --even-on-a-tee.",
        )
    # With more threads a matrix product this small mostly waits; read when NumPy is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from teeverify.simulator.tee import TEE_FAULTS, SimulatedTee  # noqa: PLC0415

    fault = options.fault
    gpus = _GPUS if options.gpus is None else options.gpus
    tee = SimulatedTee(gpus=gpus, fault=fault if fault in TEE_FAULTS else None)
    with _roots_file(options.roots_file) as roots:
        tee.write_roots(roots)
        _serve(options, tee, announced=(str(roots),))


def _serve(options: argparse.Namespace, tee: Tee, *, announced: tuple[str, ...]) -> None:
    """Serve on a machine; its URL and what else is to be known are printed first."""
    try:
        from teeverify.enclave.serve import (  # noqa: PLC0415 -- needs uvicorn
            log_to_stderr,
            open_socket,
            run,
            url_of,
        )
    except ImportError:
        raise _extra("server") from None
    from teeverify.enclave.metrics import Metrics  # noqa: PLC0415

    metrics = Metrics()
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(open_socket(options.host, options.port))
        log_to_stderr(options.log)
        backend = _backend(options, metrics)
        store = _store(options)
        tls = _tls(options, tee, urlsplit(url_of(listening)).hostname or "localhost")
        application = _application(options, tee, backend, store, stack, metrics, tls=tls)
        lines = "\n".join((url_of(listening, "https" if tls else "http"), *announced))
        run(
            application,
            listening,
            start=(store.start, backend.start),
            stop=(backend.close, store.aclose),
            ready=lambda: print(lines, flush=True),
            drain=options.drain,
            tls=tls.context() if tls else None,
        )


def _tls(options: argparse.Namespace, tee: Tee, address: str) -> EnclaveTls | None:
    if not options.tls:
        return None
    from teeverify.enclave.tls import EnclaveTls  # noqa: PLC0415

    return EnclaveTls(tee, ("localhost", address, *options.tls_name))


def _application(  # noqa: PLR0913 -- its parts
    options: argparse.Namespace,
    tee: Tee,
    backend: Backend,
    store: SignatureStore,
    stack: contextlib.ExitStack,
    metrics: Metrics,
    *,
    tls: EnclaveTls | None,
) -> Application:
    from teeverify.enclave.app import EnclaveApp  # noqa: PLC0415
    from teeverify.enclave.attestation import Attester  # noqa: PLC0415
    from teeverify.enclave.signing import Notary  # noqa: PLC0415
    from teeverify.simulator.host import (  # noqa: PLC0415
        HOST_FAULTS,
        RESTART,
        DishonestHost,
        Restarted,
    )

    def process_on(machine: Tee) -> Application:
        """One process, with keys of its own."""
        dialects = _dialects(options, backend, machine, tls)
        attester = Attester(machine, metrics, rate=options.attestation_rate)
        stack.callback(attester.close)
        return EnclaveApp(
            backend=backend,
            dialects=dialects,
            attester=attester,
            notary=Notary(dialects, store, metrics),
            metrics=metrics,
            api_keys=_api_keys(options.api_key_file),
        )

    application = process_on(tee)
    if options.fault == RESTART:
        other = cast("SimulatedTee", tee).with_other_code()
        application = Restarted(application, process_on(other))
    elif options.fault in HOST_FAULTS:
        application = DishonestHost(application, options.fault)
    return application


def _dialects(
    options: argparse.Namespace, backend: Backend, tee: Tee, tls: EnclaveTls | None
) -> list[ServerDialect]:
    from teeverify.enclave.dialects.flat import (  # noqa: PLC0415
        FLAT_DIALECTS,
        FlatDialect,
        FlatName,
    )
    from teeverify.enclave.dialects.teeverify import NAME as TEEVERIFY  # noqa: PLC0415
    from teeverify.enclave.keys import SigningKeys  # noqa: PLC0415

    found: list[ServerDialect] = []
    for name in dict.fromkeys(options.dialect):
        if name == TEEVERIFY:
            found.append(_teeverify(options, backend, tee, tls))
            continue
        if name not in FLAT_DIALECTS:
            known = ", ".join((*FLAT_DIALECTS, TEEVERIFY))
            raise ConfigurationError("there is no such dialect", id=_ID, got=name[:80], want=known)
        found.append(
            FlatDialect(
                cast("FlatName", name),
                model=options.model or "default",
                engine=backend.description,
                attested=SigningKeys() if options.fault == _OTHER_KEY else None,
                tls_spki_sha256=tls.spki_sha256 if tls else None,
            )
        )
    return found


def _teeverify(
    options: argparse.Namespace, backend: Backend, tee: Tee, tls: EnclaveTls | None
) -> ServerDialect:
    """``teeverify/1``, which takes down at once which devices there are."""
    from teeverify.enclave.dialects.teeverify import TeeverifyDialect  # noqa: PLC0415
    from teeverify.enclave.keys import SigningKeys  # noqa: PLC0415

    dialect = TeeverifyDialect(
        model=options.model or "default",
        engine=backend.description,
        routes=tuple(backend.routes),
        dialects=tuple(dict.fromkeys(options.dialect)),
        version=__version__,
        ttl_seconds=options.ttl,
        attested=SigningKeys() if options.fault == _OTHER_KEY else None,
        tls_spki_sha256=tls.spki_sha256 if tls else None,
    )
    dialect.prepare(tee)
    return dialect


def _backend(options: argparse.Namespace, metrics: Metrics) -> Backend:
    chosen = [name for name in ("upstream", "vllm", "engine") if getattr(options, name) is not None]
    if len(chosen) > 1:
        raise ConfigurationError(
            "one engine is enough", id=_ID, got=" and ".join(f"--{name}" for name in chosen)
        )
    if chosen and options.fault == _TRUNCATED and not options.engine:
        raise ConfigurationError("only the embedded engine has this fault", id=_ID, got=_TRUNCATED)
    try:
        if options.upstream is not None:
            return _upstream(options)
        if options.vllm is not None:
            from teeverify.enclave.engines.vllm import Vllm  # noqa: PLC0415 -- needs aiohttp

            return Vllm(
                Path(options.vllm),
                name=options.model or "default",
                command=options.vllm_command or "vllm",
                arguments=options.vllm_argument,
                silence=options.upstream_silence or _SILENCE_SECONDS,
                metrics=metrics,
            )
        from teeverify.enclave.engines.tiny import TinyEngine  # noqa: PLC0415 -- needs NumPy
    except ImportError:
        raise _extra("server") from None
    from teeverify.enclave.engines.embedded import Embedded  # noqa: PLC0415

    return Embedded(
        TinyEngine(), model=options.model or "default", truncated=options.fault == _TRUNCATED
    )


def _upstream(options: argparse.Namespace) -> Backend:
    """An engine that runs already; it says which models it has."""
    from teeverify.enclave.engines.upstream import Upstream  # noqa: PLC0415 -- needs aiohttp

    upstream = Upstream(
        options.upstream,
        unsafe_remote=options.unsafe_remote_upstream,
        api_key=_one_key(options.upstream_key_file),
        silence=options.upstream_silence or _SILENCE_SECONDS,
    )
    models = asyncio.run(upstream.probe(options.wait or 0.0))
    if options.model is None and len(models) == 1:
        options.model = models[0]
    if options.model not in models:
        raise ConfigurationError(
            "the upstream has no model of this name",
            id=_ID,
            got=options.model or "no --model",
            want=", ".join(models)[:200] or "a model",
        )
    return upstream


def _store(options: argparse.Namespace) -> SignatureStore:
    from teeverify.enclave.sqlite_store import SqliteStore  # noqa: PLC0415

    if options.store is not None and options.store.startswith(_REDIS):
        try:
            from teeverify.enclave.redis_store import RedisStore  # noqa: PLC0415
        except ImportError:
            raise _extra("redis") from None
        return RedisStore(options.store, ttl_seconds=options.ttl)
    return SqliteStore(options.store, ttl_seconds=options.ttl, max_bytes=options.store_bytes)


def _api_keys(path: str | None) -> list[bytes]:
    if path is None:
        return []
    keys = [line.strip() for line in _read(path).splitlines() if line.strip()]
    if not keys:
        raise ConfigurationError("the file holds no key", id=_ID, got=path)
    return [hashlib.sha256(key.encode("utf-8")).digest() for key in keys]


def _one_key(path: str | None) -> str | None:
    return None if path is None else _read(path).strip()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigurationError(
            f"the file cannot be read: {reason}", id=_ID, got=path[:200]
        ) from None


def _extra(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"the packages of the extra {name!r} are not installed",
        id="usage.extra",
        hint=f"pip install 'teeverify[{name}]'",
    )


@contextlib.contextmanager
def _roots_file(path: str | None) -> Iterator[Path]:
    """The named file, or one of our own that goes when the server goes."""
    if path is not None:
        yield Path(path).absolute()
        return
    with tempfile.TemporaryDirectory(prefix="teeverify-") as folder:
        yield Path(folder) / "test-roots.pem"
