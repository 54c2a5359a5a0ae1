"""A causal language model as a Markov chain: |λ2|, attention sinks, and rankings of words with the sink taken out.

    python -m benchmarks.networks smollm2-135m NETWORK
    python benchmarks/text_sinks.py NETWORK [--texts 40] [--threads 1] [--out FILE] [--figures FOLDER]

Part one looks at all heads of SmolLM2-135M-Instruct on sentences and passages written for this script. Part two asks
whether a ranking is of any use: the top tokens of the first half of a text, by each ranking, are hidden from all
other tokens, and the next-token loss on the second half is measured. The texts of part two are the topics of
Python's own help (``pydoc_data.topics``), read at run time. Rankings see the first half only.
"""

from __future__ import annotations

import json
import pydoc_data.topics
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from facts import facts, parser, save
from networks import smollm2_135m as smollm2
from torch import Tensor

import tokenrank as tr
from tokenrank.errors import ChainError

ALPHA = 0.99
HALF = 64  # tokens of the first half of a text, and of the second
HIDDEN = 13  # tokens of the first half that are hidden: a fifth
RANDOM = 4  # draws of random tokens
NEAR, BESIDE = 4, 2  # places that a token may be away from the one that it stands in for; draws of those

TEXTS = {
    "cat": "The cat sat on the mat because it was tired.",
    "dog": "My dog barked at the postman until he left the garden.",
    "elephant": "An elephant never forgets the place where it once found water.",
    "birds": "Small birds sing before the sun comes up, and the cat listens.",
    "harbour": (
        "Every morning the fishing boats came back to the harbour before the market opened. The men threw ropes to "
        "the boys on the quay, who tied them to iron rings in the stone. Gulls circled over the crates of herring and "
        "mackerel, and the fishmongers called out prices that nobody intended to pay. By nine o'clock the ice had "
        "begun to melt, and the water ran in thin streams across the cobbles back into the sea."
    ),
    "bridge": (
        "The old bridge across the river was built by a company that made bells. Its engineer believed that iron "
        "should ring when a train went over it, and he tuned the long girders so that every crossing sounded like a "
        "chord. The people of the valley set their clocks by it. When the railway was closed, the bridge fell silent, "
        "and for some years nobody noticed that the clocks had begun to disagree. Then a teacher asked her pupils to "
        "measure the time between two bells of the church and the school. The difference was eleven minutes. The "
        "children drew a map of the town, coloured by what time it was in each street, and hung it in the town hall. "
        "The mayor looked at it for a long while. In the spring a single carriage was put back on the rails, pulled by "
        "two horses, and at noon it rolled over the bridge. It was lighter than a train, so the chord was softer, but "
        "everyone in the valley stopped and turned the hands of their clocks."
    ),
    "planets": (
        "Planets do not shine by themselves; they reflect the light of the star that they travel around. The closer a "
        "planet is to its star, the faster it moves and the shorter its year. Mercury needs only three months for one "
        "turn around the sun, while Neptune takes more than a century and a half. Astronomers who look for planets "
        "around distant stars cannot see them directly. They wait until a planet passes in front of its star and "
        "measure how much darker the star becomes. From the depth of the shadow they learn how large the planet is, "
        "and from the time between two shadows they learn how far away from the star it must be."
    ),
}


# ---- the model as a chain


def capture(model: Any, ids: Tensor) -> list[tr.AttentionChain]:
    """One chain (heads, N, N) a layer."""
    with tr.capture(model, layout=False) as trace, torch.no_grad():
        model(input_ids=ids[None])
    return [trace[i][0] for i in range(len(trace.records))]


def mixture(chains: list[tr.AttentionChain]) -> tr.AttentionChain:
    """One chain of all heads of all layers: at each step a head is drawn, and the walk follows it."""
    dense = torch.stack([chain.to_dense().double().mean(0) for chain in chains]).mean(0)
    return tr.AttentionChain(dense / dense.sum(-1, keepdim=True))


def walks(chain: tr.AttentionChain) -> dict[str, Tensor]:
    """The ways to take the first token out of TokenRank: name → score of every token (N,)."""
    n = chain.num_tokens
    renormalised = chain.restrict(torch.arange(1, n)).tokenrank(ALPHA).values
    return {
        "TokenRank, censored": chain.tokenrank(ALPHA).values,  # what the censored chain gives: see look()
        "TokenRank, renormalised": torch.cat([torch.zeros(1), renormalised]),
        "quasi-stationary": chain.quasi_stationary(0, ALPHA).values,
    }


