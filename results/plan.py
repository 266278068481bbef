"""What is to be measured, in which order, and the published figures to hold it against.

`python -m jaxnets.reproduce --list` shows what is done.  Minutes are for one seed; they are
guesses: those of a CPU for two cores with AVX-512, those of a GPU for an H100 or its like.
"""

from jaxnets.results.plan import Commands, Published, Training

_NOTEBOOKS = "the notebooks of S0"


def _s0(accuracy: float, text: str, *curves: str) -> Published:
    return Published(accuracy, text, _NOTEBOOKS, curves)


_V1 = _s0(44.83, "44.83 % best of 46", "v1, first run", "v1, second run")
_V2 = _s0(53.65, "53.65 % best of 50", "v2, first run")
_V3 = _s0(55.11, "55.11 % after 50", "v3, first run", "v3, second run")
_V4 = _s0(59.88, "59.88 % best of 50", "v4, first run", "v4, second run")
_V5 = _s0(51.71, "51.71 % best, at 12 of 14", "v5, first run")
_BASIC = Published(95.6, "95.6 %", "S3, Basic SE-ResNet: 95.64 % in its log at epochs 193 and 200")
_S2 = Published(95.87, "95.87 % best, 89.62 % last", "S2, its log")
_DENSE = Published(93.7, "93.7 %", "S3, Dense SE-ResNet: 93.71 % last, 93.77 % best in its log")
_MISH = Published(92.7, "92.7 %", "S1, its log with the documented data")
_MISH_AS_RUN = Published(94.84, "94.84 % best", "S1, its log")

_WIDTH_16 = 295_755
_RECIPES = (  # one of each network
    "se_resnet.py",
    "mish_se_resnet18.py",
    "dense_se_resnet.py",
    *(f"cifar100.py:v{version}" for version in range(1, 6)),
    "resnet18.py",
)
_HIGHEST = {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}  # no TF32

