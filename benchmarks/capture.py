"""What capture costs in time and memory, at real sizes with random weights.

    python benchmarks/capture.py [--rounds 9] [--subjects vit,bert,…] [--out benchmarks/results/capture.json]

Subjects: ViT-S/16 at 224 pixels, BERT-base at 512 tokens, GPT-2 at 1,024 tokens, one transformer block
of SDXL's UNet at 4,096 latents (10 heads of 64, 77 tokens of text), one joint block of FLUX at 4,096 latents
and 512 tokens of text (24 heads of 128). Ways to get at attention:

- "capture": q and k of every layer, by ``tr.capture``.
- "reduce": the mean attention over heads and layers, ``tr.capture(reduce="mean")``.
- "eager": the weights themselves, kept: ``output_attentions=True`` with ``attn_implementation="eager"`` in
  transformers; for the blocks of diffusers, which cannot report weights, the same arithmetic in place of the
  fused call.
- "eager alone", "eager captured": that model without its weights, and q and k of every layer by ``tr.capture``,
  verified in every row against the weights that it computes; the latter over the former.
- "nnsight": the outputs of the projections to q and k, saved with nnsight from the model with fused attention;
  before any rotation and not cut into heads.

Time: the ways run in turn within each round; a ratio is the median over rounds of way / plain forward (or eager
forward) in the same round, so that a slow spell of the machine falls on both. "kept" are the bytes that stay
afterwards; "peak" is how far a fresh process (Linux) rises above its size before the call, the forward itself included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers as hf
from facts import facts, in_new_process, parser, save
from peak import peak_gb
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

import tokenrank as tr

Way = Callable[[], Sequence[Tensor]]
THREADS = 2


@dataclass(frozen=True)
class Subject:
    """One model with fused attention, and the paths of its projections to q and k."""

    words: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], dict[str, Any]]
    projections: Callable[[Any], list[Any]]
    reports_weights: bool = True


def vit() -> nn.Module:
    config = hf.ViTConfig(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536)
    return hf.ViTModel(config, add_pooling_layer=False)


def sdxl_block() -> nn.Module:
    from diffusers.models.attention import BasicTransformerBlock

    return BasicTransformerBlock(640, 10, 64, cross_attention_dim=2048)


class FluxBlock(nn.Module):
    """A joint block with what it takes from the transformer around it."""

    def __init__(self) -> None:
        from diffusers.models.transformers.transformer_flux import FluxPosEmbed, FluxTransformerBlock

        super().__init__()
        self.block = FluxTransformerBlock(3072, 24, 128)
        self.positions = FluxPosEmbed(10000, [16, 56, 56])

    def forward(self, image: Tensor, text: Tensor, time: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        return self.block(image, text, time, self.positions(ids))


def flux_inputs() -> dict[str, Any]:
    return {
        "image": torch.randn(1, 4096, 3072),
        "text": torch.randn(1, 512, 3072),
        "time": torch.randn(1, 3072),
        "ids": torch.zeros(4608, 3),
    }


SUBJECTS = {
    "vit": Subject(
        "ViT-S/16, 224 px",
        vit,
        lambda: {"pixel_values": torch.randn(1, 3, 224, 224)},
        lambda m: [p for layer in m.layers for p in (layer.attention.q_proj, layer.attention.k_proj)],
    ),
    "bert": Subject(
        "BERT-base, 512 tokens",
        lambda: hf.BertModel(hf.BertConfig(), add_pooling_layer=False),
        lambda: {"input_ids": torch.randint(5, 30000, (1, 512))},
        lambda m: [p for layer in m.encoder.layer for p in (layer.attention.self.query, layer.attention.self.key)],
    ),
    "gpt2": Subject(
        "GPT-2, 1,024 tokens",
        lambda: hf.GPT2Model(hf.GPT2Config()),
        lambda: {"input_ids": torch.randint(5, 50000, (1, 1024)), "use_cache": False},
        lambda m: [block.attn.c_attn for block in m.h],
    ),
    "sdxl": Subject(
        "SDXL block, 4,096 latents",
        sdxl_block,
        lambda: {
            "hidden_states": torch.randn(2, 4096, 640),
            "encoder_hidden_states": torch.randn(2, 77, 2048),
        },
        lambda m: [m.attn1.to_q, m.attn1.to_k, m.attn2.to_q, m.attn2.to_k],
        reports_weights=False,
    ),
    "flux": Subject(
        "FLUX block, 4,096 latents + 512 text",
        FluxBlock,
        flux_inputs,
        lambda m: [m.block.attn.to_q, m.block.attn.to_k, m.block.attn.add_q_proj, m.block.attn.add_k_proj],
        reports_weights=False,
    ),
}


class WrittenOut(TorchFunctionMode):
    """Computes fused attention by matmul and softmax, and keeps the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        q, k, v = (args + tuple((kwargs or {}).get(n) for n in ("query", "key", "value")[len(args) :]))[:3]
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        self.weights.append(weights)
        return weights @ v