def rankings(chain: tr.AttentionChain) -> dict[str, Tensor]:
    """All rankings, the first token's score set to zero; "/ even" is relative to a model that attends evenly."""
    n = chain.num_tokens
    incoming, found = chain.sinks(), walks(chain)
    even = walks(tr.AttentionChain(torch.ones(n, n, dtype=torch.float64).tril() / torch.arange(1, n + 1)[:, None]))
    scores = {
        **found,
        "censored / even": found["TokenRank, censored"] / even["TokenRank, censored"],
        "quasi-stationary / even": found["quasi-stationary"] / even["quasi-stationary"].clamp(min=1e-300),
        "column sum": incoming.share,
        "column mean": incoming.values,
        "column sum / even": incoming.lift,
    }
    first = torch.arange(n) == 0
    return {name: torch.where(first, 0.0, values.double()) for name, values in scores.items()}


def spearman(a: Tensor, b: Tensor) -> float:
    """Rank correlation of two scores without ties."""
    ranks = np.stack([x.argsort().argsort().double().numpy() for x in (a, b)])
    return float(np.corrcoef(ranks)[0, 1])


def top_words(pieces: list[str], scores: Tensor, count: int = 6) -> list[str]:
    """Words (tokens up to the next blank) by the sum of their tokens' scores."""
    words: list[tuple[str, float]] = []
    for piece, score in zip(pieces, scores.tolist(), strict=True):
        if words and re.match(r"\w", piece):
            words[-1] = (words[-1][0] + piece, words[-1][1] + score)
        else:
            words.append((piece.strip(), score))
    words.sort(key=lambda w: -w[1])
    return [word for word, _ in words[:count]]


# ---- part one


def look(model: Any, tokenizer: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    rows, correlations, lambdas, firsts, means, others, masses = [], [], [], [], [], [], []
    off, width, seconds = 0.0, 0.0, 0.0
    for name, text in TEXTS.items():
        ids = tokenizer(text, return_tensors="pt").input_ids[0]
        n = len(ids)
        pieces = [tokenizer.decode([i]) for i in ids.tolist()]
        chains = capture(model, ids)
        found = [chain.sinks() for chain in chains]
        first = torch.stack([s.first for s in found])
        firsts.append(first)
        means.append(torch.stack([s.values[:, 0] for s in found]))
        others.append(torch.stack([s.tokens[:, 1:].any(-1) for s in found]))
        lambdas.append(torch.stack([chain.lambda2().values for chain in chains]).double())
        masses.append(torch.stack([chain.tokenrank(ALPHA).values[:, 0] for chain in chains]))
        whole = mixture(chains)
        scores = rankings(whole)
        start = time.perf_counter()
        of_heads = [chain.quasi_stationary(0, ALPHA) for chain in chains]
        seconds += time.perf_counter() - start
        width = max(width, *(float((q.upper - q.lower).max()) for q in of_heads))
        # the stationary vector of the stochastic complement is TokenRank without its first entry
        censored = whole.teleport(ALPHA).restrict(torch.arange(1, n), how="censor")
        direct = censored.tokenrank(1.0, tol=1e-12).values
        kept = scores["TokenRank, censored"][1:]
        off = max(off, float((direct - kept / kept.sum()).abs().sum()))
        survival = float(whole.quasi_stationary(0, ALPHA).survival)
        rows.append(
            {
                "text": name,
                "tokens": n,
                "first token": pieces[0],
                "perplexity": smollm2.perplexity(model, ids[None]),
                "heads whose first token is a sink": float(first.double().mean()),
                "TokenRank on the first token": float(whole.tokenrank(ALPHA).values[0]),
                "survival": survival,
                "top words": {key: top_words(pieces, value) for key, value in scores.items()},
            }
        )
        if n >= 60:
            compared = [x[1:] for x in scores.values()] + [-torch.arange(1.0, n)]
            correlations.append([[spearman(a, b) for b in compared] for a in compared])
        last = {"pieces": pieces, "scores": scores, "rank": whole.tokenrank(ALPHA).values}
        if name == "harbour":
            shown = last
        sinking, ranked = rows[-1]["heads whose first token is a sink"], rows[-1]["TokenRank on the first token"]
        print(
            f"{name}: {n} tokens; {pieces[0]!r} is a sink in {sinking:.0%} of heads, "
            f"has {ranked:.3f} of TokenRank; θ = {survival:.3f}"
        )
        for key, words in rows[-1]["top words"].items():
            print(f"    {key:28} {' · '.join(words)}")
    try:
        whole.restrict(torch.arange(1, n), how="censor")
        refusal = ""
    except ChainError as error:
        refusal = str(error)
    levels = [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1]
    every = torch.cat([x.reshape(-1) for x in lambdas])
    facts = {
        "alpha": ALPHA,
        "heads": firsts[0].numel(),
        "texts": rows,
        "|λ2|, exact": {
            "quantiles": {str(level): float(torch.quantile(every, level)) for level in levels},
            "above 0.9": float((every > 0.9).double().mean()),
        },
        "first token is a sink, share of heads by layer": torch.stack(firsts).double().mean((0, 2)).tolist(),
        "first token is a sink, share of heads": float(torch.stack(firsts).double().mean()),
        "another token is a sink, share of heads": float(torch.stack(others).double().mean()),
        "TokenRank of a head on the first token": {
            "mean": float(torch.stack(masses).mean()),
            "smallest": float(torch.stack(masses).min()),
        },
        "rank correlation (passages)": {
            "names": [*scores, "earliest"],
            "mean": np.mean(correlations, 0).round(4).tolist(),
            "passages": len(correlations),
        },
        "censored chain against TokenRank without its first entry, largest ℓ1": off,
        "censoring without teleport": refusal,
        "quasi-stationary, every head": {"largest width of the bounds of θ": width, "seconds": seconds},
    }
    plotted = {"sink": torch.stack(means).mean(0), "lambda2": every} | shown
    return facts, plotted


# ---- part two


def help_texts(tokenizer: Any, count: int) -> list[tuple[str, Tensor]]:
    """Prose of Python's help: (topic, ids) with two halves each."""
    found = []
    for topic, text in sorted(pydoc_data.topics.topics.items()):
        paragraphs = [" ".join(p.split()) for p in text.split("\n\n")]
        prose = [p for p in paragraphs if len(p) > 150 and p.endswith(".") and not re.search(r"::=|>>>|\*{4}|={4}", p)]
        ids = tokenizer(" ".join(prose), return_tensors="pt").input_ids[0]
        if len(ids) >= 2 * HALF:
            found.append((topic, ids[: 2 * HALF]))
    # topics that share their text would count twice
    distinct = {tuple(ids.tolist()): (topic, ids) for topic, ids in reversed(found)}
    found = list(reversed(distinct.values()))
    if len(found) < count:
        raise SystemExit(f"Python's help has {len(found)} texts of {2 * HALF} tokens, expected {count}; lower --texts")
    every = len(found) / count
    return [found[int(i * every)] for i in range(count)]


def second_half_loss(model: Any, ids: Tensor, hidden: Tensor) -> float:
    """Mean next-token loss on the second half where the keys ``hidden`` are seen by nobody but themselves."""
    n = len(ids)
    allowed = torch.ones(n, n, dtype=torch.bool).tril()
    allowed[:, hidden] = False
    allowed |= torch.eye(n, dtype=torch.bool)
    mask = torch.zeros(1, 1, n, n).masked_fill(~allowed, torch.finfo(torch.float32).min)
    with torch.no_grad():
        logits = model(input_ids=ids[None], attention_mask=mask).logits[0, HALF - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits, ids[HALF:]))


