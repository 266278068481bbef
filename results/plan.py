"""What is to be measured, in which order, and the published figures to hold it against.

`python -m jaxnets.reproduce --list` shows what is done.  Minutes are for one seed; they are
guesses: those of a CPU for two cores with AVX-512, those of a GPU for an H100 or its like.
"""

from typing import Any

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


def _recipe(
    name: str, parameters: int, *, cpu: float | None = None, gpu: float, **more: Any
) -> Training:
    """A row for a recipe, named as --config names it: NAME or NAME:PRESET."""
    file, colon, preset = name.partition(":")
    minutes = {"gpu": gpu} if cpu is None else {"cpu": cpu, "gpu": gpu}
    recipe = f"configs/{file}.py{colon}{preset}"
    return Training(name=name, recipe=recipe, parameters=parameters, minutes=minutes, **more)


ROWS = (
    _recipe("cifar100:v3_as_run", 2_847_476, cpu=400, gpu=4, published=_V3),
    _recipe("cifar100:v3", 2_847_476, cpu=400, gpu=4, published=_V3),
    _recipe("cifar100:v2_as_run", 1_283_684, cpu=500, gpu=4, published=_V2),
    _recipe("se_resnet_small", _WIDTH_16, cpu=120, gpu=1, beside="se_resnet_small:torch"),
    _recipe("cifar100:v5_as_run", 3_657_440, cpu=300, gpu=3, published=_V5),
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
        name="bench_cpu",
        minutes={"cpu": 90},
        commands=(
            f"jaxnets.bench --config {','.join(f'configs/{recipe}' for recipe in _RECIPES)} "
            "--against torch --memory --json {out}/bench.json --force",
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
    _recipe("se_resnet_fast", 4_697_742, gpu=1.5, seeds=(0, 1, 2, 3, 4)),
    _recipe("se_resnet", 4_697_742, gpu=6, seeds=(0, 1, 2), published=_BASIC),
    _recipe("cifar100_fast", 3_657_440, gpu=1.5),
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
    _recipe("cifar100:v4", 3_235_460, gpu=4, published=_V4),
    _recipe("cifar100:v5", 3_657_440, gpu=5, published=_V5),
    _recipe("cifar100:v2", 1_283_684, gpu=4, published=_V2),
    _recipe("cifar100:v1", 7_856_868, gpu=5, published=_V1),
    _recipe("mish_se_resnet18", 4_570_934, gpu=4, published=_MISH),
    _recipe("dense_se_resnet", 3_116_378, gpu=12, published=_DENSE),
    _recipe("se_resnet_drop", 4_697_742, gpu=9),
    _recipe("resnet18", 11_173_962, gpu=6),
    _recipe("se_resnet_drop:as_run", 4_697_162, gpu=9, published=_S2),
    _recipe("dense_se_resnet:as_run", 3_116_378, gpu=7),
    _recipe("mish_se_resnet18:as_run", 4_570_934, gpu=6, published=_MISH_AS_RUN),
    _recipe("cifar100:v4_as_run", 3_235_460, gpu=4, published=_V4),
    _recipe("cifar100:v1_as_run", 7_856_868, gpu=5, published=_V1),
)

_CPU = (
    "cifar100:v3_as_run",
    "cifar100:v3",
    "cifar100:v2_as_run",
    "se_resnet_small",
    "cifar100:v5_as_run",
    "se_resnet_small:torch",
    "se_resnet_c16",
    "bench_cpu",
)
# Those written above for a GPU alone, in that order, then what a CPU takes long for.
_GPU = tuple(row.name for row in ROWS if row.name not in _CPU)
ORDER = {
    "cpu": _CPU,
    "gpu": (*_GPU, *(row.name for row in ROWS if row.name in _CPU and "gpu" in row.minutes)),
}
