"""A workdir that an older version stopped in the middle of is resumed bit for bit.

tests/fixtures/old_workdir holds two runs of tests/tiny_config.py by the version of commit 66ad8e3:
`half`, stopped within an epoch, and `whole`, the same one resumed by that version to its end.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxnets.checkpoints import store
from jaxnets.devices import machine
from tests.runs import arrays, rows
from tests.test_train import CONFIG

OLD = Path(__file__).parent / "fixtures" / "old_workdir"


@pytest.mark.parametrize(("which", "step"), [("last", 5), ("best", 4)])
def test_its_checkpoints_are_read(which, step):
    stored = store.read(OLD / "half", which)
    assert (int(stored.state["step"]), stored.step) == (step, step)
    assert stored.state["params"].keys() == stored.state["opt_state"]["slow"].keys()


def test_it_ends_as_it_did(tmp_path, command):
    shutil.copytree(OLD / "half", tmp_path / "x")
    args = ("--config", CONFIG, "--workdir", tmp_path / "x", "--config.checkpoint.keep=1")
    result = command("jaxnets.train", *args)
    assert result.code == 0
    assert "at step 5 of 12" in result.out
    same = json.loads((OLD / "half" / "starts.jsonl").read_text())
    here = machine.of_a_run()
    exact = all(same[key] == here[key] for key in ("hardware", "versions", "xla_flags"))
    found, expected = arrays(tmp_path / "x", "last"), arrays(OLD / "whole", "last")
    assert found.keys() == expected.keys()
    for name, value in found.items():
        if exact:
            assert value.tobytes() == expected[name].tobytes(), name
        else:  # another machine rounds differently
            np.testing.assert_allclose(value, expected[name], rtol=1e-2, atol=1e-3, err_msg=name)
    if exact:
        assert rows(tmp_path / "x") == rows(OLD / "whole")
