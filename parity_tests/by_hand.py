"""The documents' networks, once more: each forward pass written out with torch.nn.functional.

Plain functions of a state_dict, so that the order of the layers stands in one place and owes
nothing to the modules of either framework.  `drop` is what stands where the documents put dropout.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

Layer = Callable[[Tensor], Tensor]


class Net:
    """A state_dict in training mode (batch statistics) or in evaluation mode."""

    def __init__(self, tensors: Mapping[str, Tensor], train: bool, drop: Layer):
        self.tensors, self.train, self.drop = tensors, train, drop

    def conv(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias")
        return F.conv2d(x, weight, bias, stride, padding=weight.shape[-1] // 2)

    def bn(self, name: str, x: Tensor) -> Tensor:
        mean, var, weight, bias = (
            self.tensors[f"{name}.{leaf}"][None, :, None, None]
            for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        if self.train:
            mean = x.mean((0, 2, 3), keepdim=True)
            var = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def linear(self, name: str, x: Tensor) -> Tensor:
        y = x @ self.tensors[f"{name}.weight"].T
        return y + self.tensors[f"{name}.bias"] if f"{name}.bias" in self.tensors else y

    def count(self, pattern: str) -> int:
        """How many numbers `pattern` has names for."""
        n = 0
        while any(name.startswith(pattern.format(n)) for name in self.tensors):
            n += 1
        return n

    def conv_bn_relu(self, name: str, x: Tensor, first: int = 0) -> Tensor:
        """Layers `first` to `first` + 2 of a Sequential."""
        x = self.conv(f"{name}.{first}", x)
        return F.relu(self.bn(f"{name}.{first + 1}", x))

    def shortcut(self, name: str, x: Tensor, stride: int) -> Tensor:
        if f"{name}.0.weight" not in self.tensors:
            return x
        return self.bn(f"{name}.1", self.conv(f"{name}.0", x, stride))


def mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2, 2)


def mish(x: Tensor) -> Tensor:
    return x * torch.tanh(torch.log(1 + torch.exp(x)))


def se_resnet(net: Net, x: Tensor) -> Tensor:
    """S2 and S3 "Basic"; an excitation stands wherever the state_dict has one."""

    def excite(name: str, x: Tensor) -> Tensor:
        if f"{name}.conv1.weight" not in net.tensors:
            return x
        s = F.relu(net.conv(f"{name}.conv1", x.mean((2, 3), keepdim=True)))
        return x * torch.sigmoid(net.conv(f"{name}.conv2", s))

    x = excite("seblock", F.relu(net.bn("bn1", net.conv("conv1", x))))
    for stage in range(net.count("residual_layers.{}.")):
        for block in range(net.count(f"residual_layers.{stage}.{{}}.")):
            name = f"residual_layers.{stage}.{block}"
            stride = 2 if stage > 0 and block == 0 else 1
            y = F.relu(net.bn(f"{name}.bn1", net.conv(f"{name}.conv1", x, stride)))
            y = net.bn(f"{name}.bn2", net.conv(f"{name}.conv2", y))
            y = excite(f"{name}.seblock", y) + net.shortcut(f"{name}.shortcut", x, stride)
            x = net.drop(F.relu(y))
    return net.linear("linear", net.drop(mean(x)))


def mish_se_resnet18(net: Net, x: Tensor) -> Tensor:
    """S1."""
    x = mish(net.bn("bn1", net.conv("conv1", x)))
    for stage in (1, 2, 3, 4):
        for block in range(net.count(f"layer{stage}.{{}}.")):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = mish(net.bn(f"{name}.bn1", net.conv(f"{name}.conv1", x, stride)))
            y = net.bn(f"{name}.bn2", net.conv(f"{name}.conv2", y))
            s = mish(net.conv(f"{name}.se.se.1", y.mean((2, 3), keepdim=True)))
            y = y * torch.sigmoid(net.conv(f"{name}.se.se.3", s))
            x = mish(y + net.shortcut(f"{name}.shortcut", x, stride))
    return net.linear("fc", net.drop(mean(x)))


def dense_se_resnet(net: Net, x: Tensor) -> Tensor:
    """S3 "Dense"."""
    x = F.relu(net.bn("bn1", net.conv("conv1", x)))
    for stage in (1, 2, 3):
        for block in range(net.count(f"layer{stage}.{{}}.")):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = F.relu(net.bn(f"{name}.bn1", net.conv(f"{name}.conv1", x, stride)))
            y = net.bn(f"{name}.bn2", net.conv(f"{name}.conv2", y))
            s = net.linear(f"{name}.se.fc.2", F.relu(net.linear(f"{name}.se.fc.0", mean(y))))
            y = y * torch.sigmoid(s)[:, :, None, None]
            x = net.drop(F.relu(y + net.shortcut(f"{name}.downsample", x, stride)))
    return net.linear("fc", net.drop(mean(x)))


def resnet18(net: Net, x: Tensor) -> Tensor:
    """kuangliu/pytorch-cifar."""
    x = F.relu(net.bn("bn1", net.conv("conv1", x)))
    for stage in (1, 2, 3, 4):
        for block in range(net.count(f"layer{stage}.{{}}.")):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = F.relu(net.bn(f"{name}.bn1", net.conv(f"{name}.conv1", x, stride)))
            y = net.bn(f"{name}.bn2", net.conv(f"{name}.conv2", y))
            x = F.relu(y + net.shortcut(f"{name}.shortcut", x, stride))
    return net.linear("linear", net.drop(mean(x)))


def fire(net: Net, name: str, x: Tensor) -> Tensor:
    """S0's Fire module, without an addition."""
    s = net.conv_bn_relu(f"{name}.squeeze", x)
    wide = net.conv_bn_relu(f"{name}.expand1x1", s), net.conv_bn_relu(f"{name}.expand3x3", s)
    return torch.cat(wide, 1)


