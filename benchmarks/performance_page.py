"""Tables of docs/performance.md, from benchmarks/results: chain, markov, memory, observation, imports, explorer*.json.

    python benchmarks/performance_page.py

Writes every table anew between its marks, with the command that measured it: no figure is copied by hand.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from facts import parser
from filled import SPACE, counted, fill, once, power, result, seconds, source, table

QUESTIONS = {
    "stationary": "stationary vector",
    "spectrum": "eight leading eigenvalues",
    "pcca": "PCCA+",
    "absorption": "absorption, 4 targets",
    "hitting": "hitting times",
    "kemeny": "Kemeny's constant",
    "classes": "classes",
}
TOKENS = 1024
CHAINS = """\
The true error of ours is {ours} at most, below the bound of 1e−6 that it proves. Float32 weights as such are {low} to
{high} from the softmax that they were rounded from, whoever solves them; queries and keys are not rounded. The paper's
200 steps are off by {steps} and more; most of their time is the order in which memory is read ("row-major" is the same
arithmetic along the rows). A plain LU takes {lu}."""


def chains(task: str) -> str:
    """TokenRank or |λ2| beside the paper's steps and plain solvers; a block of columns for every number of tokens."""
    found = result("chain")
    by: dict[str, list[str]] = {}
    peaks: dict[str, str] = {}
    sizes: dict[int, None] = {}
    for row in found["rows"]:
        if row["task"] != task:
            continue
        sizes[row["tokens"]] = None
        error = "none" if row["worst"] is None else power(row["worst"])
        by.setdefault(row["variant"], []).extend([seconds(row["seconds"]), f"{row['ratio']:.1f}", error])
        peaks[row["variant"]] = f"{row['peak_gb'] * 1e3:.0f}{SPACE}MB"  # of the largest
    head = ["by"]
    for n in sizes:
        head += [f"N = {n:,}".replace(" ", SPACE), "× ours".replace(" ", SPACE), "error"]
    rows = [[name.replace("tokenrank", "**tokenrank**"), *cells, peaks[name]] for name, cells in by.items()]
    head.append("peak")
    return f"{source(found)}\n\n{table(head, rows, right=1)}"


def chain_words() -> str:
    """What the table of ``chains`` says, with its numbers."""
    rows = [row for row in result("chain")["rows"] if row["task"] == "TokenRank"]

    def off(name: str, key: str) -> list[float]:
        return [row[key] for row in rows if row["variant"] == name]

    ours = max(off("tokenrank, weights", "worst") + off("tokenrank, q, k", "worst"))
    rounded = off("tokenrank, weights", "of_exact_chain")
    steps = min(off("paper: 200 dense power steps", "worst"))
    lu = {row["tokens"]: row["ratio"] for row in rows if row["variant"] == "NumPy LU"}
    return CHAINS.format(
        ours=power(ours),
        low=power(min(rounded)),
        high=power(max(rounded)),
        steps=power(steps),
        lu=f"{lu[min(lu)]:.1f} times our time at {min(lu)} tokens, and {lu[max(lu)]:.1f} times at {max(lu):,}",
    )


def markov() -> str:
    """Ours beside libraries of Markov chains, 72 heads."""
    found = result("markov")
    rows = []
    for task, words in QUESTIONS.items():
        those = [row for row in found["rows"] if row["task"] == task and row["tokens"] == TOKENS]
        for row in those:
            ours = "tokenrank" in row["variant"]
            beside = next((r for r in those if "tol 1e-12" in r["variant"]), those[0])
            ratio = "" if ours else f"{row['seconds'] / beside['seconds']:.1f}"
            scaled = f" ({counted(row['heads_run'], 'head')}, scaled)" if row["scaled"] else ""
            error = "–" if row["error"] is None else power(row["error"]) if row["error"] else "0"
            name = row["variant"].replace("tokenrank", "**tokenrank**")
            rows.append([words, name + scaled, seconds(row["seconds"]), ratio, error])
    head = ["", "by", "time", "× ours".replace(" ", SPACE), "error"]
    return f"{markov_source(found)}\n\n{table(head, once(rows), right=2)}"


def markov_source(found: dict[str, Any]) -> str:
    """With the versions of the peers."""
    peers = ("scipy", "quantecon", "deeptime", "pydtmc", "pygpcca")
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in peers)
    thread = counted(found["threads"], "thread")
    return f"*`{found['command']}`; {found['date']}; {thread}; torch {found['versions']['torch']}, {versions}.*"


