"""Forks a child from its main thread and one from a thread that ends; then waits.

    forks.py OUT

OUT gets the first child's number once the second has outlived its thread for a while.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

children: list[int] = []
ask, answer = os.pipe(), os.pipe()


def fork_an_echo() -> None:
    child = os.fork()
    if child == 0:
        while True:
            os.write(answer[1], os.read(ask[0], 1))
    children.append(child)


sleeper = os.fork()
if sleeper == 0:
    signal.pause()
thread = threading.Thread(target=fork_an_echo)
thread.start()
thread.join()
os.close(answer[1])
for _ in range(20):
    os.write(ask[1], b"?")
    assert os.read(answer[0], 1) == b"?", "the child died with the thread that forked it"
    threading.Event().wait(0.01)
Path(sys.argv[1]).write_text(f"{sleeper} {children[0]}")
signal.pause()
