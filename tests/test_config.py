"""Recipes and the command line over them."""

import inspect
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from jaxnets import config as configs
from jaxnets.config import recipes
from jaxnets.models import list_models, model_options
from jaxnets.models.registry import model_class
from jaxnets.train.task import build_model

RECIPES = sorted(p.stem for p in Path("configs").glob("*.py"))
QUICKSTART = "--config=configs/quickstart.py"


def presets() -> list[tuple[str, str]]:
    found = []
    for recipe in RECIPES:
        module = __import__(f"configs.{recipe}", fromlist=["PRESETS"])
        found += [(recipe, preset) for preset in module.PRESETS]
    return found


def load(recipe: str, preset: str, *overrides: str):
    return configs.read(f"configs/{recipe}.py:{preset}", overrides)


def test_every_network_has_a_preset_for_own_images():
    networks = {
        load("folder", preset).model.name for recipe, preset in presets() if recipe == "folder"
    }
    assert networks == set(list_models())


def test_operations_are_listed_on_the_command_line():
    ops = {
        given: load("se_resnet", "documented", f"--config.augment.ops={given}").augment.ops
        for given in ("none", "()", "crop", "crop,flip", "('crop', 'flip')")
    }
    assert ops == {
        "none": (),
        "()": (),
        "crop": ("crop",),
        "crop,flip": ("crop", "flip"),
        "('crop', 'flip')": ("crop", "flip"),
    }


@pytest.mark.parametrize(("recipe", "preset"), presets())
def test_every_preset_is_valid_and_lists_its_models_options(recipe, preset):
    from jaxnets.augment.pipeline import make_augment
    from jaxnets.optim import make_optimizer

    config = load(recipe, preset)
    make_augment(config.augment)
    make_optimizer(config.optim, config.schedule, steps_per_epoch=391, num_epochs=config.num_epochs)
    options = set(config.model.to_dict()) - {"name", "num_classes"}
    optional = {"conv_kernel_sizes", "shortcut_kernel_sizes", "avg_pool_kernel_size"}
    # Younger than runs of these recipes, which would not resume if they were listed.
    optional |= {"se_reduction", "cell", "whiten"}
    assert options <= set(model_options(config.model.name))
    assert set(model_options(config.model.name)) - options <= optional
    assert configs.from_json(configs.to_json(config)).optim.lr == config.optim.lr


