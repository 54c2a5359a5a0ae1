"""What goes wrong while a model is loaded, in one sentence with the cure."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator
from pickle import UnpicklingError

from ..errors import InputError, NotFoundError, TokenRankError, first_line, printable

# By name: the classes come from several libraries, and not all of them are always installed.
_UNREACHABLE = {
    "LocalEntryNotFoundError",
    "OfflineModeIsEnabled",
    "ConnectError",
    "ConnectTimeout",
    "ReadTimeout",
    "ConnectionError",
    "MaxRetryError",
}


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn the errors of transformers and the hub into one sentence with the cure."""
    try:
        yield
    except TokenRankError:
        raise
    except Exception as error:
        raise explain(name, error) from error


def explain(name: str, error: BaseException) -> TokenRankError:
    """The error to raise where loading model ``name`` ended in ``error``."""
    kinds = {type(e).__name__ for e in _causes(error)}
    shown = printable(name)
    hint = "; did you mean 'bundled'?" if difflib.get_close_matches(name, ["bundled"]) else ""
    if "GatedRepoError" in kinds:
        return NotFoundError(
            f"model {shown} is gated; accept its terms on huggingface.co/{name}, then run `hf auth login`"
        )
    if kinds & {"RepositoryNotFoundError", "RevisionNotFoundError"}:
        return NotFoundError(
            f"no model {shown} on the Hugging Face hub{hint}; check the spelling, or run `hf auth login` if it is "
            "private"
        )
    if any("trust_remote_code" in str(cause) for cause in _causes(error)):
        return InputError(
            f"model {shown} is Python code that comes with its weights (auto_map in its config.json), and tokenrank "
            "runs no code from elsewhere (trust_remote_code=False); once you have read it, make the module yourself "
            "and watch it with tr.capture(module)"
        )
    if any(isinstance(cause, UnpicklingError) for cause in _causes(error)):
        return InputError(
            f"the weights of model {shown} are a pickle that holds more than tensors, which may run code when it is "
            "read; get them as safetensors, or make the module yourself and watch it with tr.capture(module)"
        )
    if is_unreachable(error):
        return NotFoundError(
            f"model {shown} is not on this machine, and the Hugging Face hub cannot be reached{hint}; go online "
            "(HF_HUB_OFFLINE unset), or give a local folder or 'bundled'"
        )
    return InputError(
        f"model {shown} cannot be loaded: {first_line(error)}; check its files, or load it yourself and "
        "use tr.capture(model)"
    )


def is_unreachable(error: BaseException) -> bool:
    """Whether the hub, or what it should have cached, was out of reach."""
    return any(type(e).__name__ in _UNREACHABLE for e in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__
