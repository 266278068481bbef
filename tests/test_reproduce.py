"""The plan's rows are run, cut, resumed and kept; every row has a stand-in on the digits."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxnets.config import read as read_config
from jaxnets.data.cifar import CIFAR10
from jaxnets.reproduce import __main__ as reproduce
from jaxnets.reproduce import training
from jaxnets.results import plan as plans
from jaxnets.results import record
from jaxnets.results.plan import Commands, Training
from jaxnets.runs import children
from jaxnets.runs.log import read_rows
from jaxnets.signals import TimeBudget
from tests.data_fakes import fake, python_files, write_folder

ROOT = Path(__file__).parents[1]
TINY = ROOT / "tests" / "tiny_config.py"
PLAN = plans.read(ROOT / "results" / "plan.py")
HEAD = "from jaxnets.results.plan import Commands, Published, Training\n"
ROW = """Training(name={name!r}, recipe={recipe!r}, parameters=1, minutes={{"cpu": 2, "gpu": 1}},
    seeds={seeds}, overrides={overrides!r}, trainer={trainer!r})"""
SHORTCUTS = "shortcut_kernel_sizes=1,1"
# So little of each network, and of training, that a row takes seconds.
NARROW = {
    "se_resnet": ("num_channels=16", "num_blocks=1,1", "conv_kernel_sizes=3,3", SHORTCUTS),
    "mish_se_resnet18": ("widths=16,16,32,32", "num_blocks=1,1,1,1"),
    "dense_se_resnet": ("widths=16,16,32", "depth=2"),
    "resnet18": ("num_channels=8", "num_blocks=1,1,1,1"),
    "cifar100": ("width=.125",),
}
LITTLE = ("data.name=digits", "num_epochs=1", "batch_size=719", "augment.ops=none")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to reproduce in; rows run in this process."""

    def train(plan, row, seed, minutes, environment):
        code = training.run(plan, row, seed, minutes, time.monotonic())
        return children.Ended(code, 0, False)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "train", train)
    (tmp_path / "results").mkdir()
    return tmp_path


def row(name="tiny", seeds=(0,), overrides=("num_epochs=2",), trainer="jaxnets", recipe=TINY):
    return ROW.format(
        name=name, recipe=str(recipe), seeds=seeds, overrides=overrides, trainer=trainer
    )


def write_plan(folder: Path, *rows: str, order: str = "[r.name for r in ROWS]") -> None:
    listed = "".join(f"{r},\n" for r in rows)
    text = f'{HEAD}ROWS = ({listed})\nORDER = {{"cpu": {order}, "gpu": {order}}}\n'
    (folder / "results" / "plan.py").write_text(text)


def figures(name: str, seed: int = 0) -> dict:
    return json.loads(Path(f"results/{name}/seed{seed}/figures.json").read_text())


def test_the_next_missing_row_seed_by_seed(here, command):
    write_plan(here, row("a:b", (0, 3)), row("later"))
    done = command("jaxnets.reproduce", "--next", "--device", "cpu")
    assert done.code == 0, done.err
    for seed in (0, 3):
        kept = Path(f"results/a_b/seed{seed}")
        found, log = figures("a_b", seed), read_rows(kept / "metrics.jsonl")
        assert {p.name for p in kept.iterdir()} == {
            "config.json", "metrics.jsonl", "starts.jsonl", "figures.json"
        }  # fmt: skip
        assert json.loads((kept / "config.json").read_text())["seed"] == seed
        assert (found["epoch"], found["epochs"], found["finished"]) == (2, 2, True)
        assert found["last"]["accuracy"] == log[-1]["eval/accuracy"]
        assert found["last"]["accuracy"] <= found["last"]["top5"] <= 1
        best = max(log, key=lambda r: r["eval/accuracy"])
        assert (found["best"]["epoch"], found["best"]["loss"]) == (best["epoch"], best["eval/loss"])
        assert 0 < found["best"]["ece"] < 1
        assert found["compile_seconds"] > 0
        assert 0 < found["train_seconds"] < found["total_seconds"]
    assert not Path("results/later").exists()
    listed = command("jaxnets.reproduce", "--list", "--device", "cpu").out
    assert "1 of 2 rows done; missing: about 2 min on a CPU" in listed
    assert "done" in next(line for line in listed.splitlines() if line.startswith("a:b"))
    assert command("jaxnets.reproduce", "a:b", "--device=cpu").out == "nothing is missing\n"


