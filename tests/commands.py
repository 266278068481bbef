"""The commands, called within the tests' own process."""

import importlib
import importlib.util
from collections.abc import Callable, Sequence


def main_of(module: str) -> Callable[[Sequence[str]], int]:
    """The function behind `python -m MODULE`, which takes its arguments."""
    is_package = importlib.util.find_spec(module).submodule_search_locations is not None
    return importlib.import_module(f"{module}.__main__" if is_package else module).main