ROWS = (
    Training(
        name="cifar100:v3_as_run",
        recipe="configs/cifar100.py:v3_as_run",
        parameters=2_847_476,
        minutes={"cpu": 400, "gpu": 4},
        published=_V3,
    ),
    Training(
        name="cifar100:v3",
        recipe="configs/cifar100.py:v3",
        parameters=2_847_476,
        minutes={"cpu": 400, "gpu": 4},
        published=_V3,
    ),
    Training(
        name="cifar100:v2_as_run",
        recipe="configs/cifar100.py:v2_as_run",
        parameters=1_283_684,
        minutes={"cpu": 500, "gpu": 4},
        published=_V2,
    ),
    Training(
        name="se_resnet_small",
        recipe="configs/se_resnet_small.py",
        parameters=_WIDTH_16,
        minutes={"cpu": 120, "gpu": 1},
        beside="se_resnet_small:torch",
    ),
    Training(
        name="cifar100:v5_as_run",
        recipe="configs/cifar100.py:v5_as_run",
        parameters=3_657_440,
        minutes={"cpu": 300, "gpu": 3},
        published=_V5,
    ),
    Training(
        name="se_resnet_small:torch",
        recipe="configs/se_resnet_small.py",
        overrides=("num_epochs=3",),
        parameters=_WIDTH_16,
        minutes={"cpu": 12},
        trainer="torch_ref",
        beside="se_resnet_small",
    ),
    Training(
        name="se_resnet_c16",
        recipe="configs/se_resnet.py",
        overrides=("model.num_channels=16", "num_epochs=3"),
        parameters=_WIDTH_16,
        minutes={"cpu": 15},
    ),
    Commands(
        name="parity_float32",
        minutes={"gpu": 4},
        environment=_HIGHEST,
        commands=tuple(
            f"jaxnets.parity --config configs/{recipe} --steps 1 --tolerance 1e-5 "
            "--config.optim.name=sgd --config.dtype=float32 "
            f"--output {{out}}/{recipe.replace('.py', '').replace(':', '_')}"
            for recipe in _RECIPES
        ),
    ),
    Commands(
        name="bench/se_resnet",
        minutes={"gpu": 8},
        commands=(
            "jaxnets.bench --config configs/se_resnet.py --against torch --batch 128,512,2048 "
            "--dtype bfloat16,float32 --json {out}/bench.json --force",
        ),
    ),
    Training(
        name="se_resnet_fast",
        recipe="configs/se_resnet_fast.py",
        parameters=4_697_742,
        seeds=(0, 1, 2, 3, 4),
        minutes={"gpu": 1.5},
    ),
    Training(
        name="se_resnet",
        recipe="configs/se_resnet.py",
        parameters=4_697_742,
        seeds=(0, 1, 2),
        minutes={"gpu": 6},
        published=_BASIC,
    ),
    Training(
        name="cifar100_fast",
        recipe="configs/cifar100_fast.py",
        parameters=3_657_440,
        minutes={"gpu": 1.5},
    ),
    *(
        Commands(
            name=f"bench/{recipe.replace('.py', '')}",
            minutes={"gpu": 4},
            commands=(
                f"jaxnets.bench --config configs/{recipe} --against torch --batch 128,512 "
                "--json {out}/bench.json --force",
            ),
        )
        for recipe in _RECIPES[1:]
    ),
    Training(
        name="cifar100:v4",
        recipe="configs/cifar100.py:v4",
        parameters=3_235_460,
        minutes={"gpu": 4},
        published=_V4,
    ),
    Training(
        name="cifar100:v5",
        recipe="configs/cifar100.py:v5",
        parameters=3_657_440,
        minutes={"gpu": 5},
        published=_V5,
    ),
    Training(
        name="cifar100:v2",
        recipe="configs/cifar100.py:v2",
        parameters=1_283_684,
        minutes={"gpu": 4},
        published=_V2,
    ),
    Training(
        name="cifar100:v1",
        recipe="configs/cifar100.py:v1",
        parameters=7_856_868,
        minutes={"gpu": 5},
        published=_V1,
    ),
    Training(
        name="mish_se_resnet18",
        recipe="configs/mish_se_resnet18.py",
        parameters=4_570_934,
        minutes={"gpu": 4},
        published=_MISH,
    ),
    Training(
        name="dense_se_resnet",
        recipe="configs/dense_se_resnet.py",
        parameters=3_116_378,
        minutes={"gpu": 12},
        published=_DENSE,
    ),
    Training(
        name="se_resnet_drop",
        recipe="configs/se_resnet_drop.py",
        parameters=4_697_742,
        minutes={"gpu": 9},
    ),
    Training(
        name="resnet18",
        recipe="configs/resnet18.py",
        parameters=11_173_962,
        minutes={"gpu": 6},
    ),
    Training(
        name="se_resnet_drop:as_run",
        recipe="configs/se_resnet_drop.py:as_run",
        parameters=4_697_162,
        minutes={"gpu": 9},
        published=_S2,
    ),
    Training(
        name="dense_se_resnet:as_run",
        recipe="configs/dense_se_resnet.py:as_run",
        parameters=3_116_378,
        minutes={"gpu": 7},
    ),
    Training(
        name="mish_se_resnet18:as_run",
        recipe="configs/mish_se_resnet18.py:as_run",
        parameters=4_570_934,
        minutes={"gpu": 6},
        published=_MISH_AS_RUN,
    ),
    Training(
        name="cifar100:v4_as_run",
        recipe="configs/cifar100.py:v4_as_run",
        parameters=3_235_460,
        minutes={"gpu": 4},
        published=_V4,
    ),
    Training(
        name="cifar100:v1_as_run",
        recipe="configs/cifar100.py:v1_as_run",
        parameters=7_856_868,
        minutes={"gpu": 5},
        published=_V1,
    ),
)

_CPU = (
    "cifar100:v3_as_run",
    "cifar100:v3",
    "cifar100:v2_as_run",
    "se_resnet_small",
    "cifar100:v5_as_run",
    "se_resnet_small:torch",
    "se_resnet_c16",
)
# Those written above for a GPU alone, in that order, then what a CPU takes long for.
_GPU = tuple(row.name for row in ROWS if row.name not in _CPU)
ORDER = {
    "cpu": _CPU,
    "gpu": (*_GPU, *(row.name for row in ROWS if row.name in _CPU and "gpu" in row.minutes)),
}
