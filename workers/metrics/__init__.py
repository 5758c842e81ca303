"""What rank 0 tells of the training: to the launcher's journal, and to loggers such as TensorBoard."""

from __future__ import annotations
