"""Every network: its size, its first weights, its dtypes, its options."""

from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnets.errors import UserError
from jaxnets.models import create_model, list_models, model_options
from jaxnets.models.audit import audit
from jaxnets.models.functional import flat, split, update
from jaxnets.models.layers import BatchNorm, Conv, Dropout, Linear
from jaxnets.models.torch_names import from_state_dict, slots, to_state_dict
from jaxnets.models.trace import named_modules, record_calls

# The documents' own figures are in test_audit.py; these are the options'.
# Name, options, unique parameters, entries of the state_dict.
SIZES = [
    ("se_resnet", {"se": "block"}, 4_733_610, 196),
    ("se_resnet", {"se": "none"}, 4_697_162, 152),
    ("mish_se_resnet18", {"se": False}, 4_570_934 - 35_340, 122),
    ("mish_se_resnet18", {"activation": "relu"}, 4_570_934, 154),
    ("dense_se_resnet", {"share": "none"}, 9_014_618, 278),
    ("dense_se_resnet", {"share": "second_third"}, 1_641_818, 278),
    ("dense_se_resnet", {"share": "all"}, 1_273_178, 278),
    ("cifar100_v3", {"use_fire8": True}, 2_847_476, 171),
    ("cifar100_v5", {"residual": False}, 3_657_440, 107),
    ("resnet18", {}, 11_173_962, 122),
    ("resnet18", {"num_classes": 100}, 11_220_132, 122),
]

NARROW = {
    "se_resnet": {"num_channels": 16, "num_blocks": (1, 1, 1), "drop": 0.1},
    "mish_se_resnet18": {"widths": (16, 16, 32, 32)},
    "dense_se_resnet": {"depth": 2, "widths": (16, 16, 32), "drop": 0.1},
    "cifar100_v1": {"width": 1 / 16},
    "cifar100_v2": {"width": 1 / 8},
    "cifar100_v3": {"width": 1 / 8},
    "cifar100_v4": {"width": 1 / 8},
    "cifar100_v5": {"width": 1 / 4},
    "resnet18": {"num_channels": 8, "num_blocks": (1, 1, 1, 1), "drop": 0.1},
}

IMAGES = jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32)

every_model = pytest.mark.parametrize("name", list_models())


def dtypes(values):
    return {str(v.dtype) for v in values}


def blank(name, **options):
    """A model of zeros: no weight is drawn."""
    model = nnx.eval_shape(lambda: create_model(name, **options))
    abstract = nnx.state(model, (nnx.Param, nnx.BatchStat))
    nnx.update(model, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), abstract))
    return model


def test_every_model_is_covered():
    assert list(NARROW) == list_models()


@pytest.mark.parametrize(("name", "options", "parameters", "entries"), SIZES)
def test_sizes_with_options(name, options, parameters, entries):
    result = audit(name, **options)
    assert (result.parameters, result.entries) == (parameters, entries)


def test_fire8_counts_and_computes_only_when_used():
    fire8 = [layer for layer in audit("cifar100_v3").layers if layer.name.startswith("fire8.")]
    assert sum(layer.parameters for layer in fire8) == 91_744
    assert sum(layer.macs for layer in fire8) == 0
    # 4x4 pixels; squeeze 256 -> 32, expand 32 -> 256 by 1x1 and by 3x3.
    used = audit("cifar100_v3", use_fire8=True).macs - audit("cifar100_v3").macs
    assert used == 16 * (256 * 32 + 32 * 256 + 9 * 32 * 256)


# The other CIFAR-100 networks are made of the same parts.
@pytest.mark.parametrize(
    "name", sorted(set(NARROW) - {"cifar100_v1", "cifar100_v3", "cifar100_v5"})
)
def test_first_weights_are_pytorchs(name):
    def draw():
        model = create_model(name, rngs=nnx.Rngs(3), **NARROW[name])
        found = [m for _, m in named_modules(model) if isinstance(m, nnx.Conv | nnx.Linear)]
        return [(m.kernel[...], m.bias[...] if m.use_bias else None) for m in found]

    quick = {"xla_backend_optimization_level": 0}
    for kernel, bias in jax.jit(draw, compiler_options=quick)():
        fan_in = kernel[..., 0].size
        drawn = np.asarray(kernel).ravel() * np.sqrt(fan_in)
        # Uniform in +-1/sqrt(fan_in); Dense SE-ResNet's convolutions normal, of variance 2/fan_in.
        # The deviation of a sample deviation is std sqrt(kurtosis - 1) / sqrt(4 n).
        if name == "dense_se_resnet" and kernel.ndim == 4:
            std, deviation = np.sqrt(2), 0.71
            assert np.abs(drawn).max() > 1
        else:
            std, deviation = np.sqrt(1 / 3), 0.45
            assert np.abs(drawn).max() <= 1
        n = np.sqrt(drawn.size)
        assert abs(drawn.mean()) < 5 * std / n
        assert abs(drawn.std() - std) < 5 * std * deviation / n
        if bias is not None:
            drawn = np.asarray(bias) * np.sqrt(fan_in)
            assert np.abs(drawn).max() <= 1
            assert drawn.size < 8 or drawn.std() > 0.2


