"""The real trainers take a run from each other again and again: it is the run that one made alone.

Every optimizer, without Lookahead and with both forms of its first sync, under every schedule in
turn.  Each is trained by jaxnets.train and by torch_ref.train alone, and by both in turns, begun by
either: stopped, ported, gone on with.
"""

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from flax import nnx
from helpers import few_digits, little_effort

import jaxnets.train.__main__
import jaxnets.train.task
import torch_ref.loop
import torch_ref.train
from jaxnets import config as configs
from jaxnets.port import to_torch
from jaxnets.port.guess import describe
from jaxnets.port.runs import convert, optimizer, write
from jaxnets.port.runs.convert import port_run
from jaxnets.port.runs.read import read
from jaxnets.port.verify import Differences
from jaxnets.runs.log import read_rows
from jaxnets.train import loop
from jaxnets.train.evaluator import Evaluator
from jaxnets.train.stepper import Stepper

CONFIG = str(Path(__file__).parents[1] / "tests" / "tiny_config.py")
STEPS_PER_EPOCH, STEPS, K = 4, 20, 3
# No dropout: each framework draws its own masks.  The last batch of an epoch is smaller.
COMMON = (
    *("--config", CONFIG, "--config.batch_size=12", "--config.num_epochs=5"),
    *("--config.dtype=float64", "--config.model.drop=0", "--config.augment.ops=('crop',)"),
    *("--config.model.num_channels=4", "--config.optim.lr=0.02"),
)
OPTIMIZERS = {
    "sgd": ("name=sgd",),
    "plain": ("name=sgd", "momentum=0"),
    "nesterov": ("name=sgd", "nesterov=True", "clip=value", "clip_at=0.5"),
    "adam": ("name=adam", "clip=norm", "clip_at=1.5"),
    "adamw": ("name=adamw",),
    "muon": ("name=muon", "muon.rest=adamw"),
}
LOOKAHEADS = {
    "off": ("enabled=False",),
    "canonical": ("enabled=True", f"k={K}"),  # syncs after steps 3, 6, 9, ...
    "first": ("enabled=True", f"k={K}", "alpha=0.3", "first_sync=1"),  # after 1, 4, 7, ...
}
SCHEDULES = {
    "constant": ("name=constant",),
    "cosine": ("name=cosine", "end_lr=0.001"),
    "restarts": ("name=warm_restarts", "T_0=1", "per=step", "warmup_epochs=1"),
    "multistep": ("name=multistep", "milestones=(2,4)", "warmup_epochs=1"),
    "one_cycle": ("name=one_cycle", "per=step", "max_lr=0.05"),
}
CASES = [
    (optimizer, look, (*SCHEDULES,)[(2 * i + j) % len(SCHEDULES)])
    for i, optimizer in enumerate(OPTIMIZERS)
    for j, look in enumerate(LOOKAHEADS)
]
QUICK = [CASES[i] for i in (2, 9, 13, 16)]
# Within the first epoch, which is that of a warm-up, within a cycle, ten here and ten there, on a
# sync of the first form, and between two epochs.  Then after every single step.
FEW, ALL = (2, 5, 10, 16), tuple(range(1, STEPS))


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Few images, programs that are compiled quickly, and no logits of every port."""
    few = few_digits(45)
    none = Differences(0, 0, 1, "not computed")
    with little_effort(level=1) as patch:
        for module in (jaxnets.train.task, torch_ref.train, write):
            patch.setattr(module, "load", lambda *_, **__: few)
        patch.setattr(convert, "differences", lambda *_, **__: none)
        jax.config.update("jax_enable_x64", True)  # in every thread
        yield
        jax.config.update("jax_enable_x64", False)


@pytest.fixture
def started_once(monkeypatch):
    """What every start of a run makes anew and alike is made at its first one alone.

    The programs, the first weights, the slots of the model; and no pictures at the end.
    """
    kept = {}

    def once(key, make):
        if key not in kept:
            kept[key] = make()
        return kept[key]

    def programs(self, wanted, _compile=Stepper._compile):
        key = str((wanted, jax.tree.map(np.shape, self._example)))
        self._programs |= once(key, lambda: (_compile(self, wanted), self._programs)[1])

    def evaluation(self, *weights, _compile=Evaluator.compile):
        self._step = once("evaluation", lambda: (_compile(self, *weights), self._step)[1])
        return 0.0

    def model(*args, _build=jaxnets.train.task.build_model):
        return nnx.clone(once("model", lambda: _build(*args)))

    monkeypatch.setattr(Stepper, "_compile", programs)
    monkeypatch.setattr(Evaluator, "compile", evaluation)
    monkeypatch.setattr(jaxnets.train.task, "build_model", model)
    monkeypatch.setattr("jaxnets.report.tensorboard.end_images", lambda *_: {})
    for module in ("jaxnets.port.orbax", "jaxnets.port.runs.read"):
        monkeypatch.setattr(f"{module}.describe", lambda *_: once("slots", lambda: describe(*_)))


def flags(case: Sequence[str]) -> list[str]:
    optimizer, look, schedule = case
    return [
        *(f"--config.optim.{flag}" for flag in OPTIMIZERS[optimizer]),
        *(f"--config.optim.lookahead.{flag}" for flag in LOOKAHEADS[look]),
        *(f"--config.schedule.{flag}" for flag in SCHEDULES[schedule]),
    ]


def source(workdir: Path) -> Path:
    """What of a workdir a run is read from."""
    return workdir if (workdir / "checkpoints").exists() else workdir / "last.pt"


class Told:
    """A stand-in for StopSignal that hears of a SIGTERM when the test says so."""

    received: int | None = None

    def __enter__(self) -> "Told":
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def train(trainer, workdir: Path, case: Sequence[str], *args: str, until: int = STEPS) -> None:
    """Trains on in `workdir`; a signal comes while step `until` is made."""
    at = read(source(workdir)).run.step if workdir.exists() else 0
    told, made = Told(), []
    take_step, twins_step = Stepper.step, torch_ref.loop.train_step

    def once_more(result):
        made.append(at + len(made) + 1)
        if made[-1] == until < STEPS:
            told.received = signal.SIGTERM
        return result

    with pytest.MonkeyPatch.context() as patch:
        for module in (loop, torch_ref.loop):
            patch.setattr(module, "StopSignal", lambda: told)
        patch.setattr(Stepper, "step", lambda *a, **k: once_more(take_step(*a, **k)))
        patch.setattr(torch_ref.loop, "train_step", lambda *a: once_more(twins_step(*a)))
        code = trainer.main([*COMMON, *flags(case), f"--workdir={workdir}", *args])
    assert code == (0 if until == STEPS else 128 + signal.SIGTERM)
    assert made == [*range(at + 1, until + 1)]


def change_over(first: str, case: Sequence[str], stops: Sequence[int], where: Path, *args) -> Path:
    """The workdir in which the run ends that changes the framework after each of `stops`."""
    trainers = {"jax": jaxnets.train.__main__, "torch": torch_ref.train}
    names = [first, next(name for name in trainers if name != first)]
    workdir = where / f"{first}-0"
    for i, until in enumerate((*stops, STEPS)):
        train(trainers[names[i % 2]], workdir, case, *(args if i == 0 else ()), until=until)
        if until == STEPS:
            return workdir
        last = workdir
        workdir = where / f"{first}-{i + 1}"
        port_run(last, workdir / "last.pt" if names[i % 2] == "jax" else workdir)
        shutil.rmtree(last)


def numbers(workdir: Path) -> dict[str, np.ndarray]:
    """Weights, statistics, moments and slow weights at the end of a run, by kind and name."""
    run = read(source(workdir)).run
    assert run.step == STEPS
    kinds = {"weights": run.weights, **run.optimizer.moments, "slow": run.optimizer.slow or {}}
    return {f"{kind} {name}": v for kind, values in kinds.items() for name, v in values.items()}


def assert_same_run(workdir: Path, whole: Path) -> None:
    got, want = numbers(workdir), numbers(whole)
    assert got.keys() == want.keys()
    for name, value in want.items():
        error = np.abs(got[name] - value).max() / (np.abs(value).max() or 1)
        assert error <= 1e-10, f"{name}: relative error {error:.1e}"
    rows, others = (read_rows(w / "metrics.jsonl") for w in (workdir, whole))
    assert [row["step"] for row in rows] == [4, 8, 12, 16, 20]
    for row, other in zip(rows, others, strict=True):
        assert row.keys() == other.keys()
        for key in row.keys() - {"seconds", "images_per_second"}:
            assert row[key] == pytest.approx(other[key], rel=1e-5), key


def check(case: Sequence[str], stops: Sequence[int], where: Path) -> None:
    config = configs.read(CONFIG, [*COMMON[2:], *flags(case)])
    start = where / "start.pt"
    torch.save(to_torch(jaxnets.train.task.build_model(config, 10)).state_dict(), start)
    init = f"--init={start}"
    whole = change_over("jax", case, (), where / "whole")
    assert_same_run(change_over("torch", case, (), where / "whole", init), whole)
    assert_same_run(change_over("jax", case, stops, where), whole)
    assert_same_run(change_over("torch", case, stops, where, init), whole)


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES],
    ids="-".join,
)
def test_turn_by_turn_is_one_run(case, tmp_path, started_once):
    check(case, FEW, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_turn_each_step_is_one_run(case, tmp_path, started_once):
    check(case, ALL, tmp_path)


def test_the_quick_cases_have_every_kind():
    optimizers, looks, schedules = map(set, zip(*QUICK, strict=True))
    assert optimizers == {"sgd", "adam", "adamw", "muon"}
    assert looks == LOOKAHEADS.keys()
    assert "one_cycle" in schedules  # which moves the momentum, too


@pytest.mark.slow
def test_what_is_lost_on_the_way_is_noticed(tmp_path, started_once, monkeypatch):
    """A port that forgets the momentum turns it red."""
    case, settled = QUICK[0], optimizer.settled

    def forget(*args):
        state = settled(*args)
        zeros = {n: {k: 0 * v for k, v in m.items()} for n, m in state.moments.items()}
        return state._replace(moments=zeros)

    whole = change_over("jax", case, (), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(optimizer, "settled", forget)
        spoilt = change_over("jax", case, (5,), tmp_path)
    with pytest.raises(AssertionError, match="relative error"):
        assert_same_run(spoilt, whole)
