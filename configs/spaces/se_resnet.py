"""SE-ResNets: blocks and kernel sizes of each stage, width, excitation, how far it squeezes.

    python -m jaxnets.sweep --config se_resnet --config.data.val_fraction=.1 --space se_resnet \
        --trials 50 --budget 5000000 --workdir sweeps/se_resnet_space
"""


def space(trial, config):
    model = config.model
    stages = trial.suggest_int("stages", 2, 4)
    model.num_blocks = tuple(trial.suggest_int(f"blocks{i}", 1, 6) for i in range(stages))
    model.num_channels = trial.suggest_int("channels", 16, 96, step=16)
    model.conv_kernel_sizes = tuple(
        trial.suggest_categorical(f"kernel{i}", (3, 5)) for i in range(stages)
    )
    model.shortcut_kernel_sizes = tuple(
        trial.suggest_categorical(f"shortcut{i}", (1, 3)) for i in range(stages)
    )
    model.se = trial.suggest_categorical("se", ("none", "stem", "block"))
    if model.se != "none":
        model.se_reduction = trial.suggest_categorical("reduction", (4, 8, 16))
