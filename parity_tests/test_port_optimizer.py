"""Training that changes the framework half-way is the training that did not, in float64."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

import torch_ref.checkpoint
import torch_ref.models
import torch_ref.optim
from jaxnets.config import default_config
from jaxnets.models.torch_names import Slot, parameters
from jaxnets.optim import make_optimizer
from jaxnets.port.guess import Model, describe, never_read
from jaxnets.port.runs import optimizer
from jaxnets.port.runs.read import TrainingRun, read
from jaxnets.port.runs.write import write_file, write_workdir
from jaxnets.runs.log import Progress

STEPS, STEPS_PER_EPOCH, NUM_EPOCHS = 20, 3, 9
PHASES = (8, 9, 10, 11)  # to change the framework after: every phase of Lookahead with k=4
NO_LOG = Path("absent")
TINY = Model("se_resnet", 10, {"num_blocks": (1,), "num_channels": 2, "se": "none"})
SHARED = Model("dense_se_resnet", 10, {"depth": 2, "widths": (16, 16, 16), "share": "all"})
FIRE8 = Model("cifar100_v3", 10, {"width": 0.125})

OPTIMIZERS = {
    "sgd": {"name": "sgd"},
    "plain": {"name": "sgd", "momentum": 0.0},
    "nesterov": {"name": "sgd", "nesterov": True, "clip": "value"},
    "adam": {"name": "adam", "clip": "norm"},
    "adamw": {"name": "adamw"},
}
# Their momentum does not cycle, so that not every schedule is for them.
MUONS = {
    "muon": {"name": "muon", "momentum": 0.0, "muon": {"weight_decay": 0.1}},
    "muon_adamw": {"name": "muon", "muon": {"rest": "adamw", "rest_lr_scale": 0.3}},
    "muon_sgd": {"name": "muon", "muon": {"exclude": ("conv1",)}},
}
LOOKAHEADS = {
    "off": {"enabled": False},
    "canonical": {"enabled": True, "k": 4},
    "first": {"enabled": True, "k": 4, "alpha": 0.3, "first_sync": 1},
}
SCHEDULES = {
    "constant": {"name": "constant"},
    "cosine": {"name": "cosine", "end_lr": 0.001},
    "restarts": {"name": "warm_restarts", "T_0": 1, "per": "step", "warmup_epochs": 1.0},
    "multistep": {"name": "multistep", "milestones": (2, 4), "warmup_epochs": 1.0},
    "one_cycle": {"name": "one_cycle", "per": "step"},
    "slow_cycle": {"name": "one_cycle", "per": "epoch", "cycle_momentum": False},
    "cosine_by_step": {"name": "cosine", "per": "step"},
    "made_anew": {"name": "one_cycle", "per": "step", "restart_every_epoch": True},
}
# Every optimizer with every Lookahead, and with every schedule.
CASES = [
    (opt, look, (*SCHEDULES,)[(3 * i + j) % len(SCHEDULES)])
    for i, opt in enumerate(OPTIMIZERS)
    for j, look in enumerate(LOOKAHEADS)
]
CASES += [
    (opt, (*LOOKAHEADS,)[(i + j) % 3], schedule)
    for i, opt in enumerate(OPTIMIZERS)
    for j, schedule in enumerate(SCHEDULES)
]
CYCLED = {("sgd", "first", "one_cycle"), ("adamw", "canonical", "one_cycle")}  # momentum moves too
MUON = {("muon", "first", "cosine_by_step"), ("muon_adamw", "canonical", "slow_cycle")}
CASES = sorted({*CASES, *CYCLED})
QUICK = {*CASES[::4], *CYCLED, *MUON}
CASES += sorted(MUON | {("muon", "off", "restarts"), ("muon_adamw", "first", "multistep")})


def make_config(model: Model, opt: str, look: str, schedule: str) -> Any:
    c = default_config()
    c.model.update({"name": model.name, "num_classes": model.num_classes, **model.options})
    c.optim.update({"lr": 0.02, "weight_decay": 5e-3, "clip_at": 1.5, **(OPTIMIZERS | MUONS)[opt]})
    c.optim.lookahead.update(LOOKAHEADS[look])
    c.schedule.update(SCHEDULES[schedule])
    c.dtype, c.num_epochs = "float64", NUM_EPOCHS
    return c


class Problem(NamedTuple):
    """Weights to move towards a target that is another one at every step."""

    model: Model
    config: Any
    entries: list[Slot]
    weights: dict[str, np.ndarray]
    """By PyTorch's names; statistics are there to be carried along."""
    targets: dict[str, np.ndarray]
    """Of the parameters, (STEPS, ...)."""
    skip: list[str]
    """Parameters that the forward pass never reads."""

    @property
    def params(self) -> list[Slot]:
        return parameters(self.entries)

    def run(self, weights, state: optimizer.OptimizerState) -> TrainingRun:
        epoch, within = divmod(state.count, STEPS_PER_EPOCH)
        rest = {"epoch": epoch, "class_names": list("0123456789"), "acc": None}
        rest["progress"] = Progress(0.5, 3, 1.25)._asdict()
        totals = (1 / 3, 2.0, 3.0, 0.25, float(within))
        config = self.config
        state = optimizer.settled(state, config.optim, config.schedule, weights, self.skip)
        return TrainingRun(self.model, config, weights, state, totals, rest)