@pytest.mark.parametrize(
    ("recipe", "preset", "expected"),
    [
        ("se_resnet", "documented", {
            "optim.name": "sgd", "optim.lr": 0.1, "optim.momentum": 0.9, "optim.weight_decay": 5e-4,
            "optim.lookahead.enabled": True, "optim.lookahead.k": 5, "optim.lookahead.alpha": 0.5,
            "optim.clip": "value", "optim.clip_at": 0.1, "schedule.name": "cosine",
            "schedule.end_lr": 0.001, "batch_size": 128, "num_epochs": 200, "model.drop": 0.0,
            "augment.crop.padding": 2, "loss.label_smoothing": 0.0}),
        ("se_resnet_drop", "documented", {
            "model.drop": 0.2, "model.se": "stem", "optim.clip": "none", "num_epochs": 300,
            "schedule.end_lr": 0.0, "schedule.T_max": None, "augment.crop.padding": 4,
            "optim.lookahead.enabled": True}),
        ("se_resnet_drop", "as_run", {
            "model.drop": 0.0, "model.se": "none", "schedule.T_max": 200, "num_epochs": 300}),
        ("dense_se_resnet", "documented", {
            "optim.lr": 0.01, "optim.nesterov": True, "optim.lookahead.enabled": False,
            "schedule.milestones": (85, 110, 135, 160, 185), "num_epochs": 200,
            "optim.clip": "value", "model.share": "third"}),
        ("dense_se_resnet", "as_run", {"schedule.milestones": (60, 85, 100), "num_epochs": 110}),
        ("mish_se_resnet18", "documented", {
            "optim.lr": 0.05, "optim.weight_decay": 1e-3, "schedule.name": "warm_restarts",
            "schedule.per": "epoch", "loss.label_smoothing": 0.1, "batch_size": 512,
            "num_epochs": 200, "data.std": (0.2470, 0.2435, 0.2616)}),
        ("mish_se_resnet18", "as_run", {
            "optim.weight_decay": 1e-4, "batch_size": 256, "num_epochs": 192,
            "augment.ops": ("crop", "flip", "auto_augment", "erasing")}),
        ("cifar100", "v1", {
            "optim.name": "sgd", "schedule.name": "one_cycle", "schedule.max_lr": 0.1,
            "batch_size": 32, "num_epochs": 50, "augment.jitter.brightness": 0.2,
            "augment.jitter.hue": 0.1, "data.name": "cifar100"}),
        ("cifar100", "v1_as_run", {
            "schedule.restart_every_epoch": False, "schedule.total_epochs": 70, "num_epochs": 46,
            "schedule.max_lr": 0.1, "optim.lr": 0.001, "optim.weight_decay": 5e-4}),
        ("cifar100", "v2_as_run", {
            "loss.label_smoothing": 0.0, "schedule.restart_every_epoch": True, "num_epochs": 50,
            "schedule.max_lr": 0.1, "optim.name": "sgd"}),
        ("cifar100", "v3_as_run", {
            "loss.label_smoothing": 0.1, "schedule.restart_every_epoch": True, "num_epochs": 50,
            "schedule.max_lr": 0.1, "optim.name": "adamw", "optim.weight_decay": 0.01}),
        ("cifar100", "v5", {
            "optim.name": "adamw", "optim.weight_decay": 0.01, "schedule.max_lr": 0.01,
            "model.residual": True, "loss.label_smoothing": 0.1}),
        ("cifar100", "v5_as_run", {
            "model.residual": False, "schedule.restart_every_epoch": True,
            "schedule.total_epochs": 50, "num_epochs": 14}),
    ],
)  # fmt: skip
def test_recipes_are_the_documents(recipe, preset, expected):
    flat = configs.flatten(load(recipe, preset).to_dict())
    assert {key: flat[key] for key in expected} == expected


DEFAULTS = {
    "augment.auto_augment.policy": "cifar10",
    "augment.crop.padding": 4,
    "augment.erasing.p": 0.5,
    "augment.erasing.ratio": [0.3, 3.3],
    "augment.erasing.scale": [0.02, 0.33],
    "augment.flip.p": 0.5,
    "augment.jitter.brightness": 0.1,
    "augment.jitter.contrast": 0.1,
    "augment.jitter.hue": 0.1,
    "augment.jitter.saturation": 0.1,
    "augment.mix.alpha": 1.0,
    "augment.mix.name": "none",
    "augment.mix.p": 0.5,
    "augment.mix.per_image": False,
    "augment.ops": ["crop", "flip"],
    "augment.random_resized_crop.ratio": [0.9, 1.1],
    "augment.random_resized_crop.scale": [0.95, 1.0],
    "augment.rotation.degrees": 10.0,
    "batch_size": 128,
    "data.image_size": 32,
    "data.mean": [0.4914, 0.4822, 0.4465],
    "data.name": "cifar10",
    "data.skip_bad": False,
    "data.std": [0.2023, 0.1994, 0.2010],
    "data.test_fraction": 0.0,
    "data.val_fraction": 0.0,
    "dtype": "float32",
    "eval_batch_size": 500,
    "eval_weights": "fast",
    "loss.label_smoothing": 0.0,
    "model.num_classes": None,
    "name": "run",
    "num_epochs": 200,
    "optim.beta1": 0.9,
    "optim.beta2": 0.999,
    "optim.clip": "none",
    "optim.clip_at": 0.1,
    "optim.eps": 1e-8,
    "optim.average_statistics": "recompute",
    "optim.ema.decay": None,
    "optim.ema.warmup": True,
    "optim.loss_scale.backoff_factor": 0.5,
    "optim.loss_scale.growth_factor": 2.0,
    "optim.loss_scale.growth_interval": 2000,
    "optim.loss_scale.init_scale": 65536.0,
    "optim.freeze": [],
    "optim.lookahead.alpha": 0.5,
    "optim.lookahead.enabled": False,
    "optim.lookahead.first_sync": None,
    "optim.lookahead.k": 5,
    "optim.lr": 0.1,
    "optim.momentum": 0.9,
    "optim.muon.adjust_lr": "original",
    "optim.muon.exclude": [],
    "optim.muon.momentum": 0.95,
    "optim.muon.nesterov": True,
    "optim.muon.ns_dtype": "float32",
    "optim.muon.ns_steps": 5,
    "optim.muon.rest": "sgd",
    "optim.muon.rest_lr_scale": 1.0,
    "optim.muon.weight_decay": 0.0,
    "optim.name": "sgd",
    "optim.nesterov": False,
    "optim.swa.every": 1,
    "optim.swa.from_epoch": None,
    "optim.weight_decay": 5e-4,
    "schedule.T_0": 10,
    "schedule.T_max": None,
    "schedule.T_mult": 2,
    "schedule.base_momentum": 0.85,
    "schedule.cycle_momentum": True,
    "schedule.div_factor": 25.0,
    "schedule.end_lr": 0.0,
    "schedule.final_div_factor": 1e4,
    "schedule.gamma": 0.1,
    "schedule.max_lr": 0.1,
    "schedule.max_momentum": 0.95,
    "schedule.milestones": [60, 120, 160],
    "schedule.name": "constant",
    "schedule.pct_start": 0.3,
    "schedule.per": "epoch",
    "schedule.restart_every_epoch": False,
    "schedule.total_epochs": None,
    "schedule.warmup_epochs": 0.0,
    "schedule.warmup_factor": 0.01,
    "seed": 0,
}


