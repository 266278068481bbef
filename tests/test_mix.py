"""MixUp and CutMix: what is refused, several devices, and a run that resumes.  Numbers: parity."""

import pytest

from jaxnets.augment.options import read_mix
from jaxnets.config import default_config
from tests.runs import arguments, assert_same_run


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"batch_size": 1}, "config.augment.mix.name=cutmix: an image of a batch of 1 has no pair"),
        ({"augment.mix.alpha": 0.0}, "config.augment.mix.alpha=0.0: a number > 0"),
        ({"augment.mix.p": 1.5}, "config.augment.mix.p=1.5: a number in [0, 1]"),
        ({"augment.mix.name": "cutmx"}, "unknown config.augment.mix.name 'cutmx'; did you mean"),
    ],
    ids=str,
)
@pytest.mark.parametrize("trainer", ["jaxnets.train", "torch_ref.train"])
def test_the_trainers_refuse_it_in_one_line(trainer, keys, message, tmp_path, refused):
    keys = {"augment.mix.name": "cutmix"} | keys
    assert message in refused(trainer, *arguments(tmp_path / "x", **keys))
    assert not (tmp_path / "x").exists()


def test_nothing_is_mixed_by_default():
    assert read_mix(default_config().augment, 1) is None


def test_a_run_resumes_bit_for_bit(tmp_path, command):
    for name, minutes in (("cut", 1e-9), ("cut", 99), ("whole", 99)):
        keys = {"augment.mix.name": "either", "batch_size": 1437, "stop_after_minutes": minutes}
        assert command("jaxnets.train", *arguments(tmp_path / name, **keys)).code == 0
    assert_same_run(tmp_path / "cut", tmp_path / "whole")
