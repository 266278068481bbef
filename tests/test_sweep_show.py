"""What a sweep has found: tables, importance, fronts, one page, the best trial as a recipe."""

import json
from pathlib import Path

import optuna
import pytest

from jaxnets import config as configs
from jaxnets.runs import children
from jaxnets.sweep import analysis, figures, size
from jaxnets.sweep.found import Row
from tests import sweep_fakes
from tests.report_fakes import Page, assert_self_contained
from tests.sweep_fakes import FAILS, TINY


def row(number: int, value: float | None, parameters: int = 1, **more) -> Row:
    given = {"state": "done", "setting": {}, "why": "", "macs": 1, "runs": [], "epochs": {}}
    return Row(number, value=value, parameters=parameters, recipe="", **(given | more))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A grid in which one of three rates fails, and a search, both by trainings of no time."""
    folder = tmp_path_factory.mktemp("swept")
    space = (
        "def space(trial, config):\n"
        "    config.optim.lr = trial.suggest_float('lr', 0.01, 0.5, log=True)\n"
        "    config.model.num_channels = trial.suggest_int('<width>', 4, 64)\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(children, "train", sweep_fakes.train)
        patch.setattr(size, "measure", lambda c: size.Size(1000 * c.model.num_channels, 10**4))
        Path("space.py").write_text(space)
        from jaxnets.sweep.__main__ import main

        grid = ["--grid", f"optim.lr=.1,.3,{FAILS}", "--grid", "model.num_channels=4,8"]
        common = ["--config", str(TINY)]
        assert main([*common, *grid, "--seeds=2", "--workdir=sweeps/grid"]) == 1
        search = [
            "--space=space.py",
            "--trials=8",
            "--pruner=none",
            "--config.data.val_fraction=.1",
        ]
        code = main([*common, *search, "--budget=40000", "--workdir=sweeps/search"])
        assert code == 0
    return folder


@pytest.fixture
def here(swept, monkeypatch):
    monkeypatch.chdir(swept)
    return swept


@pytest.mark.parametrize("name", ["grid", "search"])
def test_a_page_that_needs_nothing_but_itself(name, here, command):
    shown = command("jaxnets.sweep", "--show", f"sweeps/{name}")
    assert shown.code == 0, shown.err
    folder = Path(f"sweeps/{name}/report")
    page = Page(folder / "index.html")
    html = page.source
    assert_self_contained(page, least_images=3, least_links=6)
    for key in ("best", "importance", "history", "front_parameters", "front_macs", "trials"):
        assert f'<section id="{key}">' in html
        assert f'href="#{key}"' in html
    for name_ in ("importance", "history", "front_parameters"):
        assert (folder / f"{name_}.png").read_bytes().startswith(b"\x89PNG")
        assert json.loads((folder / f"{name_}.json").read_text())
    assert ("validation split" in html) == (name == "search")
    if name == "search":
        assert "&lt;width&gt;" in html
        assert "<width>" not in html
    else:
        assert (folder / "settings.png").exists()
        assert "no longer finite" in html
        assert "6 trials: 4 done, 2 failed" in shown.out


def test_what_matters_is_important(here, command):
    command("jaxnets.sweep", "--show", "sweeps/grid")
    shares = json.loads(Path("sweeps/grid/report/importance.json").read_text())
    assert [*shares] == ["optim.lr", "model.num_channels"]
    assert shares["optim.lr"] > 0.7  # .2 of accuracy against .004
    assert sum(shares.values()) == pytest.approx(1)


def test_of_few_trials_nothing_is_said():
    study = optuna.create_study()
    assert analysis.importance(study, [row(i, 0.1 * i) for i in range(3)]) == {}
    assert analysis.importance(study, [row(i, 0.1) for i in range(9)]) == {}


def test_the_front():
    rows = [row(0, 0.5, 10), row(1, 0.6, 10), row(2, 0.55, 20), row(3, 0.7, 30), row(4, 0.7, 40)]
    found = analysis.front(rows, {r.number: r.parameters for r in rows})
    assert [r.number for r in found] == [1, 3]
    costs = {0: 5, 1: 4, 2: 3, 3: 2, 4: 1}
    assert [r.number for r in analysis.front(rows, costs)] == [4]


def test_the_best_as_a_recipe(here, command):
    for name in ("grid", "search"):
        done = command("jaxnets.sweep", "--show", f"sweeps/{name}", "--export", f"{name}.py")
        assert done.code == 0, done.err
        rows = json.loads(Path(f"sweeps/{name}/report/table.json").read_text())
        best = max((r for r in rows if r["value"] is not None), key=lambda r: r["value"])
        assert f"wrote {name}.py: trial {best['number']}" in done.out
        exported, trained = (
            configs.read(path)
            for path in (f"{name}.py", f"sweeps/{name}/trial{best['number']}/recipe.py")
        )
        assert configs.to_json(exported) == configs.to_json(trained)
        text = Path(f"{name}.py").read_text()
        assert f"python -m jaxnets.train --config {name}.py" in text
        split = "validation, best epoch" if name == "search" else "test, last epoch"
        assert split in text
    assert configs.read("grid.py").optim.lr == 0.1
    assert configs.read("grid.py").model.num_channels == 8


def test_latencies_of_a_front(here, command, monkeypatch):
    monkeypatch.setattr(analysis, "REPEATS", 1)
    monkeypatch.setattr(analysis, "SECONDS", 0.001)
    done = command("jaxnets.sweep", "--show", "sweeps/grid", "--latency")
    assert done.code == 0, done.err
    found = json.loads(Path("sweeps/grid/report/front_latency.json").read_text())
    assert found
    assert all(0 < point["latency"] < 1e4 for point in found)
    assert "latency of one image here (ms)" in done.out


def test_every_figure_is_drawn_without_a_value():
    """Searches in which all is pruned or refused, runs of one seed, names that are long."""
    from jaxnets.report.figure import DARK, to_png

    runs = [{"val": None, "last": 50.0, "best": 51.0, "seconds": 1.0}]
    rows = [row(0, 0.5, runs=runs, setting={"a": "x" * 99}), row(1, None, state="pruned")]
    rows.append(row(2, None, state="pruned", epochs={1: 0.3}))
    assert to_png(lambda theme: figures.history(rows, theme), DARK)
    assert to_png(lambda theme: figures.settings(rows[:1], ["a"], theme), DARK)


def test_mistakes(here, command, refused, tmp_path):
    assert "no sweep.json there" in refused("jaxnets.sweep", "--show", tmp_path)
    assert "takes only" in refused("jaxnets.sweep", "--show=sweeps/grid", "--config=quickstart")
    assert "takes only" in refused("jaxnets.sweep", "--show=sweeps/grid", "--config.seed=1")
    (tmp_path / "sweep.json").write_text("[]")
    assert "cannot be read" in refused("jaxnets.sweep", "--show", tmp_path)
    kept = json.loads(Path("sweeps/grid/sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps(kept | {"storage": None}))
    assert "has a password" in refused("jaxnets.sweep", "--show", tmp_path)
    url = f"sqlite:///{tmp_path}/none.db"
    assert "no such file" in refused("jaxnets.sweep", "--show", tmp_path, "--storage", url)
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "sweep.json").write_text(json.dumps(kept | {"study": "other"}))
    assert "no sweep 'other' in it" in refused("jaxnets.sweep", "--show", tmp_path)
    export = ("--show=sweeps/grid", f"--export={tmp_path}/no/best.py")
    assert "best.py" in refused("jaxnets.sweep", *export)
