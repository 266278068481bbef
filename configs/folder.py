"""SE-ResNet on your own images: my_images/train/CLASS/* and my_images/test/CLASS/*.

    python -m jaxnets.data --name folder --dir my_images
    python -m jaxnets.train --config configs/folder.py --config.data.dir=my_images
    python -m jaxnets.train --config configs/folder.py:full --config.data.dir=my_images

`narrow`, for a CPU and some hundred images, has about 0.3 million parameters; `full` is the network
of configs/se_resnet.py, for a GPU and thousands of images. The first command prints data.mean and
data.std of your images; 0.5 and 0.25 serve for most photographs. A tenth of each class of train is
kept for choosing the best checkpoint.
"""

from jaxnets.config import check_preset, default_config

PRESETS = ("narrow", "full")


def get_config(preset: str = "narrow"):
    check_preset(preset, PRESETS)
    c = default_config()
    c.name = "folder"

    c.model.name = "se_resnet"
    c.model.num_blocks = (1, 1, 1)
    c.model.num_channels = 32
    c.model.se = "stem"
    c.model.drop = 0.0

    c.data.name = "folder"
    c.data.mean, c.data.std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    c.data.val_fraction = 0.1
    c.augment.ops = ("crop", "flip")

    c.optim.lr = 0.05
    c.optim.lookahead.enabled = True
    c.schedule.name, c.schedule.end_lr = "cosine", 0.0005

    c.batch_size, c.num_epochs = 32, 30
    if preset == "full":
        c.name = "folder_full"
        c.model.num_blocks, c.model.num_channels = (4, 4, 3), 64
        c.optim.lr, c.schedule.end_lr = 0.1, 0.001
        c.batch_size, c.num_epochs = 128, 100
    return c