def make_problem(model: Model, *case: str) -> Problem:
    rng = np.random.default_rng(0)
    entries, made = describe(model), {}
    for slot in entries:
        counter = slot.name.endswith("num_batches_tracked")
        value = np.array(rng.integers(1000)) if counter else rng.uniform(0.5, 1.5, slot.shape)
        made.setdefault(slot.path, value)
    weights = {slot.name: made[slot.path] for slot in entries}
    params, begins = parameters(entries), never_read(model)
    targets = {s.name: rng.normal(size=(STEPS, *s.shape)) for s in params}
    skip = [s.name for s in params if begins and s.name.startswith(begins)]
    return Problem(model, make_config(model, *case), entries, weights, targets, skip)


def gradient(xp, p, target):
    """Of (p - target)^2 - cos(2 p)."""
    return 2 * (p - target) + 2 * xp.sin(2 * p)


class JaxSide:
    """The optimizer of jaxnets on a problem; `like` one whose program is compiled already."""

    def __init__(self, problem: Problem, like: "JaxSide | None" = None):
        self.problem, config = problem, problem.config
        self.tx = make_optimizer(
            config.optim,
            config.schedule,
            steps_per_epoch=STEPS_PER_EPOCH,
            num_epochs=NUM_EPOCHS,
        ).tx
        fast = {"xla_backend_optimization_level": 0}
        self._step = like._step if like else jax.jit(self._advance, compiler_options=fast)
        self._unused = {s.path for s in problem.params if s.name in problem.skip}
        self.targets = {
            s.path: np.stack([s.from_torch(t) for t in problem.targets[s.name]])
            for s in problem.params
        }
        self.load(problem.weights, None)

    def _advance(self, params, state, target):
        grads = {
            k: jnp.zeros_like(p) if k in self._unused else gradient(jnp, p, target[k])
            for k, p in params.items()
        }
        updates, state = self.tx.update(grads, state, params)
        # As jaxnets.train.step.update does.
        updates = {k: jnp.zeros_like(u) if k in self._unused else u for k, u in updates.items()}
        return optax.apply_updates(params, updates), state

    def load(self, weights, state) -> None:
        params = self.problem.params
        self.params = {s.path: jnp.asarray(s.from_torch(weights[s.name])) for s in params}
        self.state = self.tx.init(self.params) if state is None else state

    def step(self, i: int) -> None:
        target = {k: t[i] for k, t in self.targets.items()}
        self.params, self.state = self._step(self.params, self.state, target)

    def weights(self) -> dict[str, np.ndarray]:
        held = {s.path: s.to_torch(np.asarray(self.params[s.path])) for s in self.problem.params}
        kept = self.problem.weights
        return {s.name: held.get(s.path, kept[s.name]) for s in self.problem.entries}

    def read(self) -> TrainingRun:
        state = optimizer.from_jax(as_stored(self.state), self.problem.params)
        return self.problem.run(self.weights(), state)


def as_stored(state):
    """Nested containers as a checkpoint gives them back."""
    if hasattr(state, "_asdict"):
        return {k: as_stored(v) for k, v in state._asdict().items()} or None
    if isinstance(state, tuple):
        return [as_stored(v) for v in state]
    return state