def test_every_default_that_decides_a_runs_numbers():
    """Recipes leave keys at their defaults: a default that moves changes them unseen."""
    assert configs.decisive_keys(configs.default_config()) == DEFAULTS


def test_overrides_reach_the_network():
    config = load("se_resnet", "documented", "--config.model.num_channels=16")
    assert config.num_epochs == 200
    assert build_model(config, 10).conv1.kernel.shape == (3, 3, 3, 16)


@pytest.mark.parametrize(
    ("args", "model"),
    [
        (["conv_kernel_sizes=3,3,3"], {"conv_kernel_sizes": (3, 3, 3)}),
        (["conv_kernel_sizes", "1,3,3"], {"conv_kernel_sizes": (1, 3, 3)}),
        (["avg_pool_kernel_size=4"], {"avg_pool_kernel_size": 4}),
        (["drop=0.5"], {"drop": 0.5}),
    ],
)
def test_options_that_the_recipe_leaves_out(args, model):
    """And those that are not given stay out: config.json of other runs is what it was."""
    listed = load("quickstart", "documented").model.to_dict()
    overrides = [f"--config.model.{args[0]}", *args[1:]]
    assert configs.read("quickstart", overrides).model.to_dict() == listed | model


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("--config.schedule.T_max=none", "schedule.T_max", None),
        ("--config.schedule.T_max=7", "schedule.T_max", 7),
        ("--config.data.dir=None", "data.dir", None),
        ("--config.model.avg_pool_kernel_size=None", "model.avg_pool_kernel_size", None),
        ("--config.data.cache=no", "data.cache", False),
        ("--noconfig.data.cache", "data.cache", False),
        ("--config.optim.nesterov", "optim.nesterov", True),
        ("--config.optim.lr=1", "optim.lr", 1.0),
        ("--config.augment.erasing.ratio=[.5,2]", "augment.erasing.ratio", (0.5, 2)),
        ("--config.optim.muon.exclude=conv1, linear", "optim.muon.exclude", ("conv1", "linear")),
        ("--config.optim.freeze=none", "optim.freeze", ()),
    ],
)
def test_a_value_is_of_the_kind_of_its_default(tmp_path, override, key, value):
    """Also where the recipe has set what is None by default."""
    recipe = tmp_path / "recipe.py"
    text = Path("configs/quickstart.py").read_text()
    set_ = (
        "    c.schedule.T_max, c.data.dir, c.model.avg_pool_kernel_size = 5, 'x', 8\n    return c"
    )
    recipe.write_text(text.replace("    return c", set_))
    found = configs.flatten(configs.read(str(recipe), [override]).to_dict())[key]
    assert (found, type(found)) == (value, type(value))


