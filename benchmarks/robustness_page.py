"""Tables of docs/robustness.md, from benchmarks/results: campaign.json and robustness-*.json.

    python benchmarks/robustness_page.py

Writes every table anew between its marks, with the command that counted it: no figure is copied by hand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from facts import parser
from filled import SPACE, counted, fill, result, seconds, source, table

COUNTS = ("chains", "calls", "checks", "bounds", "certain", "answers", "refused", "unchecked", "false")
FALSE = {
    "crashes": "crashes",
    "hangs": "longer than 5 s",
    "over": "above the budget of memory",
    "foreign": "errors of others",
    "wrong": "wrong answers",
}
"""Counts of the readers' campaign that have to be 0, in words."""
ENDS = {"InputError": "refused", "signal 14": "over 60 s"}
"""What became of a bomb, in words."""


def summed(by: str) -> dict[str, dict[str, int]]:
    """Rows of the campaign added up by "question" or "family"."""
    sums: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    for row in result("campaign")["rows"]:
        for name in COUNTS:
            sums[row[by]][name] += row[name]
    return dict(sums)


def campaign_words() -> str:
    """What was asked, in one sentence."""
    found = result("campaign")
    made, questions, families = found["made"], summed("question"), summed("family")
    total = {name: sum(row[name] for row in questions.values()) for name in COUNTS}
    false = total["false"] + made["false"]
    return (
        f"{source(found)}\n\n{counted(made['chains'], 'chain')} of {len(families)} families in {made['cases']:,} "
        f"batches, {len(questions)} questions, {counted(total['calls'], 'call')}, {counted(total['checks'], 'check')} "
        f"against a right\nanswer made apart from the library, {total['bounds']:,} of them of a printed bound: "
        f"**{false:,} false**. {total['refused']:,} calls were refused in words where\nthere is no answer, "
        f"{total['unchecked']:,} had no right answer that could be computed."
    )


def runs() -> str:
    """Kills, flipped bits, and all other changes of a run's files in one row."""
    found = result("robustness-runs")
    kills = [row for row in found["rows"] if "kills" in row]
    bits = [row for row in found["rows"] if row["attack"].startswith("a bit")]
    others = [row for row in found["rows"] if row not in kills + bits]
    keys = ("times", "told", "mended", "unchanged")
    rows = [
        [row["attack"], f"{row['kills']:,}", *["–"] * 3, f"{row['lost'] + row['doubled'] + row['changed']:,}"]
        for row in kills
    ]
    for name, of in [*((f"{row['attack']} flipped", [row]) for row in bits), (f"{len(others)} other changes", others)]:
        sums = [sum(row[key] for row in of) for key in (*keys, "lost", "doubled", "changed")]
        rows.append([name, *(f"{value:,}" for value in sums[:4]), f"{sum(sums[4:]):,}"])
    head = ["", "times", "told", "set aside, run again", "no effect", "rows lost, doubled, changed"]
    words = f"{counted(found['evaluations'], 'evaluation')}, {counted(found['times'], 'changed run')}: "
    words += f"**{found['lost']:,}** rows lost, **{found['doubled']:,}** doubled, **{found['changed']:,}** changed; "
    words += f"{found['hangs']:,} hangs, {found['foreign']:,} errors of others."
    return f"{source(found)}\n\n{words}\n\n{table(head, rows, right=1)}"


def questions() -> str:
    """A row a question."""

    def row(name: str, n: dict[str, int]) -> list[str]:
        words = f"`{name}`" if name.replace("_", "").isalnum() else name
        certain = f"{n['certain'] / n['answers']:.0%}" if n["answers"] else "–"
        seen = [f"{n[key]:,}" for key in ("chains", "checks", "bounds")]
        return [words, *seen, certain, f"{n['refused']:,}", f"{n['false']:,}"]

    head = ["question", "chains", "checks", "of bounds", "certain", "refused", "false"]
    return table(head, [row(name, n) for name, n in summed("question").items()], right=1)


def families() -> str:
    """A row a family: batches are asked several questions each."""
    rows = [
        [name, f"{n['calls']:,}", f"{n['checks']:,}", f"{n['certain'] / max(n['answers'], 1):.0%}", f"{n['false']:,}"]
        for name, n in summed("family").items()
    ]
    return table(["family", "calls", "checks", "certain", "false"], rows, right=1)


