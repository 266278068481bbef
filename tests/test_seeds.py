"""Several seeds of one recipe: each is the run of its own, all are resumed and summed up as one."""

import pytest

from jaxnets.runs import children
from jaxnets.runs.children import Ended
from jaxnets.train import __main__ as train
from tests.runs import assert_same_run
from tests.test_train import CONFIG

ONE_STEP = ("--config", CONFIG, "--config.num_epochs=1", "--config.batch_size=1438")


@pytest.fixture
def started(monkeypatch):
    """The arguments that processes were started with; they run here."""
    found = []

    def run(args, environment):
        found.append(args)
        return Ended(train.main(args), 0, False)

    monkeypatch.setattr(children, "train", run)
    return found


def test_each_seed_is_a_run_of_its_own(tmp_path, capsys, started):
    args = (*ONE_STEP, "--config.seed=3", "--seeds=2", f"--workdir={tmp_path / 'both'}")
    assert train.main(args) == 0
    out = capsys.readouterr().out
    assert "seed 4, 2 of 2:" in out
    assert "| tiny |" in out
    assert "95 % interval" in out
    row = next(line for line in out.splitlines() if line.startswith("| tiny |"))
    assert row.split(" | ")[3] == "2"
    alone = (*ONE_STEP, "--config.seed=4", f"--workdir={tmp_path / 'alone'}")
    assert train.main(alone) == 0
    assert_same_run(tmp_path / "both" / "seed1", tmp_path / "alone")
    assert train.main(args) == 0  # there is nothing left to train
    assert capsys.readouterr().out.count("already trained") == 2
    assert len(started) == 4


def test_the_time_budget_is_one_for_all(tmp_path, capsys, monkeypatch):
    given = []

    def wait(args, environment, **_):
        given.append(args[-1])
        return Ended(0, 0, False)

    monkeypatch.setattr(children, "wait", wait)
    times = iter([0.0, 0.0, 30.0, 90.0])
    monkeypatch.setattr("jaxnets.train.seeds.time.monotonic", lambda: next(times))
    args = (*ONE_STEP, "--config.stop_after_minutes=1.", "--seeds=5", f"--workdir={tmp_path}")
    assert train.main(args) == 0
    assert [float(arg.partition("=")[2]) for arg in given] == [1.0, 0.5]
    assert "95 %" not in capsys.readouterr().out


@pytest.mark.parametrize(("ended", "code"), [(Ended(2, 0, False), 2), (Ended(0, 15, True), 143)])
def test_what_ends_one_ends_all(tmp_path, monkeypatch, ended, code):
    calls = []
    monkeypatch.setattr(children, "wait", lambda *_, **__: calls.append(1) or ended)
    assert train.main((*ONE_STEP, "--seeds=3", f"--workdir={tmp_path}")) == code
    assert calls == [1]


def test_what_cannot_be_is_refused(tmp_path, refused):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    args = ("jaxnets.train", *ONE_STEP)
    held = refused(*args, "--seeds=2", "--workdir", tmp_path / "run")
    assert "holds a run itself (config.json); choose another one for --seeds" in held
    assert "at least 1" in refused(*args, "--seeds=0", "--workdir", tmp_path / "x")
    assert "leave out --distributed" in refused(*args, "--seeds=2", "--distributed")
