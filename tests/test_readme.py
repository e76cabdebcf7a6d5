import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from micro import bundle, cli

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands():
    """The command lines that a reader can type once `micro` is installed."""
    lines = [line for block in blocks("bash") if not block.startswith("# skip") for line in block.splitlines()]
    return [line for line in lines if line.startswith(("micro ", "python -m micro"))]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like the checkout to the commands, and can be written to."""
    shutil.copytree(ROOT / "sample_images", tmp_path / "sample_images")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_readme_runs(checkout):
    assert len(commands()) >= 8
    for line in commands():
        words = shlex.split(line)
        if words[0] == "micro":
            assert cli.run(words[1:]) == 0, line
        else:
            subprocess.run([sys.executable, *words[1:]], check=True)


def test_every_python_block_of_the_readme_runs(checkout, capsys):
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})
    assert "grains, median area" in capsys.readouterr().out


def test_the_first_command_of_the_readme_predicts_what_is_there():
    (line,) = [line for block in blocks("bash") for line in block.splitlines() if "pip install ." in line]
    arguments = shlex.split(line.partition(".venv/bin/micro ")[2])
    assert (ROOT / arguments[1]).is_file()
    assert arguments[3] in bundle.installed()


def test_the_gate_runs_the_test_command_of_the_readme():
    (line,) = [line for block in blocks("bash") for line in block.splitlines() if "pytest" in line]
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for part in line.split(" && "):
        assert part.replace(" --editable", " --quiet --editable") in gate or part in gate


def test_the_readme_names_every_shipped_bundle_with_the_figures_of_its_card():
    shipped = sorted(path.parent.name for path in (ROOT / "weights").glob("*/card.json"))
    assert len(shipped) >= 3
    for name in shipped:
        (row,) = [line for line in README.splitlines() if line.startswith(f"| `{name}`")]
        for figure in bundle.load(ROOT / "weights" / name).card.scores[:2]:
            assert f"{figure.value:.3f}" in row, f"{name}: {figure.what}"