class TorchSide:
    """The twin of the optimizer on the same problem."""

    def __init__(self, problem: Problem):
        self.problem, config = problem, problem.config
        name, num_classes, options = problem.model
        net = torch_ref.models.create_model(name, num_classes, **options).double()
        net.load_state_dict({k: torch.tensor(v) for k, v in problem.weights.items()})
        self.named = dict(net.named_parameters())
        named = torch_ref.optim.groups(self.named, {}) if config.optim.name == "muon" else None
        made = torch_ref.optim.make_optimizer(
            named or net.parameters(),
            config.optim,
            config.schedule,
            steps_per_epoch=STEPS_PER_EPOCH,
            num_epochs=NUM_EPOCHS,
        )
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        parts = {"net": net, "optimizer": made, "averages": {}, "scaler": scaler}
        self.task = SimpleNamespace(**parts, device="cpu")

    def step(self, i: int) -> None:
        self.task.optimizer.zero_grad()
        for name, p in self.named.items():
            if name not in self.problem.skip:
                target = torch.from_numpy(self.problem.targets[name][i])
                p.grad = gradient(torch, p.detach(), target)
        self.task.optimizer.step()

    def weights(self) -> dict[str, np.ndarray]:
        return {k: v.numpy() for k, v in self.task.net.state_dict().items()}

    def save(self, path: Path, step: int) -> None:
        # What is not the optimizer's is taken from any run at this step.
        run = self.problem.run(self.problem.weights, optimizer.OptimizerState(step, {}, None))
        rest = {"step": step, "config": self.problem.config.to_dict(), "totals": list(run.totals)}
        torch_ref.checkpoint.save(path, self.task, {**run.rest, **rest})


def assert_close(got, want, bound=1e-10):
    assert got.keys() == want.keys()
    for name, value in want.items():
        error = np.abs(got[name] - value).max() / max(np.abs(value).max(), 1e-300)
        assert error <= bound, f"{name}: relative error {error:.1e}"


def to_jax_side(ours: JaxSide, path: Path) -> None:
    """Loads what torch_ref.train saved."""
    run = read(path).run
    params = ours.problem.params
    ours.load(run.weights, optimizer.to_jax(run.optimizer, params, run.weights))


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, marks=() if c in QUICK else pytest.mark.slow) for c in CASES],
    ids="-".join,
)
def test_half_and_half_is_the_whole(case, tmp_path):
    problem, path = make_problem(TINY, *case), tmp_path / "last.pt"
    ours, theirs = JaxSide(problem), TorchSide(problem)
    saved = {}
    for i in range(STEPS):
        if i in PHASES:
            theirs.save(tmp_path / f"{i}.pt", i)
            saved[i] = ours.params, ours.state
        ours.step(i)
        theirs.step(i)
    whole = ours.weights()
    assert_close(theirs.weights(), whole)
    for i in PHASES:
        back, on = JaxSide(problem, like=ours), TorchSide(problem)
        ours.params, ours.state = saved[i]
        write_file(path, ours.read(), NO_LOG)
        torch_ref.checkpoint.restore(path, on.task)
        to_jax_side(back, tmp_path / f"{i}.pt")
        for k in range(i, STEPS):
            back.step(k)
            on.step(k)
        assert_close(on.weights(), whole)
        assert_close(back.weights(), whole)


