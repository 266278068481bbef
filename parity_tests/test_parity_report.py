"""What the comparison of two trainings says about its rows."""

import re

import numpy as np
import pytest
import torch

from jaxnets.parity.report import judge, table
from jaxnets.parity.trainings import Row, Side, _distance

SIDE = Side(lr=0.1, loss=1.0, grad_norm=1.0)


@pytest.mark.parametrize(
    ("dtype", "tolerance", "distances", "ok", "text"),
    [
        ("float64", 1e-8, (1e-9, 2e-9), True, "EQUAL within 1e-08: at most 2e-09"),
        ("float64", 1e-8, (1e-9, 2e-8), False, "DIFFERENT: beyond 1e-08 from step 2 on, most in b"),
        ("float64", 1e-8, (1e-9, float("nan")), False, "NOT FINITE: .* after step 2"),
        ("float32", None, (1e-7, 1e-3), True, "NO BOUND: at most 0.001 .*; in float32 rounding"),
        ("float32", 1e-5, (1e-7, 1e-3), False, "DIFFERENT: beyond 1e-05 .*; in float32 rounding"),
        ("float32", None, (1e-7, float("inf")), False, "NOT FINITE"),
    ],
)
def test_the_verdict(dtype, tolerance, distances, ok, text):
    rows = [Row(i + 1, SIDE, SIDE, d, 0.0, "ab"[i]) for i, d in enumerate(distances)]
    verdict = judge(rows, dtype, tolerance)
    assert verdict.ok == ok
    assert re.match(text, verdict.text)
    statistics = [row._replace(parameters=0.0, statistics=row.parameters) for row in rows]
    assert judge(statistics, dtype, tolerance).ok == ok


@pytest.mark.parametrize("count", [1, 2, 10, 11, 50])
def test_the_table_has_the_first_and_the_last_row(count):
    rows = [Row(i + 1, SIDE, SIDE, 1e-9, 1e-9, "a") for i in range(count)]
    steps = [int(line.split()[0]) for line in table(rows).splitlines()[1:]]
    assert len(steps) == min(count, 10)
    assert (steps[0], steps[-1]) == (1, count)


@pytest.mark.parametrize("value", [1e30, -1e200, float("inf"), float("nan")])
def test_figures_of_any_size_keep_their_columns(value):
    side = Side(lr=value, loss=value, grad_norm=value)
    usual, huge = (
        table([Row(1, s, s, d, d, "a")]).splitlines()[1] for s, d in ((SIDE, 0), (side, value))
    )
    assert len(huge) == len(usual)
    assert [float(text) for text in huge.split()[1:]] == pytest.approx([value] * 7, nan_ok=True)


@pytest.mark.filterwarnings("error")
def test_weights_beyond_all_bounds_are_apart_without_a_warning():
    weights = {"a": np.full(2, 1e300), "b": np.array([np.inf])}
    distance, _ = _distance(weights, [(k, torch.tensor(-v)) for k, v in weights.items()])
    assert not np.isfinite(distance)
    inf = {"b": weights["b"]}
    assert np.isnan(_distance(inf, [("b", torch.tensor([np.inf]))])[0])
