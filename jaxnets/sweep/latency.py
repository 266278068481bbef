"""How long trained networks take for one image, on this machine."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from jaxnets import config as configs
from jaxnets.sweep.found import Row

REPEATS, SECONDS = 5, 0.2


def measure(rows: Sequence[Row]) -> dict[int, float]:
    """Milliseconds of a forward pass of one image, by trial: medians, measured in turn."""
    import jax

    from jaxnets.bench.case import synthetic
    from jaxnets.bench.jax_side import latency
    from jaxnets.bench.timing import alternate
    from jaxnets.devices import runtime
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


def _config(row: Row):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.py"
        path.write_text(row.recipe)
        return configs.read(str(path))
