"""Every model and every option, at full size where that is the point and narrow where it is not."""

from jaxnets.models import list_models

FULL = [(name, {}) for name in list_models()]

_MISH = {"widths": (16, 16, 32, 32), "num_blocks": (1, 2, 1, 1)}
_DENSE = {"depth": 2, "widths": (16, 32, 32)}

OPTIONS = [
    # The defaults, narrow: at full size they take minutes.
    ("se_resnet", {"num_channels": 16, "num_blocks": (1, 1, 1)}),
    ("mish_se_resnet18", _MISH),
    ("dense_se_resnet", _DENSE),
    ("cifar100_v1", {"width": 1 / 16}),
    ("cifar100_v4", {"width": 1 / 8}),
    ("cifar100_v5", {"width": 1 / 4}),
    ("se_resnet", {"num_channels": 16, "num_blocks": (1, 1, 1), "se": "block", "drop": 0.2}),
    ("se_resnet", {"num_channels": 8, "num_blocks": (2, 1, 1), "se": "none"}),
    ("se_resnet", {"num_channels": 8, "num_blocks": (1, 1), "se": "block", "se_reduction": 3}),
    (
        "se_resnet",
        {
            "num_channels": 16,
            "num_blocks": (1, 1),
            "conv_kernel_sizes": (5, 3),
            "shortcut_kernel_sizes": (1, 3),
            "avg_pool_kernel_size": 16,
        },
    ),
    ("se_resnet", {"num_channels": 16, "num_blocks": (1, 1), "whiten": True}),
    ("mish_se_resnet18", {**_MISH, "activation": "relu"}),
    ("mish_se_resnet18", {**_MISH, "se": False, "drop": 0.0}),
    (
        "mish_se_resnet18",
        {"widths": (8, 16, 16, 32, 32), "num_blocks": (1, 1, 1, 1, 1), "se_reduction": 4},
    ),
    ("mish_se_resnet18", {"widths": (16, 16, 32), "num_blocks": (1, 1, 1)}),
    ("dense_se_resnet", {**_DENSE, "share": "none"}),
    ("dense_se_resnet", {**_DENSE, "share": "second_third", "drop": 0.1}),
    ("dense_se_resnet", {**_DENSE, "share": "all", "se_reduction": 4}),
    ("cifar100_v1", {"width": 1 / 16, "drop": 0.0}),
    ("cifar100_v2", {"width": 1 / 8, "num_classes": 10}),
    ("cifar100_v3", {"width": 1 / 8, "use_fire8": True}),
    ("cifar100_v4", {"width": 1 / 8, "drop": 0.0, "conv_drop": 0.5}),
    ("cifar100_v5", {"width": 1 / 4, "residual": False, "conv_drop": 0.0}),
    ("cifar100_v5", {"width": 1 / 4, "cell": "residual+fire+fire"}),
    ("resnet18", {"num_channels": 8, "num_blocks": (1, 1, 2, 1), "drop": 0.2}),
]


def case_id(value: object) -> str | None:
    """The test's name for a model or for its options."""
    if isinstance(value, dict):
        return ",".join(f"{k}={v}".replace(" ", "") for k, v in value.items()) or "full"
    return None
