"""python -m jaxnets.bench without PyTorch."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest

from jaxnets import config as configs
from jaxnets.bench import case, jax_side, measure, rows
from jaxnets.bench.memory import PeakMemory
from jaxnets.bench.show import machine_line
from jaxnets.devices import cpu_flags, cpu_memory
from jaxnets.devices.machine import of_a_benchmark
from jaxnets.errors import UserError
from jaxnets.timing import Rates, Work, alternate
from jaxnets.train.step import Totals

CONFIG = str(Path(__file__).parent / "tiny_config.py")
MODULE = "jaxnets.bench.__main__"
QUICK = ("--config", CONFIG, "--batch=8", "--repeats=2", "--seconds=0.02")


class Machine:
    """A clock that only work moves."""

    def __init__(self):
        self.now, self.log = 0.0, []

    def clock(self) -> float:
        return self.now

    def work(self, name: str, seconds: float, amount: float) -> Work:
        def run(units: int) -> None:
            self.log.append((name, units))
            self.now += units * seconds

        return Work(run, amount)


def test_rates_are_amounts_over_seconds():
    machine = Machine()
    works = {"slow": machine.work("slow", 4.0, 128), "fast": machine.work("fast", 0.01, 1)}
    rates = alternate(works, 3, 1.0, machine.clock)
    assert rates["slow"].each == pytest.approx([32] * 3)
    assert rates["fast"].each == pytest.approx([100] * 3)
    # A unit lasts longer than a repeat should: one is enough. Of the fast one, as many as fit.
    assert rates["slow"].units == 1
    assert rates["fast"].units == 100
    assert machine.log[-6:] == [
        ("slow", 1), ("fast", 100), ("fast", 100), ("slow", 1), ("slow", 1), ("fast", 100),
    ]  # fmt: skip
    # Warm before anything is timed.
    assert machine.log[:2] == [("slow", 1), ("slow", 1)]


def test_median_and_quartiles():
    rates = Rates((1.0, 2.0, 3.0, 4.0, 100.0), 1)
    assert (rates.median, rates.spread) == (3.0, 2.0)


def test_the_ratio_is_that_of_the_medians_to_the_best_variant():
    def rates(*each):
        return Rates(each, 1)

    train = {
        measure.JAX: rates(30.0, 20.0, 60.0),
        "eager": rates(10.0, 12.0, 14.0),
        "compiled": rates(15.0, 15.0, 90.0),
    }
    evaluate = {measure.JAX: rates(8.0), "eager": rates(4.0), "compiled": rates(2.0)}
    answer = {measure.JAX: rates(100.0), "eager": rates(200.0), "compiled": rates(50.0)}
    sides = {name: SimpleNamespace(first_step_seconds=1.0) for name in ("eager", "compiled")}
    row = measure.against(train, evaluate, answer, sides)
    assert row["torch_best"] == "compiled"
    assert row["torch_best_images_per_second"] == 15.0
    assert row["torch_eager_images_per_second"] == 12.0
    assert row["speedup"] == 2.0
    assert row["speedup_quartiles"] == pytest.approx([1.0, 5 / 3])  # of 2, 4/3, 2/3
    assert row["eval_speedup"] == 2.0
    assert row["latency_speedup"] == 0.5
    assert row["torch_best_latency_ms"] == 5.0


@pytest.fixture
def result(tmp_path, command):
    """The file of one quick run, and what the command printed."""
    done = command(MODULE, *QUICK, f"--json={tmp_path / 'bench.json'}")
    assert done.code == 0, done.err
    return json.loads((tmp_path / "bench.json").read_text()), done.out


def test_the_file_says_what_was_measured_where(result):
    report, out = result
    machine, (row,) = report["machine"], report["rows"]
    assert (report["repeats"], report["seconds"]) == (2, 0.02)
    assert report["command"][:3] == ["python", "-m", "jaxnets.bench"]
    assert machine["platform"] == jax.default_backend()
    assert machine["versions"]["jax"] == jax.__version__
    assert machine["cpu_flag"]["in_force"] == cpu_flags.in_force()
    assert machine["memory_kept"] == cpu_memory.kept()
    assert (row["model"], row["batch"], row["dtype"], row["n"]) == ("se_resnet", 8, "float32", 2)
    for key in (
        "train_images_per_second", "eval_images_per_second", "latency_ms", "compile_seconds",
        "first_step_seconds", "steps_per_repeat",
    ):  # fmt: skip
        assert row[key] > 0, key
    assert row["peak_memory_bytes"] >= 0  # none where tests before had that much already
    operations = 6 * row["macs"] * row["train_images_per_second"]
    assert row["train_flops_per_second"] == pytest.approx(operations)
    assert row["share_of_product"] == pytest.approx(operations / row["product_flops_per_second"])
    assert not [key for key in row if "torch" in key or "speedup" in key]
    assert f"{row['train_images_per_second']:,.1f}" in out
    if machine["platform"] == "cpu":
        assert f"CPU flag {'' if cpu_flags.in_force() else 'not '}in force" in out
        assert f"freed memory {'kept' if cpu_memory.kept() else 'given back'}" in out
    # It must not count as compiled for whoever comes next.
    assert jax.config.jax_enable_compilation_cache


@pytest.mark.parametrize(("kept", "said"), [(True, "kept"), (False, "given back")])
def test_the_first_line_says_what_becomes_of_memory(kept, said):
    found = of_a_benchmark(None) | {"platform": "cpu", "memory_kept": kept}
    assert machine_line(found).endswith(f"; freed memory {said}")


def test_what_is_timed_is_what_trains():
    """Twelve calls from the same start leave the very weights that twelve steps of a run leave."""
    config = configs.read(CONFIG)
    found = configs.from_json(case.cases(config, "x", [8], ["float32"])[0].config)
    data = case.synthetic(found, on_cpu=True)
    side = jax_side.JaxSide(found, data)
    side.train.run(11)

    run = jax_side.build(found, data)
    stepper = jax_side.Stepper(run.task, run.data, run.state, whole_epochs=False)
    state = stepper.replicate(run.state, Totals.zero())
    for step in range(12):
        epoch, index = divmod(step, 8)
        if index == 0:
            stepper.start_epoch(epoch)
        state = stepper.step(*state, index)
    assert int(state[0].step) == 12
    for name, value in state[0].params.items():
        assert (value == side.state.params[name]).all(), name
    assert side.train.amount == (8 if jax.default_backend() == "cpu" else 64)


def test_memory_grows_by_what_is_held():
    memory = PeakMemory(jax.devices("cpu")[0])
    held = b"x" * (64 << 20)
    assert memory.read() >= len(held) / 2


def test_random_images_fill_every_batch():
    config = configs.read(CONFIG, ["--config.data.name=cifar100", "--config.batch_size=300"])
    data = case.synthetic(config, on_cpu=False)
    assert data.train_images.shape == (49_800, 32, 32, 3)
    assert len(data.test_labels) == 9_900
    assert data.train_labels.max() == 99
    assert data.train_images[:99].std() == pytest.approx(256 / 12**0.5, rel=0.01)


def test_every_case_of_several_recipes():
    main = importlib.import_module(MODULE)
    argv = ["--config", f"{CONFIG},{CONFIG}", f"--config={CONFIG}", "--batch=8,16"]
    argv += ["--dtype", "bfloat16,float32", "--config.seed=3"]
    found = main.parse(main._parser().parse_args(argv))
    values = [json.loads(c.config) for c in found]
    assert len(values) == 12
    assert {v["seed"] for v in values} == {3}
    assert [(v["dtype"], v["batch_size"]) for v in values[:4]] == [
        ("bfloat16", 8), ("bfloat16", 16), ("float32", 8), ("float32", 16),
    ]  # fmt: skip
    assert {v["devices"] for v in values} == {1}


@pytest.mark.slow
def test_several_rows_come_from_processes_of_their_own(tmp_path):
    path = tmp_path / "bench.json"
    args = ("--config", CONFIG, "--batch=8,16", "--repeats=1", "--seconds=0.02", "--json", path)
    subprocess.run([sys.executable, "-m", "jaxnets.bench", *args], check=True)
    assert [row["batch"] for row in json.loads(path.read_text())["rows"]] == [8, 16]


def test_what_a_new_process_calls_has_a_module_of_its_own():
    """The README's command, which tests/test_readme.py runs, calls it."""
    assert rows.measure_here.__module__ == "jaxnets.bench.rows"
    code = "import sys, jaxnets.bench.rows; sys.exit(bool({'jax', 'torch'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(CONFIG).parents[1])


