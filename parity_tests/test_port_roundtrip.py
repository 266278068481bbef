"""Weights that go from PyTorch to JAX and back are, bit for bit, what they were."""

import itertools

import jax
import ml_dtypes
import numpy as np
import pytest
import torch
from cases import OPTIONS, case_id
from flax import nnx

import torch_ref.models
from jaxnets import create_model
from jaxnets.models.layers import Dropout
from jaxnets.models.trace import named_modules
from jaxnets.port import from_torch, load, save, to_state_dict, to_torch
from jaxnets.port.guess import Model
from jaxnets.port.weights import port
from torch_ref.start import read

# The quick case: the one of shared tensors.
TELLING = {("share", "all")}
FAST = {"xla_backend_optimization_level": 0}
DENSE = {"depth": 2, "widths": (16, 16, 32)}
DTYPES = {
    torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.float32: np.float32,
    torch.float64: np.float64,
}


def make_twin(name: str, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    twin = torch_ref.models.create_model(name, **options)
    for module in twin.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
            module.num_batches_tracked.random_(2**40)
    return twin


def assert_same_tensors(got, want, shared=True):
    """Names, their order, dtypes, bits, and, if `shared`, which names are one tensor."""
    assert list(got) == list(want)
    for name, value in want.items():
        assert got[name].dtype == value.dtype, name
        assert got[name].shape == value.shape, name
        assert torch.equal(got[name], value), name
    assert not shared or aliases(got) == aliases(want)


def aliases(state_dict):
    first = {}
    return [first.setdefault(t.data_ptr(), name) for name, t in state_dict.items()]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_through_every_format(tmp_path, dtype):
    twin = make_twin("dense_se_resnet", share="all", **DENSE).to(dtype)
    want = twin.state_dict()
    assert len(set(aliases(want))) < len(want)
    torch.save({"net": {f"module.{k}": v for k, v in want.items()}, "epoch": 3}, tmp_path / "a.pt")
    names = ["a.pt", "folder", "b.safetensors", "b.pth", "c.pt"]
    whole = dtype == torch.float32
    model = Model("dense_se_resnet", 10, {**DENSE, "share": "all"})
    for src, dst in itertools.pairwise(names):
        if whole and dst in ("folder", "b.safetensors", "b.pth"):
            done = port(tmp_path / src, tmp_path / dst)
            assert done.model == model
            assert done.differences.float64 < 1e-10
            assert 0 < done.differences.float32 < 1e-3
        else:
            save(tmp_path / dst, load(tmp_path / src), model=model)
    weights = load(tmp_path / "folder")
    assert weights["layer1.0.conv1.weight"].dtype == DTYPES[dtype]
    assert weights["bn1.num_batches_tracked"].dtype == np.int64
    # A port knows the model, and with it the order of names and which are one tensor.
    if whole:
        assert_same_tensors(torch.load(tmp_path / "b.pth"), want)
    got = torch.load(tmp_path / "c.pt")
    assert_same_tensors({name: got[name] for name in want}, want, shared=whole)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_twin_reads_kernels_that_are_stored_once(tmp_path, dtype):
    want = make_twin("dense_se_resnet", share="all", **DENSE).to(dtype).state_dict()
    torch.save(want, tmp_path / "a.pt")
    save(tmp_path / "b.safetensors", load(tmp_path / "a.pt"))
    size = sum({t.data_ptr(): t.nbytes for t in want.values()}.values())
    assert (tmp_path / "b.safetensors").stat().st_size < size + 20_000
    got = read(tmp_path / "b.safetensors")
    assert_same_tensors({name: got[name] for name in want}, want)
    assert got.keys() == want.keys()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        pytest.param(*case, id=f"{case[0]}-{case_id(case[1])}", marks=marks)
        for case in OPTIONS
        for marks in [() if any(item in TELLING for item in case[1].items()) else pytest.mark.slow]
    ],
)
def test_modules_there_and_back(name, options):
    """The twin of a model computes the same; the model of that twin is the first one again."""
    model = create_model(name, param_dtype=np.float64, rngs=nnx.Rngs(3), **options)
    model.eval()
    twin = to_torch(model)
    assert not twin.training
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3))
    with torch.no_grad():
        theirs = twin(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    ours = np.asarray(jax.jit(lambda x: model(x), compiler_options=FAST)(images))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * max(1, abs(theirs).max()))

    back = from_torch(torch.nn.DataParallel(twin).module)
    want, got = to_state_dict(model), to_state_dict(back)
    assert list(got) == list(want)
    for key, value in want.items():
        np.testing.assert_array_equal(got[key], value, strict=True)
    assert rates(back) == rates(model)
    assert len(nnx.to_flat_state(nnx.state(back))) == len(nnx.to_flat_state(nnx.state(model)))
    assert aliases(to_torch(back).state_dict()) == aliases(twin.state_dict())


def test_what_is_written_to_one_does_not_reach_the_other():
    """torch trains in place; jax may keep the memory of an array that it is given."""
    options = {"num_blocks": (1,), "num_channels": 32, "se": "none"}
    twin = make_twin("se_resnet", **options)
    model = from_torch(twin)
    before = {name: value.clone() for name, value in to_torch(model).state_dict().items()}
    for value in to_state_dict(model).values():
        value[...] = 7
    for other in (twin, to_torch(model)):
        with torch.no_grad():
            for value in other.state_dict().values():
                value.fill_(7)
    assert_same_tensors(to_torch(model).state_dict(), before)


def rates(model):
    return {name: m.rate for name, m in named_modules(model) if isinstance(m, Dropout)}


@pytest.mark.slow
def test_modules_keep_dtypes():
    dtype = torch.bfloat16
    twin = make_twin("se_resnet", num_blocks=(1,), num_channels=16).to(dtype)
    want = twin.state_dict()
    model = from_torch(twin)
    assert model.conv1.kernel[...].dtype == DTYPES[dtype]
    got = to_torch(model).state_dict()
    for name, value in want.items():
        if "num_batches" not in name:  # 32 bits in JAX
            assert torch.equal(got[name].to(value.dtype), value), name
    assert got["conv1.weight"].dtype == dtype
