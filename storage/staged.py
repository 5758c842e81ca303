"""What is handed from a trainer to its persister: bytes in shared memory, and the seal that says they are whole."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from .commit import SaveJob
from .layout import AttemptId
from .manifest import Count, Record
from .receipts import Receipt


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """One rank's staged shard: the first `len(view)` bytes of the shared memory behind `descriptor`.

    Whoever holds a duplicate of `descriptor` keeps the memory, and the lock that says that it is in use. `seal` is
    where the memory is sealed when its bytes are hashed; None where nobody would look.
    """

    descriptor: int
    view: memoryview
    seal: Path | None = None


class Seal(Record):
    """Says of an arena that its copy was finished, and what every block of it must hash to. Written last.

    A worker that comes back looks for these: an arena without one is torn, or being written.
    """

    run: str
    token: str
    step: Count
    generation: Count
    attempt: Count
    nonce: str
    world_size: Count
    receipt: Receipt

    @classmethod
    def of(cls, job: SaveJob, receipt: Receipt) -> Seal:
        return cls(
            run=job.run,
            token=job.token,
            step=job.id.step,
            generation=job.id.generation,
            attempt=job.id.attempt,
            nonce=job.id.nonce,
            world_size=job.world_size,
            receipt=receipt,
        )

    @property
    def id(self) -> AttemptId:
        return AttemptId(self.step, self.generation, self.attempt, self.nonce)

    def write(self, path: Path) -> None:
        """Put it there whole. In memory nothing is synced: what a power cut takes was never promised."""
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        temporary.write_bytes(self.to_bytes())
        temporary.replace(path)
