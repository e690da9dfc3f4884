"""The measurement on a GPU, one model after the other: raw vLLM against the same behind our server.

For each shape: its model is written, vLLM is started with dummy weights, the server is started
before it, both are measured, both are stopped. Then one report of all. What was measured stays on
disk: the same command goes on where it stopped.

    python -m benchmarks.gpu --out DIR [--vllm-command 'vllm serve …'] [--saturated 64] [SHAPE …]

Without a SHAPE: those that one GPU of 140 GB holds. More flags of ``teeverify bench run`` may
follow ``--``, such as ``-- --budget 40 --total 8``. Two GPUs, or two engines on one, take two
commands with other shapes and the same DIR; which GPU and how much of it is vLLM's own business:

    --vllm-command 'env CUDA_VISIBLE_DEVICES=1 vllm serve --gpu-memory-utilization 0.4'
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.shapes import SHAPES, write_model
from teeverify.bench.environment import describe_host
from teeverify.bench.up import bring_up
from teeverify.cli.main import main as teeverify
from teeverify.errors import TeeVerifyError

NAMES = {
    "llama-3.1-8b": "Llama-3.1-8B",
    "phi-3-14b-128k": "Phi-3-14B-128k",
    "llama-3.1-70b-fp8": "Llama-3.1-70B in FP8",
}


def measure(shape: str, options: argparse.Namespace, gpu: str) -> int:
    """Measure one shape; the exit code of ``bench run``."""
    model, out = options.out / "models" / shape, options.out / shape
    write_model(shape, model)
    command = f"{options.vllm_command} --load-format dummy"
    with bring_up(model, command=command, timeout=options.timeout, say=_say) as pair:
        run = [
            "bench", "run", "--target", f"raw={pair.raw}", "--target", f"served={pair.served}",
            "--verify", "served", "--unsafe-test-roots", str(pair.roots),
            "--model-config", str(model / "config.json"), "--weights", "dummy",
            "--engine", command,
            "--title", f"{NAMES.get(shape, shape)}, {gpu}",
            "--batch", "1", "--batch", str(options.saturated), "--out", str(out),
        ]  # fmt: skip
        return teeverify([*run, *options.rest])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Measure all shapes; 0 if each was."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("shapes", nargs="*", metavar="SHAPE", help=", ".join(SHAPES))
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument("--vllm-command", default="vllm serve", metavar="CMD")
    parser.add_argument("--saturated", type=int, default=64, metavar="N", help="requests at once")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for vLLM to start")
    given = sys.argv[1:]
    split = given.index("--") if "--" in given else len(given)
    options = parser.parse_args(given[:split])
    options.rest = given[split + 1 :]
    unknown = sorted(set(options.shapes) - set(SHAPES))
    if unknown:
        parser.error(f"no shape {', '.join(unknown)}; there are {', '.join(SHAPES)}")
    gpus = describe_host()["gpus"]
    gpu = gpus[0] if isinstance(gpus, list) and gpus else "no GPU"
    worst = 0
    for shape in options.shapes or NAMES:
        try:
            code = measure(shape, options, str(gpu))
        except TeeVerifyError as error:
            _say(f"{shape}: {error}")
            code = error.exit_code
        worst = max(worst, code)
    done = sorted(options.out.glob("*/result.json"), key=_measured_at)
    if done:
        teeverify(["bench", "report", *map(str, done), "--out", str(options.out)])
    return worst


def _measured_at(path: Path) -> str:
    return str(json.loads(path.read_text())["host"]["time"])


if __name__ == "__main__":
    sys.exit(main())
