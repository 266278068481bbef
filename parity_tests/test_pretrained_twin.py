"""Weights by name in both frameworks: the same file, the same logits."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch

import jaxnets
import torch_ref
from jaxnets.errors import UserError
from jaxnets.pretrained import index
from tests.pretrained_fakes import MODEL, OPTIONS, images, publish


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the index and its files lie, instead of the project's."""
    monkeypatch.setattr(index, "folder", lambda: tmp_path)
    publish(tmp_path)
    return tmp_path


@pytest.mark.parametrize("given", [{"pretrained": "trees"}, {"pretrained": True, **OPTIONS}])
def test_the_same_logits(folder, given):
    ours = jaxnets.create_model(MODEL, param_dtype=jnp.float64, **given)
    twin = torch_ref.create_model(MODEL, **given).double().eval()
    ours.eval()
    batch = images() / 255.0
    with torch.no_grad():
        theirs = twin(torch.tensor(batch.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(ours(jnp.asarray(batch)), theirs, rtol=0, atol=1e-12)
    assert twin.dropout.p == OPTIONS["drop"]


def test_the_same_refusals(folder):
    for given in ({"pretrained": True}, {"pretrained": "trese"}, {"pretrained": "trees"}):
        said = []
        for framework in (jaxnets, torch_ref):
            with pytest.raises(UserError) as error:
                framework.create_model(MODEL, 10, **given)
            said.append(str(error.value))
        assert said[0] == said[1]
