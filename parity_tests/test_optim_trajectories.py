"""Every optimizer against its twin of genuine `torch.optim` parts: trajectories in float64."""

import copy
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxnets.optim import make_optimizer, slow_weights, transforms
from torch_ref import optim as twin

STEPS, STEPS_PER_EPOCH, NUM_EPOCHS = 210, 7, 30
EPSILON = np.finfo(np.float64).eps
SHAPES = {"kernel": (4, 5), "scale": ()}


def _config(name, *, momentum=0.9, schedule=None, look=None, **optim):
    """(config.optim, config.schedule); `look` None or the options of Lookahead."""
    lookahead = SimpleNamespace(
        **{"enabled": look is not None, "k": 5, "alpha": 0.5, "first_sync": None} | (look or {})
    )
    optim = {"lr": 0.05, "weight_decay": 5e-3, "clip": "none", "clip_at": None} | optim
    schedule = {"name": "constant", "per": "step"} | (schedule or {})
    return (
        SimpleNamespace(name=name, momentum=momentum, lookahead=lookahead, **optim),
        SimpleNamespace(**schedule),
    )


def _problem(seed=0, dtype=np.float64):
    """Initial parameters, and a target for each of them at every step."""
    rng = np.random.default_rng(seed)
    params = {k: rng.normal(size=s).astype(dtype) for k, s in SHAPES.items()}
    targets = {k: rng.normal(size=(STEPS, *s)).astype(dtype) for k, s in SHAPES.items()}
    return params, targets


def _gradient(xp, p, target):
    """Of (p - target)^2 - cos(2 p): nonlinear, and never at rest since the targets differ."""
    return 2 * (p - target) + 2 * xp.sin(2 * p)


def _jax_program(tx):
    """One compiled loop: (params, targets) -> (parameters after every step, optimizer state)."""

    def step(carry, target):
        params, state = carry
        grads = jax.tree.map(lambda p, t: _gradient(jnp, p, t), params, target)
        updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    @jax.jit
    def run(params, targets):
        (_, state), trajectory = jax.lax.scan(step, (params, tx.init(params)), targets)
        return trajectory, state

    return run


def _torch_step(optimizer, params, targets, i):
    optimizer.zero_grad()
    for k, p in params.items():
        p.grad = _gradient(torch, p.detach(), torch.from_numpy(targets[k][i, ...]))
    optimizer.step()


def _torch_run(configs, params, targets):
    """(parameters after every step, the optimizer, learning rate and momentum of every step)."""
    params = {k: torch.nn.Parameter(torch.from_numpy(np.array(p))) for k, p in params.items()}
    optimizer = twin.make_optimizer(
        params.values(), *configs, steps_per_epoch=STEPS_PER_EPOCH, num_epochs=NUM_EPOCHS
    )
    trajectory, curves = {k: [] for k in params}, []
    for i in range(STEPS):
        curves.append((optimizer.lr, optimizer.momentum))
        _torch_step(optimizer, params, targets, i)
        for k, p in params.items():
            trajectory[k].append(p.detach().numpy().copy())
    return {k: np.stack(t) for k, t in trajectory.items()}, optimizer, np.array(curves)


def _errors(actual, expected, scale=None):
    """Of every leaf, relative to its greatest value, or to that of its namesake in `scale`."""
    return {
        key: np.abs(np.asarray(actual[key]) - value).max() / np.abs((scale or expected)[key]).max()
        for key, value in expected.items()
    }


def _assert_close(actual, expected, rtol=1e-12, scale=None):
    for key, error in _errors(actual, expected, scale).items():
        assert error <= rtol, f"{key}: relative error {error:.1e}"


def _compare(configs, *, dtype=np.float64, rtol=1e-12, tx=None, amplified=False):
    """Run both; equal weights after every step, equal slow weights, learning rates and momenta.

    Args:
        amplified: where the trajectory itself makes rounding grow, as Adam's does that divides by
            the last gradient alone, the bound is fifty times what one rounding of the targets
            makes of it; where that is beyond 1e-8 nothing can be compared.
    """
    params, targets = _problem(dtype=dtype)
    optimizer = make_optimizer(*configs, steps_per_epoch=STEPS_PER_EPOCH, num_epochs=NUM_EPOCHS)
    run = _jax_program(tx or optimizer.tx)
    actual, state = run(params, targets)
    if amplified:
        rng = np.random.default_rng(1)
        shaken = {k: t * (1 + EPSILON * rng.standard_normal(t.shape)) for k, t in targets.items()}
        drift = max(_errors(run(params, shaken)[0], actual).values())
        assume(drift < 1e-8)
        rtol = max(rtol, 50 * drift)
    expected, reference, curves = _torch_run(configs, params, targets)
    _assert_close(actual, expected, rtol)
    if configs[0].lookahead.enabled:
        slow = [s.numpy() for s in reference.optimizer.slow]
        # Those at the end may be near zero by chance: their scale is that of the whole run.
        slow = dict(zip(params, slow, strict=True))
        _assert_close(slow_weights(state), slow, rtol, scale=expected)
    counts = jnp.arange(STEPS)
    _assert_close({"lr": optimizer.lr(counts)}, {"lr": curves[:, 0]})
    if optimizer.momentum is not None:
        _assert_close({"momentum": optimizer.momentum(counts)}, {"momentum": curves[:, 1]})