def files() -> str:
    """A row a kind of file, and what was counted in all."""
    found = result("robustness-readers")
    total, budget = found["total"], found["budget"] // 2**20
    keys = ("files", "refused", "same", "read")

    def row(entry: dict[str, Any]) -> list[str]:
        false = sum(entry[key] for key in FALSE)
        return [entry["kind"], *(f"{entry[key]:,}" for key in keys), f"{false:,}", _time(entry)]

    head = ["kind", "files", "refused in words", "the same answer", "another answer", "anything else", "slowest"]
    words = (
        f"{counted(total['files'], 'file')}: {', '.join(f'**{total[key]:,}** {said}' for key, said in FALSE.items())}. "
        f"No reading took more than\n{max(row['mib'] for row in found['rows']):.0f} MiB, of a budget of {budget}. "
        f"The parsers beneath, given the same files, crashed {counted(total['bare_crashes'], 'time')}."
    )
    return f"{source(found)}\n\n{words}\n\n{table(head, [row(entry) for entry in found['rows']], right=1)}"


def _time(entry: Mapping[str, Any]) -> str:
    """Seconds that were written down to their hundredths."""
    return seconds(entry["seconds"]) if entry["seconds"] >= 0.01 else f"< 10{SPACE}ms"


def parsers() -> str:
    """Parsers of others alone, in one sentence."""
    found = result("robustness-parsers")
    total = found["total"]
    return (
        f"{source(found)}\n\n{counted(total['files'], 'file')} of {len(found['rows'])} kinds: "
        f"**{total['bare_crashes']:,}** crashes and **{total['bare_hangs']:,}** hangs of the parsers."
    )


def bombs() -> str:
    """A row a small file that becomes large, now and before there was a budget."""
    found = result("robustness-bombs")

    def row(entry: dict[str, Any]) -> list[str]:
        cells = [entry["bomb"], f"{entry['bytes']:,}"]
        for told in (entry["before"], entry):
            cells += [ENDS.get(told["answer"], told["answer"])]
            cells += [f"{told['mib']:,}", _time(told)] if "mib" in told else ["–", "–"]
        return cells

    head = ["file", "bytes", "before", "MiB", "time", "now", "MiB", "time"]
    return f"{source(found)}\n\n{table(head, [row(entry) for entry in found['rows']], right=1)}"


def captures() -> str:
    """What was counted, in one sentence."""
    found = result("robustness-captures")
    return (
        f"{source(found)}\n\n{counted(found['faults'], 'fault')}, each beside "
        f"{counted(found['neighbours'], 'ordinary block')} in {', '.join(found['ways'])}, {found['rounds']} times: "
        f"**{found['wrong']:,}** blocks with wrong records,\n**{found['left_behind']:,}** processes that were not as "
        "before."
    )


def commands() -> str:
    """What was counted, in one sentence."""
    found = result("robustness-commands")
    return (
        f"{source(found)}\n\n{counted(found['lines'], 'command line')} at random over {len(found['rows'])} commands, "
        f"{found['processes']:,} of them in processes of their own: **{found['tracebacks']:,}** tracebacks, "
        f"**{found['codes']:,}** exit codes outside\nof the table, **{found['outside']:,}** files outside of --out, "
        f"**{found['noise']:,}** lines of other libraries beside an error, **{found['hangs']:,}** hangs."
    )


def strings() -> str:
    """What was counted, in one sentence."""
    found = result("robustness-strings")
    places = "; ".join(row["place"] for row in found["rows"])
    errors = sum(found[name] for name in ("foreign", "lines", "endless", "code"))
    return (
        f"{source(found)}\n\n{counted(found['strings'], 'string')} in each of {counted(len(found['rows']), 'place')} "
        f"({places}):\n**{found['acts']:,}** characters that acted on a terminal, **{found['elements']:,}** elements "
        f"or attributes of a page or a drawing that were not ours, **{found['json']:,}** JSON files that\nlost the "
        f"string, **{errors:,}** errors that were not ours, of several lines, of no end, or with another exit code."
    )


TABLES = {
    "campaign": campaign_words, "questions": questions, "families": families, "files": files, "parsers": parsers,
    "bombs": bombs, "captures": captures, "runs": runs, "commands": commands, "strings": strings,
}  # fmt: skip


def main() -> None:
    parser(__doc__, out=False).parse_args()
    fill("robustness.md", TABLES)


if __name__ == "__main__":
    main()
