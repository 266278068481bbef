"""Grids: every combination and seed, gone on with, failed runs named, tables and a picture."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxnets import checks
from jaxnets import config as configs
from jaxnets.config import networks
from jaxnets.runs import children
from jaxnets.sweep import ablation, grid, recipe, size, storage, trial
from jaxnets.train.__main__ import main as real_training
from tests import sweep_fakes
from tests.sweep_fakes import BEGUN, FAILS, TINY

ABLATIONS = sorted(Path(__file__).parents[1].glob("configs/ablations/*.py"))
GRID = ("--config", TINY, "--grid", "optim.lr=.1,.2", "--grid", "model.num_channels=4,8")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to sweep in; trainings take no time, and of networks only the width counts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(children, "train", sweep_fakes.train)
    monkeypatch.setattr(
        size, "measure", lambda config: size.Size(1000 * config.model.num_channels, 10_000)
    )
    return tmp_path


def begun() -> list[str]:
    return Path(BEGUN).read_text().split() if Path(BEGUN).exists() else []


def table(workdir: str = "sweeps/a") -> list[dict]:
    return json.loads(Path(workdir, "table.json").read_text())


def test_every_combination_and_seed(here, command):
    done = command("jaxnets.sweep", *GRID, "--seeds", 3, "--workdir", "sweeps/a")
    assert done.code == 0, done.err
    rows = table()
    settings = [tuple(row["setting"].values()) for row in rows]
    assert settings == [(".1", "4"), (".1", "8"), (".2", "4"), (".2", "8")]
    for row in rows:
        assert (row["state"], row["parameters"]) == (
            "done", 1000 * int(row["setting"]["model.num_channels"])
        )  # fmt: skip
        assert [run["seed"] for run in row["runs"]] == [0, 1, 2]
        config = configs.read(f"sweeps/a/trial{row['number']}/recipe.py")
        assert config.optim.lr == float(row["setting"]["optim.lr"])
        wanted = [100 * (sweep_fakes.accuracy(config, 3) + 0.001 * s - 0.05) for s in range(3)]
        assert row["figures"]["last"]["values"] == pytest.approx(wanted)
        assert row["figures"]["last"]["mean"] == pytest.approx(sum(wanted) / 3)
        assert row["figures"]["last"]["sd"] == pytest.approx(0.1)
        assert row["value"] == pytest.approx(sum(wanted) / 300)
    assert len(begun()) == len(set(begun())) == 12
    with open("sweeps/a/table.csv") as file:
        lines = list(csv.DictReader(file))
    assert [line["optim.lr"] for line in lines] == [".1", ".1", ".2", ".2"]
    assert float(lines[0]["last_mean"]) == rows[0]["figures"]["last"]["mean"]
    assert (lines[0]["n"], lines[0]["macs"]) == ("3", "10000")
    for name in ("accuracy.png", "accuracy_dark.png"):
        assert Path("sweeps/a", name).read_bytes().startswith(b"\x89PNG")
    assert "85.50 ± 0.10 %" in done.out
    again = command("jaxnets.sweep", *GRID, "--seeds", 3, "--workdir", "sweeps/a")
    assert again.code == 0
    assert len(begun()) == 12
    assert table() == rows


def test_a_failed_run_is_named_and_tried_again(here, command, monkeypatch):
    args = ("--config", TINY, "--grid", f"optim.lr=.1,{FAILS},.2", "--workdir", "sweeps/a")
    done = command("jaxnets.sweep", *args)
    assert done.code == 1
    assert "FAILED seed 0: the loss is no longer finite (all of it: sweeps/a/trial1/" in done.out
    assert [row["state"] for row in table()] == ["done", "failed", "done"]
    assert "no longer finite" in table()[1]["why"]
    monkeypatch.setattr(sweep_fakes, "FAILS", None)
    assert command("jaxnets.sweep", *args).code == 0
    assert [row["state"] for row in table()] == ["done"] * 3
    assert [row["number"] for row in table()] == [0, 1, 2]
    assert begun()[-1] == "sweeps/a/trial1/seed0"
    assert len(begun()) == 4


def test_what_was_interrupted_goes_on(here, command, monkeypatch):
    def signalled(args, environment, output, ends):
        return children.Ended(130, 2, False)

    monkeypatch.setattr(children, "train", signalled)
    args = (*GRID, "--workdir", "sweeps/a")
    assert command("jaxnets.sweep", *args).code == 130
    assert not Path("sweeps/a/table.json").exists()
    monkeypatch.setattr(children, "train", sweep_fakes.train)
    assert command("jaxnets.sweep", *args).code == 0
    assert [row["number"] for row in table()] == [0, 1, 2, 3]
    assert len(begun()) == 4


def test_trainings_as_they_are(tmp_path, command, monkeypatch):
    """In this process, but otherwise as users run them; each is a run of its own."""
    monkeypatch.chdir(tmp_path)

    def train(args, environment, output, ends):
        return children.Ended(real_training(args), 0, False)

    monkeypatch.setattr(children, "train", train)
    done = command(
        "jaxnets.sweep", "--config", TINY, "--config.num_epochs=1",
        "--grid", "model.se=none,nonsense", "--workdir", "sweeps/a",
    )  # fmt: skip
    assert done.code == 0, done.err
    row, refused = table()
    assert row["parameters"] == 470
    assert row["macs"] == size.measure(configs.read(str(TINY))).macs
    assert 0 < row["runs"][0]["last"] < 100
    start = json.loads(Path("sweeps/a/trial0/seed0/starts.jsonl").read_text())
    assert start["command"] == (
        "python -m jaxnets.train --config sweeps/a/trial0/recipe.py --config.seed=0 "
        "--workdir sweeps/a/trial0/seed0"
    )
    assert refused["state"] == "refused"
    assert "did you mean 'none'?" in refused["why"]
    evaluated = command("jaxnets.evaluate", "--workdir", "sweeps/a/trial0/seed0")
    assert evaluated.code == 0, evaluated.err


@pytest.mark.slow
def test_trainings_in_processes_of_their_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "jaxnets.sweep", "--config", TINY, "--config.num_epochs=1",
         "--grid", "optim.lr=.1,nan", "--workdir", "sweeps/a"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(TINY.parents[1])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "sweeps/a/table.json").read_text())
    assert [row["state"] for row in rows] == ["done", "refused"]
    assert "done: 1 epochs" in (tmp_path / "sweeps/a/trial0/seed0.log").read_text()


def test_values_of_lists_are_parted_by_semicolons():
    found = grid.parse(str(TINY), [], ["model.num_blocks=1,1;2,2", "model.conv_kernel_sizes=3"])
    assert found.values == {
        "model.num_blocks": ("1,1", "2,2"),
        "model.conv_kernel_sizes": ("3",),
    }
    assert found.config(found.settings()[1]).model.num_blocks == (2, 2)
    found = grid.parse(str(TINY), ["--config.seed=3"], ["augment.ops=none;crop,flip;crop"])
    configured = [found.config(setting) for setting in found.settings()]
    assert [c.augment.ops for c in configured] == [(), ("crop", "flip"), ("crop",)]
    assert configured[0].seed == 3


@pytest.mark.parametrize(
    ("spec", "overrides"),
    [
        ("se_resnet", []),
        ("mish_se_resnet18:as_run", ["--config.optim.name=adamw"]),
        ("cifar100:v3", ["--config.optim.weight_decay=.0005", "--config.data.dir=here"]),
        ("quickstart", ["--config.model.name=resnet18", "--config.augment.ops=none"]),
    ],
)
def test_a_recipe_is_the_configuration(spec, overrides, tmp_path):
    config = configs.read(spec, overrides)
    path = tmp_path / "written.py"
    path.write_text(recipe.text(config, 'What """it" is.\n\nAnd \\ more.'))
    assert configs.to_json(configs.read(str(path))) == configs.to_json(config)


