"""While an epoch's steps run, nothing moves between host and devices but what is asked for.

On a CPU jax's transfer guard does not see copies from the device, which cost nothing there; on an
accelerator each waits for all steps before it.  So they are counted where a jax array becomes a
host's: it is asked for its `_value` or for `__dlpack__`, or numpy takes its buffer.
"""

import contextlib
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnets.train.stepper import Stepper
from tests.test_train import CONFIG

ARRAY = type(jax.device_put(0.0))
STEPS = 15  # an epoch, of 100 images each
CONVERSIONS = {
    "float": float,
    "int": int,
    "bool": bool,
    "format": "{:.3f}".format,
    "item": lambda x: x.item(),
    "tolist": lambda x: x.tolist(),
    "asarray": lambda x: np.asarray(x),
    "device_get": jax.device_get,
    "from_dlpack": np.from_dlpack,
    "array": lambda x: np.array(x),
    "ufunc": np.isfinite,
}


class Counted:
    """What moved to the host while `watching`: where, and how often by `Stepper.read`."""

    def __init__(self):
        self.watching, self.reading = False, False
        self.reads, self.places = 0, []

    def note(self) -> None:
        if self.watching and not self.reading:
            self.places.append("".join(traceback.format_stack(limit=6)[:-2]))


@pytest.fixture
def counted(monkeypatch) -> Counted:
    """Counts from `Stepper.replicate` to `Stepper.unreplicate`, an epoch of the real loop."""
    found = Counted()
    value, dlpack = ARRAY._value, ARRAY.__dlpack__
    put, take, read = Stepper.replicate, Stepper.unreplicate, Stepper.read
    guard = contextlib.ExitStack()

    def noted_value(self):
        found.note()
        return value.fget(self)

    def noted_dlpack(self, **kwargs):
        found.note()
        return dlpack(self, **kwargs)

    def noted_ufunc(self, ufunc, method, *inputs, **kwargs):
        found.note()
        inputs = [value.fget(x) if isinstance(x, ARRAY) else x for x in inputs]
        return getattr(ufunc, method)(*inputs, **kwargs)

    def noted(convert):
        def stand_in(x, *args, **kwargs):
            if isinstance(x, ARRAY):
                found.note()
            return convert(x, *args, **kwargs)

        return stand_in

    def begin(self, *args):
        given = put(self, *args)
        found.watching = True
        guard.enter_context(jax.transfer_guard_host_to_device("disallow"))
        return given

    def end(self, *args):
        found.watching = False
        guard.close()
        return take(self, *args)

    def allowed(self, *args):
        found.reading, found.reads = True, found.reads + found.watching
        try:
            return read(self, *args)
        finally:
            found.reading = False

    monkeypatch.setattr(ARRAY, "_value", property(noted_value))
    monkeypatch.setattr(ARRAY, "__dlpack__", noted_dlpack)
    monkeypatch.setattr(ARRAY, "__array_ufunc__", noted_ufunc, raising=False)
    for convert in (np.asarray, np.array):
        monkeypatch.setattr(np, convert.__name__, noted(convert))
    for name, stand_in in {"replicate": begin, "unreplicate": end, "read": allowed}.items():
        monkeypatch.setattr(Stepper, name, stand_in)
    with guard:
        yield found


def train(command, workdir, whole: bool) -> None:
    keys = ("batch_size=100", "num_epochs=1", f"epoch_in_one_call={whole}")
    flags = [f"--config.{key}" for key in keys]
    result = command("jaxnets.train", "--config", CONFIG, "--workdir", workdir, *flags)
    assert result.code == 0, result.err


@pytest.mark.parametrize("whole", [False, True])
def test_an_epoch_moves_nothing_but_its_sums(counted, command, tmp_path, whole):
    train(command, tmp_path / "x", whole)
    assert not counted.places, counted.places[0]
    assert counted.reads >= 1
    # At its end, and now and then for the bar; calls of many steps are as long as half a second.
    assert whole or counted.reads <= STEPS // 3


def test_a_loss_read_after_every_step_is_seen(counted, command, tmp_path, monkeypatch):
    step = Stepper.step

    def curious(self, *args):
        state, totals = step(self, *args)
        assert float(totals.loss) > 0
        return state, totals

    monkeypatch.setattr(Stepper, "step", curious)
    train(command, tmp_path / "x", whole=False)
    assert len(counted.places) == STEPS
    assert "curious" in counted.places[0]


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_every_way_to_the_host_is_seen(counted, conversion):
    array = jnp.ones(()) + 1
    counted.watching = True
    CONVERSIONS[conversion](array)
    counted.watching = False
    assert len(counted.places) >= 1


def test_the_guard_sees_what_goes_to_the_device():
    with (
        jax.transfer_guard_host_to_device("disallow"),
        pytest.raises(Exception, match=r"[Dd]isallowed"),
    ):
        jnp.zeros(3) + np.ones(3)