def test_another_network_leaves_out_what_it_does_not_take(capsys):
    given = ["name=mish_se_resnet18", "num_blocks=1,1,1,1", "widths=16,16,16,16", "activation=relu"]
    config = configs.read("quickstart", [f"--config.model.{x}" for x in given])
    assert config.model.to_dict() == {
        "name": "mish_se_resnet18",
        "num_blocks": (1, 1, 1, 1),
        "widths": (16, 16, 16, 16),
        "activation": "relu",
        "drop": 0.0,
        "num_classes": None,
    }  # se is a word there and a flag here, and it was at its default
    said = "mish_se_resnet18 does not take what the recipe sets for se_resnet, so it is left out: "
    assert capsys.readouterr().err == f"note: {said}num_channels=16\n"
    build_model(config, 10)
    assert load("se_resnet_drop", "documented", "--config.model.name=se_resnet")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", list_models())
def test_options_are_those_of_the_signatures(name):
    parameters = inspect.signature(model_class(name).__init__).parameters
    left_out = {"self", "num_classes", "dtype", "param_dtype", "rngs"}
    expected = {k: p.default for k, p in parameters.items() if k not in left_out}
    assert model_options(name) == expected


@pytest.mark.parametrize("spec", ["se_resnet_drop", "se_resnet_drop:as_run"])
def test_recipes_are_found_by_name(spec, tmp_path, monkeypatch):
    name, _, preset = spec.partition(":")
    expected = configs.read(f"configs/{name}.py{':' * bool(preset)}{preset}")
    monkeypatch.chdir(tmp_path)  # as in another project
    assert configs.to_json(configs.read(spec)) == configs.to_json(expected)
    assert sorted(recipes.recipes()) == RECIPES


def test_an_installation_has_the_recipes(tmp_path, monkeypatch):
    """What a wheel holds: jaxnets/recipes, made of configs/."""
    shutil.copytree("configs", tmp_path / "jaxnets" / "recipes")
    monkeypatch.setattr(recipes, "_PACKAGE", tmp_path / "jaxnets")
    assert set(recipes.recipes().values()) == set((tmp_path / "jaxnets" / "recipes").glob("*.py"))
    assert configs.read("folder:resnet18").model.name == "resnet18"


