"""What the comparison of two trainings says about its rows."""

import re

import pytest

from jaxnets.parity.report import judge, table
from jaxnets.parity.trainings import Row, Side

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
