"""Searches: spaces, budgets before training, pruning on the validation split, many workers."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from jaxnets import checks
from jaxnets import config as configs
from jaxnets.config import networks
from jaxnets.optim import make_optimizer
from jaxnets.runs import children
from jaxnets.sweep import ablation, claims, page, size, space, storage, worker
from tests import sweep_fakes
from tests.sweep_fakes import BEGUN, PACE, TINY

ROOT = TINY.parents[1]
READY = [path.stem for path in ROOT.glob("configs/spaces/*.py")]
SPACE = """
def space(trial, config):
    config.optim.lr = trial.suggest_float("lr", 0.01, 0.5, log=True)
    config.model.num_channels = trial.suggest_int("width", 4, 64)
"""
VAL = "--config.data.val_fraction=.1"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to sweep in; trainings and pictures take no time, networks are their widths."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(children, "train", sweep_fakes.train)
    monkeypatch.setattr(
        size, "measure", lambda config: size.Size(1000 * config.model.num_channels, 10_000)
    )
    monkeypatch.setattr(page, "write_picture", lambda *_, **__: [])
    Path("space.py").write_text(SPACE)
    return tmp_path


USED = [("tpe", "median"), ("random", "hyperband"), ("qmc", "none"), ("tpe", "hyperband")]


def arguments(*more: object, trials: int = 6) -> tuple:
    common = ("--config", TINY, VAL, "--space", "space.py", "--workdir", "a")
    return (*common, "--trials", trials, *more)


def table(workdir: Path | str = "a") -> list[dict]:
    return json.loads(Path(workdir, "table.json").read_text())


def begun(folder: Path | str = ".") -> list[str]:
    path = Path(folder, BEGUN)
    return path.read_text().split() if path.exists() else []


def test_trials_are_compared_on_the_validation_split(here, command):
    done = command("jaxnets.sweep", *arguments("--pruner=none", "--seeds=2"))
    assert done.code == 0, done.err
    rows = table()
    assert len(rows) == 6
    for row in rows:
        config = configs.read(f"a/trial{row['number']}/recipe.py")
        assert config.optim.lr == row["setting"]["lr"]
        wanted = [sweep_fakes.accuracy(config, 3) + 0.001 * seed for seed in range(2)]
        assert row["value"] == pytest.approx(sum(wanted) / 2)  # and not 0.05 less, as on test
        assert [*row["epochs"].values()] == [sweep_fakes.accuracy(config, e) for e in (1, 2, 3)]
    more = command("jaxnets.sweep", *arguments("--pruner=none", "--seeds=2", trials=8))
    assert more.code == 0
    assert [row["number"] for row in table()] == list(range(8))
    assert len(begun()) == len(set(begun())) == 16


def test_what_is_over_a_budget_is_never_trained(here, command):
    done = command("jaxnets.sweep", *arguments("--budget", 20_000, "--sampler=random"))
    assert done.code == 0, done.err
    rows = table()
    trained = {f"a/trial{r['number']}/seed0" for r in rows if r["state"] in ("done", "pruned")}
    refused = [row for row in rows if row["state"] == "refused"]
    assert len(trained) == 6
    assert set(begun()) == trained
    assert refused  # a chance of (3/4)^6 each time
    assert all(row["setting"]["width"] > 20 and row["value"] is None for row in refused)
    assert all("more than 20,000" in row["why"] for row in refused)
    assert not any(Path(f"a/trial{row['number']}").exists() for row in refused)


def test_the_audit_decides_before_anything_is_built(here, refused, monkeypatch):
    monkeypatch.undo()
    monkeypatch.chdir(here)
    monkeypatch.setattr(worker, "MOST_REFUSED", 3)
    monkeypatch.setattr("jaxnets.data.load", None)
    assert "3 settings in a row are refused, the last one: " in refused(
        "jaxnets.sweep", *arguments("--macs=1e3", "--storage=sqlite:///b.db")
    )
    assert not begun()


def test_bad_trials_are_given_up_early(here, command):
    Path("space.py").write_text(
        "def space(trial, config):\n"
        "    config.optim.lr = trial.suggest_categorical('lr', [0.1, 0.4])\n"
    )
    args = arguments("--config.num_epochs=9", "--sampler=random", "--pruner=asha", trials=12)
    done = command("jaxnets.sweep", *args)
    assert done.code == 0, done.err
    rows = table()
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert pruned
    best = max(row["value"] for row in rows if row["value"] is not None)
    for row in pruned:
        assert row["why"] in ("after 1 of 9 epochs", "after 3 of 9 epochs")
        log = Path(f"a/trial{row['number']}/seed0/metrics.jsonl").read_text().splitlines()
        assert len(log) == len(row["epochs"]) < 9
        assert row["value"] is None
    assert best == pytest.approx(0.904)
    assert all(row["setting"]["lr"] == 0.1 for row in rows if row["value"] == best)


@pytest.mark.parametrize(("sampler", "pruner"), USED)
def test_samplers_and_pruners(sampler, pruner, here, command):
    flags = (f"--pruner={pruner}", f"--sampler={sampler}")
    done = command("jaxnets.sweep", *arguments(*flags, trials=3))
    assert done.code == 0, done.err
    assert len(table()) == 3
    assert {sampler for sampler, _ in USED} == {*storage.SAMPLERS}


def test_mistakes(here, command, refused):
    assert "--trials" in refused("jaxnets.sweep", *arguments()[:-2])
    without = ("--config", TINY, "--space", "space.py", "--workdir", "a", "--trials", 1)
    assert "never on the test set" in refused("jaxnets.sweep", *without)
    for text, said in (
        ("1 / 0", "space.py: ZeroDivisionError"),
        ("def spaces(): pass", "lacks the function space(trial, config)"),
        ("def space(trial, config): 1 / 0", "space() raises ZeroDivisionError"),
        ("def space(trial, config): config.optim.lrr = 1", "space() raises AttributeError"),
        ("def space(trial, config): pass", "suggests nothing"),
        ("def space(trial, config):\n trial.suggest_int('a', 0, 1)\n return 3", "no configuration"),
    ):
        Path("space.py").write_text(text)
        assert said in refused("jaxnets.sweep", *arguments())
        assert not Path("a").exists()
    Path("space.py").unlink()
    assert "unknown file --space 'space.py'" in refused("jaxnets.sweep", *arguments())


def test_a_space_that_raises_later_ends_it(here, refused):
    Path("space.py").write_text(
        "def space(trial, config):\n"
        "    if trial.suggest_int('a', 0, 0) == 0 and trial.number > 1: raise KeyError('late')\n"
    )
    assert "space() raises KeyError: 'late'" in refused("jaxnets.sweep", *arguments())
    assert len(begun()) == 2


def test_a_space_may_leave_settings_out(here, command):
    Path("space.py").write_text(
        "import optuna\n"
        "def space(trial, config):\n"
        "    if trial.suggest_int('a', 0, 1): raise optuna.TrialPruned('odd')\n"
    )
    assert command("jaxnets.sweep", *arguments("--sampler=random", trials=2)).code == 0
    whys = {row["why"] for row in table() if row["state"] == "refused"}
    assert whys <= {"odd"}
    assert len(begun()) == 2


# Ready spaces.


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("se_resnet", "se_resnet"), ("hybrid", "cifar100:v5"), ("recipe", "quickstart")],
)
def test_ready_spaces(name, recipe):
    """What they propose is valid, and not always the same."""
    found = space.read(ablation.named(name, "spaces"), recipe, (VAL,))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    proposed = []
    for _ in range(20):
        config = found.propose(study.ask())
        classes, options = networks.model_options(config, 100)
        known = {k: o.default for k, o in networks.options(config.model.name).items()}
        checks.network(config.model.name, classes, known | options)
        make_optimizer(config.optim, config.schedule, steps_per_epoch=1, num_epochs=10)
        proposed.append(configs.to_json(config))
    assert len(set(proposed)) > 15
    assert {*READY} == {"se_resnet", "hybrid", "recipe"}


# Claims.


@pytest.fixture
def study():
    return optuna.create_study(direction="maximize")


def test_a_trial_of_a_dead_worker_is_queued_once(study, tmp_path):
    with claims.Worker(tmp_path) as alive:
        trial = study.ask()
        trial.suggest_int("a", 0, 9)
        with alive.running(trial):
            assert claims.take_over(study, tmp_path) == []
    with pytest.raises(RuntimeError), claims.Worker(tmp_path) as dead, dead.running(trial):
        raise RuntimeError  # its file stays, its lock does not
    assert claims.take_over(study, tmp_path) == [0]
    assert claims.take_over(study, tmp_path) == []
    old, new = study.trials
    assert (old.state.name, new.state.name) == ("FAIL", "WAITING")
    assert (claims.origin(new), new.params) == (0, old.params)
    assert claims.counted(study.trials, unique=False) == [new]
    again = study.ask()
    assert again.suggest_int("a", 0, 9) == old.params["a"]


def test_a_worker_elsewhere_is_dead_when_it_is_silent(study, tmp_path, monkeypatch):
    trial = study.ask()
    trial.set_user_attr("worker", "elsewhere/1")
    trial.set_user_attr("beat", time.time() - claims.GRACE + 30)
    assert claims.take_over(study, tmp_path) == []
    trial.set_user_attr("beat", time.time() - claims.GRACE - 1)
    assert claims.take_over(study, tmp_path) == [0]
    study.ask()  # which takes what was queued
    never = study.ask()
    assert claims.take_over(study, tmp_path) == []
    monkeypatch.setattr(claims, "GRACE", -1.0)
    assert never.number in claims.take_over(study, tmp_path)


def test_a_judge_that_dies_loses_nothing(study, tmp_path, monkeypatch):
    """Between queueing a trial again and failing it: queued twice, it still counts once."""
    trial = study.ask()
    trial.suggest_int("a", 0, 9)
    monkeypatch.setattr(claims, "GRACE", -1.0)
    monkeypatch.setattr(claims, "close", lambda *_: None)
    assert claims.take_over(study, tmp_path) == [0]
    claims.queue_again(study, study.trials[0])
    monkeypatch.undo()
    monkeypatch.setattr(claims, "GRACE", -1.0)
    assert claims.take_over(study, tmp_path) == []  # only closed
    assert study.trials[0].state.name == "FAIL"
    assert [t.number for t in claims.counted(study.trials, unique=False)] == [1]


def test_two_of_one_combination_count_once(study):
    values = optuna.distributions.CategoricalDistribution(("x", "y"))
    for value in ("x", "y", "x"):
        claims.queue(study, {"a": value}, {"a": values})
    assert [t.number for t in claims.counted(study.trials, unique=True)] == [0, 1]


def test_a_failed_trial_that_is_tried_again_counts_once(study):
    trial = study.ask()
    trial.suggest_int("a", 0, 9)
    trial.set_user_attr("error", "the disk is full")
    study.tell(trial, state=optuna.trial.TrialState.FAIL)
    assert [t.number for t in claims.counted(study.trials, unique=True)] == [0]
    claims.queue_again(study, study.trials[0])
    for unique in (True, False):
        assert [t.number for t in claims.counted(study.trials, unique=unique)] == [1]
    assert "error" not in study.trials[1].user_attrs


# Workers that are killed.


def start(folder: Path, url: str, seed: int, *more: str) -> subprocess.Popen:
    args = ["--config", str(TINY), VAL, "--workdir", "a", "--storage", url, *more]
    with open(folder / f"worker{seed}.txt", "a") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.sweep_fakes", *args],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def kill_at_random(folder: Path, url: str, kills: int, *more: str) -> list[dict]:
    """Two workers, one of them killed now and then and started again; the table at the end."""
    draw = random.Random(kills)
    (folder / "space.py").write_text(SPACE)
    (folder / PACE).write_text("0.05")
    workers = [start(folder, url, i, *more) for i in range(2)]
    try:
        for _ in range(kills):
            before = len(begun(folder))
            until = time.monotonic() + 200
            while (
                len(begun(folder)) < before + 2 and workers[0].poll() is workers[1].poll() is None
            ):
                assert time.monotonic() < until, "no worker begins anything"
                time.sleep(0.02)
            time.sleep(draw.uniform(0, 0.3))
            victim = draw.randrange(2)
            workers[victim].send_signal(signal.SIGKILL)
            workers[victim].wait()
            workers[victim] = start(folder, url, victim, *more)
        (folder / PACE).unlink()
        codes = [process.wait(timeout=250) for process in workers]
    finally:
        for process in workers:
            with contextlib.suppress(OSError):
                process.kill()
            process.wait()
    said = "".join((folder / f"worker{i}.txt").read_text() for i in range(2))
    assert codes == [0, 0], said
    return table(folder / "a")


def workdir(row: dict) -> str:
    """Of the one run of a trial."""
    return f"a/trial{row['number']}/seed{row['runs'][0]['seed']}"


def assert_nothing_lost(folder: Path, rows: list[dict], wanted: int) -> None:
    """Each setting is there once, trained to its end in a workdir of its own."""
    assert len(rows) == wanted
    assert {row["state"] for row in rows} == {"done"}
    assert len({row["number"] for row in rows}) == wanted
    for row in rows:
        assert [run["epochs"] for run in row["runs"]] == [3]
        log = folder / workdir(row) / "metrics.jsonl"
        assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2, 3]
    assert set(begun(folder)) == {workdir(row) for row in rows}
    url = (folder / "url.txt").read_text()
    with contextlib.chdir(folder):
        trials = storage.open_study(url, "a").get_trials()
    states = Counter(t.state.name for t in trials if "closed" not in t.user_attrs)
    assert states == {"COMPLETE": wanted}


@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_a_worker_that_is_killed_loses_nothing(scheme, tmp_path):
    url = f"{scheme}:///b.db"
    (tmp_path / "url.txt").write_text(url)
    rows = kill_at_random(tmp_path, url, 1, "--grid", "optim.lr=.1,.2,.3", "--grid=seed=1,2")
    assert_nothing_lost(tmp_path, rows, 6)
    assert {tuple(row["setting"].values()) for row in rows} == {
        (lr, seed) for lr in (".1", ".2", ".3") for seed in "12"
    }


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["sqlite", "journal"])
def test_workers_killed_at_random(scheme, tmp_path):
    url = f"{scheme}:///b.db"
    (tmp_path / "url.txt").write_text(url)
    more = ("--space", "space.py", "--trials", "40", "--pruner", "none")
    rows = kill_at_random(tmp_path, url, 8, *more)
    assert_nothing_lost(tmp_path, rows, 40)


@pytest.mark.slow
def test_a_training_ends_with_its_worker(tmp_path):
    """SIGKILL to the worker: its child saves and ends; the same command goes on in its workdir."""
    args = [
        sys.executable, "-m", "jaxnets.sweep", "--config", str(TINY), "--config.num_epochs=400",
        "--grid", "optim.lr=.1", "--workdir", "a",
    ]  # fmt: skip
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    log, output = tmp_path / "a/trial0/seed0/metrics.jsonl", tmp_path / "a/trial0/seed0.log"

    def epochs() -> int:
        return len(log.read_text().splitlines()) if log.exists() else 0

    def wait_for(condition: Callable[[], bool], running: bool = True) -> None:
        until = time.monotonic() + 250
        while not condition():
            assert time.monotonic() < until
            assert process.poll() is None or not running
            time.sleep(0.1)

    process = subprocess.Popen(args, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
    wait_for(lambda: epochs() >= 2)
    process.kill()
    process.wait()
    wait_for(lambda: "stopped" in output.read_text(), running=False)
    done = epochs()
    process = subprocess.Popen(args, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: epochs() >= done + 2)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == 130
    assert "given back; the same command goes on" in out
    assert "resuming" in output.read_text()
