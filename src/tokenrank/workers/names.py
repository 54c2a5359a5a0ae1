"""Names of engines: nothing is imported with them, so that the help of commands waits for no PyTorch."""

from typing import Literal, TypeAlias, get_args

EngineName: TypeAlias = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = get_args(EngineName)
