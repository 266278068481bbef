"""S3's shared kernels: in no stage, the third, the second and third, or all; Adam against SGD.

    python -m jaxnets.sweep --ablation s3_sharing --seeds 3 --workdir sweeps/s3_sharing

The document claims 93.7 % where the third stage shares (93.8 in its text), trained by SGD, and
85.5 % by Adam.  Sharing in more stages it describes with their counts of parameters: 1,641,818 and
1,273,178.  Without sharing there are 9,014,618, more than its 5,000,000.  The rate of its Adam it
does not say: .001 here.
"""

from jaxnets.sweep.ablation import Setting

RECIPE = "dense_se_resnet"
_ADAM = ("optim.name=adam", "optim.lr=.001", "optim.nesterov=false")

SETTINGS = {
    "third": Setting((), "93.7 %"),
    "second and third": Setting(("model.share=second_third",)),
    "all": Setting(("model.share=all",)),
    "none": Setting(("model.share=none",)),
    "third, Adam": Setting(_ADAM, "85.5 %"),
    "third, Adam, no decay": Setting((*_ADAM, "optim.weight_decay=0")),
}