def test_a_row_that_fails_is_in_the_file(tmp_path, command, monkeypatch):
    def measured(found, *_):
        yield found[0], "RuntimeError: out of memory"

    monkeypatch.setattr(f"{MODULE}.measured", measured)
    path = tmp_path / "bench.json"
    done = command(MODULE, *QUICK, "--json", path)
    assert done.code == 1
    assert "not measured: RuntimeError: out of memory" in done.out
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["batch"], row["error"]) == (8, "RuntimeError: out of memory")


def fails(found, *_):
    yield found[0], "RuntimeError: out of memory"


def test_a_file_of_errors_alone_does_not_block_the_next_attempt(tmp_path, command, monkeypatch):
    monkeypatch.setattr(f"{MODULE}.measured", fails)
    path = tmp_path / "bench.json"
    for _ in range(2):
        assert command(MODULE, *QUICK, "--json", path).code == 1
    report = json.loads(path.read_text())
    for found in ([{"config": "x", "batch": 8}], [], "rows", [3]):
        path.write_text(json.dumps(report | {"rows": found}))
        done = command(MODULE, *QUICK, "--json", path)
        assert (done.code, "--json" in done.err) == (2, True), found


def test_a_file_that_cannot_be_written_takes_no_row_from_the_table(command, monkeypatch, tmp_path):
    machine = {
        "device": "x", "platform": "gpu", "cores": 1, "versions": {}, "load": [0.0], "tf32": True,
        "cpu_flag": {"in_force": False}, "memory_kept": False,
    }  # fmt: skip
    numbers = dict.fromkeys(
        ("train_images_per_second", "train_spread", "eval_images_per_second", "latency_ms",
         "compile_seconds", "first_step_seconds", "peak_memory_bytes", "share_of_product"), 1.0,
    )  # fmt: skip

    def measured(found, *_):
        for case_ in found:
            row = {"config": "measured!", "batch": 8, "dtype": "float32", "peak_memory_is": "x"}
            yield case_, (machine, row | numbers)

    def full(path, text):
        raise UserError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(f"{MODULE}.measured", measured)
    monkeypatch.setattr(f"{MODULE}.write_text", full)
    done = command(MODULE, *QUICK, "--json", tmp_path / "bench.json")
    assert done.code == 2
    assert "No space left on device" in done.err
    assert "measured!" in done.out


