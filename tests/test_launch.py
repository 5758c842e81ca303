"""launch.sh: sets up once, starts at once from then on, and says clearly what is missing.

pip and Python are stand-ins here that write down how they were called: .ci/run goes the real way in a fresh clone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent

_TOOLS: Final = ("bash", "cat", "chmod", "cut", "dirname", "env", "flock", "grep", "mkdir", "sed", "sha256sum")

_PYTHON: Final = """#!/usr/bin/env bash
echo "python $*" >>"$CALLS"
case "$*" in
    "-c "*) exec "$REAL_PYTHON" -c "import sys; sys.version_info = ${PYTHON_VERSION:-(3, 11, 0)}; ${2#import sys;}" ;;
    "-m venv --clear "*)
        mkdir -p "$4/bin"
        cat "$0" >"$4/bin/python"
        printf '#!/usr/bin/env bash\\necho "relight $#: $*"\\nexit 75\\n' >"$4/bin/relight"
        chmod +x "$4/bin/python" "$4/bin/relight" ;;
    "-m pip install "*)
        echo "what pip has to say"
        exit "${PIP_FAILS:-0}" ;;
esac
"""


@dataclass
class Checkout:
    root: Path
    environment: dict[str, str]

    def launch(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.calls_file.write_text("")
        return subprocess.run(
            [self.root / "launch.sh", *arguments],
            env=self.environment | environment,
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls_file(self) -> Path:
        return Path(self.environment["CALLS"])

    @property
    def installs(self) -> list[str]:
        return [call for call in self.calls_file.read_text().splitlines() if " pip install " in call]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root, programs = tmp_path / "a checkout", tmp_path / "bin"
    root.mkdir()
    programs.mkdir()
    for name in ("launch.sh", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root)
    for tool in _TOOLS:
        (programs / tool).symlink_to(shutil.which(tool) or tool)
    (programs / "python3").write_text(_PYTHON)
    (programs / "python3").chmod(0o755)
    return Checkout(
        root.resolve(), {"PATH": str(programs), "CALLS": str(tmp_path / "calls"), "REAL_PYTHON": sys.executable}
    )


def test_the_first_start_makes_the_environment_with_the_tested_versions(checkout: Checkout) -> None:
    assert checkout.launch().returncode == 75
    assert checkout.installs == [
        (
            "python -m pip install --disable-pip-version-check "
            f"--constraint {checkout.root}/constraints.txt --quiet --editable {checkout.root}[examples]"
        )
    ]


def test_the_second_start_installs_nothing(checkout: Checkout) -> None:
    checkout.launch()
    second = checkout.launch()
    assert checkout.calls_file.read_text() == ""
    assert (second.returncode, second.stderr) == (75, "")


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt"])
def test_a_changed_requirement_is_installed(checkout: Checkout, file: str) -> None:
    checkout.launch()
    with (checkout.root / file).open("a") as requirements:
        requirements.write("# changed\n")
    checkout.launch()
    assert len(checkout.installs) == 1


def test_a_moved_checkout_is_installed_again(checkout: Checkout, tmp_path: Path) -> None:
    checkout.launch()
    moved = Checkout(checkout.root.rename(tmp_path / "moved"), checkout.environment)
    moved.launch()
    assert len(moved.installs) == 1


def test_an_interrupted_installation_is_taken_up_again(checkout: Checkout) -> None:
    failed = checkout.launch(PIP_FAILS="1")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert checkout.launch().returncode == 75
    assert len(checkout.installs) == 1


def test_each_set_of_optional_groups_is_installed_once(checkout: Checkout) -> None:
    checkout.launch()
    checkout.launch("--with", "dev", "relight")
    assert [call.rpartition("[")[2] for call in checkout.installs] == ["dev]"]
    for arguments in ((), ("--with", "dev", "relight")):
        checkout.launch(*arguments)
        assert checkout.installs == []


def test_without_arguments_it_runs_the_example(checkout: Checkout) -> None:
    assert checkout.launch().stdout == f"relight 2: run {checkout.root}/configs/digits.yaml\n"


def test_arguments_and_the_exit_code_are_passed_on_unchanged(checkout: Checkout) -> None:
    launched = checkout.launch("my job.yaml", "name=a  b", "--with")
    assert (launched.stdout, launched.returncode) == ("relight 4: run my job.yaml name=a  b --with\n", 75)


def test_another_command_runs_in_the_environment(checkout: Checkout) -> None:
    inside = checkout.launch("--with", "dev", "bash", "-c", 'echo "$VIRTUAL_ENV" "$@"', "bash", "a  b")
    assert inside.stdout == f"{checkout.root}/.venv a  b\n"


def test_an_environment_that_lost_relight_gets_it_again(checkout: Checkout) -> None:
    checkout.launch()
    (checkout.root / ".venv" / "bin" / "relight").unlink()
    checkout.launch()
    assert len(checkout.installs) == 1


def test_an_existing_environment_may_be_named_from_the_current_directory(checkout: Checkout, tmp_path: Path) -> None:
    checkout.launch()
    shutil.copytree(checkout.root / ".venv", tmp_path / "venv")
    inside = checkout.launch("--with", "dev", "bash", "-c", "cd /; type -P relight", RELIGHT_VENV=f".{tmp_path}/venv")
    assert inside.stdout == f"//.{tmp_path}/venv/bin/relight\n"


def test_an_existing_environment_is_reused_and_keeps_its_versions(checkout: Checkout, tmp_path: Path) -> None:
    checkout.launch()
    venv = shutil.copytree(checkout.root / ".venv", tmp_path / "venv")
    (venv / "relight-setup").unlink()
    assert checkout.launch(RELIGHT_VENV=str(venv)).returncode == 75
    assert len(checkout.installs) == 1
    assert "--constraint" not in checkout.installs[0]


def test_without_a_recent_python_there_is_one_clear_error(checkout: Checkout) -> None:
    launched = checkout.launch(PYTHON_VERSION="(3, 10, 14)")
    assert (launched.returncode, launched.stdout) == (78, "")
    assert launched.stderr.splitlines()[-1] == (
        "launch.sh: no Python 3.11 or newer on PATH. "
        "Install one (Debian, Ubuntu: apt-get install python3 python3-venv), "
        "or name an existing virtual environment in RELIGHT_VENV."
    )
    assert checkout.installs == []


def test_a_wrong_name_of_an_environment_is_told(checkout: Checkout) -> None:
    launched = checkout.launch(RELIGHT_VENV="/nowhere")
    assert launched.returncode == 78
    assert launched.stderr.splitlines()[-1] == (
        "launch.sh: RELIGHT_VENV=/nowhere has no bin/python. Name an existing virtual environment, "
        f"or unset RELIGHT_VENV to have one made in {checkout.root}/.venv."
    )


def test_with_needs_a_command(checkout: Checkout) -> None:
    launched = checkout.launch("--with", "dev")
    assert (launched.returncode, launched.stderr) == (
        78,
        "launch.sh: --with needs the optional groups and a command: --with dev pytest\n",
    )


def test_the_oldest_torch_gets_an_environment_of_its_own(checkout: Checkout) -> None:
    (checkout.root / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "oldest", checkout.root / "tests")
    pytest_ = Path(checkout.environment["PATH"]) / "pytest"
    pytest_.write_text('#!/usr/bin/env bash\necho "$VIRTUAL_ENV: $*"\n')
    pytest_.chmod(0o755)
    command: list[str | Path] = [checkout.root / "tests" / "oldest", "tests/storage"]
    done = subprocess.run(command, env=checkout.environment, capture_output=True, text=True, check=False)
    oldest = checkout.root / ".cache" / "torch-2.10"
    assert done.stdout == f"{oldest}: tests/storage\n", done.stderr
    wanted = Path(f"{oldest}.txt").read_text().splitlines()
    assert wanted[0] == "torch==2.10.*"
    assert [line for line in wanted[1:] if line.startswith(("torch", "triton", "nvidia", "cuda"))] == []
    assert len(wanted) > 50, "the rest is as it is tested"


def test_two_starts_at_once_install_once(checkout: Checkout) -> None:
    command = [checkout.root / "launch.sh"]
    starts = [subprocess.Popen(command, env=checkout.environment, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [start.wait(timeout=60) for start in starts] == [75] * 4
    assert len(checkout.installs) == 1


def test_the_scripts_agree_that_an_environment_is_set_up_in_one_place_only() -> None:
    for script in ("tests/run", "tests/check", ".ci/run"):
        text = (ROOT / script).read_text(encoding="utf-8")
        assert "venv" not in text.replace("python3-venv", "")
        assert os.access(ROOT / script, os.X_OK)
