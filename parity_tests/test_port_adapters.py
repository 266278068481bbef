"""Networks as others write them: their weights, ported, compute what they compute."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import jaxnets
import torch_ref.models
from jaxnets.models.torch_names import to_state_dict
from jaxnets.port import load
from jaxnets.port.adapters import FORMS, plan
from jaxnets.port.guess import Model, guess
from jaxnets.port.runs import convert
from jaxnets.port.runs.read import read
from jaxnets.port.verify import Differences, run_torch
from tests.conftest import command  # noqa: F401 - a fixture

PORT = "jaxnets.port.__main__"
CONFIGS = Path(__file__).parents[1] / "configs"


class LinearSE(nn.Module):
    """Squeeze-and-excitation by linear layers, which are attributes."""

    def __init__(self, channels: int, act, names: tuple[str, str]):
        super().__init__()
        self.act, self.names = act, names
        setattr(self, names[0], nn.Linear(channels, channels // 16))
        setattr(self, names[1], nn.Linear(channels // 16, channels))

    def forward(self, x):
        first, second = (getattr(self, name) for name in self.names)
        return x * second(self.act(first(x.mean((2, 3))))).sigmoid()[:, :, None, None]


class SequentialSE(nn.Module):
    """The same, the layers in a Sequential."""

    def __init__(self, channels: int, act: nn.Module, name: str):
        super().__init__()
        self.name = name
        layers = nn.Linear(channels, channels // 16), act, nn.Linear(channels // 16, channels)
        setattr(self, name, nn.Sequential(*layers, nn.Sigmoid()))

    def forward(self, x):
        return x * getattr(self, self.name)(x.mean((2, 3)))[:, :, None, None]


class ConvSE(nn.Module):
    """Squeeze-and-excitation by 1x1 convolutions without biases."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 16, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // 16, channels, 1, bias=False)

    def forward(self, x):
        s = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(s))))


def replace(owner: nn.Module, old: str, new: str, block: nn.Module) -> None:
    """Puts `block` in the place of attribute `old`, registered as `new`."""
    delattr(owner, old)
    setattr(owner, new, block)
    if new != old:  # what forward() calls; not an entry of the state_dict
        owner.__dict__[old] = block


def stem() -> nn.Module:
    net = torch_ref.models.create_model("se_resnet", num_blocks=(1,), num_channels=32)
    replace(net, "seblock", "se", SequentialSE(32, nn.ReLU(), "fc"))
    return net


def blocks() -> nn.Module:
    options = {"num_blocks": (2, 1), "num_channels": 16, "se": "block"}
    net = torch_ref.models.create_model("se_resnet", **options)
    for layer in net.residual_layers:
        for block in layer:
            se = LinearSE(block.bn2.num_features, F.relu, ("conv1", "conv2"))
            replace(block, "seblock", "seblock", se)
    return net


def mish() -> nn.Module:
    options = {"widths": (16, 16, 32, 32), "num_blocks": (1, 1, 1, 1)}
    net = torch_ref.models.create_model("mish_se_resnet18", **options)
    for i in range(1, 5):
        for block in getattr(net, f"layer{i}"):
            se = SequentialSE(block.bn2.num_features, nn.Mish(), "excitation")
            replace(block, "se", "se_block", se)
    return net


def dense() -> nn.Module:
    options = {"depth": 2, "widths": (16, 16, 32), "share": "none"}
    net = torch_ref.models.create_model("dense_se_resnet", **options)
    for i in range(1, 4):
        for block in getattr(net, f"layer{i}"):
            replace(block, "se", "se", ConvSE(block.bn2.num_features))
    return net