def test_a_cut_run_is_kept_as_far_as_it_got_and_goes_on(here, command, monkeypatch):
    write_plan(here, row(overrides=("num_epochs=3",)), row("later"))
    asked = []
    monkeypatch.setattr(TimeBudget, "spent", lambda self: asked.append(1) or len(asked) > 6)
    assert command("jaxnets.reproduce", "--device=cpu", "--minutes=9").code == 0
    found = figures("tiny")
    assert (found["epoch"], found["finished"], found["calls"]) == (1, False, 1)
    assert found["last"]["top5"] is None  # the checkpoint is one within an epoch
    assert not Path("results/later").exists()
    assert "seed 0: 1 of 3 epochs" in command("jaxnets.reproduce", "--list").out
    monkeypatch.setattr(TimeBudget, "spent", lambda self: False)
    assert command("jaxnets.reproduce", "--device=cpu").code == 0
    found = figures("tiny")
    assert (found["epoch"], found["finished"], found["calls"]) == (3, True, 2)
    assert found["last"]["top5"] is not None
    assert [r["epoch"] for r in read_rows(Path("results/tiny/seed0/metrics.jsonl"))] == [1, 2, 3]


def test_minutes_take_as_many_rows_as_fit(here, command, monkeypatch):
    write_plan(here, row("a"), row("b"), row("c"))
    now = time.monotonic()
    passed = iter([0, 0, 60, 120.0])

    def train(plan, name, seed, minutes, environment):
        folder = Path(f"results/{name}/seed{seed}")
        folder.mkdir(parents=True)
        (folder / "figures.json").write_text('{"finished": true}')
        seen.append((name, round(minutes, 1)))
        clock[0] = now + next(passed)
        return children.Ended(0, 0, False)

    seen, clock = [], [now + next(passed)]
    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(reproduce.time, "monotonic", lambda: clock[0])
    assert reproduce.main(["--device=cpu", "--minutes=1"]) == 0
    assert seen == [("a", 1.0), ("b", 1.0)]


def test_a_run_begun_anew_does_not_replace_a_longer_one(here, command, tmp_path):
    write_plan(here, row(overrides=("num_epochs=3",)))
    plan = plans.read()
    (training_row,) = plan.trainings
    for name, epochs in (("long", 2), ("short", 1)):
        (tmp_path / name).mkdir()
        rows = [
            {"step": i, "epoch": i, "eval/accuracy": 0.5, "eval/loss": 1.0, "seconds": 1.0}
            for i in range(1, epochs + 1)
        ]
        text = "".join(json.dumps(r) + "\n" for r in rows)
        (tmp_path / name / "metrics.jsonl").write_text(text)
    assert record.keep(plan, training_row, 0, tmp_path / "long") is not None
    assert record.keep(plan, training_row, 0, tmp_path / "short") is None
    assert figures("tiny")["epoch"] == 2


def test_time_is_left_to_close(tmp_path):
    assert training.reserve(tmp_path, 7) == pytest.approx(1)
    record.add_call(tmp_path, record.Call("now", 500.0, 1.0, 40.0))
    assert training.reserve(tmp_path, 7) == pytest.approx(1)
    assert training.reserve(tmp_path, 60) == pytest.approx(1)
    assert training.reserve(tmp_path, 0.2) == pytest.approx(0.1)


def test_the_twin(here, command):
    pytest.importorskip("torch")
    write_plan(here, row("twin", trainer="torch_ref"))
    assert command("jaxnets.reproduce", "--device=cpu").code == 0
    found = figures("twin")
    assert (found["trainer"], found["finished"]) == ("torch_ref", True)
    assert found["last"]["accuracy"] <= found["last"]["top5"] <= 1
    start = json.loads(Path("results/twin/seed0/starts.jsonl").read_text())
    assert start["command"].startswith("python -m torch_ref.train --config")
    assert "torch" in start["versions"]


def test_commands(here, command):
    """Run in a process each; the answer "no" is one, and what ended is not run again."""
    rows = """Commands(name="c/d", minutes={"cpu": 1, "gpu": 1}, environment={"X": "1"}, commands=(
        "jaxnets.models se_resnet --budget 1 --json {out}/small.json",
        "jaxnets.models se_resnt"))"""
    write_plan(here, rows)
    failed = command("jaxnets.reproduce", "c_d", "--device=cpu")
    assert failed.code == 2
    assert "ended with 2" in failed.err
    assert not Path("results/c_d").exists()
    write_plan(here, rows.replace("se_resnt", "--help"))
    assert command("jaxnets.reproduce", "c/d", "--device=cpu").code == 0
    found = json.loads(Path("results/c_d/commands.json").read_text())
    assert [c["exit_code"] for c in found["commands"]] == [1, 0]
    assert json.loads(Path("results/c_d/small.json").read_text())
    again = command("jaxnets.reproduce", "--device=cpu")
    assert again.out == "nothing is missing in the plan for a cpu\n"


