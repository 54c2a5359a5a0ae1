"""Steps that are taken again and again: on CUDA recorded once and replayed, elsewhere called."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

from ...errors import TokenRankWarning, first_line

Step = Callable[[], object]
"""Changes tensors in place, always the same ones, and reads nothing back: what it does depends on their numbers only
by ``torch.where`` and by indices that are tensors. Its result is not looked at."""


def repeated(step: Step, device: torch.device) -> Callable[[int], None]:
    """What takes ``step`` so many times.

    On CUDA the steps of the first call are taken as they are, which loads all kernels and may be all that is needed;
    those of the second are recorded once, so that some forty launches become one. The memory that is made while
    recording belongs to the recording, and goes with it. A step that cannot be recorded, since something in it waits
    for the host, is called each time instead, with a warning. Elsewhere it is always called. The part for CUDA has not
    been run on a device.
    """
    return _Recorded(step, device) if device.type == "cuda" else lambda times: _called(step, times)


def _called(step: Step, times: int) -> None:
    for _ in range(times):
        step()


class _Recorded:
    def __init__(self, step: Step, device: torch.device) -> None:
        self.step, self.device = step, device
        self._loaded = self._refused = False
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, times: int) -> None:
        if self._loaded and not self._refused and self._graph is None:
            self._graph = self._recording()
        self._loaded = True
        if self._graph is None:
            _called(self.step, times)
            return
        for _ in range(times):
            self._graph.replay()

    def _recording(self) -> torch.cuda.CUDAGraph | None:
        """One step; nothing is computed while it is recorded.

        Not by ``torch.cuda.graph``, which waits for the device and gives back all memory that PyTorch keeps.
        """
        graph = torch.cuda.CUDAGraph()
        now, beside = torch.cuda.current_stream(self.device), torch.cuda.Stream(self.device)
        beside.wait_stream(now)
        try:
            with torch.cuda.stream(beside):
                # other threads may go on, such as those that load data
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    self.step()
                finally:
                    graph.capture_end()
        except RuntimeError as error:
            self._refused = True
            warnings.warn(
                f"steps on {self.device} are launched one by one: no CUDA graph could be recorded "
                f"({first_line(error)})",
                TokenRankWarning,
                stacklevel=3,
            )
            return None
        now.wait_stream(beside)
        return graph
