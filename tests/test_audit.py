"""The audit, the command around it, and the recorder of module calls under it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets import config as configs
from jaxnets.config import model_options
from jaxnets.errors import UserError
from jaxnets.models import MODELS, create_model
from jaxnets.models.__main__ import main, millions
from jaxnets.models.audit import audit, audit_model
from jaxnets.models.layers import BatchNorm, Conv, GlobalAvgPool, Linear
from jaxnets.models.torch_names import slots
from jaxnets.models.trace import record_calls

# Documented: parameters, multiply-accumulates in millions as `python -m jaxnets.models` prints them
# (the documents have one digit less, but for dense_se_resnet's), entries of the state_dict.
DOCUMENTED = {
    "se_resnet": (4_697_742, "798.69 M", 156),
    "mish_se_resnet18": (4_570_934, "234.75 M", 154),
    "dense_se_resnet": (3_116_378, "1,298.65 M", 278),
    "cifar100_v1": (7_856_868, "1,516.77 M", 44),
    "cifar100_v2": (1_283_684, "85.81 M", 100),
    "cifar100_v3": (2_847_476, "53.76 M", 171),
    "cifar100_v4": (3_235_460, "318.57 M", 72),
    "cifar100_v5": (3_657_440, "432.42 M", 107),
}
# The recipes for accuracy, and those of the same networks.
BEST = {
    "se_resnet_best": "se_resnet",
    "mish_best": "mish_se_resnet18",
    "dense_best": "dense_se_resnet",
    **{f"cifar100_best:v{n}": f"cifar100:v{n}" for n in range(1, 6)},
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_documented_figures(name):
    result = audit(name)
    parameters, macs, entries = DOCUMENTED[name]
    assert result.parameters == parameters
    assert millions(result.macs) == macs
    assert result.entries == entries


def test_macs_by_hand():
    conv = 3 * 3 * 64 * 64 * 32 * 32  # of every stage: half the side, twice the channels
    first = conv // 2  # of a stage's first convolution: from half the channels
    shortcuts = 64 * 128 * 16 * 16 + 128 * 256 * 8 * 8
    basic = 3 * 3 * 3 * 64 * 1024 + 2 * 64 * 4 + 20 * conv + 2 * first + shortcuts + 256 * 10
    assert audit("se_resnet").macs == basic

    first = 3 * 3 * 16 * 64 * 32 * 32 + 2 * first
    shortcuts += 16 * 64 * 32 * 32
    se = 6 * 2 * (64 * 4 + 128 * 8 + 256 * 16)
    dense = 3 * 3 * 3 * 16 * 1024 + 33 * conv + first + shortcuts + se + 256 * 10
    assert audit("dense_se_resnet").macs == dense


def test_entries_are_those_of_the_naming_rule():
    def check():
        model = create_model("se_resnet", se="block")
        assert audit_model(model).entries == len(slots(model))

    jax.eval_shape(check)


def test_options_change_the_count():
    assert audit("se_resnet", se="block").parameters == 4_733_610
    assert audit("se_resnet", se="none").parameters == 4_697_162
    assert audit("se_resnet", whiten=True).parameters == 4_710_126
    assert audit("se_resnet", num_classes=100).parameters == 4_697_742 + 90 * 257


class Doubled(Linear):
    def __call__(self, x):
        return 2 * super().__call__(x)


class Shared(nnx.Module):
    """Two convolutions on one kernel, one layer called twice, one never."""

    def __init__(self, rngs):
        self.second = Conv(4, 4, rngs=rngs)
        self.first = Conv(4, 4, rngs=rngs)
        self.first.kernel = self.second.kernel
        self.idle = Linear(5, 7, rngs=rngs)
        self.pool = GlobalAvgPool()
        self.fc = Doubled(4, 4, rngs=rngs)

    def __call__(self, x):
        x = self.pool(self.first(self.second(x)))
        return self.fc(self.fc(x))


def test_shared_idle_and_repeated_layers():
    result = audit_model(Shared(nnx.Rngs(0)), (8, 8, 4))
    rows = {layer.name: layer for layer in result.layers}
    assert list(rows) == ["second", "first", "idle", "fc"]
    conv = 9 * 4 * 4
    assert (rows["second"].parameters, rows["second"].macs) == (conv + 4, conv * 64)
    assert (rows["first"].parameters, rows["first"].macs) == (4, conv * 64)
    assert rows["first"].shared_with == "second"
    assert rows["idle"][3:] == (None, 42, 0, None)
    assert (rows["fc"].macs, rows["fc"].output) == (2 * 16, (1, 1, 4))
    assert result.parameters == conv + 4 + 4 + 42 + 20
    assert result.size_mb == pytest.approx(result.parameters * 4e-6)


def test_calls_in_order_with_shapes_and_values():
    model = Shared(nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 4))
    traced, run = record_calls(model, x), record_calls(model, x, keep=True)
    names = [call.name for call in run]
    assert names == ["second", "first", "pool", "fc", "fc", ""]
    assert [c[:4] for c in traced] == [c[:4] for c in run]
    assert run[0].module is model.second
    assert run[0].inputs == ((2, 6, 6, 4),)
    np.testing.assert_array_equal(run[1].value, model.first(model.second(x)))
    np.testing.assert_array_equal(run[-1].value, model(x))
    assert all(call.value is None for call in traced)


def test_recording_leaves_model_and_classes_alone():
    model = BatchNorm(3)
    method = vars(BatchNorm)["__call__"]
    record_calls(model, jax.ShapeDtypeStruct((4, 3), jnp.float32))
    assert int(model.num_batches_tracked[...]) == 0
    wrong = Linear(3, 2, rngs=nnx.Rngs(0))
    with pytest.raises(TypeError):
        record_calls(wrong, jnp.zeros((1, 5)), keep=True)
    assert vars(BatchNorm)["__call__"] is method
    assert "__call__" not in vars(Linear)


def test_another_model_running_meanwhile_is_not_recorded():
    other = BatchNorm(4)

    class Nosy(nnx.Module):
        def __init__(self):
            self.bn = BatchNorm(4)
            self.other = (lambda m: lambda x: m(x))(other)

        def __call__(self, x):
            return self.other(self.bn(x))

    assert [c.name for c in record_calls(Nosy(), jnp.ones((2, 4)), keep=True)] == ["bn", ""]


def run(capsys, *argv):
    code = main(argv)
    return code, capsys.readouterr().out


def test_list(capsys, monkeypatch):
    monkeypatch.setattr("jaxnets.models.__main__.MODELS", {"se_resnet": MODELS["se_resnet"]})
    code, text = run(capsys, "--list")
    assert code == 0
    line = next(line for line in text.splitlines() if line.startswith("se_resnet"))
    assert line.split()[1:6] == ["4,697,742", "4,697,742", "798.69", "M", "156"]
    assert "S3 (Basic and Dense SE-ResNet)" in line
    code, text = run(capsys, "--list", "--json")
    (row,) = json.loads(text)
    assert (row["name"], row["parameters"], row["macs"]) == ("se_resnet", 4_697_742, 798_690_304)


@pytest.mark.parametrize("spec", BEST)
def test_recipes_for_accuracy_keep_the_documented_networks(spec):
    """Same parameters, options but for dropout; below 5 M where that is documented."""
    config, usual = configs.read(spec), configs.read(BEST[spec]).model.to_dict()
    name, best = config.model.name, config.model.to_dict()
    for options in (best, usual):
        for dropout in ("drop", "conv_drop"):
            options.pop(dropout, None)
    assert best == usual
    num_classes, options = model_options(config, 100 if spec.startswith("cifar100") else 10)
    model = nnx.eval_shape(lambda: create_model(name, num_classes, **options))
    count = sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
    assert count == DOCUMENTED[name][0]
    assert count < 5_000_000 or spec == "cifar100_best:v1"


def test_audit_text_and_budget(capsys):
    code, text = run(capsys, "se_resnet", "--budget", "4697742")
    assert code == 0
    assert "residual_layers.2.0.shortcut.0" in text
    assert "4,697,742 unique" in text
    assert "18.79 MB" in text
    code, text = run(capsys, "se_resnet", "--budget", "4697741")
    assert code == 1
    assert "EXCEEDED by 1" in text


def test_audit_json(capsys):
    options = ["--option", "se=none", "--option", "num_blocks=1,1,1"]
    code, text = run(capsys, "se_resnet", *options, "--num-classes", "7", "--json")
    found = json.loads(text)
    assert code == 0
    assert found["within_budget"] is True
    assert found["num_classes"] == 7
    assert found["options"]["num_blocks"] == [1, 1, 1]
    assert found["parameters"] == sum(layer["parameters"] for layer in found["layers"])
    assert found["layers"][-1]["weight"] == [256, 7]


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        ("se_resnt", "se_resnet"),
        ("se_resnet --option drp=.1", "drop"),
        ("se_resnet --option drop", "K=V"),
        ("se_resnet --option drop=much", "a number"),
        ("se_resnet --option num_channels=16.5", "a whole number"),
        ("se_resnet --option num_blocks=a,b", "numbers, as 1,2"),
        ("se_resnet --option se=everywhere", "stem"),
        ("se_resnet --num-classes 0", "at least 1"),
        ("se_resnet --num-classes many", "--num-classes"),
        ("se_resnet --budget -1", "whole number"),
        ("se_resnet --bugdet 3", "--budget"),
        ("--option drop=.1", "name one"),
    ],
)
def test_mistakes_are_one_line(argv, hint):
    with pytest.raises(UserError) as error:
        main(argv.split())
    assert hint in str(error.value)
    assert "\n" not in str(error.value)
