"""Every network and its twin: the same names, and the same numbers forward and backward."""

import jax
import pytest
import torch
import torch_ref.models
from cases import FULL, OPTIONS, case_id
from helpers import check, make_pair

from jaxnets.errors import UserError
from jaxnets.models import create_model
from jaxnets.models.audit import audit
from jaxnets.port.names import from_state_dict, slots

cases = pytest.mark.parametrize(("name", "options"), FULL + OPTIONS, ids=case_id)


@cases
def test_float64(name, options):
    check(name, "float64", gradients=True, **options)


@cases
def test_float32(name, options):
    check(name, "float32", gradients=False, **options)


@cases
def test_names_sizes_and_macs(name, options):
    entries = []
    jax.eval_shape(
        lambda: entries.extend((s.name, s.shape) for s in slots(create_model(name, **options)))
    )
    with torch.device("meta"):
        twin = torch_ref.models.create_model(name, **options).eval()
        macs = []

        def count(module, _, out):
            per_value = module.weight[0].numel()
            macs.append(out.numel() * per_value)

        for module in twin.modules():
            if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
                module.register_forward_hook(count)
        twin(torch.zeros(1, 3, 32, 32))
    assert entries == [(k, tuple(v.shape)) for k, v in twin.state_dict().items()]
    figures = audit(name, **options)
    assert figures.parameters == sum(p.numel() for p in twin.parameters())
    assert figures.macs == sum(macs)


def test_disagreeing_copies_are_refused():
    options = {"depth": 2, "widths": (16, 16, 16)}
    pair = make_pair("dense_se_resnet", "float32", share="none", **options)
    model = create_model("dense_se_resnet", **options)
    with pytest.raises(UserError, match=r"layer3\.1\.conv1\.weight and layer3\.0\.conv2"):
        from_state_dict(model, {k: v.numpy() for k, v in pair.twin.state_dict().items()})
