"""Your own images: my_images/train/CLASS/* and my_images/test/CLASS/*, or my_images/CLASS/*.

    python -m jaxnets.data --name folder --dir my_images
    python -m jaxnets.train --config configs/folder.py --config.data.dir=my_images
    python -m jaxnets.train --config configs/folder.py:full --config.data.dir=my_images
    python -m jaxnets.train --config configs/folder.py:resnet18 --config.data.dir=my_images

`narrow`, for a CPU and some hundred images, is an SE-ResNet of about 0.3 million parameters; `full`
is the network of configs/se_resnet.py, for a GPU and thousands of images; every other network goes
by its own name. The first command prints data.mean and data.std of your images; 0.5 and 0.25 serve
for most photographs. A tenth of each class of train is kept for choosing the best checkpoint.
"""

import runpy
from pathlib import Path

from jaxnets.config import check_preset, default_config

# The recipe, and its preset, whose network a preset of this one takes.
NETWORKS = {
    "narrow": ("se_resnet", "documented"),
    "full": ("se_resnet", "documented"),
    "mish_se_resnet18": ("mish_se_resnet18", "documented"),
    "dense_se_resnet": ("dense_se_resnet", "documented"),
    **{f"cifar100_v{i}": ("cifar100", f"v{i}") for i in range(1, 6)},
    "resnet18": ("resnet18", "documented"),
}
PRESETS = tuple(NETWORKS)


def get_config(preset: str = "narrow"):
    check_preset(preset, PRESETS)
    c = default_config()
    c.name = "folder"

    c.data.name = "folder"
    c.data.mean, c.data.std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    c.data.val_fraction = 0.1
    c.augment.ops = ("crop", "flip")

    c.optim.lr = 0.05
    c.optim.lookahead.enabled = True
    c.schedule.name, c.schedule.end_lr = "cosine", 0.0005

    c.batch_size, c.num_epochs = 32, 30
    c.model = _network(preset)
    if preset == "narrow":
        c.model.num_blocks, c.model.num_channels = (1, 1, 1), 32
    else:
        c.name = f"folder_{preset}"
        c.optim.lr, c.schedule.end_lr = 0.1, 0.001
        c.batch_size, c.num_epochs = 128, 100
    return c


def _network(preset: str):
    """`model` of the recipe beside this one."""
    recipe, of = NETWORKS[preset]
    path = Path(__file__).with_name(f"{recipe}.py")
    model = runpy.run_path(str(path))["get_config"](of).model
    if recipe == "se_resnet":  # what runs of this recipe were started without
        del model.conv_kernel_sizes, model.shortcut_kernel_sizes
    return model
