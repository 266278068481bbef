"""Mistakes made in both frameworks alike, or in what they share, and the tests that notice them."""

from typing import NamedTuple


class Edit(NamedTuple):
    """A text that occurs once in a file, and the mistake in its place."""

    file: str
    old: str
    new: str


class Mutant(NamedTuple):
    """One mistake; `killers` are tests of which at least one must fail."""

    name: str
    killers: tuple[str, ...]
    edits: tuple[Edit, ...]


HAND = "test_models_by_hand.py::test_logits"
OPTIMIZERS = "test_golden_optimizers.py"
POLICIES = "test_golden_auto_augment.py"
WRITTEN = "test_written_out.py"
AUTHORS = "test_recipes_by_authors.py"


def mutant(name: str, killers: str, *edits: tuple[str, str, str]) -> Mutant:
    """`killers`: test ids within parity_tests, separated by blanks; edits: (file, old, new)."""
    return Mutant(name, tuple(killers.split(" ")), tuple(Edit(*edit) for edit in edits))


def both(file: str, old: str, new: str) -> tuple[tuple[str, str, str], ...]:
    """The same edit of a network and its twin."""
    return tuple((f"{side}/models/{file}.py", old, new) for side in ("jaxnets", "torch_ref"))


def config(old: str, new: str) -> tuple[str, str, str]:
    return "jaxnets/config/keys.py", old, new


_BLOCK = "y = self.seblock(self.bn2(self.conv2(y)))"
_MISH = "y = self.se(self.bn2(self.conv2(y)))"
_JAX_SUM = "relu(y + self.shortcut(x))"
_POLICY = "jaxnets/augment/policies.py"

