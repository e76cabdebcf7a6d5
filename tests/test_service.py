"""The files by which a line runs as a service: their commands are commands of micro."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from micro import bundle, cli
from micro.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def unit() -> str:
    (text,) = re.findall(r"```ini\n(.*?)```", README, re.DOTALL)
    return str(text)


def setting(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", unit(), re.MULTILINE)
    return str(value)


def parsed(words: list[str]) -> dict[str, Any]:
    """Return what the command line understands; a flag that it does not know is an error."""
    _, bound, _ = app.parse_args(words, print_error=False, exit_on_error=False)
    return dict(bound.arguments)


def test_the_unit_starts_a_command_that_micro_knows_and_comes_back_after_a_crash() -> None:
    program, *words = shlex.split(setting("ExecStart"))
    assert Path(program).name == "micro"
    assert parsed(words)["watch"]
    assert parsed(words)["model"] in bundle.installed()
    assert setting("Restart") == "on-failure"
    assert setting("SuccessExitStatus") == "130"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_finds_no_fault_with_the_unit(tmp_path: Path) -> None:
    program = shlex.split(setting("ExecStart"))[0]
    path = tmp_path / "micro.service"
    path.write_text(unit().replace(program, sys.executable), encoding="utf-8")
    found = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert "micro.service" not in found.stderr
    assert found.returncode == 0, found.stderr


def test_the_worker_of_the_compose_file_runs_a_command_that_micro_knows() -> None:
    worker = COMPOSE["services"]["worker"]
    arguments = parsed(shlex.split(worker["command"]))
    assert arguments["watch"]
    assert arguments["model"] in bundle.installed()
    sources, out = arguments["sources"], str(arguments["out_dir"])
    mounted = {volume.split(":")[1] for volume in worker["volumes"]}
    assert {*sources, out} <= mounted
    assert "MICRO_STORE" in worker["environment"]
    assert worker["environment"]["MICRO_STORE"].startswith("postgresql+pg8000://")


def test_the_compose_file_says_whom_to_let_write() -> None:
    (user,) = re.findall(r"useradd .*--uid (\d+)", DOCKERFILE)
    assert f"mkdir --parents images results && sudo chown {user} results" in (ROOT / "compose.yaml").read_text()


def test_prometheus_asks_the_port_at_which_the_worker_answers() -> None:
    worker = COMPOSE["services"]["worker"]
    port = str(parsed(shlex.split(worker["command"]))["metrics"]).rpartition(":")[2]
    (job,) = yaml.safe_load(COMPOSE["configs"]["scrape"]["content"])["scrape_configs"]
    (place,) = job["dns_sd_configs"]
    assert (place["names"], str(place["port"])) == (["worker"], port)
    assert all(service in COMPOSE["services"] for service in COMPOSE["services"]["worker"]["depends_on"])


def test_the_image_copies_what_there_is_and_installs_no_screen() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (named,) = re.findall(r'"/src\[(.*?)\]"', DOCKERFILE)
    assert named in extras
    assert not any("napari" in requirement or "qt" in requirement.lower() for requirement in extras[named])
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert all((ROOT / name).exists() for name in kept)
    built = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    needed = {*built["wheel"]["packages"], *built["wheel"]["force-include"], "README.md", "LICENSE", "pyproject.toml"}
    assert {name.split("/")[0] for name in needed} == set(kept)


def test_the_image_is_built_on_a_base_that_can_be_chosen_and_stops_as_a_run_stops() -> None:
    assert DOCKERFILE.count("FROM ${BASE}") == 2
    assert re.search(r"^ARG BASE=", DOCKERFILE, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)
    assert yaml.safe_load(entry) == ["micro"]
    (words,) = re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)
    assert cli.run(yaml.safe_load(words)) == 0


@pytest.mark.slow
def test_the_image_builds_and_answers() -> None:
    if shutil.which("docker") is None or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("no docker daemon here")
    subprocess.run(["docker", "build", "--tag", "micro-test", str(ROOT)], check=True)
    answer = subprocess.run(
        ["docker", "run", "--rm", "micro-test", "models"], check=True, capture_output=True, text=True
    )
    assert "sheet-steel" in answer.stdout
