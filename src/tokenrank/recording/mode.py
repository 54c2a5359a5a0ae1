"""The torch function mode: looks every torch function up, and does nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.overrides import TorchFunctionMode

from . import multi_head

Observer = Callable[[tuple[Any, ...], dict[str, Any], Any], None]


class ObservingMode(TorchFunctionMode):
    """Calls an observer with (args, kwargs, result) after each torch function that has one.

    The function itself always runs as it would have; an observer's exception is handed to
    ``on_fault`` and never reaches the model.

    Args:
        observers: function → observer.
        followers: the same for functions that matter only while something is being followed.
        following: what is being followed; empty most of the time, so that ``followers`` cost nothing.
        judge: asked once for every other function: an observer or None, and whether it is a follower.
        on_fault: what to do with an observer's exception.
    """

    def __init__(
        self,
        observers: dict[Any, Observer],
        followers: dict[Any, Observer],
        following: Mapping[Any, Any],
        judge: Callable[[Any], tuple[Observer | None, bool]],
        on_fault: Callable[[Exception], None],
    ) -> None:
        super().__init__()
        self._followers = followers
        self._observers = _Observers({**dict.fromkeys(followers), **observers, multi_head.FUNCTION: _never})
        self._observers.judge, self._observers.followers = judge, followers
        self._known = len(self._observers)
        self._following, self._on_fault = following, on_fault

    @property
    def saw_functions(self) -> bool:
        """Whether any other function was called: something ran under this mode."""
        return len(self._observers) > self._known

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run ``func`` and let its observer look."""
        observer = self._observers[func]
        if observer is None and self._following:
            observer = self._followers.get(func)
        if observer is None:
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        if func is multi_head.FUNCTION:
            with self:
                return multi_head.visible(args, kwargs)
        out = func(*args, **kwargs)
        try:
            observer(args, kwargs, out)
        except Exception as fault:
            self._on_fault(fault)
        return out


class _Observers(dict[Any, Any]):
    """Function → observer or None; functions never met before are judged once."""

    judge: Callable[[Any], tuple[Observer | None, bool]]
    followers: dict[Any, Observer]

    def __missing__(self, function: Any) -> Observer | None:
        observer, follows = self.judge(function)
        if follows and observer is not None:
            self.followers[function], observer = observer, None
        self[function] = observer
        return observer


def _never(args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
    """Marks a function that the mode runs in its own way."""
