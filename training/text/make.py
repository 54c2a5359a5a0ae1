"""Make the bundled network that reads text.

    python -m training.text.make MODEL DATA OUT

MODEL is the transformers folder of all-MiniLM-L6-v2, DATA a folder of free texts; OUT receives what the package carries
as ``src/tokenrank/models/bundled/text``: weights, tokenizer, licence, and a model card with the figures measured on
sentences that nothing was fitted to.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import BertModel

from tokenrank.models.packed import FILE, Packed, write_packed

from .card import card
from .compare import distances, token_costs
from .network import cut_network
from .pack import Steps, packed
from .sentences import read_corpus
from .vocabulary import SPECIAL, cut_tokenizer, frequent, piece_counts
from .words import frequent_on_top

MEASURED, RANKED = 128, 50
"""Held-out sentences whose attention is compared, and those that TokenRank is asked about."""
COMMON = 100
"""Pieces that count as frequent where words that say something are told from others."""


def make(
    model: Path, data: Path, out: Path, size: int, steps: Steps, held_out: int, measured: int = MEASURED
) -> dict[str, object]:
    """Write OUT; returns the figures that are in it as ``figures.json``."""
    began = time.monotonic()
    corpus = read_corpus(data, held_out)
    told = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    whole_tokenizer = _plain(Tokenizer.from_file(str(model / "tokenizer.json")))
    counts = piece_counts(whole_tokenizer, corpus.train)
    kept = frequent(told["model"]["vocab"], counts, size)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer_file = json.dumps(cut_tokenizer(told, kept), ensure_ascii=False, separators=(",", ":"))
    (out / "tokenizer.json").write_text(tokenizer_file + "\n", encoding="utf-8")
    tokenizer = _plain(Tokenizer.from_file(str(out / "tokenizer.json")))
    whole = BertModel.from_pretrained(model, add_pooling_layer=False, attn_implementation="eager").eval()
    small = cut_network(whole, kept)
    small.set_attn_implementation("eager")
    tensors = packed(small, steps)
    write_packed(out / FILE, tensors)
    _write_config(out, small, tokenizer)
    shutil.copy(Path(__file__).parent / "LICENSE", out / "LICENSE")
    layers = distances(whole, small, kept, tokenizer, corpus.held_out[:measured])
    names = {whole_tokenizer.id_to_token(i) for i, _ in counts.most_common(COMMON)}
    figures: dict[str, object] = {
        "pieces": size,
        "pieces_covered": sum(counts[i] for i in kept) / counts.total(),
        "sentences": {"vocabulary": len(corpus.train), "held_out": held_out, "measured": measured},
        "steps": vars(steps),
        "weights": sum(value.codes.size for value in tensors.values() if isinstance(value, Packed)),
        "layers": layers,
        "words": frequent_on_top(out, corpus.held_out[: min(RANKED, measured)], names),
        "tokens": token_costs(whole_tokenizer, tokenizer, corpus.held_out),
        "bytes": {path.name: path.stat().st_size for path in sorted(out.iterdir()) if path.name in _FILES},
        "seconds": round(time.monotonic() - began),
        "torch": torch.__version__,
    }
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    (out / "README.md").write_text(card(figures), encoding="utf-8")
    return figures


_FILES = (FILE, "tokenizer.json")


def _plain(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _write_config(out: Path, network: BertModel, tokenizer: Tokenizer) -> None:
    network.config.architectures = ["BertModel"]
    network.config.save_pretrained(out)
    names = ("pad", "unk", "cls", "sep", "mask")
    settings: dict[str, object] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    settings |= {f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)}
    settings |= {"model_max_length": network.config.max_position_embeddings}
    settings |= {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pieces", type=int, default=8000, help="size of the vocabulary")
    parser.add_argument("--held-out", type=int, default=2000, help="sentences kept apart")
    for name, share in vars(Steps()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=share, help="a step, in RMS of its row")
    args = parser.parse_args()
    steps = Steps(**{name: getattr(args, name) for name in vars(Steps())})
    print(json.dumps(make(args.model, args.data, args.out, args.pieces, steps, args.held_out), indent=2))


if __name__ == "__main__":
    main()