@pytest.mark.slow
def test_a_wheel_has_the_recipes_and_weights(tmp_path):
    for name in ("README.md", "LICENSE", "pyproject.toml", "setup.py"):
        shutil.copy(name, tmp_path)
    for name in ("configs", "jaxnets", "torch_ref", "weights"):
        shutil.copytree(name, tmp_path / name)
    pip = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([sys.executable, *pip, str(tmp_path)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for folder in ("jaxnets", "torch_ref"):
        assert {str(p) for p in Path(folder).glob("**/*.py")} <= set(names)
    assert {f"jaxnets/recipes/{name}.py" for name in RECIPES} <= set(names)
    assert {f"jaxnets/pretrained/files/{p.name}" for p in Path("weights").iterdir()} <= set(names)
    below = [path.relative_to("configs") for path in Path("configs").glob("*/*.py")]
    assert len(below) > 8
    assert {f"jaxnets/recipes/{path}" for path in below} <= set(names)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--workdir=x"], "no --config"),
        (["--config.lr=1"], "no --config"),
        (["--confg=configs/se_resnet.py"], "--confg; did you mean --config?"),
        (["--config=configs/se_resnt.py"], "configs/se_resnt.py: no such file"),
        (["--config=se_resnt"], "did you mean se_resnet? Known: cifar100, cifar100_best"),
        (["--config=configs/se_resnet.py:documentd"], "did you mean 'documented'"),
        (["--config=jaxnets/errors.py"], "get_config"),
        ([QUICKSTART, "--wrkdir=x"], "did you mean --workdir?"),
        ([QUICKSTART, "--config.optim.lrr=1"], "did you mean --config.optim.lr?"),
        ([QUICKSTART, "--config.lr=1"], "did you mean --config.optim.lr?"),
        ([QUICKSTART, "--config.optim.lr=fast"], "config.optim.lr=fast: a number (default: 0.1)"),
        ([QUICKSTART, "--config.optim.lr=nan"], "config.optim.lr=nan"),
        ([QUICKSTART, "--config.optim.lr=-1"], "config.optim.lr=-1"),
        ([QUICKSTART, "--config.num_epochs=1.5"], "num_epochs=1.5: a whole number (default: 200)"),
        ([QUICKSTART, "--config.num_epochs=0"], "config.num_epochs=0"),
        ([QUICKSTART, "--config.batch_size=0"], "config.batch_size=0"),
        ([QUICKSTART, "--config.seed=-1"], "config.seed=-1"),
        ([QUICKSTART, "--config.data.name=cifar1"], "did you mean 'cifar1"),
        ([QUICKSTART, "--config.data.std=0,1,1"], "config.data.std"),
        ([QUICKSTART, "--config.dtype=float8"], "config.dtype"),
        ([QUICKSTART, "--config.eval_weights=slow", "--config.optim.lookahead.enabled=False"],
         "config.eval_weights=slow"),
        ([QUICKSTART, "--config.loss.label_smoothing=1"], "config.loss.label_smoothing"),
        ([QUICKSTART, "--config.model.name=resnet"], "did you mean 'resnet18'"),
        ([QUICKSTART, "--config.model.se=all"], "config.model: unknown se 'all'. Known: block,"),
        ([QUICKSTART, "--config.model.num_channels=8"], "num_channels=8"),
        ([QUICKSTART, "--config.model.num_classes=5"],
         "config.model.num_classes=5: at least 10, the classes of digits"),
        ([QUICKSTART, "--config.model.share=all"], "unknown key --config.model.share"),
        ([QUICKSTART, "--config.model.conv_kernel_size=3"], "mean --config.model.conv_kernel_"),
        ([QUICKSTART, "--config.model.conv_kernel_sizes=3,3"], "conv_kernel_sizes=(3, 3): 3 whole"),
        ([QUICKSTART, "--config.model.name=resnet18"], "config.model: num_blocks=(1, 1, 1): 4"),
        ([QUICKSTART, "--config.model.name=cifar100_v1", "--config.model.se=stem"],
         "Known: drop, name, num_classes, width ("),
        ([QUICKSTART, "--config.optim.lookahead.q=1"], "Known: alpha, enabled, first_sync, k ("),
        ([QUICKSTART, "--config.nothing=1"], "Known: augment, batch_size, checkpoint, data,"),
        ([QUICKSTART, "--config.schedule.name=multistep", "--config.schedule.milestones=4,2"],
         "config.schedule.milestones"),
        ([QUICKSTART, "--config.schedule.name=warm_restarts", "--config.schedule.T_0=0"],
         "config.schedule.T_0=0"),
        ([QUICKSTART, "--config.augment.ops=crp"], "did you mean 'crop'"),
        ([QUICKSTART, "--config.optim.lookahead.alpha=2"], "config.optim.lookahead.alpha=2"),
        ([QUICKSTART, "--config.optim.lookahead.k=100000000000"], "config.optim.lookahead.k=1000"),
        ([QUICKSTART, "--config.model.num_channels=99999"], "at most 65536"),
        ([QUICKSTART, "--config.model.num_channels=60000"], "parameters: at most 1,000,000,000"),
        ([QUICKSTART, "--config.schedule.name=cosin"], "did you mean 'cosine'"),
        ([QUICKSTART, "--config.batch_size=5000"], "config.batch_size=5000"),
        ([QUICKSTART, "extra"], "unexpected argument 'extra'"),
        ([QUICKSTART, "--workdir=/proc/nowhere"], "cannot be written"),
        ([QUICKSTART, "--workdir=Makefile/x"], "cannot be written"),
    ],
)  # fmt: skip
def test_mistakes_are_answered_in_one_line(refused, tmp_path, args, says):
    if not any(a.startswith("--workdir") for a in args):
        args = [*args, f"--workdir={tmp_path / 'x'}"]
    assert says in refused("jaxnets.train", *args)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("flag", ["--print-config", "--print_config", "-print_config=true"])
def test_print_config_shows_what_would_run(command, flag):
    result = command("jaxnets.train", QUICKSTART, "--config.optim.lr=0.5", flag)
    assert result.code == 0
    assert json.loads(result.out)["optim"]["lr"] == 0.5


def test_differences_name_what_changes_the_numbers():
    a = load("quickstart", "documented")
    b = load("quickstart", "documented", "--config.optim.lr=1", "--config.data.dir=/x")
    assert configs.differences(a, b) == ["optim.lr 0.1 -> 1.0"]