def test_a_mistake_in_a_later_recipe_takes_no_row_away(monkeypatch):
    """Of the first one nothing is lost: it ends the command."""
    said = {"a": UserError("a is wrong"), "b": "row of b"}
    monkeypatch.setattr(rows, "apart", lambda work, case, *_: said[case.config])
    a, b = case.Case("a", "a.py"), case.Case("b", "b.py")
    budget = case.Budget(1, 1.0, 1.0)
    assert list(rows.measured([b, a], budget, False)) == [(b, "row of b"), (a, "a is wrong")]
    with pytest.raises(UserError, match="a is wrong"):
        list(rows.measured([a, b], budget, False))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--batch=8,many"], "--batch 8,many: whole numbers from 1 to 50,000"),
        (["--batch=0"], "--batch 0: whole numbers"),
        (["--batch=50001"], "--batch 50001: whole numbers"),
        (["--dtype=float3"], "unknown --dtype 'float3'; did you mean 'float32'?"),
        (["--against=tensorflow"], "unknown --against 'tensorflow'"),
        (["--repeats=0"], "--repeats 0: a whole number, at least 1"),
        (["--seconds=0"], "--seconds 0: a number, at least 0.001"),
        (["--json=absent/x.json"], "--json absent/x.json: no folder absent"),
        (["--json=old.json"], "--json old.json: exists"),
        (["--repeat=3"], "did you mean --repeats?"),
        (["--config=absent.py"], "absent.py: no such file"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, refused, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    Path("old.json").write_text("mine")
    assert message in refused(MODULE, "--config", CONFIG, *args)
    assert Path("old.json").read_text() == "mine"


def test_force_replaces_a_file(tmp_path):
    main = importlib.import_module(MODULE)
    path = tmp_path / "old.json"
    path.write_text("mine")
    assert main.parse(main._parser().parse_args([*QUICK, f"--json={path}", "--force"]))


def test_torch_is_left_alone():
    code = "import sys, jaxnets.bench.measure, jaxnets.bench.show; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(CONFIG).parents[1])


def test_no_config_is_a_mistake(refused):
    assert "no --config" in refused(MODULE, "--batch=8")


def test_the_flag_is_seen_among_others(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to=x {cpu_flags.FLAG}")
    assert cpu_flags.apply()
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=x")
    assert not cpu_flags.apply()
    assert not cpu_flags.in_force()
