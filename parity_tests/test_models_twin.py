"""Every network and its twin: the same names, and the same numbers forward and backward."""

import jax
import pytest
import torch
from cases import FULL, OPTIONS, case_id
from helpers import check

import torch_ref.models
from jaxnets.models import create_model
from jaxnets.models.audit import audit
from jaxnets.models.torch_names import slots

by_weight = pytest.mark.parametrize(
    ("name", "options"),
    # At full size with the slow tests: golden figures hold both sides of that size at once.
    [pytest.param(*case, marks=pytest.mark.slow) for case in FULL] + OPTIONS,
    ids=case_id,
)
cases = pytest.mark.parametrize(("name", "options"), FULL + OPTIONS, ids=case_id)


@by_weight
def test_float64(name, options):
    check(name, "float64", gradients=True, **options)


@cases
def test_float32(name, options):
    check(name, "float32", gradients=False, **options)


@cases
def test_names_sizes_and_macs(name, options):
    entries, macs = [], []
    jax.eval_shape(
        lambda: entries.extend((s.name, s.shape) for s in slots(create_model(name, **options)))
    )
    with torch.device("meta"):
        twin = torch_ref.models.create_model(name, **options).eval()
        for module in twin.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.register_forward_hook(
                    lambda module, _, out: macs.append(out.numel() * module.weight[0].numel())
                )
        twin(torch.zeros(1, 3, 32, 32))
    assert entries == [(k, tuple(v.shape)) for k, v in twin.state_dict().items()]
    figures = audit(name, **options)
    assert figures.parameters == sum(p.numel() for p in twin.parameters())
    assert figures.macs == sum(macs)