def classifier(net: Net, x: Tensor) -> Tensor:
    return net.linear("classifier.2", net.drop(x.flatten(1)))


def cifar100_v1(net: Net, x: Tensor) -> Tensor:
    x = net.conv_bn_relu("conv_block1", net.conv_bn_relu("conv_block1", x), 3)
    x = net.conv_bn_relu("conv_block2", pool(net.conv_bn_relu("conv_block2", x)), 4)
    x = pool(net.conv_bn_relu("conv_block3", net.conv_bn_relu("conv_block3", x), 3))
    return classifier(net, x)


def cifar100_v2(net: Net, x: Tensor) -> Tensor:
    x = pool(net.conv_bn_relu("conv1", x))
    x = fire(net, "fire3", fire(net, "fire2", x))
    x = fire(net, "fire5", pool(fire(net, "fire4.0", x)))
    return classifier(net, mean(pool(net.conv_bn_relu("conv6", x))))


def cifar100_v3(net: Net, x: Tensor, use_fire8: bool = False) -> Tensor:
    x = pool(net.conv_bn_relu("conv1", x))
    x = fire(net, "fire2", x) + x
    x = fire(net, "fire3", x) + net.conv("proj2to3", x)
    x = pool(fire(net, "fire4.0", x))
    x = fire(net, "fire5", x) + net.conv("proj4to5", x)
    x = pool(fire(net, "fire6.0", x))
    x = fire(net, "fire7", x) + net.conv("proj6to7", x)
    x = net.conv("proj8", x) + (fire(net, "fire8", x) if use_fire8 else 0)
    return classifier(net, mean(net.conv_bn_relu("conv8", x)))


def cifar100_v4(net: Net, x: Tensor) -> Tensor:
    def residual(name: str, x: Tensor) -> Tensor:
        y = net.conv(f"{name}.3", net.conv_bn_relu(name, x))
        return F.relu(net.bn(f"{name}.4", y) + x)

    x = pool(net.conv_bn_relu("conv1", net.conv_bn_relu("conv1", x), 3))
    x = residual("stage1.0.conv", x)
    x = pool(net.conv_bn_relu("conv2", net.conv_bn_relu("conv2", x), 3))
    x = residual("stage2.0.conv", x)
    x = pool(net.conv_bn_relu("conv3", net.conv_bn_relu("conv3", x), 3))
    return classifier(net, net.drop(x))


def cifar100_v5(net: Net, x: Tensor, residual: bool = True) -> Tensor:
    for stage in ("conv1", "conv2", "conv3"):
        x = net.conv_bn_relu(stage, x)
        y = fire(net, f"{stage}.3", x)
        if residual and stage != "conv3":
            y = y + x
        x = pool(net.drop(net.conv_bn_relu(stage, y, 4)))
    return classifier(net, mean(x))


FORWARD = {
    f.__name__: f
    for f in (
        se_resnet,
        mish_se_resnet18,
        dense_se_resnet,
        resnet18,
        cifar100_v1,
        cifar100_v2,
        cifar100_v3,
        cifar100_v4,
        cifar100_v5,
    )
}
