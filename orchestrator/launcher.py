"""From a command line to what is to be launched. torchrun's own parser says what its flags and PET_* variables mean."""

from __future__ import annotations

import argparse
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing import Std

from ..configs.schema import Config, HangConfig
from .clouds.providers import longest_deadline_s
from .commandline import Command, Target
from .environment import Job
from .errors import UsageError
from .forking.spawning import Entry
from .hosts.meeting import Meeting
from .judging.policy import Settings
from .judging.rules import Rule, Then
from .streams import Streams

WORKER_ENTRY: Final = "relight.workers.main:main"
WORKERS_WITHOUT_GPU: Final = 2
SCRIPT_DEADLINE_S: Final = 60.0
_NO_MATTER: Final = "0"
ENV_HANG_TIMEOUT: Final = "RELIGHT_HANG_TIMEOUT"
"""For a script: what `hang.timeout` is in a configuration."""


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """Everything that stays the same over the attempts of a run. `address` and `port` are for a lone host's store."""

    entry: Entry
    processes: int
    job: Job
    settings: Settings
    meeting: Meeting
    streams: Streams
    preemption_deadline_s: float
    address: str = "127.0.0.1"
    port: int = 0
    stop_signals: frozenset[signal.Signals] = field(default_factory=frozenset)
    hang: HangConfig = field(default_factory=HangConfig)


def resolve(command: Command, config: Config | None, environment: Mapping[str, str]) -> LaunchSpec:
    """Give every flag its meaning. `config` is there exactly when the command names one.

    Raises:
        UsageError: a value that cannot be, in one line.
    """
    # Our own scan found the target; the parser gets a word in its place, so that it takes nothing else for it.
    flags = _parser(environment).parse_args([*command.flags, _NO_MATTER])
    meeting, address, port = _meeting(flags)
    restarts = _explicit_restarts(command, flags, environment)
    return LaunchSpec(
        entry=_entry(command),
        processes=_processes(command, flags, config, environment),
        job=Job(
            run_id=meeting.run_id,
            role=flags.role,
            max_restarts=restarts if restarts is not None else _settings(config, None).max_without_progress,
            virtual_local_rank=getattr(flags, "virtual_local_rank", False),
            config=config.model_dump_json() if config is not None else None,
        ),
        settings=_settings(config, restarts),
        meeting=meeting,
        streams=_streams(flags),
        preemption_deadline_s=_deadline_s(flags, config),
        address=address,
        port=port,
        stop_signals=_stop_signals(flags),
        hang=config.hang if config is not None else _hang(environment),
    )


def _entry(command: Command) -> Entry:
    if command.kind is Target.CONFIG:
        return Entry("call", WORKER_ENTRY)
    return Entry(command.kind.value, command.target, command.rest)


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    """torchrun's own, whatever torch's age: what newer ones know or have mended holds for older ones too."""
    parser = torchrun.get_args_parser()
    if "PET_MASTER_PORT" not in environment:
        # Older ones default to 29500, which two runs on one host cannot both have.
        parser.set_defaults(master_port=None)
    if "--shutdown-timeout" not in parser.format_help():
        given = environment.get("PET_SHUTDOWN_TIMEOUT")
        parser.add_argument("--shutdown-timeout", "--shutdown_timeout", type=int, default=given)
    return parser


def _is_given(command: Command, environment: Mapping[str, str], name: str) -> bool:
    return name in command.given or f"PET_{name.upper()}" in environment


def _processes(
    command: Command, flags: argparse.Namespace, config: Config | None, environment: Mapping[str, str]
) -> int:
    if config is not None and not _is_given(command, environment, "nproc_per_node"):
        wanted = config.launch.nproc_per_node
        if wanted == "auto":
            return torch.accelerator.device_count() or WORKERS_WITHOUT_GPU
        return wanted
    try:
        processes: int = torchrun.determine_local_world_size(flags.nproc_per_node)
    except ValueError as error:
        raise UsageError(f"--nproc-per-node: {error}") from None
    if processes < 1:
        raise UsageError(f"--nproc-per-node={processes}: at least one worker is needed")
    return processes


def _explicit_restarts(command: Command, flags: argparse.Namespace, environment: Mapping[str, str]) -> int | None:
    if not _is_given(command, environment, "max_restarts"):
        return None
    # A PET_* variable reaches the parser as a default, which argparse converts when it is a string.
    restarts = int(flags.max_restarts)
    if restarts < 0:
        raise UsageError(f"--max-restarts={restarts}: 0 or more")
    return restarts


