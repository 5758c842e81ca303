"""moto's server, which answers one request at a time: `python -m relight.tests.moto_in_turn PORT`.

By itself it looks for a key and puts it in two steps, and of two conditional puts in one moment both may succeed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple


def main() -> None:
    app: Any = DomainDispatcherApplication(create_backend_app)
    turn = threading.Lock()

    def in_turn(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        with turn:
            return list(app(environ, start_response))

    run_simple("127.0.0.1", int(sys.argv[1]), in_turn, threaded=True)


if __name__ == "__main__":
    main()
