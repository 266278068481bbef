"""What the trials say together: importance of each key, the front that none beats, latencies."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from jaxnets import config as configs
from jaxnets.sweep.found import Row

FEWEST = 4
"""Trials that have a value, below which nothing is said of importance."""
REPEATS, SECONDS = 5, 0.2  # of latencies


def importance(study: Any, rows: Sequence[Row]) -> dict[str, float]:
    """The share of each key in the variance of the values (functional ANOVA), 0..1, largest first.

    Of keys that every trial has; empty where there are too few trials, or nothing varies.
    """
    from optuna import create_study, importance

    numbers = {row.number for row in rows if row.value is not None}
    values = {row.value for row in rows if row.value is not None}
    if len(numbers) < FEWEST or len(values) < 2:
        return {}
    # A study of the trials that count alone: the storage's has others as well.
    trials = [t for t in study.get_trials() if t.state == TrialState.COMPLETE]
    alone = create_study(direction="maximize")
    alone.add_trials(trials)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            evaluator = importance.FanovaImportanceEvaluator(seed=0)
            return dict(importance.get_param_importances(alone, evaluator=evaluator))
    except (ValueError, RuntimeError, ZeroDivisionError):
        return {}


def front(rows: Sequence[Row], costs: Mapping[int, float]) -> list[Row]:
    """The rows that no other one beats in both value and cost, the cheapest first."""
    found: list[Row] = []
    for row in sorted(rows, key=lambda r: (costs[r.number], -(r.value or 0.0))):
        if not found or (row.value or 0.0) > (found[-1].value or 0.0):
            found.append(row)
    return found


def latencies(rows: Sequence[Row]) -> dict[int, float]:
    """Milliseconds of a forward pass of one image, by trial: medians, measured in turn."""
    import jax

    from jaxnets.bench.case import synthetic
    from jaxnets.bench.jax_side import latency
    from jaxnets.devices import runtime
    from jaxnets.timing import alternate
    from jaxnets.train.task import build

    works = {}
    for row in rows:
        config = _config(row)
        runtime.setup(config.dtype)
        run = build(config, synthetic(config, jax.default_backend() == "cpu"))
        layout = run.task.layout
        weights = layout.unreplicate(layout.replicate((run.state.params, run.state.stats)))
        works[str(row.number)] = latency(run, weights)
    found = alternate(works, REPEATS, SECONDS)
    return {int(number): 1e3 / rates.median for number, rates in found.items()}


def _config(row: Row) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.py"
        path.write_text(row.recipe)
        return configs.read(str(path))
