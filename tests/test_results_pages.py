"""Tables and pictures agree with the logs that are committed, and with nothing else."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from jaxnets import config as configs
from jaxnets.errors import UserError
from jaxnets.files.regular import read_text
from jaxnets.models import create_abstract
from jaxnets.results import pages, pictures, record
from jaxnets.results import plan as plans
from jaxnets.results.summary import summarize
from jaxnets.runs.log import read_rows

ROOT = Path(__file__).parents[1]
PLAN = plans.read(ROOT / "results" / "plan.py")
KEPT = [
    pytest.param(row, seed, id=f"{row.folder}-{seed}")
    for row in PLAN.trainings
    for seed in row.seeds
    if PLAN.folder(row, seed).exists()
]


@pytest.fixture
def copy(tmp_path):
    """The pages and the results, to change them."""
    shutil.copytree(ROOT / "results", tmp_path / "results")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "docs").mkdir()
    for name in (pages.RESULTS, pages.README, pages.PERFORMANCE):
        shutil.copyfile(ROOT / name, tmp_path / name)
    return plans.read(tmp_path / "results" / "plan.py")


def stale(plan) -> set[str]:
    """The pages that `write` would change."""
    found = set()
    for path, blocks in pages.blocks_of(plan).items():
        text = read_text(path)
        for name, render in blocks.items():
            assert f"<!-- {name}: begin" in text
            if pages.replaced(text, name, render, path) != text:
                found.add(path.name)
    return found


def test_pages_are_what_the_logs_say():
    """Else: python -m jaxnets.results --write."""
    assert stale(PLAN) == set()


@pytest.mark.parametrize(("row", "seed"), KEPT)
def test_figures_are_those_of_the_log(row, seed):
    folder = PLAN.folder(row, seed)
    rows, found = read_rows(folder / "metrics.jsonl"), record.figures(folder)
    assert (found["row"], found["seed"], found["trainer"]) == (row.name, seed, row.trainer)
    assert (found["epoch"], found["epochs"]) == (
        rows[-1]["epoch"], PLAN.config(row, seed).num_epochs
    )  # fmt: skip
    assert found["finished"] == (found["epoch"] == found["epochs"])
    for which, of_log in record.figures_of_log(rows).items():
        assert {k: v for k, v in of_log.items() if v is not None}.items() <= found[which].items()
    (summed,) = summarize([folder])
    assert summed["parameters"] == row.parameters
    if found["finished"]:
        assert (PLAN.folder(row) / pictures.CURVES).exists()


def test_nothing_is_kept_that_is_not_planned():
    names = {row.folder for row in PLAN.rows.values()}
    there = {path.name for path in PLAN.results.iterdir() if path.is_dir()} - {"__pycache__"}
    assert there - names == {"published", "sweeps"}
    for row in PLAN.trainings:
        seeds = {path.name for path in PLAN.folder(row).glob("seed*")}
        assert seeds <= {f"seed{seed}" for seed in row.seeds}


def test_a_changed_log_or_table_is_seen(copy):
    log = copy.results / "se_resnet_c16" / "seed0" / "metrics.jsonl"
    log.write_text(log.read_text().replace("0.6848", "0.7848"))
    assert stale(copy) == {pages.RESULTS, pages.README}
    assert {path.name for path in pages.write(copy)} == {pages.RESULTS, pages.README}
    assert stale(copy) == set()
    results = copy.root / pages.RESULTS
    assert "78.48 %" in results.read_text()
    results.write_text(results.read_text().replace("78.48 %", "98.48 %"))
    assert stale(copy) == {pages.RESULTS}


def test_words_around_the_tables_stay(copy):
    path = copy.root / pages.RESULTS
    text = path.read_text()
    path.write_text(f"before\n{text}after\n")
    log = copy.results / "se_resnet_c16" / "seed0" / "metrics.jsonl"
    log.write_text(log.read_text().replace("0.6848", "0.7848"))
    pages.write(copy)
    changed = path.read_text()
    assert changed.startswith("before\n")
    assert changed.endswith("after\n")
    assert changed.splitlines()[:8] == f"before\n{text}".splitlines()[:8]


def test_results_of_another_configuration_are_refused(copy, refused):
    config = copy.results / "se_resnet_c16" / "seed0" / "config.json"
    config.write_text(config.read_text().replace('"batch_size": 128', '"batch_size": 64'))
    said = refused("jaxnets.results", "--write", "--plan", copy.path)
    assert "batch_size 64 -> 128" in said


def test_markers_that_do_not_fit(copy, refused):
    path = copy.root / pages.RESULTS
    path.write_text(path.read_text().replace("<!-- runs: end", "<!-- runs: ende"))
    assert "markers" in refused("jaxnets.results", "--write", "--plan", copy.path)
    path.unlink()
    assert pages.write(copy) == []  # without a page there is nothing to write


def test_seeds_have_a_mean_and_a_spread(copy):
    row = copy.row("se_resnet_fast")
    source = copy.results / "se_resnet_c16" / "seed0"
    for seed, accuracy in ((0, "0.95"), (1, "0.96")):
        folder = copy.folder(row, seed)
        shutil.copytree(source, folder)
        (folder / "config.json").write_text(configs.to_json(copy.config(row, seed)))
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        rows[-1] |= {"epoch": 35, "eval/accuracy": float(accuracy)}
        (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    text = pages.runs_text(copy, pages.measured(copy))
    assert "| `se_resnet_fast` | 4,697,742 | 35 | none | 95.50 ± 0.71 % |" in text
    assert "95.50 ± 0.71 % (chosen on the test set) | 2 |" in text
    assert "--config.seed=0" in text  # one of five
    own, theirs = pictures.points(copy, pages.measured(copy))
    point = next(p for p in own if p.name == "se_resnet_fast")
    assert (point.accuracy, round(point.spread, 2)) == (pytest.approx(95.5), 0.71)
    assert {round(p.accuracy, 2) for p in theirs} >= {95.6, 95.87, 93.7, 92.7, 55.11, 59.88}


def test_published_curves_lie_beside_own_ones(copy):
    row = copy.row("cifar100:v3_as_run")
    runs = pictures.curves(copy, row, [])
    assert list(runs) == ["published: v3, first run", "published: v3, second run"]
    last = runs["published: v3, first run"][-1]
    assert (last["epoch"], last["eval/accuracy"]) == (50, pytest.approx(0.5511))
    assert runs["published: v3, second run"][-1]["eval/accuracy"] == pytest.approx(0.5318)
    for other in copy.trainings:
        pictures.curves(copy, other, [])  # no name that is not there


def test_pictures_are_light_and_dark(copy, command):
    for path in copy.results.rglob("*.png"):
        path.unlink()
    assert command("jaxnets.results", "--write", "--plan", copy.path).code == 0
    light, dark = (copy.results / name for name in (pictures.ACCURACY, pictures.ACCURACY_DARK))
    assert light.read_bytes()[:4] == dark.read_bytes()[:4] == b"\x89PNG"
    assert light.read_bytes() != dark.read_bytes()
    assert (copy.results / "se_resnet_c16" / "curves.png").exists()


def test_order_of_the_plan():
    assert PLAN.order["cpu"][:6] == (
        "cifar100:v3_as_run", "cifar100:v3", "cifar100:v2_as_run", "se_resnet_small",
        "cifar100:v5_as_run", "se_resnet_small:torch",
    )  # fmt: skip
    assert PLAN.order["gpu"][:5] == (
        "parity_float32", "bench/se_resnet", "se_resnet_fast", "se_resnet", "cifar100_fast"
    )  # fmt: skip
    for device, order in PLAN.order.items():
        meant = {row.name for row in PLAN.rows.values() if device in row.minutes}
        assert set(order) == meant
        assert len(order) == len(meant)


def test_parameters_of_the_plan():
    counted = {}
    for row in PLAN.trainings:
        model = PLAN.config(row, row.seeds[0]).model.to_dict()
        name, options = model.pop("name"), {k: v for k, v in model.items() if v is not None}
        classes = options.pop("num_classes", 100 if name.startswith("cifar100") else 10)
        key = (name, json.dumps(options, sort_keys=True))
        if key not in counted:
            counted[key] = parameters(name, classes, options)
        assert row.parameters == counted[key], row.name


def parameters(name: str, classes: int, options: dict) -> int:
    import jax
    from flax import nnx

    state = nnx.state(create_abstract(name, classes, **options), nnx.Param)
    return sum(x.size for x in jax.tree.leaves(state))


def test_the_table_of_the_bench(tmp_path):
    """A row of every recipe: its figures, or that it was not measured."""
    plan = plans.read(ROOT / "results" / "plan.py")
    plan = dataclasses.replace(plan, path=tmp_path / "plan.py")
    before = pages.bench_text(plan).splitlines()
    assert len(before) == 2 + 9
    assert all(line.count("not measured") == 6 for line in before[2:])
    row = {
        "config": "configs/se_resnet.py", "batch": 128, "train_images_per_second": 1234.56,
        "torch_best_images_per_second": 2000.0, "torch_best": "eager", "speedup": 0.617,
        "resident_bytes": 1_230_000_000, "torch_resident_bytes": "its process ended early",
    }  # fmt: skip
    machine = {"device": "x", "cores": 2, "load": [0.1], "versions": {"jax": "9", "torch": "8"}}
    failed = {"config": "configs/cifar100.py:v1", "batch": 32, "error": "out of memory"}
    content = {"rows": [row, failed], "machine": machine, "repeats": 5}
    (tmp_path / "bench_cpu").mkdir()
    (tmp_path / "bench_cpu" / "bench.json").write_text(json.dumps(content))
    after = pages.bench_text(plan).splitlines()
    cells = "| `se_resnet.py` | 128 | 1,234.6 | 2,000.0 (eager) | 0.62 | 1.23 | not measured |"
    assert after[2] == cells
    assert after[3:11] == before[3:]
    assert after[-1] == (
        "x, 2 cores, load 0.1 at the start of the last row; jax 9, torch 8; medians of n=5."
    )
    (tmp_path / "bench_cpu" / "bench.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        pages.bench_text(plan)
