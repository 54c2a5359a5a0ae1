"""The next forward call of a module, changed or listened to, and nothing after it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Given = tuple[tuple[Any, ...], dict[str, Any]]
"""Arguments of a call: by position, by name."""


def by_name(denoiser: nn.Module, given: Given) -> dict[str, Any]:
    """Arguments of a denoiser's call by the names that its class gives them.

    By its class, since offloading and guidance put another ``forward`` on the module itself.
    """
    module = getattr(denoiser, "_orig_mod", denoiser)
    bound = inspect.signature(type(module).forward).bind(module, *given[0], **given[1])
    named: dict[str, Any] = {}
    for name, value in list(bound.arguments.items())[1:]:
        if bound.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named.update(value)
        else:
            named[name] = value
    return named


class OneCall:
    """Stands before and behind the next forward call of a module.

    It takes the place of ``module.forward`` and gives it back when that call ends, however it ends. A forward hook of
    PyTorch does not do: with ``always_call`` it still does not run after a ``KeyboardInterrupt``, by which most
    generations end early.

    Args:
        module: whose call it is.
        before: from the arguments (args, kwargs) to those that the module is to see.
        after: told the arguments that the module saw, and what it returned; not where it raised.
        ended: called once: with None where the call was made, with the error where it raised, and with ``NeverMade``
            where ``end`` was called before it.
    """

    def __init__(
        self,
        module: nn.Module,
        before: Callable[[Given], Given] | None = None,
        after: Callable[[Given, Any], None] | None = None,
        ended: Callable[[BaseException | None], None] | None = None,
    ) -> None:
        self._module, self._before, self._after, self._ended = module, before, after, ended
        self._own: Any = None
        self._waiting = False

    def begin(self) -> None:
        """Wait for the call."""
        forward = self._module.forward
        self._own = vars(self._module).get("forward", _OF_CLASS)

        @functools.wraps(forward)
        def once(*args: Any, **kwargs: Any) -> Any:
            try:
                given = (args, kwargs) if self._before is None else self._before((args, kwargs))
                output = forward(*given[0], **given[1])
                if self._after is not None:
                    self._after(given, output)
            except BaseException as error:
                self._end(error)
                raise
            self._end(None)
            return output

        self._waiting = True
        self._module.forward = torch.compiler.disable(once)  # the call of a compiled module runs as it is written

    def end(self) -> None:
        """Wait no longer; free once the call was made."""
        self._end(NeverMade("a pass of guidance was prepared and not run"))

    @property
    def waiting(self) -> bool:
        """Whether the call is still to come."""
        return self._waiting

    def _end(self, error: BaseException | None) -> None:
        if not self._waiting:
            return
        self._waiting = False
        try:
            if self._own is _OF_CLASS:
                vars(self._module).pop("forward", None)
            else:
                self._module.forward = self._own
        finally:
            if self._ended is not None:
                self._ended(error)


class NeverMade(Exception):  # noqa: N818  no error: it only says how a wait ended
    """The call that was waited for did not come."""


_OF_CLASS = object()