def ways(subject: Subject) -> dict[str, Way]:
    torch.manual_seed(0)
    model = subject.build().eval()
    inputs = subject.inputs()

    def plain() -> Sequence[Tensor]:
        model(**inputs)
        return ()

    def captured() -> Sequence[Tensor]:
        with tr.capture(model) as trace:
            model(**inputs)
        return [tensor for record in trace.records for tensor in record.tensors.values()]

    def reduced() -> Sequence[Tensor]:
        with tr.capture(model, reduce="mean") as trace:
            model(**inputs)
        return [tensor for record in trace.records for tensor in record.tensors.values()]

    found: dict[str, Way] = {"plain": plain, "capture": captured, "reduce": reduced}
    if subject.reports_weights:
        eager = subject.build().eval()
        eager.load_state_dict(model.state_dict())
        eager.set_attn_implementation("eager")  # type: ignore[operator]
        found["eager"] = lambda: eager(**inputs, output_attentions=True).attentions

        def eager_alone() -> Sequence[Tensor]:
            eager(**inputs)
            return ()

        def eager_captured() -> Sequence[Tensor]:
            with tr.capture(eager) as trace:
                eager(**inputs)
            return [tensor for record in trace.records for tensor in record.tensors.values()]

        found |= {"eager alone": eager_alone, "eager captured": eager_captured}
    else:

        def written_out() -> Sequence[Tensor]:
            with WrittenOut() as mode:
                model(**inputs)
            return mode.weights

        found["eager"] = written_out
    warnings.filterwarnings("ignore", message="Module '.*' has a submodule named 'output'")
    try:
        import nnsight
    except ImportError:
        print("nnsight is not installed: pip install nnsight", file=sys.stderr)
        return found
    wrapped = nnsight.NNsight(model)

    def sight() -> Sequence[Tensor]:
        with wrapped.trace(**inputs):
            kept = nnsight.save([projection.output for projection in subject.projections(wrapped)])
        return kept

    found["nnsight"] = sight
    return found


def measure(subject: Subject, rounds: int) -> list[dict[str, Any]]:
    runs = ways(subject)
    times: dict[str, list[float]] = {name: [] for name in runs}
    kept: dict[str, int] = {}
    names = list(runs)
    for number in range(-1, rounds):
        turn = max(0, number) % len(names)  # nobody always runs after the same other one
        for name in names[turn:] + names[:turn]:
            run = runs[name]
            start = time.perf_counter()
            result = run()
            elapsed = time.perf_counter() - start
            if number >= 0:
                times[name].append(elapsed)
            kept[name] = sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in result}.values())
            del result
    rows = []
    for name in runs:
        base = times["eager alone" if name == "eager captured" else "plain"]
        ratios = sorted(a / b for a, b in zip(times[name], base, strict=True))
        rows.append(
            {
                "subject": subject.words,
                "way": name,
                "milliseconds": round(1e3 * statistics.median(times[name]), 2),
                "over_plain_percent": round(100 * (statistics.median(ratios) - 1), 2),
                "rounds": len(ratios),
                "kept_mib": round(kept[name] / 2**20, 2),
            }
        )
    return rows


def peak_of(key: str, way: str) -> float:
    """GB that one call needs in a fresh process."""
    return float(in_new_process(__file__, "--one", key, way))


def one(key: str, way: str) -> None:
    run = ways(SUBJECTS[key])[way]
    answers: list[Any] = []
    print(json.dumps(round(peak_gb(lambda: answers.append(run())), 4)))


def main() -> None:
    arguments = parser(__doc__, rounds=9)
    arguments.add_argument("--subjects", default=",".join(SUBJECTS))
    arguments.add_argument("--one", nargs=2, metavar=("SUBJECT", "WAY"), help=argparse.SUPPRESS)
    options = arguments.parse_args()
    torch.set_num_threads(THREADS)
    torch.set_grad_enabled(False)
    if options.one:
        one(*options.one)
        return
    rows: list[dict[str, Any]] = []
    print(f"{'subject':38}{'way':10}{'ms':>10}{'over plain':>12}{'kept MiB':>10}{'peak MiB':>10}")
    for key in options.subjects.split(","):
        found = measure(SUBJECTS[key], options.rounds if key not in ("sdxl", "flux") else max(3, options.rounds // 3))
        for row in found:
            row["peak_mib"] = round(peak_of(key, row["way"]) * 1e9 / 2**20, 1)
            print(
                f"{row['subject']:38}{row['way']:10}{row['milliseconds']:10.1f}{row['over_plain_percent']:+11.1f}%"
                f"{row['kept_mib']:10.1f}{row['peak_mib']:10.1f}",
                flush=True,
            )
        rows += found
    save(options.out, facts("nnsight") | {"float": "float32"}, rows)


if __name__ == "__main__":
    main()