@pytest.mark.parametrize(
    ("recipe", "args", "decay", "noted"),
    [
        ("quickstart", [], 5e-4, ""),
        ("quickstart", ["name=adam"], 5e-4, ""),
        ("quickstart", ["name=adamw"], 1e-2, ""),
        ("quickstart", ["weight_decay=0.003", "name=adamw"], 3e-3, ""),
        ("quickstart", ["name=adamw", "weight_decay=0"], 0, ""),
        ("mish_se_resnet18", ["name=adamw"], 1e-3,
         "note: config.optim.weight_decay=0.001 is what the recipe sets for sgd; the default for "
         "adamw is 0.01\n"),
        ("mish_se_resnet18", ["name=adamw", "weight_decay=0.001"], 1e-3, ""),
        ("cifar100", ["name=sgd"], 1e-2,
         "note: config.optim.weight_decay=0.01 is what the recipe sets for adamw; the default for "
         "sgd is 0.0005\n"),
    ],
)  # fmt: skip
def test_weight_decay_follows_the_optimizer_unless_set(capsys, recipe, args, decay, noted):
    spec = f"configs/{recipe}.py"
    config = configs.read(spec, [f"--config.optim.{a}" for a in args])
    assert config.optim.weight_decay == decay
    assert json.loads(configs.to_json(config))["optim"]["weight_decay"] == decay
    assert configs.from_json(configs.to_json(config)).optim.weight_decay == decay
    assert capsys.readouterr().err == noted


def test_weight_decay_reaches_both_frameworks():
    """AdamW's first step shrinks a weight without a gradient by lr times its decay."""
    jnp, torch = pytest.importorskip("jax.numpy"), pytest.importorskip("torch")
    import torch_ref.optim
    from jaxnets.optim import make_optimizer

    config = configs.default_config()
    config.optim.name, config.optim.lr = "adamw", 0.5
    counts = {"steps_per_epoch": 1, "num_epochs": 1}
    tx = make_optimizer(config.optim, config.schedule, **counts).tx
    weights = {"w": jnp.ones(3)}
    updates, _ = tx.update({"w": jnp.zeros(3)}, tx.init(weights), weights)
    assert updates["w"].tolist() == pytest.approx([-0.5 * 1e-2] * 3)
    weight = torch.nn.Parameter(torch.ones(3))
    weight.grad = torch.zeros(3)
    torch_ref.optim.make_optimizer([weight], config.optim, config.schedule, **counts).step()
    assert weight.tolist() == pytest.approx([1 - 0.5 * 1e-2] * 3)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("c.batchsize = 8", "sets 'batchsize', a key that no recipe has; did you mean 'batch_size"),
        ("c.optim.lrr = 8.0", "sets 'lrr', a key that no recipe has; did you mean 'lr'?"),
        ("c.zzz = 8", "sets 'zzz', a key that no recipe has\n"),
        ("c.loss = {'label_smoothin': 0.0}", "sets 'loss.label_smoothin', a key that no recipe has;"
         " did you mean 'loss.label_smoothing'?"),
        ("c.loss = {}", "lacks the key loss.label_smoothing; start from default_config()"),
        ("c = type(c)({'model': {}})", "lacks the key augment.auto_augment.policy; start from"),
        ("c['x']", "is not defined there"),
        ("c.batch_size = 'many'", "TypeError"),
        ("c.model.num_chanels = 8", "did you mean 'num_channels'?"),
    ],
)  # fmt: skip
def test_a_recipe_of_ones_own_cannot_mistype_a_key(line, says, tmp_path, refused):
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from configs.quickstart import get_config as q\n"
        f"def get_config():\n    c = q()\n    {line}\n    return c\n"
    )
    workdir = tmp_path / "x"
    said = refused("jaxnets.train", f"--config={recipe}", f"--workdir={workdir}")
    assert says in said
    assert len(said) < 250
    assert not workdir.exists()


def test_configurations_need_no_framework():
    code = (
        "import sys; from jaxnets import config;"
        "config.read('configs/quickstart.py');"
        "print(sorted({'jax', 'torch', 'flax'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