def test_sizes_are_the_audits():
    """Before any device is asked for; with the classes of the data."""
    code = (
        "from jaxnets import config; from jaxnets.sweep import size; import jax\n"
        "print(size.measure(config.read('cifar100:v2')))\n"
        "print(jax._src.xla_bridge._backends)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["Size(parameters=1283684, macs=85805056)", "{}"]


MISTAKES = {
    "a key that does not exist": (["--grid", "optim.nme=sgd"], "did you mean --config.optim.name?"),
    "a value that does not fit": (["--grid", "optim.lr=fast"], "optim.lr"),
    "no value": (["--grid", "optim.lr="], "a key and its values"),
    "an empty value": (["--grid", "optim.lr=.1,"], "a key and its values"),
    "no key": (["--grid", ".1,.2"], "a key and its values"),
    "a value twice": (["--grid", "optim.lr=.1,.1"], "there twice"),
    "a key twice": (["--grid", "optim.lr=.1", "--grid", "optim.lr=.2"], "there twice"),
    "nothing": ([], "--grid, --space or --ablation"),
    "trials of a grid": (["--grid", "optim.lr=.1", "--trials=3"], "a grid is trained whole"),
    "no workdir": (["--grid", "optim.lr=.1", "--workdir="], "--workdir"),
    "a storage": (["--grid", "optim.lr=.1", "--storage=sqlite:////proc/a.db"], "cannot be"),
    "a driver": (["--grid=optim.lr=.1", "--storage=nothing://host/db"], "--storage nothing://host"),
    "a password": (["--grid=optim.lr=.1", "--storage=nothing://me:pw@host/db"], "me:***@host"),
    "export alone": (["--grid", "optim.lr=.1", "--export=a.py"], "--show"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name, here, refused):
    args, said = MISTAKES[name]
    flags = [] if any(a.startswith("--workdir") for a in args) else ["--workdir", "a"]
    assert said in refused("jaxnets.sweep", "--config", TINY, *args, *flags)
    assert not begun()


def test_the_workdir_of_another_sweep(here, command, refused):
    args = ("--config", TINY, "--workdir", "sweeps/a")
    assert command("jaxnets.sweep", *args, "--grid", "optim.lr=.1").code == 0
    for other, said in (
        (("--grid", "optim.lr=.2"), "another sweep (grid)"),
        (("--grid", "optim.lr=.1", "--seeds=2"), "another sweep (seeds 1 -> 2)"),
        (("--grid", "optim.lr=.1", "--config.num_epochs=9"), "num_epochs 3 -> 9"),
    ):
        assert said in refused("jaxnets.sweep", *args, *other)
    url = ("--storage", "sqlite:///sweeps/a/study.db")  # the same study, from elsewhere
    Path("sweeps/a/sweep.json").unlink()
    assert "another sweep (grid)" in refused("jaxnets.sweep", *args, *url, "--grid=optim.lr=.2")
    Path("run").mkdir()
    Path("run/config.json").write_text("{}")
    run = ("--config", TINY, "--workdir", "run", "--grid=optim.lr=.1")
    assert "a run of a trainer" in refused("jaxnets.sweep", *run)
    Path("file").write_text("")
    assert "file" in refused("jaxnets.sweep", "--config", TINY, "--workdir=file", "--grid=seed=1,2")
    assert len(begun()) == 1


def test_without_optuna(here, refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    said = refused("jaxnets.sweep", *GRID, "--workdir=a")
    assert 'pip install "jaxnets[sweep]"' in said


def test_a_run_that_another_process_still_writes_is_waited_for(tmp_path, monkeypatch):
    from jaxnets.runs.workdir import claim

    monkeypatch.setattr(trial, "_PATIENCE", 0.0)
    lock = claim(tmp_path / "run")
    with pytest.raises(trial.Failed, match="another process is training"):
        trial._wait_for(tmp_path / "run")
    lock.close()
    trial._wait_for(tmp_path / "run")


def test_urls():
    assert storage.without_password("sqlite:///sweeps/a@b/study.db")
    assert storage.without_password("postgresql://me@host:5432/db")
    assert storage.without_password("mysql+pymysql://me:pw@host/db") is None


# Ablations.


def ablation_file(text: str) -> Path:
    path = Path("mine.py")
    path.write_text("from jaxnets.sweep.ablation import Setting\n" + text)
    return path


def test_an_ablation_trains_its_settings(here, command, refused):
    text = (
        f"RECIPE = {str(TINY)!r}\n"
        "SETTINGS = {'slow': Setting(('optim.lr=.01',), '74 %'), 'wide': Setting("
        "('model.num_channels=8', 'optim.name=adam')), 'other': Setting((), '', 'quickstart')}\n"
    )
    args = ("--ablation", ablation_file(text), "--config.num_epochs=2", "--workdir", "sweeps/a")
    done = command("jaxnets.sweep", *args)
    assert done.code == 0, done.err
    rows = table()
    assert [row["setting"] for row in rows] == [
        {"setting": "slow"}, {"setting": "wide"}, {"setting": "other"}
    ]  # fmt: skip
    assert [row["claim"] for row in rows] == ["74 %", "", ""]
    configured = [configs.read(f"sweeps/a/trial{i}/recipe.py") for i in range(3)]
    assert [c.name for c in configured] == ["tiny", "tiny", "quickstart"]
    assert [c.optim.lr for c in configured] == [0.01, 0.1, 0.1]
    assert configured[1].optim.name == "adam"
    assert {c.num_epochs for c in configured} == {2}
    assert "claimed" in done.out
    assert "74 %" in done.out
    ablation_file(text.replace("74", "75"))
    assert "another sweep (ablation)" in refused("jaxnets.sweep", *args)
    shown = command("jaxnets.sweep", "--show", "sweeps/a")
    assert "74 %" in shown.out


def test_mistakes_in_ablations(here, refused):
    def said(text: str, *more: str) -> str:
        args = ("--ablation", ablation_file(text), "--workdir", "a", *more)
        return refused("jaxnets.sweep", *args)

    recipe = f"RECIPE = {str(TINY)!r}\n"
    assert "KeyError: 'SETTINGS'" in said(recipe)
    assert "at least one" in said(recipe + "SETTINGS = {}")
    assert "at least one" in said(recipe + "SETTINGS = {'a': ('optim.lr=1',)}")
    wrong = recipe + "SETTINGS = {'a': Setting(('optim.lrr=1',))}"
    assert "did you mean --config.optim.lr?" in said(wrong)
    good = recipe + "SETTINGS = {'a': Setting()}"
    assert "leave --config out" in said(good, "--config", "quickstart")
    assert "one of them" in said(good, "--grid", "optim.lr=1")
    assert "did you mean 's1_ladder'?" in refused("jaxnets.sweep", "--ablation=s1_lader")


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_ablations_of_the_documents(path):
    """Each is found by its name; every setting is a configuration, and no two are the same."""
    assert ablation.named(path.stem, "ablations").samefile(path)
    recipe, rows = ablation.read(path)
    found = ablation.Ablation(recipe, (), rows)
    grid.check(found, "--ablation")
    settings = [configs.decisive_keys(found.config(setting)) for setting in found.settings()]
    assert all(settings.count(setting) == 1 for setting in settings)
    for setting in found.settings():
        config = found.config(setting)
        options = networks.model_options(config, 10)[1]
        checks.network(
            config.model.name,
            10,
            {k: o.default for k, o in networks.options(config.model.name).items()} | options,
        )
    text = path.read_text()
    assert f"--ablation {path.stem} --seeds 3" in " ".join(text.split())
    assert any(row.claim for row in rows.values())


@pytest.mark.slow
def test_networks_of_the_documents_ablations_are_within_the_budget():
    """All but the Dense SE-ResNet that shares nothing, as its document says."""
    over = {}
    for name in ("s1_network", "se_placement", "s3_sharing"):
        recipe, rows = ablation.read(ablation.named(name, "ablations"))
        found = ablation.Ablation(recipe, (), rows)
        for setting in found.settings():
            count = size.measure(found.config(setting)).parameters
            if count > 5_000_000:
                over[setting[ablation.KEY]] = count
    assert over == {"none": 9_014_618}