def neighbours(tokens: Tensor, generator: torch.Generator) -> Tensor:
    """For every token another one within ``NEAR`` places, each once; from anywhere where none is left there."""
    taken = {0, *tokens.tolist()}
    found = []
    for token in tokens.tolist():
        near = [j for j in range(token - NEAR, token + NEAR + 1) if 0 < j < HALF and j not in taken]
        near = near or [j for j in range(1, HALF) if j not in taken]
        found.append(near[int(torch.randint(len(near), (1,), generator=generator))])
        taken.add(found[-1])
    return torch.tensor(found)


def hide(model: Any, tokenizer: Any, count: int) -> dict[str, Any]:
    """Rise of the loss on the second half, by ranking, with paired differences."""
    texts = help_texts(tokenizer, count)
    place = torch.arange(HALF, dtype=torch.float64)
    rises: dict[str, list[float]] = {}  # ranking → of every text
    nearby: dict[str, list[float]] = {}
    places: dict[str, list[tuple[float, float]]] = {}
    intact = []
    for number, (topic, ids) in enumerate(texts):
        scores = rankings(mixture(capture(model, ids[:HALF])))
        scores |= {"earliest": torch.where(place == 0, 0.0, HALF - place), "latest": place}
        base = second_half_loss(model, ids, torch.tensor([], dtype=torch.long))
        intact.append(base)
        generator = torch.Generator().manual_seed(number)

        def mean_rise(draws: list[Tensor], ids: Tensor = ids, base: float = base) -> float:
            return sum(second_half_loss(model, ids, draw) - base for draw in draws) / len(draws)

        for name, values in scores.items():
            chosen = values.topk(HIDDEN).indices
            beside = [neighbours(chosen, generator) for _ in range(BESIDE)]
            rises.setdefault(name, []).append(mean_rise([chosen]))
            nearby.setdefault(name, []).append(mean_rise(beside))
            places.setdefault(name, []).append((float(place[chosen].mean()), float(place[torch.cat(beside)].mean())))
        draws = [1 + torch.randperm(HALF - 1, generator=generator)[:HIDDEN] for _ in range(RANDOM)]
        rises.setdefault("random", []).append(mean_rise(draws))
        print(f"{number + 1}/{count} {topic}: loss {base:.3f}", flush=True)
    rows: list[dict[str, Any]] = []
    columns = ("rise", "minus random nearby", "minus random", "minus column sum", "minus column mean")
    print("\n| ranking | mean place (nearby) | " + " | ".join(columns) + " |\n" + "|---" * 7 + "|")
    for name, values in rises.items():
        references = (None, nearby.get(name), rises["random"], rises["column sum"], rises["column mean"])
        row: dict[str, Any] = {"ranking": name}
        if name in places:
            row |= dict(zip(("mean place", "mean place nearby"), np.mean(places[name], 0).tolist(), strict=True))
        for key, reference in zip(columns, references, strict=True):
            if reference is values or (reference is None and key != "rise"):
                continue
            x = np.array(values) - (0 if reference is None else np.array(reference))
            row[key] = {"mean": float(x.mean()), "standard error": float(x.std(ddof=1) / len(x) ** 0.5)}
        rows.append(row)
        cells = [f"{row[k]['mean']:+.3f} ± {row[k]['standard error']:.3f}" if k in row else "" for k in columns]
        where = f"{row['mean place']:.0f} ({row['mean place nearby']:.0f})" if name in places else ""
        print(f"| {name} | {where} | {' | '.join(cells)} |")
    return {
        "texts": [topic for topic, _ in texts],
        "tokens of each half": HALF,
        "tokens hidden": HIDDEN,
        "random draws": RANDOM,
        "draws of random tokens nearby": BESIDE,
        "loss of the second half, nothing hidden": float(np.mean(intact)),
        "rows": rows,
    }


