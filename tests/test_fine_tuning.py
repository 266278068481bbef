"""Starting from weights, frozen parts, rates of their own: what is refused, and how."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxnets import config as configs
from jaxnets.config.parts import new_head, parts
from jaxnets.errors import UserError
from jaxnets.models.torch_names import to_state_dict
from jaxnets.train.task import build_model
from tests.test_train import CONFIG

NAMES = {
    "a": ("conv1.weight",),
    "b": ("conv10.weight",),
    "shared": ("layer1.0.conv.weight", "layer1.1.conv.weight"),
    "d": ("fc.bias",),
}


def optim(freeze=(), lr_scale=None):
    found = configs.default_config().optim
    found.freeze, found.lr_scale = freeze, lr_scale or {}
    return found


def test_a_prefix_ends_at_a_dot():
    assert parts(optim(["conv1"]), NAMES).frozen == {"a"}
    assert parts(optim(["conv1", "layer1.1"]), NAMES).frozen == {"a", "shared"}
    found = parts(optim(["layer1"], {"conv10": 2.0, "fc": 1.0}), NAMES)
    assert found == (frozenset({"shared"}), {"b": 2.0})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"freeze": ["conv"]}, "config.optim.freeze: no parameter's name begins with 'conv'; the "
         "nearest are conv"),
        ({"lr_scale": {"head": 2.0}}, "config.optim.lr_scale: no parameter's name begins with 'he"),
        ({"freeze": ["conv1", "conv10", "layer1", "fc"]}, "nothing is left to train"),
        ({"freeze": ["fc"], "lr_scale": {"fc": 2.0}}, "config.optim.lr_scale.fc: all of it is"),
        ({"lr_scale": {"layer1.0": 2.0, "layer1.1": 3.0}}, "layer1.0.conv.weight has the factor 2"),
    ],
)  # fmt: skip
def test_parts_that_cannot_be(given, said):
    with pytest.raises(UserError) as refusal:
        parts(optim(**given), NAMES)
    assert said in str(refusal.value)


def test_a_head_is_drawn_anew_whole_or_not_at_all():
    wanted = {"x.weight": (4, 3), "fc.weight": (3, 8), "fc.bias": (3,)}
    head = ["fc.weight", "fc.bias"]
    assert new_head(head, wanted, wanted) == []
    assert new_head(head, wanted, {"x.weight": (4, 3)}) == head
    assert new_head(head, wanted, {"fc.weight": (10, 8), "fc.bias": (10,)}) == head
    assert new_head(head, wanted, {"fc.weight": (10, 9), "fc.bias": (10,)}) == []
    assert new_head(head, wanted, {"fc.weight": (10, 8), "fc.bias": (3,)}) == []
    assert new_head(head, wanted, {"fc.weight": (10, 8)}) == []


def test_recipes_and_command_lines_say_the_same(tmp_path):
    recipe = tmp_path / "mine.py"
    recipe.write_text(
        "from configs.quickstart import get_config as quickstart\n"
        "def get_config():\n"
        "    c = quickstart()\n"
        "    c.optim.freeze = ('conv1', 'residual_layers.0')\n"
        "    c.optim.lr_scale = {'residual_layers.1': 0.5}\n"
        "    return c\n"
    )
    given = ["freeze=conv1,residual_layers.0", "lr_scale.residual_layers.1=.5"]
    flags = [f"--config.optim.{text}" for text in given]
    written, said = configs.read(str(recipe)), configs.read("quickstart", flags)
    assert configs.differences(written, said) == []
    stored = configs.from_json(configs.to_json(said))
    assert configs.differences(stored, said) == []
    assert stored.optim.lr_scale["residual_layers.1"] == 0.5
    assert "optim.freeze" in str(configs.differences(configs.read("quickstart"), said))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--config.optim.freeze=convv"], "config.optim.freeze: no parameter's name begins with"),
        (["--config.optim.freeze=conv1,bn1,residual_layers,linear"], "nothing is left to train"),
        (["--config.optim.lr_scale.linear=0"], "config.optim.lr_scale.linear=0.0: a number > 0"),
        (["--config.optim.lr_scale.linear=ten"], "write it as --config.optim.lr_scale.linear=10"),
        (["--config.optim.lr_scale=10"], "write it as --config.optim.lr_scale.linear=10"),
        (["--config.optim.freeze.conv1=1"], "did you mean --config.optim.freeze?"),
        (["--init-strict"], "--init-strict: is about --init, which is not given"),
        (["--init=absent.pt"], "--init absent.pt: no such file"),
        (["--init=absent"], "--init absent: unknown weights 'absent'"),
        ([f"--init={CONFIG}"], "tiny_config.py: not a weight file; give a workdir, or one of"),
        (["--init=nan.safetensors"], "conv1.weight: 1 of 108 values are NaN or infinite"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path, monkeypatch, refused, args, said):
    if "nan" in args[0]:
        weights = to_state_dict(build_model(configs.read(CONFIG), 10))
        weights["conv1.weight"][0, 0, 0, 0] = np.nan
        save_file(weights, tmp_path / "nan.safetensors")
    monkeypatch.chdir(tmp_path)
    error = refused("jaxnets.train", "--config", CONFIG, "--workdir", tmp_path / "x", *args)
    assert said in error
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("arg", "said"),
    [
        ("--init-strict", "2 of another shape (~), 0 unexpected (+), of 20: ~ linear.weight 7x4"),
        ("--config.model.num_channels=5", "17 of another shape"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, command, arg, said):
    """Every tensor that does not fit has a line; only the last layer may differ by default."""
    weights = tmp_path / "seven.safetensors"
    save_file(to_state_dict(build_model(configs.read(CONFIG), 7)), weights)
    args = ("--config", CONFIG, "--workdir", tmp_path / "x", f"--init={weights}", arg)
    result = command("jaxnets.train", *args)
    assert result.code == 2
    assert result.err.startswith(f"error: --init {weights}: the tensors do not fit the model: ")
    assert said in result.err
    assert not (tmp_path / "x").exists()
