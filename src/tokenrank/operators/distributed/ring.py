"""Ranks in a ring: shards passed on while there is work, rows gathered, and a message when a rank is silent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ...errors import DistributedError, escaped, first_line
from .roll import STATUS_BYTES, WAITS, Roll

PATIENCE = 0.75  # of the timeout is waited for one rank; the rest is for asking all of them who still answers
LONGEST = 1e8  # seconds, three years: what the clocks of process groups hold
PIECE = 1 << 22  # numbers of a vector that are looked at together
# factors that spread bits over all 64, those of SplitMix64 (Steele, Lea, Flood 2014), as signed numbers
MIX = (-7046029254386353131, -4658895280553007687, -7723592293110705685)
ASKING, TELLING = 11, 12  # tags: messages of different purpose are never taken for each other


class Ring:
    """Ranks that hold one sequence together: process r sends to r + 1 and receives from r − 1.

    Made by all of its ranks at the same time, once, for as many chains as there are; it has process groups of its own,
    so that nothing else gets in between.

    Args:
        group: a process group of ``torch.distributed``, the ranks in the order in which they hold the sequence; all
            ranks by default.
        timeout: seconds after which a rank that does not answer is given up, and every other rank raises
            ``DistributedError`` that names it. More than the longest piece of work between two messages: one hop.

    Raises:
        DistributedError: no process group was made, this process is not in it, or a rank does not come.

    Example:
        >>> ring = tr.distributed.Ring(timeout=600)  # doctest: +SKIP
    """

    def __init__(self, group: dist.ProcessGroup | None = None, timeout: float = 300.0) -> None:
        if not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST:
            raise DistributedError(f"timeout = {timeout!r}, expected seconds above zero, at most {LONGEST:.0e}")
        if not dist.is_available() or not dist.is_initialized():
            raise DistributedError(
                "there is no process group, expected one: start with torchrun and call "
                'torch.distributed.init_process_group("gloo") first ("nccl" on GPUs)'
            )
        if group is not None and not isinstance(group, dist.ProcessGroup):
            raise DistributedError(
                f"group is a {type(group).__name__}, expected a process group, such as torch.distributed.new_group "
                "makes, or None for all ranks"
            )
        self.timeout = float(timeout)
        self.ranks = tuple(dist.get_process_group_ranks(group if group is not None else dist.group.WORLD))
        if dist.get_rank() not in self.ranks:
            raise DistributedError(
                f"rank {dist.get_rank()} is not in the group of ranks {list(self.ranks)}, expected only those to "
                "make the ring; the others go on without it"
            )
        self.rank, self.size = self.ranks.index(dist.get_rank()), len(self.ranks)
        self._broken, self._steps = "", 0
        if self.size > 1:
            self._shards, self._words, calls = self._groups()
            self._roll = Roll(calls, self.ranks, self.rank)

    def passed(self, mine: Tensor, sizes: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """Every rank's shard in turn, with the rank that it is of; mine first.

        The next one is on its way while the caller works on this one.

        Args:
            mine: this rank's shard, (…, n_r, d).
            sizes: n of each rank.
        """
        current = mine.contiguous()
        for hop in range(self.size):
            owner = (self.rank - hop) % self.size
            coming, works = current, []
            if hop + 1 < self.size:
                shape = (*mine.shape[:-2], sizes[(owner - 1) % self.size], mine.shape[-1])
                coming = torch.empty(shape, dtype=mine.dtype, device=mine.device)
                works = self._swap(current, coming)
            yield owner, current
            for work in works:
                self._wait(work, f"passing shards on (hop {hop + 1} of {self.size - 1})")
            current = coming

    def gathered(self, mine: Tensor, sizes: Sequence[int]) -> list[Tensor]:
        """The parts (…, n_r, c) of all ranks, the same on every rank."""
        if self.size == 1:
            return [mine]
        most = max(sizes)
        padded = F.pad(mine, (0, 0, 0, most - mine.shape[-2])).contiguous()
        parts = [torch.empty_like(padded) for _ in range(self.size)]
        if padded.numel():
            self._wait(self._started(lambda: dist.all_gather(parts, padded, self._shards, async_op=True)), "gathering")
        return [part[..., :n, :] for part, n in zip(parts, sizes, strict=True)]

    def exchanged(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """What every rank has for this one: ``parts`` has one tensor a rank, and shapes are known by all.

        Args:
            parts: (a, b_s) for rank s; that of this rank stays.

        Returns:
            (a_s, b) from each rank s, where b is this rank's own.
        """
        sizes = [part.shape[-1] for part in parts]
        mine = parts[self.rank]
        found = []
        for step in range(self.size):
            to, source = (self.rank + step) % self.size, (self.rank - step) % self.size
            if step == 0:
                found.append((source, mine))
                continue
            given = parts[to].contiguous()
            taken = torch.empty(*mine.shape[:-2], sizes[source], sizes[self.rank], dtype=mine.dtype, device=mine.device)
            for work in self._sent(given, to, taken, source):
                self._wait(work, "exchanging a mask")
            found.append((source, taken))
        return [part for _, part in sorted(found, key=lambda item: item[0])]

    def most(self, values: Tensor) -> Tensor:
        """The largest of each number over the ranks, (…) in float64, the same on every rank."""
        parts = self.gathered(values.double().reshape(1, -1), [1] * self.size)
        return torch.cat(parts).amax(0).reshape(values.shape)

    def told(self, text: str) -> list[str]:
        """A text of every rank, the same list on every rank."""
        if self.size == 1:
            return [text]
        data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
        lengths = self._words_of(torch.tensor([len(data)]), TELLING, "telling what each rank was given")
        most = int(torch.cat(lengths).max())
        texts = self._words_of(F.pad(data, (0, most - len(data))), TELLING, "telling what each rank was given")
        return [bytes(t[: int(n)].tolist()).decode() for t, n in zip(texts, lengths, strict=True)]

    @contextmanager
    def step(self, what: str, x: Tensor | None = None) -> Iterator[None]:
        """One operation that all ranks take part in, after a look whether all of them mean the same.

        Raises:
            DistributedError: ranks ask for different operations, or give different vectors; the same on every rank.
        """
        self._agree(what, x)
        try:
            yield
        except DistributedError:
            raise
        except BaseException as error:  # the others wait for what this rank does not send
            self._stop(f"{type(error).__name__}: {first_line(error)}")
            raise

    def name(self, rank: int) -> str:
        """Rank of this ring, in words: its number among all processes."""
        return f"rank {self.ranks[rank]}"

    def names(self, ranks: Sequence[int]) -> str:
        """Several ranks, in words."""
        if len(ranks) == 1:
            return self.name(ranks[0])
        numbers = [str(self.ranks[rank]) for rank in ranks]
        return f"ranks {', '.join(numbers[:-1])} and {numbers[-1]}"

    # ---- what all of them have to mean

    def _agree(self, what: str, x: Tensor | None) -> None:
        if self._broken:
            raise DistributedError(self._broken)
        if self.size == 1:
            return
        self._steps += 1
        mine = torch.tensor([self._steps, _number(what), *_fingerprint(x)])
        asked = self._words_of(mine, ASKING, f"beginning {what}")
        ahead = [rank for rank, other in enumerate(asked) if not torch.equal(other[:2], asked[0][:2])]
        apart = [rank for rank, other in enumerate(asked) if not torch.equal(other[2:], asked[0][2:])]
        if ahead:
            self._broken = (
                f"{self.names(ahead)} asked for another operation than {self.name(0)} (here: {what}, number "
                f"{self._steps} of this ring), expected the same calls in the same order on every rank; look for a "
                "branch that depends on the rank"
            )
        elif apart:
            self._broken = (
                f"{what}: the vectors of {self.names(apart)} are not those of {self.name(0)}, expected the same shape, "
                "dtype and bits on every rank; give all of them the same starts and seeds, and the same library, "
                "threads (OMP_NUM_THREADS) and kind of processor"
            )
        if self._broken:
            raise DistributedError(self._broken)

    # ---- messages

    def _groups(self) -> tuple[dist.ProcessGroup, dist.ProcessGroup, dist.ProcessGroup]:
        """For shards, of the kind that their device needs; on the hosts for words, and for asking who answers.

        One message that does not come in time closes all connections of a group of gloo.
        """
        options: dict[str, Any] = {"timeout": timedelta(seconds=self.timeout), "use_local_synchronization": True}
        shards: Any
        words: Any
        calls: Any
        try:
            shards = dist.new_group(list(self.ranks), **options)
            words, calls = (dist.new_group(list(self.ranks), backend="gloo", **options) for _ in range(2))
        except (RuntimeError, ValueError) as error:
            raise DistributedError(
                f"the ring of ranks {list(self.ranks)} was not made within {self.timeout:g} s: {first_line(error)}; "
                "expected all of them to call Ring at the same time, and to have made as many process groups as each "
                "other before (torch numbers them): make rings of some of the ranks on all of them alike"
            ) from error
        return shards, words, calls

    def _swap(self, current: Tensor, coming: Tensor) -> list[Any]:
        return self._sent(current, (self.rank + 1) % self.size, coming, (self.rank - 1) % self.size)

    def _sent(self, given: Tensor, to: int, taken: Tensor, source: int) -> list[Any]:
        operations = []
        if given.numel():
            operations.append(dist.P2POp(dist.isend, given, self.ranks[to], self._shards))
        if taken.numel():
            operations.append(dist.P2POp(dist.irecv, taken, self.ranks[source], self._shards))
        return self._started(lambda: dist.batch_isend_irecv(operations)) if operations else []

    def _words_of(self, mine: Tensor, tag: int, what: str) -> list[Tensor]:
        """A small tensor of every rank, straight from each, so that it is known who is silent."""
        works, found = self._started(lambda: self._words_sent(mine, tag))
        for work in works:
            self._wait(work, what)
        return found

    def _words_sent(self, mine: Tensor, tag: int) -> tuple[list[Any], list[Tensor]]:
        found = [mine if rank == self.rank else torch.empty_like(mine) for rank in range(self.size)]
        others = [rank for rank in range(self.size) if rank != self.rank]
        works = [dist.isend(mine, self.ranks[rank], self._words, tag) for rank in others]
        works += [dist.irecv(found[rank], self.ranks[rank], self._words, tag) for rank in others]
        return works, found

    # ---- silence

    def _started(self, start: Any) -> Any:
        try:
            return start()
        except RuntimeError as error:
            raise self._silence("a message", error) from error

    def _wait(self, work: Any, what: str) -> None:
        try:
            work.wait(timedelta(seconds=PATIENCE * self.timeout))
        except RuntimeError as error:
            raise self._silence(what, error) from error

    def _silence(self, what: str, error: RuntimeError) -> DistributedError:
        """Who does not answer any more, asked of all ranks; what is raised on each of them."""
        if not self._broken:
            answers = self._roll.called((1 - PATIENCE) * self.timeout)
            silent = [rank for rank, answer in answers.items() if answer is None]
            stopped = {rank: answer for rank, answer in answers.items() if answer not in (None, WAITS)}
            said = [f"{self.name(rank)} stopped: {answer}" for rank, answer in stopped.items()]
            if silent:
                said.append(f"{self.names(silent)} did not answer within {self.timeout:g} s: dead, hanging or too slow")
            if not said:
                said.append(f"a message was lost ({first_line(error)})")
            self._broken = (
                f"{'; '.join(said)} (seen by {self.name(self.rank)}, {what}); look at the output of that rank, and "
                "start all of them again, with a longer timeout= of tr.distributed.Ring if it was only slow"
            )
        return DistributedError(self._broken)

    def _stop(self, reason: str) -> None:
        """Leave the ring; who asks is told why."""
        self._broken = f"{self.name(self.rank)} stopped before ({escaped(reason, 200)}); make a new Ring on all ranks"
        if self.size > 1:
            self._roll.tell(escaped(reason, STATUS_BYTES // 4))


def _number(text: str) -> int:
    return sum(byte * 257**place for place, byte in enumerate(text.encode()[:64])) % (2**61 - 1)


def _fingerprint(x: Tensor | None) -> tuple[int, ...]:
    """A few whole numbers that tell apart vectors that differ in shape, dtype, a bit, or where its numbers stand."""
    if x is None:
        return 0, 0, 0
    bits = {8: torch.int64, 4: torch.int32}[x.element_size()]
    shape = sum(size * 1_000_003**place for place, size in enumerate(x.shape)) % (2**61 - 1)
    total = torch.zeros((), dtype=torch.int64, device=x.device)
    for begin, part in enumerate(x.contiguous().view(bits).flatten().split(PIECE)):
        mixed = torch.arange(begin * PIECE, begin * PIECE + len(part), device=x.device) * MIX[0] + part
        for shift, factor in ((30, MIX[1]), (27, MIX[2])):  # each number with its place: sums alone know no order
            mixed = (mixed ^ (mixed >> shift)) * factor
        total += (mixed ^ (mixed >> 31)).sum()
    return shape, x.element_size(), int(total)
