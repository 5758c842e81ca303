"""Ends with 75 when it is told to stop, or at once, with 0, when the file FINISH is there.

    notes_notices.py READY FINISH

READY.RANK is made when it can be told.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(75))
ready, finish = sys.argv[1:]
if not Path(finish).exists():
    Path(f"{ready}.{os.environ['RANK']}").touch()
    signal.pause()
