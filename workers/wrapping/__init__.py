"""How a task's model is spread over the ranks: whole on each (DDP), sharded (FSDP2, HSDP), or cut within its layers."""

from __future__ import annotations