# ---- the figure


def draw(plotted: dict[str, Any], hidden: dict[str, Any], folder: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.6), constrained_layout=True, width_ratios=[0.8, 1.5, 1.2])
    image = axes[0].imshow(plotted["sink"], cmap="viridis", vmin=0, vmax=1, aspect="auto", origin="lower")
    axes[0].set(xlabel="head", ylabel="layer", title="mean attention on the first token", xticks=range(0, 9, 2))
    figure.colorbar(image, ax=axes[0])
    shown = 28
    token = np.arange(shown)
    first = plotted["rank"][:shown].numpy()
    axes[1].semilogy(token, first, "k.-", lw=1, label="TokenRank")
    for name, style in {
        "TokenRank, renormalised": "C3^:",
        "quasi-stationary": "C0o-",
        "column mean": "C2s--",
    }.items():
        scores = plotted["scores"][name]
        axes[1].semilogy(token[1:], (scores / scores.sum())[1:shown], style, ms=4, lw=1, label=name)
    axes[1].set_xticks(token, [piece.strip() for piece in plotted["pieces"][:shown]], rotation=90)
    axes[1].set(title="one passage, all heads mixed", ylabel="score, as a distribution", xlim=(-0.5, shown - 0.5))
    axes[1].legend(fontsize=8, loc="upper right")
    rows = hidden["rows"]
    names = [row["ranking"] for row in rows]
    y = np.arange(len(names))
    style = {"height": 0.38, "error_kw": {"lw": 0.8}}
    mean, error = ([row["rise"][k] for row in rows] for k in ("mean", "standard error"))
    axes[2].barh(y - 0.2, mean, xerr=error, color="C0", label="the top fifth of the ranking hidden", **style)
    instead = [
        row["rise"]["mean"] - row["minus random nearby"]["mean"] if "minus random nearby" in row else 0 for row in rows
    ]
    axes[2].barh(y + 0.2, instead, color="0.75", label="random tokens nearby instead", **style)
    axes[2].set_yticks(range(len(names)), names)
    axes[2].invert_yaxis()
    axes[2].set(title=f"{len(hidden['texts'])} texts", xlabel="rise of the loss on the second half (nats a token)")
    axes[2].legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.15), ncols=2)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "text-sinks.png", dpi=110)


def main() -> None:
    arguments = parser(__doc__, threads=1)
    arguments.add_argument("network", type=Path)
    arguments.add_argument("--texts", type=int, default=40)
    arguments.add_argument("--figures", type=Path)
    args = arguments.parse_args()
    torch.set_num_threads(args.threads)
    model, tokenizer = smollm2.load(args.network)
    looked, plotted = look(model, tokenizer)
    print(json.dumps({k: v for k, v in looked.items() if k != "texts"}, indent=1, ensure_ascii=False))
    hidden = hide(model, tokenizer, args.texts)
    if args.figures:
        draw(plotted, hidden, args.figures)
    about = facts(hidden={args.network: "NETWORK"}) | {"model": smollm2.FILE, "heads": looked}
    save(args.out, about | {"hiding": {k: v for k, v in hidden.items() if k != "rows"}}, hidden["rows"])


if __name__ == "__main__":
    main()