class KuangliuBlock(nn.Module):
    def __init__(self, in_planes: int, planes: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride=1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class KuangliuResNet18(nn.Module):
    """kuangliu/pytorch-cifar's ResNet18, its 64 channels made fewer."""

    def __init__(self, planes: int = 8):
        super().__init__()
        self.conv1 = nn.Conv2d(3, planes, 3, stride=1, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        ins = planes
        for i in range(4):
            outs = planes * 2**i
            pair = KuangliuBlock(ins, outs, 1 if i == 0 else 2), KuangliuBlock(outs, outs, 1)
            setattr(self, f"layer{i + 1}", nn.Sequential(*pair))
            ins = outs
        self.linear = nn.Linear(ins, 10)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return self.linear(F.avg_pool2d(out, 4).flatten(1))


def make(build) -> nn.Module:
    torch.manual_seed(0)
    net = build()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 1.5)
    return net


def assert_same_logits(model: Model, path: Path, net: nn.Module) -> None:
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3))
    # The port has proved that JAX computes what the twin does.
    ours = run_torch(model, load(path), images, "float64")
    with torch.no_grad():
        theirs = net.double().eval()(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    assert np.abs(theirs).max() > 0.1
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("build", "name", "notes"),
    [
        (stem, "se_resnet", ["2 squeeze-and-excitation weights (out, in) -> (out, in, 1, 1)",
                             "4 names: se.fc.0.weight -> seblock.conv1.weight"]),
        (blocks, "se_resnet", ["6 squeeze-and-excitation weights (out, in) -> (out, in, 1, 1)"]),
        (mish, "mish_se_resnet18", ["8 squeeze-and-excitation weights (out, in) ->",
                                    "16 names: layer1.0.se_block.excitation.0.weight -> "
                                    "layer1.0.se.se.1.weight"]),
        (dense, "dense_se_resnet", ["12 squeeze-and-excitation weights (out, in, 1, 1) ->"
                                    " (out, in)",
                                    "12 names: layer1.0.se.fc1.weight ->"]),
    ],
)  # fmt: skip
def test_squeeze_and_excitation_of_others(tmp_path, command, build, name, notes):  # noqa: F811
    net = make(build)
    torch.save({"state_dict": net.state_dict()}, tmp_path / "a.pth")
    done = command(PORT, tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert done.code == 0, done.err
    assert f"model    {name}," in done.out
    said = [line for line in done.out.splitlines() if line.startswith("adapted: ")]
    assert len(said) == len(notes)
    for line, note in zip(said, notes, strict=True):
        assert line.startswith(f"adapted: {note}")
    model = port_model(done.out, name, tmp_path)
    live = jaxnets.load_weights(model.build("float32"), tmp_path / "a.pth")
    weights = to_state_dict(live)
    want = load(tmp_path / "b.safetensors")
    assert all(np.array_equal(weights[key], value) for key, value in want.items())
    assert_same_logits(model, tmp_path / "b.safetensors", net)


def port_model(out: str, name: str, folder: Path) -> Model:
    """The model of folder/b.safetensors, which the command's output names."""
    model = guess(load(folder / "b.safetensors"))
    assert model.name == name
    assert str(model) in out
    return model


def test_what_is_no_foreign_form_is_left_alone(tmp_path, command):  # noqa: F811
    net = make(stem)
    weights = net.state_dict()
    del weights["se.fc.2.weight"]
    weights["mine"] = torch.zeros(3)
    torch.save(weights, tmp_path / "a.pth")
    done = command(PORT, tmp_path / "a.pth", tmp_path / "b.pth")
    assert done.code == 2
    assert "+ mine" in done.err
    assert not (tmp_path / "b.pth").exists()
    # Two tensors that would get one name.
    shapes = {"se.fc1.weight": (2, 32), "seblock.conv1.weight": (2, 32, 1, 1)}
    assert plan(shapes, FORMS["se_resnet"]).changes == {}


def test_resnet18_of_kuangliu(tmp_path, command):  # noqa: F811
    net = make(KuangliuResNet18)
    weights = {f"module.{k}": v for k, v in net.state_dict().items()}
    torch.save({"net": weights, "acc": 93.02, "epoch": 7}, tmp_path / "ckpt.pth")
    done = command(PORT, tmp_path / "ckpt.pth", tmp_path / "b.safetensors")
    assert done.code == 0, done.err
    assert "adapted" not in done.out
    model = port_model(done.out, "resnet18", tmp_path)
    assert_same_logits(model, tmp_path / "b.safetensors", net)


@pytest.fixture
def unverified(monkeypatch):
    """Leaves out the logits, which take most of a port's time."""
    none = Differences(0, 0, 1, "not computed")
    monkeypatch.setattr(convert, "differences", lambda *_, **__: none)


def steps(net: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
    for i in range(count):
        images = np.random.default_rng(i).standard_normal((2, 3, 32, 32)).astype("f4")
        optimizer.zero_grad()
        F.cross_entropy(net(torch.tensor(images)), torch.tensor([i, 1])).backward()
        optimizer.step()


def test_sgd_of_others(tmp_path, command, unverified):  # noqa: F811
    net = make(KuangliuResNet18)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    steps(net, optimizer, 2)
    weights = {f"module.{k}": v for k, v in net.state_dict().items()}
    content = {"net": weights, "acc": 93.02, "epoch": 7, "optimizer": optimizer.state_dict()}
    torch.save(content, tmp_path / "ckpt.pth")
    recipe = ("--config", CONFIGS / "resnet18.py", "--config.model.num_channels=8")
    args = (PORT, tmp_path / "ckpt.pth", tmp_path / "run", "--with-optimizer")
    for rest, message in (((), "--config"), (recipe, "give --step")):
        done = command(*args, *rest)
        assert done.code == 2
        assert message in done.err
    wrong = command(*args, *recipe, "--step", 2, "--config.optim.name=adam")
    assert "SGD's" in wrong.err
    done = command(*args, *recipe, "--step", 2)
    assert done.code == 0, done.err
    run = read(tmp_path / "run").run
    assert run.step == 2
    assert run.rest["acc"] == 93.02
    states = optimizer.state_dict()["state"]
    for i, (name, _) in enumerate(net.named_parameters()):
        want = states[i]["momentum_buffer"].numpy()
        np.testing.assert_array_equal(run.optimizer.moments["momentum_buffer"][name], want)
    optimizer = torch.optim.RMSprop(net.parameters())
    steps(net, optimizer, 1)
    torch.save({**content, "optimizer": optimizer.state_dict()}, tmp_path / "ckpt.pth")
    other = command(*args[:2], tmp_path / "other", *args[3:], *recipe)
    assert (other.code, other.err.count("\n")) == (2, 1)
    assert "keeps 'square_avg'" in other.err
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("parameters", ["parameters", "named_parameters"])
def test_adamw_of_others_with_linear_excitation(tmp_path, command, parameters, unverified):  # noqa: F811
    net = make(stem)
    optimizer = torch.optim.AdamW(getattr(net, parameters)(), lr=0.01)
    steps(net, optimizer, 3)
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt")
    done = command(
        *(PORT, tmp_path / "a.pt", tmp_path / "run", "--with-optimizer"),
        *("--config", CONFIGS / "quickstart.py", "--config.model.num_channels=32"),
        *("--config.model.num_blocks=1,", "--config.optim.name=adamw"),
        "--config.optim.lookahead.enabled=False",
    )
    assert done.code == 0, done.err
    assert "adapted: 2 squeeze" in done.out
    run = read(tmp_path / "run").run
    assert run.step == 3
    renamed = {"se.fc.0": "seblock.conv1", "se.fc.2": "seblock.conv2"}
    states = optimizer.state_dict()["state"]
    for i, (name, p) in enumerate(net.named_parameters()):
        layer, _, leaf = name.rpartition(".")
        name = f"{renamed.get(layer, layer)}.{leaf}"
        for kind in ("exp_avg", "exp_avg_sq"):
            got = run.optimizer.moments[kind][name]
            assert got.shape == run.weights[name].shape
            np.testing.assert_array_equal(got.reshape(p.shape), states[i][kind].numpy())
