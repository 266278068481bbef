"""Averages of the weights: when they take them, and what is refused."""

import pytest

from jaxnets import config as configs
from jaxnets.config.averaging import Averaging
from jaxnets.errors import UserError
from jaxnets.optim import evaluated


def test_swa_takes_the_ends_of_some_epochs():
    plan = Averaging(steps_per_epoch=3, from_epoch=2, every=2)
    assert [step for step in range(1, 25) if plan.is_due("swa", step)] == [6, 12, 18, 24]
    each = Averaging(steps_per_epoch=3, from_epoch=2)
    assert [step for step in range(1, 13) if each.is_due("swa", step)] == [6, 9, 12]
    assert [plan.share("swa", n) for n in (1, 3)] == [1 / 2, 1 / 4]
    assert plan.kinds == ("swa",)


def test_the_exponential_one_warms_up():
    warm, cold = Averaging(3, decay=0.5), Averaging(3, decay=0.5, warmup=False)
    assert [round(1 - warm.share("ema", n), 3) for n in (1, 4, 8, 99)] == [0.182, 0.357, 0.5, 0.5]
    assert 1 - cold.share("ema", 1) == 0.5
    assert all(warm.is_due("ema", step) for step in (1, 2, 3))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["optim.ema.decay=1."], "config.optim.ema.decay=1.0: a number in (0, 1)"),
        (["optim.ema.decay=0."], "config.optim.ema.decay=0.0: a number in (0, 1)"),
        (["optim.swa.from_epoch=0"], "config.optim.swa.from_epoch=0: a whole number, at least 1"),
        (["optim.swa.from_epoch=11"], "config.optim.swa.from_epoch=11: a whole number, at least 1"),
        (["optim.swa.every=0"], "config.optim.swa.every=0: a whole number, at least 1"),
        (["optim.average_statistics=recomputed"], "did you mean 'recompute'?"),
        (["eval_weights=ema"], "config.eval_weights='ema': only with an average to evaluate, e.g."),
        (["eval_weights=swa", "optim.ema.decay=.9"], "e.g. config.optim.swa.from_epoch=1"),
        (["eval_weights=best"], "unknown config.eval_weights 'best'"),
    ],
)
def test_what_cannot_be_is_refused(keys, said):
    with pytest.raises(UserError) as refusal:
        configs.read("quickstart", [f"--config.{key}" for key in keys])
    assert said in str(refusal.value)


def test_no_average_where_none_is_kept():
    with pytest.raises(UserError, match="there is no average 'ema' of the weights"):
        evaluated("ema", {}, {}, {"slow": {}})