ABSENT = """
import sys
class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {"sklearn", "matplotlib", "tensorboardX", "tqdm",
                "safetensors", "tensorflow_datasets", "array_record", "pandas"}:
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
"""


def test_processes_of_their_own_without_other_packages(tmp_path):
    """With jax, flax, optax, orbax, numpy, Pillow, what they need, and ml_collections only."""
    data = python_files(fake(CIFAR10))
    write_folder(tmp_path / "data", CIFAR10.python.folder, data)
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "sitecustomize.py").write_text(ABSENT)
    (tmp_path / "results").mkdir()
    write_plan(tmp_path, row(overrides=("num_epochs=2", "data.name=cifar10", "batch_size=5")))
    done = subprocess.run(
        [sys.executable, "-m", "jaxnets.reproduce", "--device=cpu", "--minutes=9"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path / 'absent'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "tiny, seed 0: 2 of 2 epochs; kept in results/tiny/seed0" in done.stdout
    assert "note: no pictures" in done.stderr
    found = json.loads((tmp_path / "results/tiny/seed0/figures.json").read_text())
    assert found["finished"]
    assert found["best"]["ece"] is not None


def test_mistakes(here, command, refused):
    assert "no such plan" in refused("jaxnets.reproduce", "--list")
    write_plan(here, row("alpha"))
    assert "did you mean 'alpha'?" in refused("jaxnets.reproduce", "alpa")
    assert "--minutes" in refused("jaxnets.reproduce", "--minutes=0")
    assert "finds only a cpu" in refused("jaxnets.reproduce", "--device=gpu")
    write_plan(here, row("a"), row("a"))
    assert "two rows" in refused("jaxnets.reproduce", "--list")
    write_plan(here, row("a"), order="['b']")
    assert "no row 'b'" in refused("jaxnets.reproduce", "--list")
    write_plan(here, row("a", trainer="keras"))
    assert "trainer 'keras'" in refused("jaxnets.reproduce", "--list")
    write_plan(here, "1")
    assert "not a plan" in refused("jaxnets.reproduce", "--list")


def stand_in(real: Training) -> Training:
    """A row with the same recipe and trainer, of so little that it takes seconds."""
    model = read_config(str(ROOT / real.recipe)).model.name
    narrow = NARROW[model.partition("_v")[0] if model.startswith("cifar100") else model]
    if model == "cifar100_v5":
        narrow = ("width=.25",)
    overrides = (*real.overrides, *(f"model.{key}" for key in narrow), *LITTLE)
    return row(real.name, real.seeds[:1], overrides, real.trainer, ROOT / real.recipe)


AT_ONCE = {"se_resnet_small"}  # the others compile for half a minute each


@pytest.mark.parametrize(
    "name",
    [
        r.name if r.name in AT_ONCE else pytest.param(r.name, marks=pytest.mark.slow)
        for r in PLAN.trainings
    ],
)
def test_stand_in_of_every_training(name, here, command):
    real = PLAN.row(name)
    write_plan(here, stand_in(real))
    done = command("jaxnets.reproduce", "--device=cpu")
    assert done.code == 0, done.err
    found = figures(real.folder, real.seeds[0])
    assert found["finished"]
    assert found["trainer"] == real.trainer


@pytest.mark.parametrize("name", [r.name for r in PLAN.rows.values() if isinstance(r, Commands)])
def test_commands_of_the_plan_are_understood(name, tmp_path, monkeypatch):
    """Flags and recipes; what they do has tests of its own."""
    import shlex

    from jaxnets import cli
    from jaxnets.bench import __main__ as bench
    from jaxnets.parity import __main__ as parity

    monkeypatch.chdir(ROOT)
    for words in PLAN.row(name).commands:
        module, *args = shlex.split(words.replace("{out}", str(tmp_path)))
        if module == "jaxnets.bench":
            assert bench.parse(bench._parser().parse_args(args))
        else:
            assert module == "jaxnets.parity"
            assert cli.recipe(parity._parser().parse_args(args)).dtype == "float32"
