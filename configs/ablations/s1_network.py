"""S1's network: Mish against ReLU, with and without excitation, channel plans, 3, 4 and 5 stages.

    python -m jaxnets.sweep --ablation s1_network --seeds 3 --budget 5000000 \
        --workdir sweeps/s1_network

The document settles on four stages of 32, 64, 256 and 256 channels, 4,570,934 parameters, with Mish
and excitation, and claims 93 % for them.  For the others there is no figure of it here; their
channel plans are not the document's, but some under 5,000,000 parameters.
"""

from jaxnets.sweep.ablation import Setting

RECIPE = "mish_se_resnet18"


def _plan(*widths: int) -> Setting:
    blocks = ",".join("2" * len(widths))
    return Setting((f"model.widths={','.join(map(str, widths))}", f"model.num_blocks={blocks}"))


SETTINGS = {
    "documented": Setting((), "93 %"),
    "ReLU": Setting(("model.activation=relu",)),
    "no excitation": Setting(("model.se=false",)),
    "ReLU, no excitation": Setting(("model.activation=relu", "model.se=false")),
    "reduction 8": Setting(("model.se_reduction=8",)),
    "reduction 4": Setting(("model.se_reduction=4",)),
    "4 stages: 64, 128, 192, 256": _plan(64, 128, 192, 256),
    "4 stages: 32, 64, 128, 320": _plan(32, 64, 128, 320),
    "3 stages: 64, 128, 320": _plan(64, 128, 320),
    "3 stages: 96, 192, 256": _plan(96, 192, 256),
    "5 stages: 32, 64, 128, 192, 256": _plan(32, 64, 128, 192, 256),
    "5 stages: 16, 32, 64, 256, 256": _plan(16, 32, 64, 256, 256),
}
