"""Batches on a Ray cluster: Ray Data with a pool of actors, each of which holds the work and its model once.

Ray begins a batch anew when the worker at it dies, wherever that was and as often as needed. What must not happen is
counted here: an item that kills its worker comes back as such (``Attempts``), and no batch counts twice.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from ..errors import ClusterError, InputError, TokenRankError, TokenRankWarning, first_line, require
from .attempts import Attempts
from .cluster import check_versions, connected, imported, missing_there, workers_for
from .engine import Versions
from .memory import attempt
from .work import Done, Item, Work

TOGETHER, ALONE = 2, 3
"""Workers that a batch may cost before its items go one by one, and an item before it fails: one or two of them may
have died of something else."""


@dataclass(frozen=True)
class RayEngine:
    """Workers of a Ray cluster; see ``engine_of`` for the options.

    Attributes:
        waits: seconds without any result after which a run ends with an error.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    waits: float = 1800.0

    def record(self) -> dict[str, Any]:
        """Engine, number and size of the workers."""
        return {"name": "ray", "workers": self.workers, "cpus": self.cpus, "gpus": self.gpus}

    def results(
        self, work: Work[Item], batches: Sequence[Sequence[Item]], versions: Versions | None = None
    ) -> Iterator[Done]:
        """See ``Engine``; in the order in which workers are ready.

        Raises:
            MissingExtraError: no Ray. InputError: work that cannot be pickled. ClusterError: no cluster, no room in it,
                other versions there, or no result for ``waits`` seconds. What ``work`` raises comes as it is.

        Warns:
            TokenRankWarning: workers died, and what they were at was done anew; or fewer fit than were asked for.
        """
        if not batches:
            return
        imported(self.address is None)
        content = _pickled(work)
        with _quiet(), connected(self.address, len(content), self.runtime_env) as ray:
            size = workers_for(ray, self.workers, self.cpus, self.gpus)
            check_versions(ray, versions)
            pool = _Pool(ray, self, ray.put(content), size)
            fallen: list[Item] = []
            for batch, done in pool.results(batches, TOGETHER, ahead=2):
                if done is None:
                    fallen += batch
                else:
                    yield done
            # nothing waits behind another: who dies takes nobody along
            for batch, done in pool.results([[item] for item in fallen], ALONE, ahead=1):
                yield _failed(work.key(batch[0])) if done is None else done
            if pool.again:
                warnings.warn(
                    f"{pool.again} times a worker or its node died; what it was at was done anew", TokenRankWarning,
                    stacklevel=2,
                )  # fmt: skip


class _Pool:
    """A pool of workers that hold one work."""

    def __init__(self, ray: Any, engine: RayEngine, sent: Any, size: int) -> None:
        self._ray, self._engine, self._sent, self._size = ray, engine, sent, size
        self.again = 0

    def results(
        self, batches: Sequence[Sequence[Item]], most: int, ahead: int
    ) -> Iterator[tuple[Sequence[Item], Done | None]]:
        """Each batch with what came of it; None where it cost ``most`` workers, or more memory than a worker has.

        Args:
            ahead: so many batches are at a worker, one of them in work.
        """
        if not batches:
            return
        ray, pickle = self._ray, require("ray.cloudpickle", "distributed")
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=True
        )
        attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts)
        counted = attempts.options(scheduling_strategy=here).remote(most)
        rows = [{"number": number, "content": pickle.dumps(list(batch))} for number, batch in enumerate(batches)]
        data = ray.data.from_items(rows, override_num_blocks=len(rows))  # a block comes back as soon as it is done
        data.context.enable_progress_bars = False
        data.context.print_on_execution_start = False
        data.context.max_consecutive_actor_init_deaths = 2 * self._size
        data.context.execution_no_progress_timeout_s = self._engine.waits
        done = data.map(
            Worker,
            # references inside of a list are handed on as such, and stay alive here
            fn_constructor_args=([self._sent], counted, self._engine.cpus),
            compute=ray.data.ActorPoolStrategy(size=min(self._size, len(rows)), max_tasks_in_flight_per_actor=ahead),
            num_cpus=self._engine.cpus,
            num_gpus=self._engine.gpus or None,
        )
        seen = set()
        try:
            for row in done.iter_rows():
                number, found = int(row["number"]), pickle.loads(row["content"])
                if isinstance(found, BaseException):
                    raise found
                if number not in seen:
                    seen.add(number)
                    yield batches[number], found
            self.again += ray.get(counted.repeated.remote())
        except (ray.exceptions.RayError, ray.data.exceptions.ExecutionTimeoutError) as error:
            raise missing_there(error) or ClusterError(
                f"the cluster gives no results any more: {first_line(error)}; what is done is kept: see that its nodes "
                "are there ('ray status'), then start the same run again"
            ) from error


class Worker:
    """An actor: holds the work, with a model of its own, and does it batch by batch.

    Args:
        sent: reference to the pickled work.
        attempts: the actor that counts.
        cpus: threads of torch, one at least.
    """

    def __init__(self, sent: Sequence[Any], attempts: Any, cpus: float) -> None:
        self._ray, self._attempts = require("ray", "distributed"), attempts
        self._pickle = require("ray.cloudpickle", "distributed")
        torch.set_num_threads(max(1, int(cpus)))
        device = "cuda" if self._ray.get_gpu_ids() and torch.cuda.is_available() else "cpu"
        self._work = self._pickle.loads(self._ray.get(sent[0])).on(device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Number and items of a batch → number and what came of it: ``Done``, None where it was begun too often or
        memory ran out, or the error that ends the run.
        """
        found: Done | BaseException | None = None
        try:
            if self._ray.get(self._attempts.begin.remote(row["number"])):
                found = attempt(self._work, self._pickle.loads(row["content"]))
        except TokenRankError as error:
            found = error
        except Exception as error:
            found = ClusterError(f"a worker failed with {type(error).__name__}: {first_line(error)}")
        return {"number": row["number"], "content": self._pickle.dumps(found)}


def _pickled(work: Any) -> bytes:
    pickle = require("ray.cloudpickle", "distributed")
    try:
        return bytes(pickle.dumps(work))
    except Exception as error:
        raise InputError(
            f"what workers are to do cannot be sent to them: {type(error).__name__}: {first_line(error)}; keep open "
            "files, locks and connections out of functions, data sets and models, or open them inside of the function"
        ) from error


def _failed(key: str) -> Done:
    """An item that cost ``ALONE`` workers."""
    why = (
        f"ClusterError: {ALONE} workers died at it alone, of a crash in a library or of too little memory (the logs of "
        "its nodes say which); smaller inputs, or more memory a worker"
    )
    return Done((key,), (), {key: why})


@contextmanager
def _quiet() -> Iterator[None]:
    """Inside the block Ray says nothing but errors, and Ray Data, whose errors are raised here, nothing at all."""
    loggers = {"ray": logging.ERROR, "ray.data": logging.CRITICAL + 1}
    before = {name: logging.getLogger(name).level for name in loggers}
    for name, level in loggers.items():
        logging.getLogger(name).setLevel(level)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
