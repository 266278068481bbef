"""A space: a Python file whose `space(trial, config)` sets keys to what optuna suggests."""

import contextlib
import dataclasses
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxnets import config as configs
from jaxnets.errors import UserError
from jaxnets.files.regular import read_text


class Refused(Exception):
    """A setting that is not to be trained; it says why in a line."""


@dataclasses.dataclass(frozen=True)
class Space:
    """Settings that optuna proposes, over a recipe.

    path: of the file; `source` is its text.
    """

    path: Path
    source: str
    function: Callable[[Any, Any], Any]
    recipe: str
    overrides: tuple[str, ...]

    def propose(self, trial: Any) -> Any:
        """The configuration of a trial.

        Raises:
            UserError: the space raises.
            Refused: it raises optuna.TrialPruned, or makes no configuration.
        """
        import optuna

        config = configs.read(self.recipe, self.overrides)
        try:
            given = self.function(trial, config)
        except optuna.TrialPruned as e:
            raise Refused(str(e) or "the space leaves it out") from e
        except UserError:
            raise
        except Exception as e:
            raise UserError(f"{self.path}: space() raises {type(e).__name__}: {e}") from e
        config = config if given is None else given
        try:
            configs.validate(config)
        except UserError as e:
            raise Refused(str(e)) from e
        except Exception as e:
            raise UserError(f"{self.path}: space() makes no configuration ({e})") from e
        return config

    def described(self) -> dict[str, Any]:
        """As JSON: what makes it another space."""
        return {"space": self.source}


def read(path: Path, recipe: str, overrides: tuple[str, ...]) -> Space:
    """The space in a file, called once with settings drawn at random.

    Raises:
        UserError: no such file, no function in it, or one that raises.
    """
    import optuna

    try:
        source = read_text(path)
    except (OSError, ValueError) as e:
        raise UserError(f"--space {path}: cannot be read ({e})") from e
    try:
        function = runpy.run_path(str(path)).get("space")
    except Exception as e:
        raise UserError(f"--space {path}: {type(e).__name__}: {e}") from e
    if not callable(function):
        raise UserError(f"--space {path}: lacks the function space(trial, config)")
    space = Space(path, source, function, recipe, tuple(overrides))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    with contextlib.suppress(Refused):
        space.propose(trial)
    if not trial.params:
        raise UserError(f"--space {path}: space() suggests nothing: call trial.suggest_...()")
    return space
