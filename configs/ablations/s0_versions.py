"""S0's five networks on CIFAR-100, each with its documented recipe.

    python -m jaxnets.sweep --ablation s0_versions --seeds 3 --workdir sweeps/s0_versions

The document's figures are the best of its epochs on the test set (v3's its last), with the schedule
as its notebooks ran it: configs/cifar100.py:v3_as_run and so on.  Its v1 had 46 epochs, its v5 14.
"""

from jaxnets.sweep.ablation import Setting

RECIPE = "cifar100:v1"

SETTINGS = {
    "v1, plain": Setting((), "44.83 %"),
    "v2, Fire": Setting((), "53.65 %", "cifar100:v2"),
    "v3, Fire and projections": Setting((), "55.11 %", "cifar100:v3"),
    "v4, residual": Setting((), "59.88 %", "cifar100:v4"),
    "v5, hybrid": Setting((), "51.71 %", "cifar100:v5"),
    "v5, no addition": Setting(("model.residual=false",), "", "cifar100:v5"),
}