OPTIMIZERS = {
    "sgd": {"name": "sgd"},
    "sgd, no momentum": {"name": "sgd", "momentum": 0.0, "weight_decay": 0.0},
    "nesterov": {"name": "sgd", "nesterov": True},
    "adam": {"name": "adam", "lr": 0.02},
    "adamw": {"name": "adamw", "lr": 0.02, "weight_decay": None},
}
LOOKAHEADS = {"plain": None, "k": {"k": 5}, "first": {"k": 4, "alpha": 0.3, "first_sync": 1}}
CLIPS = {
    "none": {"clip": "none"},
    "value": {"clip": "value", "clip_at": 1.5},
    "norm": {"clip": "norm", "clip_at": 6.0},
}
SCHEDULES = [
    {"name": "cosine", "end_lr": 0.001},
    {"name": "cosine", "T_max": 12, "per": "epoch"},
    {"name": "warm_restarts", "T_0": 2, "T_mult": 2, "warmup_epochs": 1.5, "warmup_factor": 0.1},
    {"name": "warm_restarts", "T_0": 3, "T_mult": 1, "per": "epoch"},
    {"name": "multistep", "milestones": (10, 20), "per": "epoch", "warmup_epochs": 2},
    {"name": "multistep", "milestones": (5, 15), "gamma": 0.5},
    {"name": "one_cycle", "max_lr": 0.08},
    {
        "name": "one_cycle",
        "max_lr": 0.08,
        "per": "epoch",
        "cycle_momentum": False,
        "warmup_epochs": 3,
    },
    {"name": "one_cycle", "max_lr": 0.08, "per": "epoch", "base_momentum": 0.7, "warmup_epochs": 3},
    {"name": "one_cycle", "max_lr": 0.08, "total_epochs": 4, "warmup_epochs": 1},
    {"name": "one_cycle", "max_lr": 0.08, "restart_every_epoch": True},
    {"name": "constant", "warmup_epochs": 3},
]
MATRIX = [(o, look, c) for o in OPTIMIZERS for look in LOOKAHEADS for c in CLIPS]


@pytest.mark.parametrize(
    ("optimizer", "look", "clip", "schedule"),
    [(*case, SCHEDULES[i % len(SCHEDULES)]) for i, case in enumerate(MATRIX)],
    ids=["-".join(case) + f"-{i % len(SCHEDULES)}" for i, case in enumerate(MATRIX)],
)
def test_trajectory_is_torchs(optimizer, look, clip, schedule):
    options = OPTIMIZERS[optimizer] | CLIPS[clip]
    _compare(_config(look=LOOKAHEADS[look], schedule=schedule, **options))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_float32_under_x64(name):
    """Schedules are float64 here; parameters and state must stay float32 (the loop insists)."""
    schedule = {"name": "one_cycle", "max_lr": 0.05}
    look = LOOKAHEADS["first"]
    configs = _config(name, schedule=schedule, look=look, clip="norm", clip_at=5.0)
    _compare(configs, dtype=np.float32, rtol=1e-5)


