"""Every example in a docstring, run and compared."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    path.relative_to(ROOT)
    for package in ("jaxnets", "torch_ref", "configs", "tests")
    for path in sorted((ROOT / package).rglob("*.py"))
    if ">>> " in path.read_text() and path != Path(__file__)
]
# Networks built operation by operation, half a minute each.
HEAVY = {"jaxnets/__init__.py"} | {
    f"jaxnets/models/{name}.py" for name in ("dense_se_resnet", "mish_se_resnet", "resnet18")
}


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=pytest.mark.slow if str(p) in HEAVY else ()) for p in FILES],
    ids=str,
)
def test_examples(path):
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    assert doctest.testmod(importlib.import_module(name)).failed == 0  # what differs is printed


def test_all_of_them_are_found():
    assert len(FILES) > 20
    assert {str(path) for path in FILES} > HEAVY
