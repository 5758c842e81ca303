"""A worker started from a config: joins the other ranks, trains, and says with its exit code how it ended."""

from __future__ import annotations

import sys

from ..configs.failure import FailureReport
from ..configs.protocol import ENV_CONFIG
from ..configs.schema import Config
from .errors import BadWorld, WorkerError
from .loop import Trainer
from .origin import origin
from .parallel import join, leave
from .pulse import Pulse
from .signals import StopFlag
from .wrapping.build import settle


def main() -> int:
    """Everything comes from the environment; returns an `ExitCode`. A bug leaves as the exception it is."""
    with StopFlag() as stop:
        try:
            config = _config()
            pulse = Pulse(origin(), config.hang)  # Before the other ranks are met: they may never come.
            world = settle(join(), config.parallel, origin().local_world_size)
            code = Trainer(config, world, stop, pulse).run()
        except WorkerError as error:
            # An answer to the user: the launcher prints it once, for all ranks, without a traceback.
            report = FailureReport.of(error, with_traceback=False)
            if not report.write():
                sys.stderr.write(f"relight: {error}\n")
            return error.exit_code
        leave()
        return code


def _config() -> Config:
    text = origin().config
    if text is None:
        message = f"{ENV_CONFIG} is not set: a worker is started by relight run, with a configuration"
        raise BadWorld(message)
    return Config.model_validate_json(text)


if __name__ == "__main__":
    raise SystemExit(main())