@st.composite
def _configs(draw):
    between = lambda low, high: draw(st.floats(low, high))  # noqa: E731
    name = draw(st.sampled_from(["sgd", "adam", "adamw"]))
    lr = between(1e-3, 0.1)
    schedule = draw(
        st.sampled_from(["constant", "cosine", "warm_restarts", "multistep", "one_cycle"])
    )
    milestones = draw(st.sets(st.integers(1, 40), min_size=1, max_size=4))
    low, high = sorted([between(0.1, 0.97), between(0.1, 0.97)])
    return _config(
        name,
        lr=lr,
        momentum=between(0.01, 0.95),
        nesterov=draw(st.booleans()),
        weight_decay=draw(st.sampled_from([None, 0.0, between(0.0, 0.05)])),
        beta1=between(0.0, 0.95),
        beta2=between(0.5, 0.9999),
        eps=draw(st.sampled_from([1e-8, 1e-3])),
        clip=draw(st.sampled_from(["none", "value", "norm"])),
        clip_at=between(0.05, 8.0),
        look=draw(
            st.none()
            | st.fixed_dictionaries(
                {
                    "k": st.integers(1, 12),
                    "alpha": st.floats(0.05, 1.0),
                    "first_sync": st.sampled_from([None, 1]),
                }
            )
        ),
        schedule={
            "name": schedule,
            "per": draw(st.sampled_from(["step", "epoch"])),
            "warmup_epochs": draw(st.integers(0, NUM_EPOCHS - 2)),
            "warmup_factor": between(0.001, 1.0),
            "end_lr": between(0.0, lr),
            "T_max": draw(st.none() | st.integers(1, 40)),
            "T_0": draw(st.integers(1, 12)),
            "T_mult": draw(st.integers(1, 4)),
            "milestones": tuple(sorted(milestones)),
            "gamma": between(0.05, 1.5),
            "max_lr": between(1e-3, 0.1),
            "pct_start": between(0.01, 1.0),
            "div_factor": between(1.0, 50.0),
            "final_div_factor": between(1.0, 1e4),
            "cycle_momentum": draw(st.booleans()),
            "base_momentum": low,
            "max_momentum": high,
        },
    )


@settings(max_examples=15)
@given(_configs())
def test_any_configuration_is_torchs(configs):
    _compare(configs, amplified=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@settings(max_examples=500)
@given(_configs())
def test_many_configurations_are_torchs(configs):
    _compare(configs, amplified=True)


def _mutant(*parts):
    return optax.chain(*parts, optax.scale(-0.05))


MUTANTS = {
    "weight decay after momentum": (
        _config("sgd"),
        _mutant(optax.trace(0.9), optax.add_decayed_weights(5e-3)),
    ),
    "weight decay before clipping": (
        _config("sgd", clip="value", clip_at=1.5),
        _mutant(optax.add_decayed_weights(5e-3), optax.clip(1.5), optax.trace(0.9)),
    ),
    "optax's clipping by norm": (
        _config("sgd", weight_decay=0.0, clip="norm", clip_at=6.0),
        _mutant(optax.clip_by_global_norm(6.0), optax.trace(0.9)),
    ),
    "first sync of Lookahead missed": (
        _config("sgd", weight_decay=0.0, look=LOOKAHEADS["first"]),
        transforms.lookahead(_mutant(optax.trace(0.9)), 4, 0.3),
    ),
    "first sync of Lookahead added": (
        _config("sgd", weight_decay=0.0, look=LOOKAHEADS["k"]),
        transforms.lookahead(_mutant(optax.trace(0.9)), 5, 0.5, first_sync=1),
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_comparison_catches(mutant):
    configs, tx = MUTANTS[mutant]
    _compare(configs)
    with pytest.raises(AssertionError, match="relative error"):
        _compare(configs, tx=tx)


@pytest.mark.parametrize("schedule", SCHEDULES[::2], ids=lambda s: f"{s['name']}-{s.get('per')}")
def test_twin_resumes_from_its_state_dict(schedule):
    """The twin saved at step 100 and loaded into a fresh one goes on as if nothing had happened."""
    configs = _config("sgd", look=LOOKAHEADS["first"], schedule=schedule)
    initial, targets = _problem()

    def start(values):
        params = {k: torch.nn.Parameter(torch.from_numpy(np.array(v))) for k, v in values.items()}
        return params, twin.make_optimizer(
            params.values(), *configs, steps_per_epoch=STEPS_PER_EPOCH, num_epochs=NUM_EPOCHS
        )

    params, optimizer = start(initial)
    for i in range(STEPS):
        if i == 100:
            saved = copy.deepcopy(optimizer.state_dict())
            resumed_params, resumed = start({k: p.detach().numpy() for k, p in params.items()})
            resumed.load_state_dict(saved)
        _torch_step(optimizer, params, targets, i)
        if i >= 100:
            _torch_step(resumed, resumed_params, targets, i)
    assert resumed.lr == optimizer.lr
    for k, p in params.items():
        assert torch.equal(resumed_params[k], p)


@pytest.mark.parametrize(
    "change",
    [{"k": 0}, {"alpha": 0.0}, {"alpha": 1.1}, {"first_sync": 2}],
    ids=str,
)
def test_twin_refuses_a_bad_lookahead(change):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ValueError, match="Lookahead needs"):
        twin.Lookahead(optimizer, **change)