@pytest.mark.parametrize(
    ("model", "opt"),
    [
        (SHARED, "adam"),
        pytest.param(SHARED, "sgd", marks=pytest.mark.slow),
        (FIRE8, "sgd"),
        pytest.param(FIRE8, "muon_adamw", marks=pytest.mark.slow),
        pytest.param(FIRE8, "adam", marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_shared_and_unused_parameters(model, opt, tmp_path):
    problem = make_problem(model, opt, "canonical", "cosine")
    ours, theirs = JaxSide(problem), TorchSide(problem)
    for i in range(6):
        ours.step(i)
        theirs.step(i)
    theirs.save(tmp_path / "a.pt", 6)
    write_file(tmp_path / "b.pt", ours.read(), NO_LOG)
    other, back = TorchSide(problem), JaxSide(problem, like=ours)
    torch_ref.checkpoint.restore(tmp_path / "b.pt", other.task)
    to_jax_side(back, tmp_path / "a.pt")
    for i in range(6, 13):
        for side in (ours, theirs, other, back):
            side.step(i)
    for side in (theirs, other, back):
        assert_close(side.weights(), ours.weights())
    # The names of one tensor have one state, what is never read has none.
    a, b = (torch.load(tmp_path / name, weights_only=True) for name in ("a.pt", "b.pt"))
    states = [x["optimizer"]["optimizer"]["optimizer"]["state"] for x in (a, b)]
    unique = len({v.data_ptr() for v in a["net"].values() if v.is_floating_point()})
    assert states[0].keys() == states[1].keys()
    assert len(states[1]) == len(problem.params) - len(problem.skip)
    assert len(problem.params) < unique  # which counts the statistics too
    if model is FIRE8:
        assert problem.skip
        fire8 = {k: v for k, v in back.weights().items() if k in problem.skip}
        assert_close(fire8, {k: problem.weights[k] for k in fire8}, 0)


def plain(tree):
    """Tensors as arrays, so that containers can be compared."""
    if torch.is_tensor(tree):
        return tree.dtype, tree.shape, tree.contiguous().numpy().tobytes()
    if isinstance(tree, dict):
        return {k: plain(v) for k, v in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(map(plain, tree))
    return tree


@pytest.mark.parametrize(
    "case",
    [
        ("sgd", "first", "one_cycle"),
        ("plain", "off", "constant"),
        ("adamw", "canonical", "restarts"),
        ("adam", "off", "slow_cycle"),
        ("muon", "first", "cosine"),
        ("muon_sgd", "off", "cosine"),
        ("muon_adamw", "canonical", "restarts"),
    ],
    ids="-".join,
)
def test_there_and_back_is_the_same_file(case, tmp_path):
    """last.pt -> workdir -> last.pt, tensors, counters, schedule and notes: every bit."""
    problem = make_problem(TINY, *case)
    side = TorchSide(problem)
    for i in range(10):
        side.step(i)
    side.save(tmp_path / "a.pt", 10)
    there = read(tmp_path / "a.pt").run
    write_workdir(tmp_path / "run", there, None, NO_LOG)
    back = read(tmp_path / "run").run
    write_file(tmp_path / "b.pt", back, NO_LOG)
    a, b = (torch.load(tmp_path / name, weights_only=True) for name in ("a.pt", "b.pt"))
    assert plain(a) == plain(b)
    changed = copy.deepcopy(b)
    next(iter(changed["net"].values())).view(-1)[0] += 1e-15
    assert plain(a) != plain(changed)


@pytest.mark.parametrize("opt", ["sgd", "muon", "muon_adamw"])
def test_before_the_first_step(opt, tmp_path):
    problem = make_problem(TINY, opt, "first", "cosine")
    write_file(tmp_path / "a.pt", JaxSide(problem).read(), NO_LOG)
    side, whole = TorchSide(problem), JaxSide(problem)
    back = JaxSide(problem, like=whole)
    torch_ref.checkpoint.restore(tmp_path / "a.pt", side.task)
    side.save(tmp_path / "b.pt", 0)
    to_jax_side(back, tmp_path / "b.pt")
    for i in range(STEPS):
        side.step(i)
        back.step(i)
        whole.step(i)
    assert_close(side.weights(), whole.weights())
    assert_close(back.weights(), whole.weights(), 0)


def lost(part):
    """An error in the mapping, as a spoilt OptimizerState."""

    def spoil(state, *args):
        if part == "moments":
            zeros = {n: {k: 0 * v for k, v in m.items()} for n, m in state.moments.items()}
            return state._replace(moments=zeros)
        if part == "slow":
            return state._replace(slow={k: 1.1 * v for k, v in state.slow.items()})
        return state._replace(count=state.count + 1)

    return spoil


def test_what_is_lost_is_noticed(tmp_path, monkeypatch):
    problem = make_problem(TINY, "sgd", "canonical", "cosine_by_step")
    problem.config.data.name = "digits"  # looked at where the count is lost, and always there
    ours = JaxSide(problem)
    for i in range(STEPS):
        if i == 10:
            saved = ours.params, ours.state
        ours.step(i)
    whole = ours.weights()
    ours.params, ours.state = saved

    def check():
        theirs = TorchSide(problem)
        write_file(tmp_path / "a.pt", ours.read(), NO_LOG)
        rest = torch_ref.checkpoint.restore(tmp_path / "a.pt", theirs.task)
        assert (rest["step"], rest["epoch"]) == (10, 3)
        for i in range(10, STEPS):
            theirs.step(i)
        assert_close(theirs.weights(), whole)

    check()
    settled = optimizer.settled
    for part in ("moments", "slow", "count"):
        spoil = lost(part)
        with monkeypatch.context() as patch:
            patch.setattr(optimizer, "settled", lambda *a, spoil=spoil: spoil(settled(*a)))
            with pytest.raises(AssertionError, match=r"relative error|assert"):
                check()
