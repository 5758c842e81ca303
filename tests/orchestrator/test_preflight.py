"""A mistake is answered at once, in one line, before torch is imported and before anything is started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from relight.configs.protocol import ExitCode
from relight.orchestrator.judging.failures import FailureClass
from relight.orchestrator.preflight import storage_errors
from relight.orchestrator.run import run

PROGRAM = (
    "import sys\n"
    "from relight.orchestrator.run import run\n"
    "code = run(sys.argv[1:])\n"
    "assert 'torch' not in sys.modules, 'torch was imported'\n"
    "sys.exit(code)\n"
)


def answer(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert not result.stdout
    assert "Traceback" not in result.stderr
    return result.returncode, result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "beginning"),
    [
        (("digitz",), ExitCode.BAD_CONFIG, "relight: no configuration digitz: there is no such file. "),
        (("digits", "train.lx=1"), ExitCode.BAD_CONFIG, "relight: unknown key train.lx (override 'train.lx=1'). "),
        (
            ("digits", "storage.url=gopher://x"),
            ExitCode.BAD_CONFIG,
            "relight: gopher:// is not a kind of storage that is served; ",
        ),
        (
            ("digits", "storage.url=/proc/nowhere"),
            ExitCode.BAD_CONFIG,
            "relight: ",
        ),
        (("nowhere.py",), ExitCode.USAGE, "relight: nowhere.py cannot be run: there is no such file in "),
        (("--bogus", "x.py"), ExitCode.USAGE, "relight: --bogus is not a flag of torchrun or relight run; "),
    ],
)
def test_a_mistake_is_answered_in_one_line(arguments: tuple[str, ...], code: ExitCode, beginning: str) -> None:
    returncode, said = answer(*arguments)
    assert returncode == code
    assert said.startswith(beginning)
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value", "package"),
    [
        ("metrics.tensorboard", "{folder}/board", "tensorboard"),
        ("metrics.loggers", "[my_package:Mine, {{wandb: {{project: mine}}}}]", "wandb"),
        ("metrics.loggers", "[mlflow]", "mlflow"),
    ],
)
def test_a_logger_that_is_not_installed_is_missed_before_anything_is_started(
    tmp_path: Path, option: str, value: str, package: str
) -> None:
    program = f"import sys\nsys.modules[{package!r}] = None\n" + PROGRAM
    overrides = (f"storage.url={tmp_path}/run", f"{option}={value.format(folder=tmp_path)}")
    command = [sys.executable, "-c", program, "digits", *overrides]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == ExitCode.BAD_CONFIG
    assert result.stderr == (
        f"relight: {option} needs a package that is not installed. Install it (pip install {package}), "
        "or leave the option out\n"
    )
    assert not (tmp_path / "run").exists()


def test_another_run_at_the_url_is_refused(tmp_path: Path) -> None:
    url = f"storage.url={tmp_path / 'run'}"
    (tmp_path / "run").mkdir()
    from relight.storage import runs
    from relight.storage.backends.open import open_backend

    runs.register(open_backend(str(tmp_path / "run")), {"name": "other"})
    returncode, said = answer("digits", url)
    assert returncode == ExitCode.BAD_CONFIG
    assert said.startswith(f"relight: {tmp_path / 'run'} holds another run (name=other; this one has name=digits). ")


def test_help_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == ExitCode.FINISHED
    assert capsys.readouterr().out.startswith("usage: relight run [torchrun flags] CONFIG [key=value ...]\n")


def test_what_the_storage_says_of_itself_is_understood() -> None:
    known = storage_errors()
    assert known["relight.storage.errors.StorageUnavailable"] is FailureClass.STORAGE
    assert known["relight.workers.errors.StorageTrouble"] is FailureClass.STORAGE
    assert known["relight.storage.errors.OtherRun"] is FailureClass.BAD_CONFIG
    assert known["relight.storage.errors.Superseded"] is FailureClass.GAVE_UP
