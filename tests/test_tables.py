"""Tables fit their terminal: columns are left out, no number is ever cut."""

import re

import numpy as np
import pytest

from jaxnets import tables
from jaxnets.bench.case import Budget
from jaxnets.bench.show import show_result
from jaxnets.models import list_models
from jaxnets.models.audit import Audit
from jaxnets.report import classification_report, format_report

ROW = {
    "config": "configs/se_resnet.py:documented", "batch": 512, "dtype": "bfloat16",
    "train_images_per_second": 12345.6, "train_spread": 1234.5, "eval_images_per_second": 56789.1,
    "latency_ms": 123.45, "compile_seconds": 123.4, "first_step_seconds": 123.45,
    "peak_memory_bytes": 12_345e6, "share_of_product": 0.351, "peak_memory_is": "of the process",
    "torch_eager_images_per_second": 4321.1, "torch_eager_spread": 21.5,
    "torch_best_images_per_second": 5432.1, "torch_best": "compiled", "speedup": 1.23,
    "speedup_quartiles": (1.11, 1.35), "eval_speedup": 2.34, "latency_speedup": 3.45,
    "torch_notes": {},
}  # fmt: skip
MACHINE = {
    "device": "CPU", "platform": "gpu", "cores": 2, "versions": {}, "cpu_flag": {"in_force": True},
    "memory_kept": True, "tf32": True, "load": [0.0],
}  # fmt: skip


@pytest.fixture
def terminal(monkeypatch, capsys):
    """Calls a function as on a terminal so wide; returns the lines it printed."""

    def call(width: int, function, *args) -> list[str]:
        monkeypatch.setattr(tables, "terminal_width", lambda: width)
        function(*args)
        return capsys.readouterr().out.splitlines()

    return call


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_number_of_a_bench_is_cut(width, terminal):
    lines = terminal(width, show_result, MACHINE, [ROW, ROW], Budget(5, 1.0, 600.0))
    heads = [i for i, line in enumerate(lines) if re.match("(recipe|against torch) ", line)]
    assert len(heads) == 2
    assert all(len(line) <= width for i in heads for line in lines[i : i + 4])
    whole = {"512", "bfloat16", "12,345.6", "1,234.5", "56,789.1", "123.45", "123.4", "12,345"}
    whole |= {"35.1%", "4,321.1", "21.5", "5,432.1", "1.23", "1.11", "1.35", "2.34", "3.45"}
    shown = {word for i in heads for word in lines[i + 2].split() if re.search(r"\d", word)}
    assert {"12,345.6", "1.23"} <= shown <= whole
    assert any(line.startswith("left out, for a wider terminal: ") for line in lines) == (
        width < 200
    )


@pytest.mark.parametrize("width", [40, 80])
def test_no_number_of_the_models_is_cut(width, terminal):
    from jaxnets.models.__main__ import main

    numbers = {"4,697,742", "1,728", "1,769,472"} if width == 80 else {"4,697,742", "1,728"}
    lines = terminal(width, main, ["se_resnet"])
    table = lines[: next(i for i, line in enumerate(lines) if line.startswith("layers "))]
    assert all(len(line) <= width for line in table[:-1])
    text = "\n".join(lines)
    assert all(number in text for number in numbers)
    assert not re.search(r"\d,\d{0,2}(?!\d)", text)


def test_no_name_of_a_model_is_cut(terminal, monkeypatch):
    from jaxnets.models import __main__ as models

    result = Audit((), 156)
    monkeypatch.setattr("jaxnets.models.audit.audit", lambda name: result)
    lines = terminal(40, models.main, ["--list"])
    assert [line.split()[0] for line in lines[2:11]] == list_models()
    assert max(map(len, lines[:11])) <= 40


def test_no_number_of_an_evaluation_is_cut():
    report = classification_report(np.eye(2)[[0, 1, 1]], np.array([0, 1, 0]), ["cat", "dog"])
    wide = format_report(report).splitlines()
    assert wide[0].split() == ["class", "precision", "recall", "f1", "images"]
    narrow = format_report(report, 40).splitlines()
    assert narrow[0].split() == ["class", "precision", "recall", "f1"]
    assert max(map(len, narrow[:-2])) <= 40
    assert narrow[-2] == "left out, for a wider terminal: images"
    assert narrow[-1] == wide[-1]
    assert narrow[1] == wide[1][: len(narrow[1])]
