"""python -m jaxnets.bench --deploy: what is measured, what is shown, and what is refused."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxnets import config as configs
from jaxnets.bench.case import Budget
from jaxnets.bench.deploy import measure, runtimes, show
from jaxnets.bench.deploy.measure import Case, alone, measured, timed
from jaxnets.bench.deploy.runtimes import RUNTIMES
from jaxnets.bench.show import machine_line
from jaxnets.errors import UserError
from jaxnets.export.images import random_images

for package in ("torch", "flatbuffers", "onnx", "onnxruntime", "onnxscript"):
    pytest.importorskip(package)

CONFIG = str(Path(__file__).parent / "tiny_config.py")
MODULE = "jaxnets.bench.__main__"
SHAPE = (1, 32, 32, 3)
BUDGET = Budget(2, 0.001, 100.0)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of the tiny network's files, and what is known of it."""
    from jaxnets.bench.deploy.prepare import prepare

    folder = tmp_path_factory.mktemp("deploy")
    return folder, prepare(configs.to_json(configs.read(CONFIG)), folder)


@pytest.fixture
def quick(monkeypatch):
    """torch.compile is left out: it takes as long as all the rest."""
    monkeypatch.setitem(
        RUNTIMES, "torch compiled", RUNTIMES["torch compiled"]._replace(load=_broken)
    )


def _broken(path, threads):
    raise RuntimeError("no compiler\nmore lines")


def test_the_files_are_those_of_one_network(prepared):
    folder, network = prepared
    assert network["parameters"] == 470
    assert network["macs"] > 10**5
    assert set(network["file_bytes"]) == set(RUNTIMES)
    images = random_images(5, 32)
    answers = {}
    for name, runtime in RUNTIMES.items():
        if name != "torch compiled":
            assert network["file_bytes"][name] == (folder / runtime.file).stat().st_size
            answer = runtime.load(folder / runtime.file, 1)(images)
            answers[name] = np.asarray(answer if name == "jax" else answer[0])
    right = answers.pop("jax")
    assert right.shape == (5, 10)
    int8 = answers.pop("onnxruntime int8")
    assert 0 < np.abs(int8 - right).max() < np.ptp(right)
    for name, logits in answers.items():
        np.testing.assert_allclose(logits, right, rtol=1e-4, atol=1e-4, err_msg=name)


def test_every_runtime_is_timed_at_every_batch(prepared, quick, monkeypatch):
    folder, _ = prepared
    monkeypatch.setattr("jaxnets.devices.runtime.setup", lambda *_: None)  # it outlasts the test
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    machine, found = timed(folder, 32, runtimes.threads_at_most(), [1, 3], BUDGET)
    assert "onnxruntime " in machine_line(machine)
    assert found.pop("torch compiled") == "RuntimeError: no compiler"
    assert set(found) == {*RUNTIMES} - {"torch compiled"}
    for by_batch in found.values():
        assert set(by_batch) == {1, 3}
        for row in by_batch.values():
            assert row["ms_an_image"] > 0
            assert row["spread_ms"] >= 0
            assert row["n"] == 2


