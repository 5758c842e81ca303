"""`relight run`: everything made, in its order, for one launcher's life; and taken down again."""

from __future__ import annotations

import os
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path

from ..configs.protocol import ExitCode
from ..storage.backends.open import open_backend
from ..storage.errors import StorageError
from . import commandline, preflight
from .accounting.keeping import Bookkeeper
from .environment import omp_threads
from .errors import LaunchError
from .forking.group import Group
from .journal import Journal
from .notices import Notices
from .processors import likely_processes
from .report import say
from .scratch import announce, memory_directory, scratch_directory
from .supervisor import Supervisor


def run(argv: Sequence[str], began_ns: int | None = None) -> int:
    """`relight run` with these arguments; returns the exit code. Everything for the user goes to stderr.

    `began_ns`: when the launcher's life began, by the monotonic clock; not given: now.
    """
    try:
        return _run(argv, time.monotonic_ns() if began_ns is None else began_ns)
    except commandline.HelpWanted:
        sys.stdout.write(commandline.USAGE + "\n")
        return ExitCode.FINISHED
    except LaunchError as error:
        say(str(error))
        return error.exit_code


def _run(argv: Sequence[str], began_ns: int) -> int:
    command = commandline.split(argv, os.environ)
    prepared = preflight.check(command)
    config, store = prepared if prepared is not None else (None, None)
    with ExitStack() as stack:
        notices = stack.enter_context(closing(Notices()))
        scratch = stack.enter_context(scratch_directory())
        inherited = dict(os.environ)
        threads = omp_threads(likely_processes(command, config, inherited), inherited)
        # The zygote imports torch while this process does the same.
        group = stack.enter_context(closing(Group(inherited | threads, _note_missing)))

        from . import launcher
        from .clouds.watcher import open_watcher
        from .hosts.rendezvous import for_meeting
        from .metrics import page, served

        spec = launcher.resolve(command, config, inherited)
        notices.listen(spec.stop_signals)
        if omp_threads(spec.processes, inherited) != threads:  # OpenMP reads it once, when it is loaded.
            group.close()
            group.environment = inherited | omp_threads(spec.processes, inherited)
        incarnation = uuid.uuid4().hex[:12]
        local = spec.streams.log_dir / "journal.jsonl" if spec.streams.log_dir is not None else None
        books = Bookkeeper(began_ns, scratch=scratch)
        journal = Journal(
            incarnation, store=store, local=local, warn=say, refusals=(StorageError, OSError), heard=books.hear
        )
        stack.enter_context(closing(journal))
        stack.enter_context(closing(books))
        books.start(journal)
        rendezvous = for_meeting(spec.meeting, incarnation, spec.processes, spec.address, spec.port)
        # Not the arguments of a script: there may be secrets among them.
        overrides = list(command.rest) if config is not None else []
        journal.record("launched", target=command.target, overrides=overrides, processes=spec.processes)
        announce(scratch, store.url if store is not None else None)
        if config is not None and (cloud := open_watcher(config.preemption, say, journal.record)):
            stack.enter_context(closing(cloud))
        if config is not None:
            labels = {"run": config.name, "host": socket.gethostname(), "incarnation": incarnation}
            stack.enter_context(served(config.metrics.prometheus, lambda: page(books.facts(), labels), say))
        supervisor = Supervisor(
            spec, group, rendezvous, notices, journal, scratch, memory=memory_directory(scratch), observe=books.observe,
            stores=partial(_keep_where_the_run_lives, journal, scratch) if config is None else _nothing,
        )  # fmt: skip
        try:
            code = supervisor.run()
        except LaunchError as error:
            _ended(group, journal, error.exit_code)
            raise
        _ended(group, journal, code)
        return code


def _ended(group: Group, journal: Journal, code: int) -> None:
    """Told when the last of its processes has gone: nearly all of the launcher's time is booked then."""
    group.close()
    journal.record("ended", exit_code=int(code))


def _keep_where_the_run_lives(journal: Journal, scratch: Path, url: str) -> None:
    """A script alone knows its storage, and says so once it has restored."""
    with suppress(StorageError):
        store = open_backend(url)
        journal.keep_in(store)
        announce(scratch, store.url)


def _nothing(_url: str) -> None:
    pass


def _note_missing(notes: Sequence[str]) -> None:
    for note in notes:
        say(f"workers will import it themselves: {note}")
