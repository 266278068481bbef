"""What a data set holds, and the constants to normalise it by.

    python -m jaxnets.data --name cifar10
    python -m jaxnets.data --name folder --dir my_images --image-size 48
    python -m jaxnets.data --name folder --dir my_classes --test-fraction 0.2

Prints the images of each class and split, their size, and the mean and standard deviation of the
training images as flags for jaxnets.train.
"""

from collections.abc import Sequence

import numpy as np

from jaxnets import cli
from jaxnets import config as configs
from jaxnets.data import DATASETS, Dataset, load
from jaxnets.errors import renamed


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit code."""
    parser = cli.Parser("jaxnets.data", __doc__)
    parser.add_argument("--name", default="folder", help=f"{', '.join(DATASETS)}; default: folder")
    parser.add_argument("--dir", help="where it lies; default: $JAXNETS_DATA, or data/")
    parser.add_argument(
        "--image-size", type=cli.whole(1), default=32, metavar="N", help="folder: NxN"
    )
    parser.add_argument(
        "--skip-bad", action="store_true", help="folder: leave out images that cannot be read"
    )
    parser.add_argument(
        "--test-fraction",
        type=float,
        default=0.0,
        metavar="F",
        help="folder: of each class of DIR/CLASS, where DIR has no train and test",
    )
    args = parser.parse_args(argv)
    config = configs.default_config()
    keys = ("name", "dir", "image_size", "skip_bad", "test_fraction")
    config.data.update({key: getattr(args, key) for key in keys})
    flags = {f"config.data.{key}": f"--{key.replace('_', '-')}" for key in keys}
    with renamed({"config.data.skip_bad=True": "--skip-bad"} | flags):
        configs.validate(config)
        dataset = load(config)
    print(table(dataset))
    mean, std = (",".join(f"{x:.4f}" for x in xs) for xs in moments(dataset.train_images))
    print(f"\n--config.data.mean={mean} --config.data.std={std}")
    return 0


def table(dataset: Dataset) -> str:
    """Source, size of the images, and how many of each class are in each split."""
    height, width, _ = dataset.train_images.shape[1:]
    counts = [
        np.bincount(labels, minlength=len(dataset.class_names)).tolist()
        for labels in (dataset.train_labels, dataset.test_labels)
    ]
    rows = [("class", "train", "test"), *zip(dataset.class_names, *counts, strict=True)]
    rows.append(("all", *map(sum, counts)))
    wide = max(len(name) for name, _, _ in rows)
    lines = [f"{name:{wide}}  {train:>7}  {test:>7}" for name, train, test in rows]
    return "\n".join([f"{dataset.source}: images of {height}x{width}", "", *lines])


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel of uint8 images (N, H, W, C), in 0..1.

    A channel of one value, which nothing could be divided by, has the standard deviation 1.
    """
    values = np.arange(256) / 255
    # From a histogram: exact, and without a float copy of the images.
    shares = np.stack([np.bincount(x.ravel(), minlength=256) for x in np.moveaxis(images, -1, 0)])
    shares = shares / shares.sum(1, keepdims=True)
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1))
    return mean, np.where(std < 5e-5, 1.0, std)


if __name__ == "__main__":
    cli.run(main)