@every_model
@pytest.mark.parametrize("num_classes", [None, 7])
def test_logits(name, num_classes):
    def run(images):
        return create_model(name, num_classes, **NARROW[name])(images)

    logits = jax.eval_shape(run, IMAGES)
    assert logits.shape == (2, num_classes or (100 if name.startswith("cifar100") else 10))
    assert logits.dtype == jnp.float32


@every_model
@pytest.mark.parametrize("train", [True, False])
def test_bfloat16(name, train):
    """All is computed in bfloat16 but the logits; parameters and statistics stay float32."""
    inner = []

    def run(images):
        model = create_model(name, dtype=jnp.bfloat16, **NARROW[name])
        model.train() if train else model.eval()
        calls = record_calls(model, images, keep=True)
        inner.extend(c.value for c in calls if type(c.module) in (Conv, Linear, BatchNorm))
        return model(images), flat(model, nnx.Param), flat(model, nnx.BatchStat)

    logits, params, stats = jax.eval_shape(run, IMAGES)
    assert dtypes(inner) == {"bfloat16"}
    assert dtypes([logits]) == {"float32"}
    assert dtypes(params.values()) == {"float32"}
    assert dtypes(stats.values()) == {"float32", "int32"}


@every_model
def test_float64(name):
    def run(images):
        model = create_model(name, param_dtype=jnp.float64, **NARROW[name])
        return model(images), flat(model, nnx.Param), flat(model, nnx.BatchStat)

    with jax.enable_x64(True):
        images = jax.ShapeDtypeStruct(IMAGES.shape, jnp.float64)
        logits, params, stats = jax.eval_shape(run, images)
    assert dtypes([logits]) == {"float64"}
    assert dtypes(params.values()) == {"float64"}
    assert dtypes(stats.values()) == {"float64", "int32"}


@every_model
@pytest.mark.parametrize("drop", [0.0, 0.25])
def test_dropout_only_in_training(name, drop):
    options = {k: drop for k in ("drop", "conv_drop") if k in model_options(name)}

    def count_masks(train):
        def run(images):
            model = create_model(name, **NARROW[name] | options)
            model.train() if train else model.eval()
            layers.extend(m for _, m in named_modules(model) if isinstance(m, Dropout))
            return model(images)

        layers = []
        with mock.patch.object(Dropout, "mask", autospec=True, side_effect=Dropout.mask) as mask:
            jax.eval_shape(run, IMAGES)
        return mask.call_count, len(layers)

    drawn, layers = count_masks(train=True)
    assert drawn == (layers if drop else 0)
    assert layers > 0
    assert count_masks(train=False)[0] == 0


def test_a_shared_kernel_is_one_variable_under_eleven_names():
    model = blank("dense_se_resnet", widths=(16, 16, 16))
    layer3 = [s for s in slots(model) if s.name.startswith("layer3.") and ".conv" in s.name]
    shared = [s for s in layer3 if s.name != "layer3.0.conv1.weight"]
    assert len(shared) == 11
    assert {s.path for s in shared} == {"layer3.0.conv2.kernel"}
    assert len({id(s.variable) for s in shared}) == 1

    _, params, _ = split(model)
    assert [k for k in params if k.startswith("layer3.") and ".conv" in k] == [
        "layer3.0.conv1.kernel",
        "layer3.0.conv2.kernel",
    ]
    update(model, {"layer3.0.conv2.kernel": jnp.ones((3, 3, 16, 16))})
    assert all(np.all(to_state_dict(model)[s.name] == 1) for s in shared)


