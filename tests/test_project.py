"""What a stranger meets first: the list of commands, the version, and the words on contributing."""

import re
import runpy
from pathlib import Path

import pytest

import jaxnets
from jaxnets.__main__ import COMMANDS
from jaxnets.models.se_resnet import SEResNet
from jaxnets.train import __main__ as train
from tests.commands import main_of

ROOT = Path(__file__).parent.parent


def test_every_command_is_listed(command):
    modules = {p.relative_to(ROOT) for p in ROOT.glob("jaxnets/**/*.py")}
    commands = {
        path.parent.name if path.stem == "__main__" else path.stem
        for path in modules
        if 'if __name__ == "__main__":' in (ROOT / path).read_text()
    }
    assert commands - {"jaxnets"} == set(COMMANDS)
    listed = command("jaxnets.__main__", "--help")
    assert listed.code == 0
    assert all(f"python -m jaxnets.{name} " in listed.out for name in COMMANDS)
    assert command("jaxnets.__main__").code == 2


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_a_main(name):
    assert callable(main_of(f"jaxnets.{name}"))


def test_version(command):
    result = command("jaxnets.__main__", "--version")
    assert (result.code, result.out) == (0, f"jaxnets {jaxnets.__version__}\n")
    assert f"\nversion: {jaxnets.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {jaxnets.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_files_beside_the_modules_are_installed(monkeypatch):
    """Whatever is no module lies in a package and is among its data."""
    declared = {}
    monkeypatch.setattr("setuptools.setup", lambda **options: declared.update(options))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    for path in ROOT.glob("jaxnets/**/*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            package = ".".join(path.parent.relative_to(ROOT).parts)
            assert package in declared["packages"], path
            assert any(path.match(name) for name in declared["package_data"].get(package, ())), path


def test_contributing_names_what_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = set(re.findall(r"\b(?:jaxnets|torch_ref|tests|parity_tests|configs)/[\w/.]*\w", text))
    assert len(paths) > 8
    missing = [p for p in paths if "NAME" not in p and not (ROOT / p).exists()]
    assert not missing
    targets = set(re.findall(r"^make (\w+)", text, re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    for place in re.findall(r"`([A-Z]+)` (?:in|to) `?([\w/]+\.py)", text):
        assert re.search(rf"^{place[0]}\b", (ROOT / place[1]).read_text(), re.MULTILINE)


def test_the_way_to_the_gradient_is_short_and_written_down(tmp_path, monkeypatch):
    """The files that call one another from the command to recipe, network and gradient."""
    (tmp_path / "recipe.py").write_text("def get_config():\n    raise SystemExit\n")
    workdir, found = f"--workdir={tmp_path / 'run'}", set()

    def reach(*_, **__):
        raise SystemExit

    for recipe, place in (
        (str(tmp_path / "recipe.py"), None),
        ("quickstart", "__init__"),
        ("quickstart", "__call__"),
    ):
        with monkeypatch.context() as patch:
            if place is not None:
                patch.setattr(SEResNet, place, reach)
            with pytest.raises(SystemExit) as reached:
                train.main([f"--config={recipe}", "--config.augment.ops=none", workdir])
        found |= {Path(entry.path) for entry in reached.traceback}
    found = {path.relative_to(ROOT) for path in found if path.is_relative_to(ROOT / "jaxnets")}
    text = (ROOT / "docs" / "development.md").read_text()
    text = text.partition("\n## From the command line to the gradient\n")[2].partition("\n## ")[0]
    assert found | {Path("jaxnets/models/se_resnet.py")} == {
        Path("jaxnets", name) for name in re.findall(r"^\| `([\w/.]+)` \|", text, re.MULTILINE)
    }
    assert len(found) < 10