def memory() -> str:
    """The matrix-free operator as the number of tokens grows."""
    found = result("memory")
    rows = [
        [
            f"{row['tokens']:,}", f"`{row['operation']}`", seconds(row["seconds"]), f"{row['peak_gb']:.2f}{SPACE}GB",
            f"{row['dense_gb']:.1f}{SPACE}GB",
        ]
        for row in found["rows"]
    ]  # fmt: skip
    return f"{source(found)}\n\n{table(['N', '', 'time', 'peak', 'dense weights'], once(rows), right=2)}"


def observation() -> str:
    """A picture observed, stage by stage."""
    found = result("observation")
    rows = [
        [row["stage"].replace("|", r"\|"), f"{row['seconds']:.1f}{SPACE}s", f"{row['peak_gib']:.2f}{SPACE}GiB"]
        for row in found["rows"]
    ]
    return f"{source(found)}\n\n{table(['so far', 'time', 'peak of the process'], rows, right=1)}"


def imports() -> str:
    """What importing and first answers cost over importing PyTorch itself, in processor time."""
    found = result("imports")
    rows = [
        [row["stage"].replace("|", r"\|"), f"{row['of_torch']:.2f}", "loaded" if row["dynamo"] else "–"]
        for row in found["rows"]
    ]
    return f"{source(found)}\n\n{table(['', 'times `import torch`', '`torch._dynamo`'], rows, right=1)}"


def explorer() -> str:
    """The page: bytes, when it is there, and what a click costs."""
    found = result("explorer")
    rows = []
    for row in found["rows"]:
        if row["page"] == "random":
            click, head, heads = row["click_ms"], row["head_ms"], row["all_heads_ms"]
            times = (click["first_median"], click["first_p95"], head["whole_median"], heads["whole_median"])
            cells = [f"{row['html_mb']:.1f}{SPACE}MB", seconds(row["python_s"]), seconds(row["first_s"])]
            rows.append([f"{row['tokens']:,}", *cells, *(seconds(value / 1e3) for value in times)])
    head_cells = ["tokens", "page", "written in", "first picture", "click, median", "p95", "a head", "all heads"]
    return f"{source(found)}\n\n{table([cell.replace(' ', SPACE) for cell in head_cells], rows, right=1)}"


def explorer_peer() -> str:
    """A text of 40 and 512 tokens, all 72 heads of MiniLM, beside BertViz."""
    found = result("explorer")
    rows = []
    for row in found["rows"]:
        if row["page"] == "random":
            continue
        ours = row["page"] == "tokenrank"
        drawn = row["whole_s"] if ours else row["drawn_s"]
        cells = [
            f"{row['html_mb']:.1f}{SPACE}MB", seconds(row["python_s"]),
            f"not in {row['limit_s']:.0f}{SPACE}s" if drawn is None else seconds(drawn),
            "–" if row["nodes"] is None else f"{row['nodes']:,}",
            "yes" if ours or row["drawn_without_network"] else "no",
        ]  # fmt: skip
        rows.append([f"{row['tokens']}", row["page"].replace("tokenrank", "**tokenrank**"), *cells])
    head_cells = ["tokens", "", "page", "written in", "drawn in", "elements", "without a network"]
    return f"{source(found)}\n\n{table([cell.replace(' ', SPACE) for cell in head_cells], once(rows), right=2)}"


ACCURACY = """\
{chains} chains of the bundled networks and random ones, stored with 16 bits, walked by the page's own code and by the
library in float64: 0 to 20 bounces and TokenRank, forward and back. The largest difference of a probability is {most},
of a map in sum {bounce}, of TokenRank in sum {limit}; all lie within what the pages state."""


def explorer_accuracy() -> str:
    """The page's walks beside the library's."""
    found = result("explorer_accuracy")
    worst = {name: power(value) for name, value in found["worst"].items()}
    return f"{source(found)}\n\n{ACCURACY.format(chains=found['chains'], **worst)}"


TABLES = {
    "TokenRank": partial(chains, "TokenRank"),
    "lambda2": partial(chains, "|λ2|"),
    "what the chains say": chain_words,
    "markov": markov,
    "memory": memory,
    "observation": observation,
    "imports": imports,
    "explorer": explorer,
    "explorer beside BertViz": explorer_peer,
    "explorer accuracy": explorer_accuracy,
}


def main() -> None:
    parser(__doc__, out=False).parse_args()
    fill("performance.md", TABLES)


if __name__ == "__main__":
    main()