def random_state_dict(model):
    rng = np.random.default_rng(0)
    values = {s.path: rng.standard_normal(s.shape).astype(np.float32) for s in slots(model)}
    return {
        s.name: rng.integers(9, size=()) if s.name.endswith("_tracked") else values[s.path]
        for s in slots(model)
    }


@every_model
def test_state_dict_round_trip(name):
    model = blank(name, **NARROW[name])
    given = random_state_dict(model)
    from_state_dict(model, given)
    kept = to_state_dict(model)
    assert kept.keys() == given.keys()
    for key, value in given.items():
        np.testing.assert_array_equal(kept[key], value, err_msg=key)


def test_copies_that_differ_are_refused():
    model = blank("dense_se_resnet", **NARROW["dense_se_resnet"])
    given = random_state_dict(model)
    given["layer3.1.conv1.weight"] = given["layer3.1.conv1.weight"] + 1
    with pytest.raises(UserError, match=r"layer3\.1\.conv1\.weight and layer3\.0\.conv2\.weight"):
        from_state_dict(model, given)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "mish_se_resnet18",
            {"activation": "gelu"},
            "unknown activation 'gelu'; did you mean 'relu'?",
        ),
        ("mish_se_resnet18", {"se": "stem"}, "se='stem': True or False"),
        (
            "mish_se_resnet18",
            {"widths": (8, 16, 16, 16)},
            "widths=(8, 16, 16, 16): 4 whole numbers",
        ),
        ("mish_se_resnet18", {"widths": (16, 16)}, "widths=(16, 16): 4 whole numbers"),
        ("mish_se_resnet18", {"num_blocks": (2, 2, 2, 0)}, "each at least 1"),
        ("mish_se_resnet18", {"num_blocks": 2}, "num_blocks=2: the blocks of each of one to six"),
        ("mish_se_resnet18", {"num_blocks": (1,) * 7}, "the blocks of each of one to six stages"),
        ("mish_se_resnet18", {"se_reduction": 33}, "each at least 33"),
        ("se_resnet", {"num_channels": 12, "num_blocks": (1,)}, "num_channels=12: a whole number"),
        ("se_resnet", {"se_reduction": 0}, "se_reduction=0: a whole number, at least 1"),
        ("cifar100_v5", {"cell": "fire+pool"}, "cell='fire+pool': blocks joined with +"),
        ("cifar100_v5", {"cell": ""}, "cell='': blocks joined with +"),
        ("mish_se_resnet18", {"drop": 1.0}, "drop=1.0: a number in [0, 1)"),
        ("dense_se_resnet", {"share": "first"}, "Known: all, none, second_third, third"),
        ("dense_se_resnet", {"depth": 0}, "depth=0: a whole number, at least 1"),
        ("se_resnet", {"num_channels": 10**11}, "at least 16, at most 65536"),
        ("se_resnet", {"num_blocks": (2, 10**11)}, "each at least 1, at most 1000"),
        ("cifar100_v3", {"width": 1e308}, "width=1e+308: a positive factor"),
        ("dense_se_resnet", {"depth": 2.5}, "depth=2.5: a whole number, at least 1"),
        ("dense_se_resnet", {"widths": (16, 16, 8)}, "each at least 16"),
        ("dense_se_resnet", {"drop": -0.1}, "drop=-0.1"),
        ("cifar100_v1", {"width": 0.3}, "width=0.3: a positive factor"),
        ("cifar100_v1", {"width": 0}, "width=0: a positive factor"),
        ("cifar100_v2", {"width": "half"}, "width='half': a positive factor"),
        ("cifar100_v2", {"drop": "much"}, "drop='much': a number in [0, 1)"),
        ("cifar100_v3", {"use_fire8": 1}, "use_fire8=1: True or False"),
        ("cifar100_v4", {"conv_drop": 1}, "conv_drop=1: a number in [0, 1)"),
        ("cifar100_v5", {"residual": None}, "residual=None: True or False"),
        ("cifar100_v5", {"use_fire8": True}, "unknown option of cifar100_v5 'use_fire8'"),
        ("resnet18", {"num_channels": 0}, "num_channels=0: a whole number, at least 1"),
        ("resnet18", {"num_blocks": (1, 1)}, "num_blocks=(1, 1): 4 whole numbers"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(UserError) as error:
        create_model(name, **options)
    assert message in str(error.value)