def _settings(config: Config | None, max_restarts: int | None) -> Settings:
    if config is not None:
        restart = config.restart
        return Settings(
            max_without_progress=restart.max_without_progress,
            backoff_s=restart.backoff_s,
            backoff_max_s=restart.backoff_max_s,
            max_restarts=max_restarts,
            max_failures=restart.max_failures,
            window_s=restart.window_s,
            rules=tuple(Rule(re.compile(rule.match), Then(rule.then)) for rule in restart.rules),
        )
    if max_restarts is None:
        return Settings()
    # A script need not tell its progress: then the number that the user gave is the rule, as in torchrun.
    usual = Settings()
    return Settings(
        max_without_progress=max(usual.max_without_progress, max_restarts + 1),
        max_restarts=max_restarts,
        max_failures=max(usual.max_failures, max_restarts),
    )


def _meeting(flags: argparse.Namespace) -> tuple[Meeting, str, int]:
    try:
        min_nodes, max_nodes = torchrun.parse_min_max_nnodes(flags.nnodes)
    except (ValueError, RuntimeError):
        raise UsageError(f"--nnodes={flags.nnodes}: a number, or MIN:MAX") from None
    if not 0 < min_nodes <= max_nodes:
        raise UsageError(f"--nnodes={flags.nnodes}: at least one host, and MIN no more than MAX")
    port = int(flags.master_port) if flags.master_port is not None else 0
    alone = Meeting(run_id=flags.rdzv_id)
    if flags.standalone:
        return alone, "127.0.0.1", 0
    static = flags.rdzv_backend == "static"
    if static and max_nodes == 1 and not flags.rdzv_endpoint:
        return alone, flags.master_addr, port
    conf: dict[str, object] = dict(_pairs(flags.rdzv_conf))
    if static:
        conf["rank"] = int(flags.node_rank)
    endpoint = flags.rdzv_endpoint
    if static and not endpoint:
        endpoint = f"{flags.master_addr}:{port or 29500}"
    return Meeting(flags.rdzv_backend, endpoint, flags.rdzv_id, min_nodes, max_nodes, flags.local_addr, conf), "", 0


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = [word.partition("=") for word in text.split(",") if word.strip()]
    if any(not (key.strip() and value.strip()) for key, _, value in pairs):
        raise UsageError(f"--rdzv-conf={text}: KEY=VALUE, several with commas between them")
    return [(key.strip(), value.strip()) for key, _, value in pairs]


def _streams(flags: argparse.Namespace) -> Streams:
    try:
        redirects = Std.from_str(flags.redirects)
        shown = (
            frozenset(int(rank) for rank in flags.local_ranks_filter.split(",")) if flags.local_ranks_filter else None
        )
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"--redirects={flags.redirects} --local-ranks-filter={flags.local_ranks_filter}: {error}"
        ) from None
    if redirects != Std.NONE and flags.log_dir is None:
        raise UsageError("--redirects needs --log-dir: where are the files to be?")
    return Streams(Path(flags.log_dir).absolute() if flags.log_dir is not None else None, redirects, shown)


def _deadline_s(flags: argparse.Namespace, config: Config | None) -> float:
    if flags.shutdown_timeout is not None:
        return float(flags.shutdown_timeout)
    if config is None:
        return SCRIPT_DEADLINE_S
    return min(config.preemption.deadline_s, longest_deadline_s(config.preemption.watch))


def _hang(environment: Mapping[str, str]) -> HangConfig:
    """A script has no configuration, and may need this one word of it: never."""
    text = environment.get(ENV_HANG_TIMEOUT, "auto")
    try:
        return HangConfig.model_validate({"timeout": text if text in {"auto", "never"} else float(text)})
    except ValueError:
        raise UsageError(f"{ENV_HANG_TIMEOUT}={text}: auto, never, or seconds greater than 0") from None


def _stop_signals(flags: argparse.Namespace) -> frozenset[signal.Signals]:
    """`--signals-to-handle`. SIGQUIT is left out of torchrun's default: its dump helps to find a hang."""
    names = getattr(flags, "signals_to_handle", "SIGTERM,SIGINT,SIGHUP,SIGQUIT")
    if names == "SIGTERM,SIGINT,SIGHUP,SIGQUIT":
        return frozenset({signal.SIGHUP})
    try:
        return frozenset(signal.Signals[name.strip()] for name in names.split(",") if name.strip())
    except KeyError as error:
        raise UsageError(f"--signals-to-handle: there is no signal {error.args[0]}") from None
