"""Adversarial chains through every question: is any answer wrong that was called certain, any printed bound too small?

    python benchmarks/campaign.py [--chains 1000] [--seed 0] [--families a,b] [--calls a,b] [--out FILE]
    python benchmarks/campaign.py --only FAMILY --index K

Chains come in batches from the families of ``adversarial/families.py``. Right answers are computed apart from the
library (``adversarial/oracles.py``, ``adversarial/spectra.py``), in long double and, where that does not decide or
finds a fault, once more with 200 bits. A false one is a printed bound below the true error, an answer that is
converged and not uncertain and yet further off than its documentation promises, a NaN, mass that is lost, a refusal
where there is an answer, or an error that is not of ``tokenrank.errors``; the first of each kind is printed with the
arguments that make its chain again. Exit code 1 where there is one.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
import torch
from adversarial import (
    modes,  # noqa: F401  questions register themselves
    passage,  # noqa: F401
    walks,  # noqa: F401
)
from adversarial.case import CALLS, Call, Case, Verdict
from adversarial.families import FAMILIES, LARGEST
from adversarial.numbers import FAST, MANY, RATIONAL, Numbers, UnsureError
from facts import facts, parser, save

from tokenrank.errors import TokenRankError

BATCHES = [(4,), (2, 2), (3,), (1, 4), (), (1,), (2, 1, 2), (5,)]
MADE = "made"  # the tally of cases, beside those of questions
CONFIRMED = 64  # tokens up to which mpmath is asked
LARGE = 30  # logits from which it is asked first
EXACT = 6  # tokens of stored weights up to which fractions are
NAN_ALLOWED = {("Spectrum", "values"), ("Metastable", "candidates"), ("Spectrum", "certificate")}


@dataclass(frozen=True)
class Fault:
    """A false answer, and how to see it again."""

    family: str
    index: int
    call: str
    head: int
    what: str
    claimed: float
    true: float
    words: str

    @property
    def kind(self) -> tuple[str, str]:
        """Question and what was checked, without numbers."""
        return self.call, self.what.split(": ")[0]

    def line(self) -> str:
        return (
            f"{self.call}: {self.what}: true {self.true:.3g}, claimed {self.claimed:.3g}, chain {self.head} of "
            f"--only '{self.family}' --index {self.index} {self.words}"
        )


@dataclass
class Tally:
    """Counts of one family and one question."""

    chains: int = 0
    calls: int = 0
    bounds: int = 0
    checks: int = 0
    refused: int = 0
    answers: int = 0  # chains times answers that a certificate has
    certain: int = 0  # of these
    unchecked: int = 0
    seconds: float = 0.0
    judged: float = 0.0
    faults: list[Fault] = field(default_factory=list)


def sizes(rng: np.random.Generator, family: str) -> int:
    if family in LARGEST:
        return int(rng.integers(1, LARGEST[family] + 1))
    return int(
        rng.choice(
            [1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 40], p=[0.02, *[0.09] * 4, 0.12, 0.12, 0.12, 0.1, 0.08, 0.04, 0.04]
        )
    )


def make(family: str, index: int, seed: int) -> Case:
    """The case; whatever the library raises when it makes its chain goes through."""
    rng = generator(family, index, seed)
    batch = BATCHES[index % len(BATCHES)]
    spec = FAMILIES[family](rng, batch, sizes(rng, family))
    return Case(family, index, spec, spec.chain)


def generator(family: str, index: int, seed: int, call: str = "") -> np.random.Generator:
    words = [*f"{family}/{call}".encode()]
    return np.random.default_rng([seed, index, *words])


def ask(case: Case, call: Call, seed: int, tally: Tally) -> None:
    """One question of one case, judged; what is false is added to the tally."""
    answerer, how = call.ask(case, generator(case.family, case.index, seed, call.name))
    begun = time.perf_counter()

    def fault(head: int, what: str, claimed: float, true: float) -> None:
        words = ", ".join(f"{k}={v.tolist()[:4] if isinstance(v, torch.Tensor) else v}" for k, v in how.items())
        words = f"[{type(case.chain.operator).__name__}, N = {case.n}, {str(case.chain.dtype)[6:]}; {words[:100]}]"
        tally.faults.append(Fault(case.family, case.index, call.name, head, what, claimed, true, words))

    tally.calls += 1
    tally.chains += case.heads
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = answerer()
    except TokenRankError as error:
        tally.refused += 1
        try:
            if not call.refusable(case, how):
                fault(0, f"refused: {str(error)[:120]}", 0, 1)
        except UnsureError:  # as of an answer
            tally.unchecked += 1
        return
    except Exception as error:  # whatever else comes out of it is the fault that is looked for
        fault(0, raised(error), 0, 1)
        return
    finally:
        tally.seconds += time.perf_counter() - begun
    for name in not_numbers(type(answer).__name__, answer):
        fault(0, f"NaN in {name}", 0, 1)
    certificate = getattr(answer, "certificate", None)
    if certificate is not None:
        tally.answers += certificate.converged.numel()
        tally.certain += int((certificate.converged & ~certificate.uncertain).sum())
    begun = time.perf_counter()
    verdicts = judged(case, call, answer, how)
    tally.judged += time.perf_counter() - begun
    if verdicts is None:
        tally.unchecked += 1
        return
    tally.checks += len(verdicts)
    tally.bounds += sum(v.bound for v in verdicts)
    for v in verdicts:
        if v.false:
            fault(v.head, v.what, v.claimed, v.true)


def raised(error: Exception) -> str:
    return f"raised {type(error).__name__}: {str(error)[:120]}"


def judged(case: Case, call: Call, answer: Any, how: dict[str, Any]) -> list[Verdict] | None:
    """In fast numbers, or exact ones where they are cheap; with many bits where fast ones do not do or find a fault."""

    def by(numbers: Numbers) -> list[Verdict] | None:
        try:
            with np.errstate(all="ignore"):
                return call.judge(case, answer, how, numbers)
        except (UnsureError, ZeroDivisionError, np.linalg.LinAlgError):
            return None

    kinds = [FAST]
    if call.rational and case.stored and case.n <= EXACT and case.index % 2:
        kinds = [RATIONAL]
    elif call.close and case.spec.size > LARGE and (case.n <= 16 or (case.n <= CONFIRMED and not case.index % 4)):
        kinds = [MANY]  # the rounding of large logits is what is looked for
    elif case.n <= CONFIRMED and FAST is not MANY:
        kinds = [FAST, MANY]
    found = None
    for numbers in kinds:
        found = by(numbers)
        if found is not None and not any(v.false for v in found):
            break
    return found


def not_numbers(name: str, value: Any) -> Iterator[str]:
    """Names of the tensors that hold a NaN, where none is documented."""
    if isinstance(value, torch.Tensor):
        parts = torch.view_as_real(value) if value.is_complex() else value
        if parts.is_floating_point() and bool(torch.isnan(parts).any()):
            yield name
    elif is_dataclass(value):
        for part in fields(value):
            if (type(value).__name__, part.name) not in NAN_ALLOWED:
                yield from not_numbers(f"{name}.{part.name}", getattr(value, part.name))
    elif isinstance(value, tuple):
        for i, part in enumerate(value):
            yield from not_numbers(f"{name}[{i}]", part)


def cases(families: Sequence[str], chains: int) -> Iterator[tuple[str, int]]:
    """Families in turn, until as many chains are made."""
    made, index = 0, 0
    while made < chains:
        for family in families:
            yield family, index
            made += max(1, int(np.prod(BATCHES[index % len(BATCHES)], dtype=int)))
            if made >= chains:
                return
        index += 1


def run(
    chains: int,
    seed: int = 0,
    families: Sequence[str] = (),
    calls: Sequence[str] = (),
    told: Callable[[str], None] = print,
) -> dict[tuple[str, str], Tally]:
    """The campaign: tallies by family and question."""
    torch.set_num_threads(1)
    found: dict[tuple[str, str], Tally] = defaultdict(Tally)
    seen: set[tuple[str, str]] = set()  # kinds that were told
    for family, index in cases(families or list(FAMILIES), chains):
        one(family, index, seed, calls, found)
        for name in [MADE, *(calls or CALLS)]:
            for fault in found[family, name].faults:
                if fault.index == index and fault.kind not in seen:
                    seen.add(fault.kind)
                    told(fault.line())
    return dict(found)


def one(family: str, index: int, seed: int, calls: Sequence[str], found: dict[tuple[str, str], Tally]) -> None:
    """All questions of one case."""
    tally = found[family, MADE]
    tally.calls += 1
    try:
        case = make(family, index, seed)
    except TokenRankError:
        tally.refused += 1
        return
    except Exception as error:  # as in ``ask``
        tally.faults.append(Fault(family, index, MADE, 0, raised(error), 0, 1, ""))
        return
    tally.chains += case.heads
    for name in calls or CALLS:
        call = CALLS[name]
        asked = calls or generator(family, index, seed, f"{name}?").random() < call.share
        if asked and case.n <= call.largest:
            ask(case, call, seed, found[family, name])


def table(found: dict[tuple[str, str], Tally], by: int) -> list[str]:
    """Rows by family (0) or by question (1)."""
    rows: dict[str, list[Tally]] = defaultdict(list)
    for key, tally in found.items():
        if key[1] != MADE:
            rows[key[by]].append(tally)
    made = Counter({family: t.chains for (family, name), t in found.items() if name == MADE})
    head = ["chains", "calls", "refused", "checks", "bounds", "certain", "false", "s", "s to judge"]
    lines = [f"| {'question' if by else 'family'} | {' | '.join(head)} |", "|---" * (1 + len(head)) + "|"]
    for name, tallies in rows.items():
        total = joined(tallies)
        chains = total.chains if by else made[name]
        certain = f"{total.certain / total.answers:.0%}" if total.answers else "–"
        words = [f"{n:,}" for n in (chains, total.calls, total.refused, total.checks, total.bounds)]
        words += [certain, f"{len(total.faults):,}", f"{total.seconds:.1f}", f"{total.judged:.1f}"]
        lines.append(f"| {name} | {' | '.join(words)} |")
    return lines


def false_ones(found: dict[tuple[str, str], Tally]) -> list[str]:
    """A row for every kind in every family: how many, and the first, to be seen again."""
    kinds: dict[tuple[str, str, str], list[Fault]] = defaultdict(list)
    for tally in found.values():
        for fault in tally.faults:
            kinds[(fault.family, *fault.kind)].append(fault)
    if not kinds:
        return []
    head = ["family", "question", "what", "false", "first: index, chain", "true", "claimed"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for (family, call, _), faults in kinds.items():
        f = faults[0]
        words = [f.what[:80], f"{len(faults):,}", f"{f.index}, {f.head}", f"{f.true:.3g}", f"{f.claimed:.3g}"]
        lines.append(f"| {family} | {call} | {' | '.join(words)} |")
    return lines


def joined(tallies: Sequence[Tally]) -> Tally:
    total = Tally()
    for tally in tallies:
        for part in fields(Tally):
            setattr(total, part.name, getattr(total, part.name) + getattr(tally, part.name))
    return total


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--chains", type=int, default=1000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--families", default="", help="names, commas between; all by default")
    arguments.add_argument("--calls", default="", help="questions, commas between; all by default")
    arguments.add_argument("--only", metavar="FAMILY", help="one case of this family,")
    arguments.add_argument("--index", type=int, default=0, metavar="K", help="the K-th")
    args = arguments.parse_args()
    calls = [name for name in CALLS if name in args.calls.split(",")] if args.calls else []
    begun = time.perf_counter()
    if args.only:
        found: dict[tuple[str, str], Tally] = defaultdict(Tally)
        one(args.only, args.index, args.seed, calls or list(CALLS), found)
        for tally in found.values():
            for fault in tally.faults:
                print(fault.line())
    else:
        chosen = [name for name in FAMILIES if name in args.families.split(",")] if args.families else []
        found = run(args.chains, args.seed, chosen, calls, lambda line: print(line, flush=True))
    print("", *table(found, 0), "", *table(found, 1), "", *false_ones(found), sep="\n")
    made = joined([t for (_, name), t in found.items() if name == MADE])
    asked = joined([t for (_, name), t in found.items() if name != MADE])
    false = len(made.faults) + len(asked.faults)
    print(
        f"\n{made.chains:,} chains of {made.calls - made.refused:,} cases ({made.refused:,} refused in words), "
        f"{asked.calls:,} calls ({asked.refused:,} refused in words, {asked.unchecked:,} without a right answer), "
        f"{asked.checks:,} checks, {asked.bounds:,} of them of printed bounds: {false:,} false; "
        f"{time.perf_counter() - begun:.0f} s, seed {args.seed}"
    )
    rows = [
        {"family": family, "question": name, "chains": t.chains, "calls": t.calls, "checks": t.checks}
        | {"bounds": t.bounds, "certain": t.certain, "answers": t.answers, "refused": t.refused}
        | {"unchecked": t.unchecked, "false": len(t.faults)}
        for (family, name), t in found.items()
        if name != MADE
    ]
    counts = {"seed": args.seed, "chains": made.chains, "cases": made.calls - made.refused, "refused": made.refused}
    save(args.out, facts("mpmath") | {"made": counts | {"false": len(made.faults)}}, rows)
    return int(false > 0)


if __name__ == "__main__":
    sys.exit(main())
