"""Whatever is typed or read: success, or one clear line and exit code 2, and nothing changed.

The cases are drawn from a seed that differs from run to run and is printed; JAXNETS_FUZZ_SEED gives
one back.  A few of each kind run with the suite, the many under `slow`.  A case that computes for
more than 10 s, ends its process, or leaves a file is a failure; see tests/fuzzing.py.
"""

import os
import random

import pytest

from tests.fuzzing import Part, hunt

SEED = os.environ.get("JAXNETS_FUZZ_SEED") or str(random.SystemRandom().randrange(10**6))
# How many with the suite, and how many more under `slow`: 300 and 5,000.
CASES = {
    "pickles": (100, 1500),
    "inputs": (40, 700),
    "predict": (4, 100),
    "cifar": (35, 700),
    "tfds": (6, 150),
    "workdirs": (8, 250),
    "port": (25, 500),
    "twin": (12, 250),
    "recipe": (10, 150),
    "config": (20, 350),
    "line": (40, 350),
}
NEEDS = {"tfds": "tensorflow_datasets", "port": "torch", "twin": "torch"}


def expect_none(parts: list[Part], folder) -> None:
    print(f"JAXNETS_FUZZ_SEED={SEED}")
    failures = hunt(SEED, parts, folder)
    assert not failures, f"JAXNETS_FUZZ_SEED={SEED}\n" + "\n\n".join(failures)


def test_as_many_cases_as_promised():
    few, many = map(sum, zip(*CASES.values(), strict=True))
    assert few >= 300
    assert many >= 5000


@pytest.mark.timeout(1200)
def test_fuzz(tmp_path):
    for kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    expect_none([Part(kind, 0, few) for kind, (few, _) in CASES.items()], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", CASES)
def test_fuzz_long(kind, tmp_path):
    pytest.importorskip(NEEDS.get(kind, "numpy"))
    few, many = CASES[kind]
    expect_none([Part(kind, few, few + many)], tmp_path)


BUGS = {
    "left": "a.tmp",
    "changed": "'b'",
    "traceback": "Traceback",
    "crash": "ended with -11",
    "slow": "took too long",
    "wait": "took too long",
}


def test_the_fuzzing_can_fail(tmp_path, monkeypatch):
    """What must be found out is, and the cases after it run all the same."""
    monkeypatch.setattr("tests.fuzzing.LIMIT", 2.0)
    monkeypatch.setattr("tests.fuzzing.WAIT", 4.0)
    monkeypatch.setattr("tests.fuzzing.MOST", 100)
    parts = [Part(f"bug_{kind}", 0, 1) for kind in BUGS]
    found = hunt(SEED, [Part("pickles", 0, 1), *parts, Part("pickles", 1, 3)], tmp_path)
    assert len(found) == len(BUGS), found
    for text, (kind, says) in zip(found, BUGS.items(), strict=True):
        assert text.startswith(f"bug_{kind}:0:1: ")
        assert says in text
        assert f"python -m tests.fuzz_cases {SEED} " in text
