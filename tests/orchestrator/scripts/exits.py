"""Ends each rank with the exit code, `raise`, or minus the signal's number that its argument says.

`raise-held`: a thread that nobody waits for long enough keeps the process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

verdict = sys.argv[1 + int(os.environ["RANK"])]
if verdict == "wait":
    signal.pause()
if verdict == "raise-held":
    threading.Thread(target=threading.Event().wait).start()
if verdict.startswith("raise"):
    raise ValueError(f"{verdict} in attempt {os.environ['RELIGHT_ATTEMPT']}" if verdict == "raise-new" else verdict)
if verdict.startswith("-"):
    os.kill(os.getpid(), -int(verdict))
raise SystemExit(int(verdict))
