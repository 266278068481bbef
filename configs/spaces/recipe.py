"""How a network is trained: optimizer, rate, decay, schedule, augmentation, smoothing, dropout.

    python -m jaxnets.sweep --config se_resnet_small --config.data.val_fraction=.1 --space recipe \
        --trials 50 --workdir sweeps/recipe

The network stays the recipe's own, and so do batches and epochs: any recipe will do.
"""

AUGMENTATIONS = {
    "crop, flip": ("crop", "flip"),
    "and erasing": ("crop", "flip", "erasing"),
    "and jitter": ("random_resized_crop", "rotation", "crop", "flip", "jitter"),
    "and AutoAugment": ("crop", "flip", "auto_augment"),
}


def space(trial, config):
    optim, schedule = config.optim, config.schedule
    optim.name = trial.suggest_categorical("optimizer", ("sgd", "adamw"))
    if optim.name == "sgd":
        optim.lr = trial.suggest_float("sgd_rate", 0.005, 0.5, log=True)
        optim.weight_decay = trial.suggest_float("sgd_decay", 1e-5, 5e-3, log=True)
        optim.nesterov = trial.suggest_categorical("nesterov", (False, True))
    else:
        optim.lr = trial.suggest_float("adamw_rate", 1e-4, 1e-2, log=True)
        optim.weight_decay = trial.suggest_float("adamw_decay", 1e-3, 0.3, log=True)
        optim.nesterov = False
    optim.lookahead.enabled = trial.suggest_categorical("lookahead", (False, True))
    schedule.name = trial.suggest_categorical("schedule", ("cosine", "one_cycle"))
    schedule.per = "step"
    schedule.max_lr, schedule.end_lr, schedule.warmup_epochs = optim.lr, 0.0, 0.0
    config.augment.ops = AUGMENTATIONS[trial.suggest_categorical("augmentation", [*AUGMENTATIONS])]
    config.loss.label_smoothing = trial.suggest_categorical("smoothing", (0.0, 0.1))
    config.model.drop = trial.suggest_float("drop", 0.0, 0.3, step=0.1)