MUTANTS = [
    # The networks.
    mutant(
        "SE-ResNet: ReLU before bn1",
        f"{HAND}[se_resnet-4-(1,1)-none]",
        ("jaxnets/models/se_resnet.py", "y = relu(self.bn1(self.conv1(x)))",
         "y = self.bn1(relu(self.conv1(x)))"),
        ("torch_ref/models/se_resnet.py", "y = F.relu(self.bn1(self.conv1(x)))",
         "y = self.bn1(F.relu(self.conv1(x)))"),
    ),
    mutant(
        "SE-ResNet: excitation after the addition",
        f"{HAND}[se_resnet-16-(1,2)-block]",
        *both("se_resnet", _BLOCK, "y = self.bn2(self.conv2(y))"),
        ("jaxnets/models/se_resnet.py", f"self.dropout({_JAX_SUM})",
         "self.dropout(relu(self.seblock(y + self.shortcut(x))))"),
        ("torch_ref/models/se_resnet.py", "self.dropout(F.relu(y + self.shortcut(x)))",
         "self.dropout(F.relu(self.seblock(y + self.shortcut(x))))"),
    ),
    mutant(
        "SE-ResNet: dropout before the addition",
        f"{HAND}[se_resnet-4-(1,1)-none]",
        ("jaxnets/models/se_resnet.py", f"self.dropout({_JAX_SUM})",
         "relu(self.dropout(y) + self.shortcut(x))"),
        ("torch_ref/models/se_resnet.py", "self.dropout(F.relu(y + self.shortcut(x)))",
         "F.relu(self.dropout(y) + self.shortcut(x))"),
    ),
    mutant(
        "SE-ResNet: bn1 and bn2 swapped",
        f"{HAND}[se_resnet-4-(1,1)-none]",
        ("jaxnets/models/se_resnet.py", "y = relu(self.bn1(self.conv1(x)))",
         "y = relu(self.bn2(self.conv1(x)))"),
        ("torch_ref/models/se_resnet.py", "y = F.relu(self.bn1(self.conv1(x)))",
         "y = F.relu(self.bn2(self.conv1(x)))"),
        *both("se_resnet", _BLOCK, "y = self.seblock(self.bn1(self.conv2(y)))"),
    ),
    mutant(
        "Fire's residual forgotten",
        f"{HAND}[cifar100_v5-0.25]",
        *both("fire", "return y + x if self.residual else y", "return y"),
    ),
    mutant(
        "v4 without ReLU after the addition",
        f"{HAND}[cifar100_v4-0.03125]",
        ("jaxnets/models/fire.py", "return relu(self.conv(x) + x)",
         "return self.conv(x) + x"),
        ("torch_ref/models/fire.py", "return F.relu(self.conv(x) + x)", "return self.conv(x) + x"),
    ),
    mutant(
        "pooling over 3x3",
        f"{HAND}[cifar100_v1-0.015625]",
        ("jaxnets/models/layers.py", "return max_pool(x)",
         "return nnx.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))"),
        ("torch_ref/models/cifar100.py", "return nn.MaxPool2d(2, 2)",
         "return nn.MaxPool2d(3, 2, 1)"),
    ),
    mutant(
        "Dense: excitation before bn2",
        f"{HAND}[dense_se_resnet-2-(16,32,32)]",
        *both("dense_se_resnet", _MISH, "y = self.bn2(self.se(self.conv2(y)))"),
    ),
    mutant(
        "Mish: no activation after the addition",
        f"{HAND}[mish_se_resnet18-(16,16,32,32)-(1,2,1,1)]",
        *both("mish_se_resnet", "return self.act(y + self.shortcut(x))",
              "return y + self.shortcut(x)"),
    ),
    mutant(
        "v5: pooling before dropout",
        f"{HAND}[cifar100_v5-0.25]",
        ("jaxnets/models/cifar100.py", "Dropout(conv_drop, rngs=rngs), MaxPool()])",
         "MaxPool(), Dropout(conv_drop, rngs=rngs)])"),
        ("torch_ref/models/cifar100.py", "Dropout(conv_drop), _pool()])",
         "_pool(), Dropout(conv_drop)])"),
    ),
    mutant(
        "SE-ResNet: excitation of the stem before its ReLU",
        f"{HAND}[se_resnet-16-(2,1)]",
        ("jaxnets/models/se_resnet.py", "x = relu(self.bn1(self.conv1(x)))\n"
         "        x = self.seblock(x)", "x = relu(self.seblock(self.bn1(self.conv1(x))))"),
        ("torch_ref/models/se_resnet.py", "x = self.seblock(F.relu(self.bn1(self.conv1(x))))",
         "x = F.relu(self.seblock(self.bn1(self.conv1(x))))"),
    ),
    mutant(
        "Fire: expand3x3 comes first",
        f"{HAND}[cifar100_v2-0.0625]",
        ("jaxnets/models/fire.py", "[self.expand1x1(s), self.expand3x3(s)]",
         "[self.expand3x3(s), self.expand1x1(s)]"),
        ("torch_ref/models/fire.py", "[self.expand1x1(s), self.expand3x3(s)]",
         "[self.expand3x3(s), self.expand1x1(s)]"),
    ),
    mutant(
        "channel-minor flatten",
        f"{HAND}[cifar100_v1-0.015625]",
        ("jaxnets/models/layers.py", "x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)",
         "x.reshape(x.shape[0], -1)"),
        ("torch_ref/models/fire.py", "nn.Sequential(nn.Flatten(),",
         "nn.Sequential(_ChannelMinor(),"),
        ("torch_ref/models/fire.py", "class FireModule(nn.Module):",
         "class _ChannelMinor(nn.Module):\n    def forward(self, x):\n"
         "        return x.permute(0, 2, 3, 1).flatten(1)\n\n\nclass FireModule(nn.Module):"),
    ),
    mutant(
        "v3: fire8 is added without its projection",
        f"{HAND}[cifar100_v3-0.125-True]",
        *both("cifar100", "self.fire8(x) + self.proj8(x) if self.use_fire8",
              "self.fire8(x) if self.use_fire8"),
    ),
    mutant(
        "dropout is not scaled",
        f"{WRITTEN}::test_what_dropout_keeps_is_scaled",
        ("jaxnets/models/layers.py", "        x = x / (1 - self.rate)\n",
         ""),
        ("torch_ref/models/layers.py", "torch.where(self.forced, x / (1 - self.p), 0)",
         "torch.where(self.forced, x, 0)"),
    ),
    mutant(
        "BatchNorm: epsilon 1e-3",
        f"{HAND}[se_resnet-4-(1,1)-none]",
        ("jaxnets/models/layers.py", "epsilon: float = 1e-5", "epsilon: float = 1e-3"),
        ("torch_ref/models/__init__.py", "model = twin(**options)",
         "model = twin(**options)\n"
         "    for module in model.modules():\n"
         "        if isinstance(module, torch.nn.BatchNorm2d):\n"
         "            module.eps = 1e-3"),
    ),
    mutant(
        "Dense: first weights uniform",
        f"{WRITTEN}::test_first_weights_of_the_twins[dense_se_resnet]",
        ("jaxnets/models/initial.py",
         "jax.random.normal, key,",
         "lambda *args: jax.random.uniform(*args, -1.0, 1.0) * 3**0.5, key,"),
        ("torch_ref/models/dense_se_resnet.py", "nn.init.kaiming_normal_(module.weight)",
         "nn.init.kaiming_uniform_(module.weight)"),
    ),
    # Optimizers and schedules.
    mutant(
        "Lookahead with 1 - alpha",
        f"{OPTIMIZERS}",
        ("jaxnets/optim/transforms.py", "moved = slow + alpha * (fast - slow)",
         "moved = slow + (1 - alpha) * (fast - slow)"),
        ("torch_ref/optim.py", "slow.add_(fast - slow, alpha=self.alpha)",
         "slow.add_(fast - slow, alpha=1 - self.alpha)"),
    ),
    mutant(
        "beta2 .99",
        f"{AUTHORS}::test_configuration[cifar100:v3]",
        config("o.beta1, o.beta2, o.eps = 0.9, 0.999, 1e-8",
               "o.beta1, o.beta2, o.eps = 0.9, 0.99, 1e-8"),
    ),
    mutant(
        "T_0 read as steps",
        f"{WRITTEN}::test_rates",
        ("jaxnets/optim/build.py", "steps_per_epoch) if by_epoch else schedule",
         'steps_per_epoch) if by_epoch and name != "warm_restarts" else schedule'),
        ("torch_ref/optim.py", "every=steps_per_epoch if by_epoch else 1",
         'every=steps_per_epoch if by_epoch and schedule_config.name != "warm_restarts" else 1'),
    ),
    mutant(
        "milestones read as steps",
        f"{WRITTEN}::test_rates",
        ("jaxnets/optim/build.py", "steps_per_epoch) if by_epoch else schedule",
         'steps_per_epoch) if by_epoch and name != "multistep" else schedule'),
        ("torch_ref/optim.py", "every=steps_per_epoch if by_epoch else 1",
         'every=steps_per_epoch if by_epoch and schedule_config.name != "multistep" else 1'),
    ),
    mutant(
        "the schedule not shortened by its warm-up",
        f"{WRITTEN}::test_rates",
        ("jaxnets/optim/build.py", "length = planned * unit - warm", "length = planned * unit"),
        ("torch_ref/optim.py", "num_epochs * unit - warm)", "num_epochs * unit)"),
    ),
    mutant(
        "label smoothing ignored",
        f"{AUTHORS}::test_thirty_steps[cifar100:v1]",
        ("jaxnets/train/task.py", "=config.loss.label_smoothing", "=0.0"),
        ("torch_ref/task.py", "label_smoothing=config.loss.label_smoothing", "label_smoothing=0.0"),
    ),
    mutant(
        "mish_se_resnet18: T_mult 1",
        f"{AUTHORS}::test_rates_over_the_whole_run[mish_se_resnet18:documented]",
        ("configs/mish_se_resnet18.py", '"warm_restarts", 10, 2', '"warm_restarts", 10, 1'),
    ),
    mutant(
        "one cycle: rises for half of the run",
        f"{AUTHORS}::test_rates_over_the_whole_run[cifar100:v1]",
        config("= 0.1, 0.3, 25.0, 1e4", "= 0.1, 0.5, 25.0, 1e4"),
    ),
    mutant(
        "coupled decay leaves biases and BatchNorm alone",
        f"{OPTIMIZERS}",
        ("jaxnets/optim/build.py", "import optax\n", "import jax\nimport optax\n"),
        ("jaxnets/optim/build.py", "optax.add_decayed_weights(decay)",
         "optax.add_decayed_weights(\n"
         "        decay, lambda params: jax.tree.map(lambda p: p.ndim > 1, params)\n    )"),
        ("torch_ref/optim.py", "        return torch.optim.SGD(\n            params,",
         "        params = list(params)\n        return torch.optim.SGD(\n"
         '            [{"params": [p for p in params if p.ndim > 1]},\n'
         '             {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0}],'),
    ),
    mutant(
        "Nesterov ignored",
        f"{OPTIMIZERS}",
        ("jaxnets/optim/transforms.py", "if nesterov:", "if False:"),
        ("torch_ref/optim.py", 'nesterov=_get(config, "nesterov", False)', "nesterov=False"),
    ),
    mutant(
        "clipping ignored",
        f"{OPTIMIZERS}",
        ("jaxnets/optim/build.py", "optax.chain(_clip(optim), coupled, core)",
         "optax.chain(optax.identity(), coupled, core)"),
        ("torch_ref/optim.py", 'if self.clip == "value":', 'if self.clip == "never":'),
    ),
    mutant(
        "clipping after the decay",
        f"{OPTIMIZERS}",
        ("jaxnets/optim/build.py", "optax.chain(_clip(optim), coupled, core)",
         "optax.chain(coupled, _clip(optim), core)"),
        ("torch_ref/optim.py", '        if self.clip == "value":',
         "        for group in self.optimizer.param_groups:\n"
         '            for p in group["params"]:\n'
         '                p.grad = p.grad + group["weight_decay"] * p.detach()\n'
         '            group["weight_decay"] = 0.0\n'
         '        if self.clip == "value":'),
    ),
    mutant(
        "one cycle leaves the momentum alone",
        f"{WRITTEN}::test_momentum_of_one_cycle {OPTIMIZERS}",
        ("jaxnets/optim/build.py", 'config.flag("cycle_momentum", True)', "False"),
        ("torch_ref/optim.py", 'cycle_momentum=_get(config, "cycle_momentum", True)',
         "cycle_momentum=False"),
    ),
    mutant(
        "one cycle is not made anew",
        f"{WRITTEN}::test_rates",
        ("jaxnets/optim/build.py", 'if config.flag("restart_every_epoch"):', "if False:"),
        ("torch_ref/optim.py", "restart=steps_per_epoch if restart else None", "restart=None"),
    ),
    mutant(
        "a cosine ends at 0 whatever end_lr says",
        f"{AUTHORS}::test_rates_over_the_whole_run[se_resnet:documented]",
        ("jaxnets/optim/build.py", 'end_lr = config.number("end_lr", f"[0, {base_lr}]", 0.0, '
         "allowed)", "end_lr = 0.0"),
        ("torch_ref/optim.py", 'name, end_lr = config.name, _get(config, "end_lr", 0.0)',
         "name, end_lr = config.name, 0.0"),
    ),
    # Data, augmentation, log.
    mutant(
        "the same order of images in every epoch",
        f"{WRITTEN}::test_order_of_the_images",
        ("jaxnets/data/batches.py", "(_ORDER_STREAM, seed, epoch)", "(_ORDER_STREAM, seed, 0)"),
    ),
    mutant(
        "the trainers shuffle once",
        f"{AUTHORS}::test_thirty_steps[cifar100:v1]",
        ("jaxnets/train/stepper.py", "epoch_order(self._task.seed, epoch, self._count)",
         "epoch_order(self._task.seed, 0, self._count)"),
        ("torch_ref/loop.py", "epoch_order(config.seed, epoch,", "epoch_order(config.seed, 0,"),
    ),
    mutant(
        "a smaller last batch is dropped",
        f"{WRITTEN}::test_a_smaller_last_batch_is_kept",
        ("jaxnets/data/batches.py", "return math.ceil(num_images / batch_size)",
         "return max(1, num_images // batch_size)"),
    ),
    mutant(
        "AutoAugment: a probability changed",
        POLICIES,
        (_POLICY, "rotate .7 2    | translate_x .3 9", "rotate .6 2    | translate_x .3 9"),
    ),
    mutant(
        "AutoAugment: a magnitude changed",
        POLICIES,
        (_POLICY, "shear_x .6 5   | equalize 1", "shear_x .6 6   | equalize 1"),
    ),
    mutant(
        "AutoAugment: an operation changed",
        POLICIES,
        (_POLICY, "solarize .5 2  | invert 0", "posterize .5 2 | invert 0"),
    ),
    mutant(
        "AutoAugment: posterize by i / 2",
        POLICIES,
        (_POLICY, "8 - np.round(np.arange(10) / 2.25)", "8 - np.round(np.arange(10) / 2)"),
    ),
    mutant(
        "AutoAugment: solarize from 0 up",
        POLICIES,
        (_POLICY, '"solarize": (255, 0)', '"solarize": (0, 255)'),
    ),
    mutant(
        "five boxes are tried",
        f"{WRITTEN}::test_ten_boxes_are_tried",
        ("jaxnets/augment/options.py", "ATTEMPTS = 10", "ATTEMPTS = 5"),
    ),
    mutant(
        "default of jitter",
        f"{AUTHORS}::test_configuration[se_resnet:documented]",
        config('{"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.1}',
               '{"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}'),
    ),
    mutant(
        "default of rotation",
        f"{AUTHORS}::test_configuration[dense_se_resnet:documented]",
        config('{"degrees": 10.0}', '{"degrees": 15.0}'),
    ),
    mutant(
        "default of random_resized_crop",
        f"{AUTHORS}::test_configuration[se_resnet:documented]",
        config('{"scale": (0.95, 1.0),', '{"scale": (0.8, 1.0),'),
    ),
    mutant(
        "CIFAR-10's mean in the order of BGR",
        f"{AUTHORS}::test_configuration[se_resnet_drop:documented]",
        config("(0.4914, 0.4822, 0.4465)", "(0.4465, 0.4822, 0.4914)"),
    ),
    mutant(
        "cifar100 normalised by CIFAR-10's constants",
        f"{AUTHORS}::test_configuration[cifar100:v2]",
        ("configs/cifar100.py", "    c.data.mean, c.data.std = (0.5071, 0.4867, 0.4408), "
         "(0.2675, 0.2565, 0.2761)\n", ""),
    ),
    mutant(
        "cifar100: dropout .5",
        f"{AUTHORS}::test_configuration[cifar100:v1]",
        ("configs/cifar100.py", "c.model.drop = 0.3", "c.model.drop = 0.5"),
    ),
    mutant(
        "default of the crop's padding",
        f"{AUTHORS}::test_configuration[se_resnet_fast:documented]",
        config('{"padding": 4}', '{"padding": 3}'),
    ),
    mutant(
        "default of Lookahead's k",
        f"{AUTHORS}::test_configuration[se_resnet:documented]",
        config('"k": 5, "alpha": 0.5', '"k": 6, "alpha": 0.5'),
    ),
    mutant(
        "train/loss divided by steps",
        f"{WRITTEN}::test_a_row_of_the_log",
        ("jaxnets/runs/log.py", "totals.loss / totals.images", "totals.loss / totals.steps"),
    ),
    mutant(
        "grad_norm divided by images",
        f"{WRITTEN}::test_a_row_of_the_log",
        ("jaxnets/runs/log.py", "totals.grad_norm / totals.steps",
         "totals.grad_norm / totals.images"),
    ),
    mutant(
        "pixels normalised by the variance",
        f"{WRITTEN}::test_normalized_pixels",
        ("jaxnets/augment/pipeline.py", "1 / (255 * np.asarray(std, np.float64))",
         "1 / (255 * np.asarray(std, np.float64) ** 2)"),
        ("torch_ref/augment.py", "1 / (255 * np.asarray(std, np.float64))",
         "1 / (255 * np.asarray(std, np.float64) ** 2)"),
    ),
]  # fmt: skip
