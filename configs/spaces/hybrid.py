"""S0's hybrid: a cell of Fire modules and residual blocks, the search that S0 leaves to others.

    python -m jaxnets.sweep --config cifar100:v5 --config.data.val_fraction=.1 --space hybrid \
        --trials 50 --budget 5000000 --workdir sweeps/hybrid

Three stages have the same cell, of one to four blocks; the documented one is a single Fire module.
"""


def space(trial, config):
    model = config.model
    blocks = trial.suggest_int("blocks", 1, 4)
    model.cell = "+".join(
        trial.suggest_categorical(f"block{i}", ("fire", "residual")) for i in range(blocks)
    )
    model.residual = trial.suggest_categorical("addition", (True, False))
    model.width = trial.suggest_categorical("width", (0.5, 0.75, 1.0, 1.25))
    model.drop = trial.suggest_float("drop", 0.0, 0.5, step=0.1)
    model.conv_drop = trial.suggest_float("conv_drop", 0.0, 0.4, step=0.1)