@pytest.mark.skipif(not hasattr(runtimes.os, "sched_setaffinity"), reason="Linux alone")
def test_a_process_is_held_to_its_threads():
    code = (
        "import os; from jaxnets.bench.deploy.runtimes import pin; pin(1); "
        "print(len(os.sched_getaffinity(0)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]


def test_memory_is_that_of_one_runtime_alone(prepared):
    """onnxruntime's process holds neither jax nor torch."""
    folder, _ = prepared
    held = alone("onnxruntime", folder / "net.onnx", SHAPE, 60.0)
    assert isinstance(held, int)
    assert 2e7 < held < 2.5e8
    code = "import sys, jaxnets.bench.deploy.alone; print({'jax', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_what_fails_alone_says_why(tmp_path):
    (tmp_path / "net.onnx").write_bytes(b"x")
    assert "Load model from" in str(alone("onnxruntime", tmp_path / "net.onnx", SHAPE, 60.0))
    assert alone("onnxruntime", tmp_path / "net.onnx", SHAPE, 0.001) == "took more than 0.001 s"


def fake_timed(folder, size, threads, batches, budget):
    rows = {
        name: {b: {"ms_an_image": k + b + threads, "spread_ms": 0.1, "n": 2} for b in batches}
        for k, name in enumerate(RUNTIMES)
    }
    rows["torch compiled"] = "RuntimeError: no compiler"
    machine = {
        "device": "x", "platform": "cpu", "cores": 2, "load": [0.0], "versions": {"jax": "1"},
        "cpu_flag": {"in_force": True}, "memory_kept": False, "tf32": None,
    }  # fmt: skip
    return machine, rows


@pytest.fixture
def fakes(monkeypatch):
    """What takes long gives numbers that tell their places."""
    network = {
        "model": "se_resnet", "parameters": 1000, "macs": 10, "image_size": 32,
        "file_bytes": {name: 10**6 * (k + 1) for k, name in enumerate(RUNTIMES)},
    }  # fmt: skip

    def apart(work, *args):
        return fake_timed(*args) if work is timed else dict(network)

    monkeypatch.setattr(measure, "apart", apart)
    monkeypatch.setattr(measure, "thread_counts", lambda: [1, 2])
    monkeypatch.setattr(measure, "alone", lambda name, *_: 5_000_000 + [*RUNTIMES].index(name))


def test_a_row_for_each_network_runtime_thread_count_and_batch(fakes):
    cases = [Case("{}", "a.py"), Case("{}", "b.py")]
    for (_, rows), case in zip(measured(cases, [1, 64], BUDGET, log=str), cases, strict=True):
        assert len(rows) == 5 * 2 * 2
        assert {row["config"] for row in rows} == {case.spec}
        for row in rows:
            k = [*RUNTIMES].index(row["runtime"])
            assert row["file_bytes"] == 10**6 * (k + 1)
            assert row["peak_memory_bytes"] == 5_000_000 + k
            if row["runtime"] == "torch compiled":
                assert row["error"] == "RuntimeError: no compiler"
            else:
                assert row["ms_an_image"] == k + row["batch"] + row["threads"]


def test_table_file_and_picture(fakes, command, tmp_path):
    out, picture = tmp_path / "deploy.json", tmp_path / "deploy.png"
    args = ("--deploy", "--config", f"{CONFIG},{CONFIG}", "--json", out, "--picture", picture)
    done = command(MODULE, *args)
    assert done.code == 1  # torch compiled could not be measured
    assert "torch compiled: not measured: RuntimeError: no compiler" in done.out
    result = json.loads(out.read_text())
    assert len(result["rows"]) == 40
    assert {row["batch"] for row in result["rows"]} == {1, 64}
    assert result["machine"]["device"] == "x"
    assert result["command"][:4] == ["python", "-m", "jaxnets.bench", "--deploy"]
    light, dark = (Image.open(tmp_path / name) for name in ("deploy.png", "deploy_dark.png"))
    assert light.size == dark.size
    assert np.asarray(light)[0, 0, 0] > 200 > 100 > np.asarray(dark)[0, 0, 0]
    for args_ in (args, (*args[:3], "--picture", picture)):
        assert "exists; name another file" in command(MODULE, *args_).err
    assert command(MODULE, *args, "--force").code == 1


def test_ratios_are_to_jax(fakes, capsys):
    ((_, rows),) = measured([Case("{}", "a.py")], [1, 64], BUDGET, log=str)
    show.show_rows(None, rows)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (onnx,) = (line for line in lines if line[:4] == ["a.py", "onnx", "int8", "2"])
    assert onnx[4:8] == ["7.00", "2.33", "70.00", "1.06"]  # of 3 and 66
    assert onnx[8:] == ["5.00", "5"]


def test_a_point_for_each_network_and_runtime(fakes):
    from jaxnets.report.figure import LIGHT

    rows = []
    for k, (_, found) in enumerate(measured([Case("{}", "a"), Case("{}", "b")], [1, 64], BUDGET)):
        rows += [row | {"parameters": 10 ** (k + 3)} for row in found]
    (axes,) = show.figure(rows, LIGHT).axes
    points = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert points["jax"] == [[1000, 3], [10000, 3]]  # one image, two threads
    assert points["onnxruntime int8"] == [[1000, 7], [10000, 7]]
    assert points["torch compiled"] == []
    assert [text.get_text() for text in axes.texts] == ["a", "b"]


def test_a_network_that_fails_takes_no_other_with_it(monkeypatch):
    said = {"a": "its process ended early", "b": UserError("b is wrong")}

    def apart(work, config, *_):
        return said[config]

    monkeypatch.setattr(measure, "apart", apart)
    a, b = Case("a", "a.py"), Case("b", "b.py")
    found = [rows for _, rows in measured([a, b], [1], BUDGET, log=str)]
    assert found[0] == [{"config": "a.py", "error": "its process ended early"}]
    assert found[1] == [{"config": "b.py", "error": "b is wrong"}]
    with pytest.raises(UserError, match="b is wrong"):
        list(measured([b, a], [1], BUDGET, log=str))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--against=torch"], "--against: is about training; leave it out with --deploy"),
        (["--dtype=bfloat16"], "--dtype: is about training"),
        (["--memory"], "--memory: is about training"),
        (["--batch=1,x"], "--batch 1,x: whole numbers"),
        (["--json=absent/x.json"], "--json absent/x.json: no folder absent"),
        (["--picture=absent/x.png"], "--picture absent/x.png: no folder absent"),
        (["--picture=old.png"], "--picture old.png: exists"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, refused, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure, "apart", lambda *_: pytest.fail("work"))
    Path("old.png").write_text("mine")
    assert message in refused(MODULE, "--deploy", "--config", CONFIG, *args)
    assert Path("old.png").read_text() == "mine"


def test_packages_that_are_not_installed(refused, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "onnxruntime" else find(name)
    )
    said = refused(MODULE, "--deploy", "--config", CONFIG)
    assert "--deploy: needs onnxruntime, not installed here; pip install" in said


def test_a_picture_is_of_deployment(refused):
    assert "--picture: is about --deploy" in refused(MODULE, "--config", CONFIG, "--picture=a.png")


# Fire modules against plain convolutions


def test_a_fire_module_against_a_plain_convolution(monkeypatch, capsys):
    from jaxnets.bench.deploy import fire

    monkeypatch.setattr("jaxnets.devices.runtime.setup", lambda *_: None)  # it outlasts the test
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(fire, "pin", lambda threads: None)
    monkeypatch.setattr(fire, "outcome", lambda work, *args: work(*args))
    place = fire.Place("x", 8, 2, 4, 8)
    ((machine, rows),) = fire.measured([place], [1, 2], BUDGET, log=str)
    places = {(row["kind"], row["runtime"], row["batch"]) for row in rows}
    assert len(rows) == len(places) == 2 * 3 * 2
    assert all(row["ms_an_image"] > 0 for row in rows)
    parameters = {row["kind"]: row["parameters"] for row in rows}
    squeezed, expanded = 8 * 2 + 3 * 2, 2 * 4 * (1 + 9) + 2 * 3 * 4  # bias, scale and shift
    assert parameters == {"fire": squeezed + expanded, "plain": 8 * 8 * 9 + 3 * 8}
    macs = {row["kind"]: row["macs"] for row in rows}
    assert macs == {"fire": 64 * (8 * 2 + 2 * 4 * 10), "plain": 64 * 8 * 8 * 9}
    for row in rows:
        in_onnx = row["runtime"] == "onnxruntime"
        assert isinstance(row.get("peak_memory_bytes"), int) == in_onnx
    show.show_fire(machine, rows)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in lines if line[:1] == ["x"]] == ["jax", "torch", "onnxruntime"]


def test_fire_takes_no_recipe(refused):
    assert "--fire" in refused(MODULE, "--fire", "--config", CONFIG)
    assert "--fire" in refused(MODULE, "--fire", "--deploy")
