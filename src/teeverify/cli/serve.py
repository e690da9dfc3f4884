"""``teeverify serve``: the enclave server, for now on a simulated machine only."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from teeverify.errors import EXIT_SATISFIED, ConfigurationError
from teeverify.testing import FAULTS

__all__ = ["add_serve", "serve"]

_DEVICES = (
    "/dev/tdx_guest",
    "/dev/tdx-guest",
    "/dev/sev-guest",
    "/var/run/dstack.sock",
    "/run/dstack.sock",
)
_OTHER_KEY, _TRUNCATED = "other-key", "truncated-stream"


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Add the command's flags to its parser."""
    parser.add_argument(
        "--simulated", action="store_true", help="on a simulated machine, which proves nothing"
    )
    parser.add_argument(
        "--even-on-a-tee", action="store_true", help="simulate although this machine is a real TEE"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port; 0 for any that is free")
    parser.add_argument("--model", default="default", metavar="M", help="name of the model")
    parser.add_argument("--gpus", type=int, default=8, metavar="N", help="simulated GPUs")
    parser.add_argument("--roots-file", metavar="PATH", help="where to write the test roots")
    parser.add_argument("--store", metavar="PATH", help="file that keeps the signatures")
    parser.add_argument(
        "--fault",
        choices=tuple(FAULTS),
        metavar="NAME",
        help=f"what to do wrong, for clients to refuse: {', '.join(FAULTS)}",
    )


def serve(options: argparse.Namespace) -> int:
    """Serve until told to stop. Prints the URL, then the path of the test roots.

    Raises:
        ConfigurationError: Wrong flags, or what they name cannot be used.
    """
    if not options.simulated:
        raise ConfigurationError(
            "this version serves on a simulated machine only; '--tee auto' comes with the support "
            "of real hardware",
            id="usage.serve",
            hint="For tests, type --simulated.",
        )
    found = [path for path in _DEVICES if Path(path).exists()]
    if found and not options.even_on_a_tee:
        raise ConfigurationError(
            "this machine is a real TEE, and nothing is simulated on one",
            id="usage.serve",
            got=found[0],
            hint="For tests, type --even-on-a-tee.",
        )
    # With more threads a matrix product this small mostly waits; read when NumPy is imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with _roots_file(options.roots_file) as roots:
        _serve_simulated(options, roots)
    return EXIT_SATISFIED


def _serve_simulated(options: argparse.Namespace, roots: Path) -> None:
    # Imported here: only this command needs them.
    try:
        from teeverify.enclave.engines.tiny import TinyEngine  # noqa: PLC0415 -- needs NumPy
        from teeverify.enclave.serve import (  # noqa: PLC0415 -- needs uvicorn
            log_to_stderr,
            open_socket,
            run,
            url_of,
        )
    except ImportError:
        raise ConfigurationError(
            "the server's packages are not installed",
            id="usage.extra",
            hint="pip install 'teeverify[server]'",
        ) from None
    from teeverify.enclave.app import EnclaveApp  # noqa: PLC0415
    from teeverify.enclave.asgi import Application  # noqa: PLC0415
    from teeverify.enclave.attestation import Attester  # noqa: PLC0415
    from teeverify.enclave.chat import DONE  # noqa: PLC0415
    from teeverify.enclave.keys import SigningKeys  # noqa: PLC0415
    from teeverify.enclave.signing import Notary  # noqa: PLC0415
    from teeverify.enclave.store import SignatureStore  # noqa: PLC0415
    from teeverify.simulator.host import HOST_FAULTS, DishonestHost  # noqa: PLC0415
    from teeverify.simulator.tee import TEE_FAULTS, SimulatedTee  # noqa: PLC0415

    fault = options.fault
    tee = SimulatedTee(gpus=options.gpus, fault=fault if fault in TEE_FAULTS else None)
    tee.write_roots(roots)
    keys = SigningKeys()
    attested = SigningKeys() if fault == _OTHER_KEY else keys
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(open_socket(options.host, options.port))
        url = url_of(listening)
        store = SignatureStore(options.store)
        stack.callback(store.close)
        engine = TinyEngine()
        stack.callback(engine.close)
        attester = Attester(tee, attested, model=options.model)
        stack.callback(attester.close)
        application: Application = EnclaveApp(
            model=options.model,
            engine=engine,
            attester=attester,
            notary=Notary(keys, store),
            terminal=b"" if fault == _TRUNCATED else DONE,
        )
        if fault in HOST_FAULTS:
            application = DishonestHost(application, fault)
        log_to_stderr()
        run(application, listening, ready=lambda: print(f"{url}\n{roots}", flush=True))


@contextlib.contextmanager
def _roots_file(path: str | None) -> Iterator[Path]:
    """The named file, or one of our own that goes when the server goes."""
    if path is not None:
        yield Path(path).absolute()
        return
    with tempfile.TemporaryDirectory(prefix="teeverify-") as folder:
        yield Path(folder) / "test-roots.pem"
