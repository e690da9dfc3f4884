"""The published tables of arXiv 2409.03992 v4 (5 November 2024), to set beside one's own.

vLLM 0.5.4; H100 NVL 94 GB with EPYC 9V84 (SEV-SNP), H200 NVL 141 GB with Xeon 8558 (TDX); batch 1
for TPS, dynamic batches for QPS; Llama-3.1-70B in 4 bits. The paper has no repetitions and no
intervals. Its column "ITL (s)" times its TPS gives 206, 251 and 235 tokens: it is the decode time
of a whole answer, not the latency between two tokens, and is called so here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from teeverify.bench.results import Result

__all__ = ["LENGTHS", "THROUGHPUT", "Published", "comparable"]


@dataclass(frozen=True, slots=True)
class Published:
    """One cell: confidential computing on, off."""

    gpu: str
    model: str
    what: str
    on: float
    off: float

    @property
    def overhead(self) -> float:
        """As in the paper: of rates ``(off - on) / off``, of times ``(on - off) / off``."""
        if self.what.endswith("(s)"):
            return (self.on - self.off) / self.off
        return (self.off - self.on) / self.off


THROUGHPUT = tuple(
    Published(gpu, model, what, on, off)
    for what, rows in {
        "TPS": (
            ("H100", "Llama-3.1-8B", 123.2985, 132.3618),
            ("H100", "Phi-3-14B-128k", 66.5845, 69.7787),
            ("H100", "Llama-3.1-70B", 2.4822, 2.4789),
            ("H200", "Llama-3.1-8B", 121.0412, 132.7830),
            ("H200", "Phi-3-14B-128k", 68.4287, 72.9825),
            ("H200", "Llama-3.1-70B", 4.0797, 4.1753),
        ),
        "QPS": (
            ("H100", "Llama-3.1-8B", 18.2141, 18.8208),
            ("H100", "Phi-3-14B-128k", 7.1760, 7.3456),
            ("H100", "Llama-3.1-70B", 0.8325, 0.8295),
            ("H200", "Llama-3.1-8B", 29.5973, 32.0134),
            ("H200", "Phi-3-14B-128k", 12.8294, 13.8558),
            ("H200", "Llama-3.1-70B", 2.1874, 2.2011),
        ),
        "TTFT (s)": (
            ("H100", "Llama-3.1-8B", 0.0288, 0.0242),
            ("H100", "Phi-3-14B-128k", 0.0546, 0.0463),
            ("H100", "Llama-3.1-70B", 0.5108, 0.5129),
            ("H200", "Llama-3.1-8B", 0.0364, 0.0301),
            ("H200", "Phi-3-14B-128k", 0.0524, 0.0417),
            ("H200", "Llama-3.1-70B", 0.4362, 0.4204),
        ),
        "decode of an answer (s)": (
            ("H100", "Llama-3.1-8B", 1.6743, 1.5549),
            ("H100", "Phi-3-14B-128k", 3.7676, 3.5784),
            ("H100", "Llama-3.1-70B", 94.8714, 95.2395),
            ("H200", "Llama-3.1-8B", 1.7158, 1.5552),
            ("H200", "Phi-3-14B-128k", 3.6975, 3.4599),
            ("H200", "Llama-3.1-70B", 57.3855, 55.9771),
        ),
    }.items()
    for gpu, model, on, off in rows
)

LENGTHS = tuple(
    Published(gpu, model, f"TPS, {length}", on, off)
    for gpu, model, *pairs in (
        ("H100", "Llama-3.1-8B", (127.0310, 136.8282), (122.9356, 132.0464), (122.9705, 131.7333)),
        ("H100", "Phi-3-14B-128k", (70.9799, 74.7556), (66.1690, 69.3104), (66.2987, 69.4176)),
        ("H100", "Llama-3.1-70B", (2.5983, 2.6073), (2.4413, 2.4374), (2.5245, 2.5168)),
        ("H200", "Llama-3.1-8B", (124.1744, 136.2283), (120.4250, 132.2366), (121.3849, 132.9002)),
        ("H200", "Phi-3-14B-128k", (71.8940, 76.2754), (67.8290, 72.3372), (68.5863, 73.2384)),
        ("H200", "Llama-3.1-70B", (4.2261, 4.3295), (4.0425, 4.1386), (4.0947, 4.1886)),
    )
    for length, (on, off) in zip(("short", "medium", "long"), pairs, strict=True)
)

# By layers and hidden size.
_MODELS = {
    (32, 4096): "Llama-3.1-8B",
    (40, 5120): "Phi-3-14B-128k",
    (80, 8192): "Llama-3.1-70B",
}


def comparable(result: Result, cell: str) -> Iterator[tuple[str, Published]]:
    """The paper's figures that a cell's can be set beside, each with our metric's id.

    Of the same GPU family and model shape: TPS of a length class at batch 1; TPS and TTFT of
    ShareGPT's lengths at batch 1. QPS in the paper is the best of batches that it does not name.
    """
    shape = (result.model.get("num_hidden_layers"), result.model.get("hidden_size"))
    model = next((name for known, name in _MODELS.items() if known == shape), None)
    workload, _, load = cell.rpartition(", ")
    if load != "batch 1":
        return
    names = {f"TPS, {workload}": "tps"}
    if workload == "sharegpt":
        names |= {"TPS": "tps", "TTFT (s)": "ttft"}
    gpus = str(result.host.get("gpus"))
    for each in (*THROUGHPUT, *LENGTHS):
        if each.gpu in gpus and each.model == model and each.what in names:
            yield names[each.what], each
