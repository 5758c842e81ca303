"""`relight run [torchrun flags] TARGET [rest]`, taken apart without torch, so that a mistake is answered at once.

torchrun's own parser has the word on what its flags mean (`launcher.py`). Here they are only told from the target,
for which their number of values must be known; a test compares the table with torch's parser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from typing import Final

from .errors import UsageError

WITH_VALUE: Final = frozenset(
    {
        "--nnodes", "--nproc-per-node", "--nproc_per_node", "--rdzv-backend", "--rdzv_backend", "--rdzv-endpoint",
        "--rdzv_endpoint", "--rdzv-id", "--rdzv_id", "--rdzv-conf", "--rdzv_conf", "--max-restarts", "--max_restarts",
        "--monitor-interval", "--monitor_interval", "--start-method", "--start_method", "--event-log-handler",
        "--event_log_handler", "--role", "--log-dir", "--log_dir", "-r", "--redirects", "-t", "--tee",
        "--log-line-prefix-template", "--log_line_prefix_template", "--local-ranks-filter", "--local_ranks_filter",
        "--duplicate-stdout-filters", "--duplicate_stdout_filters", "--duplicate-stderr-filters",
        "--duplicate_stderr_filters", "--node-rank", "--node_rank", "--master-addr", "--master_addr", "--master-port",
        "--master_port", "--local-addr", "--local_addr", "--logs-specs", "--logs_specs", "--numa-binding",
        "--numa_binding", "--signals-to-handle", "--signals_to_handle", "--shutdown-timeout", "--shutdown_timeout",
        "--print-completion", "--print_completion",
    }
)  # fmt: skip
SWITCHES: Final = frozenset(
    {
        "-h", "--help", "--standalone", "-m", "--module", "--no-python", "--no_python", "--run-path", "--run_path",
        "--virtual-local-rank", "--virtual_local_rank",
    }
)  # fmt: skip
REFUSED: Final = {
    "tee": "use --redirects with --log-dir, and `tail -f` on the files",
    "log_line_prefix_template": "it belongs to --tee, which is not offered",
    "duplicate_stdout_filters": "use --redirects with --log-dir, and `grep` on the files",
    "duplicate_stderr_filters": "use --redirects with --log-dir, and `grep` on the files",
    "event_log_handler": "the journal in the run's storage says what happened",
    "logs_specs": "use --redirects with --log-dir",
    "numa_binding": "start the workers through numactl: --no-python numactl --cpunodebind=... python script.py",
    "print_completion": "torchrun itself prints it",
}
"""torchrun's flags that are not honoured, and what to do instead."""

USAGE: Final = """\
usage: relight run [torchrun flags] CONFIG [key=value ...]
       relight run [torchrun flags] [--] script.py [arguments of the script ...]
       relight run [torchrun flags] -m module | --no-python program  [arguments ...]

CONFIG is a .yaml file or the name of a preset. Every flag and PET_* variable of torchrun means what it means there
(see `torchrun --help`). What differs: workers are restarted without --max-restarts, for as long as checkpoints are
committed; given, --max-restarts is a cap on all restarts together."""


class Target(Enum):
    CONFIG = "config"
    SCRIPT = "script"
    MODULE = "module"
    PROGRAM = "exec"


@dataclass(frozen=True, slots=True)
class Command:
    """`flags` are torchrun's words as they were given, `given` their names (`max_restarts`); `rest` is the script's
    arguments or the config's overrides.
    """

    flags: tuple[str, ...]
    given: frozenset[str]
    kind: Target
    target: str
    rest: tuple[str, ...]


class HelpWanted(Exception):
    """`--help` among the flags."""


def split(arguments: Sequence[str], environment: Mapping[str, str]) -> Command:
    """Take the command line apart.

    Raises:
        HelpWanted: the user asked for help.
        UsageError: an unknown or unfinished flag, a flag that is not honoured, or no target.
    """
    flags: list[str] = []
    names: set[str] = set()
    remaining = list(arguments)
    while remaining and remaining[0].startswith("-") and remaining[0] != "--":
        count = _take_flag(remaining, names)
        flags += remaining[:count]
        del remaining[:count]
    explicit = remaining[:1] == ["--"]
    if explicit:
        del remaining[0]
    if not remaining:
        raise UsageError(f"nothing to run\n{USAGE}")
    _refuse(names, environment)
    target, *rest = remaining
    kind = _kind_of(target, names | _switched_on(environment), explicit=explicit)
    if kind is Target.CONFIG:
        _refuse_late_flags(target, rest)
    return Command(tuple(flags), frozenset(names), kind, target, tuple(rest))


def _take_flag(remaining: Sequence[str], names: set[str]) -> int:
    """How many words the flag in front takes; its full name goes to `names`."""
    word = remaining[0]
    name, _, attached = word.partition("=") if word.startswith("--") else (word[:2], "", word[2:])
    flag = _full_name(name)
    if flag in ("-h", "--help"):
        raise HelpWanted
    names.add(_SHORT.get(flag, flag.removeprefix("--").replace("-", "_")))
    if flag in SWITCHES or attached or "=" in word:
        return 1
    if len(remaining) < 2:
        raise UsageError(f"{word} needs a value\n{USAGE}")
    return 2


_SHORT: Final = {"-m": "module", "-r": "redirects", "-t": "tee"}


def _full_name(name: str) -> str:
    """Unique beginnings are understood, as argparse does."""
    known = WITH_VALUE | SWITCHES
    if name in known:
        return name
    matches = sorted(flag for flag in known if name.startswith("--") and flag.startswith(name))
    # --nproc-per-node and --nproc_per_node are one flag.
    if len({match.replace("_", "-") for match in matches}) == 1:
        return matches[0]
    message = f"{name} may mean {', '.join(matches)}" if matches else f"{name} is not a flag of torchrun or relight run"
    raise UsageError(f"{message}; flags go before the target, the target's own arguments after it")


def _refuse(names: set[str], environment: Mapping[str, str]) -> None:
    for flag, instead in REFUSED.items():
        variable = f"PET_{flag.upper()}"
        if flag in names or environment.get(variable):
            given = f"--{flag.replace('_', '-')}" if flag in names else variable
            raise UsageError(f"{given} is not supported by relight run: {instead}")


def _switched_on(environment: Mapping[str, str]) -> set[str]:
    return {name for name in ("module", "no_python", "run_path") if environment.get(f"PET_{name.upper()}", "0") != "0"}


def _kind_of(target: str, names: set[str], *, explicit: bool) -> Target:
    if "no_python" in names and "module" in names:
        raise UsageError("--no-python and --module exclude each other")
    if "run_path" not in names:
        if "no_python" in names:
            return Target.PROGRAM
        if "module" in names:
            return Target.MODULE
    if explicit or "run_path" in names or PurePath(target).suffix in {".py", ".pyc", ".pyz", ".zip"}:
        return Target.SCRIPT
    return Target.CONFIG


def _refuse_late_flags(target: str, rest: Sequence[str]) -> None:
    for word in rest:
        if word.startswith("-"):
            raise UsageError(f"{word} comes after {target}: flags go before it. Overrides are written key=value")
