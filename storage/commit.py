"""One save, from bytes in memory to a checkpoint that exists: shard, receipt, all receipts, manifest.

Every rank writes its shard and then its receipt, on its own. Rank 0 waits for all receipts in storage, not in a
collective, and commits. Nothing here knows torch, so that it can run in a process of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from . import checksum, generations
from .backends.base import Backend, Bytes
from .errors import Damaged, SaveFailed
from .layout import AttemptId
from .manifest import Manifest, Progress
from .receipts import Receipt
from .retention import Rules

_POLL_S = (0.005, 0.25)
"""First and longest pause between two looks for receipts, in seconds."""

Pause = Callable[[float], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class SaveJob:
    """All that is needed to persist one rank's share of one save. Plain values: it can cross a process boundary.

    `token` is one worker group's and goes into the manifest; `deadline_s` bounds the wait for the other ranks;
    `rules` and `protected` are what retention may not go below.
    """

    id: AttemptId
    run: str
    token: str
    rank: int
    world_size: int
    progress: Progress
    deadline_s: float
    rules: Rules
    protected: tuple[AttemptId, ...] = ()


def write_shard(
    backend: Backend, job: SaveJob, data: Bytes, *, on_hashed: Callable[[Receipt], None] | None = None
) -> Receipt:
    """Make this rank's shard durable, then say so.

    Once the receipt may be visible the shard is rank 0's to count on: nobody but rank 0 takes it back. `on_hashed` is
    told the receipt as soon as all blocks are hashed, in another thread, while the shard is still being written.
    """
    view = memoryview(data).cast("B")

    def hash_blocks() -> Receipt:
        receipt = Receipt(rank=job.rank, size=len(view), blocks=checksum.hash_blocks(view))
        if on_hashed is not None:
            on_hashed(receipt)
        return receipt

    # Beside the writing, which leaves the processor idle: hashing then takes no time of its own.
    with ThreadPoolExecutor(1, thread_name_prefix="relight-hash") as pool:
        hashing = pool.submit(hash_blocks)
        backend.put(job.id.shard_key(job.rank, job.world_size), view)
        receipt = hashing.result()
    backend.put(job.id.receipt_key(job.rank), receipt.to_bytes())
    return receipt


def write_failure(backend: Backend, job: SaveJob, reason: str) -> None:
    """Tell rank 0 that this rank's shard will not come, so that it need not wait for the deadline."""
    backend.put(job.id.receipt_key(job.rank), Receipt(rank=job.rank, failed=reason).to_bytes())


def gather_receipts(backend: Backend, job: SaveJob, *, pause: Pause) -> list[Receipt]:
    """Every rank's receipt, in order of rank.

    Raises:
        SaveFailed: a rank reported failure, or the deadline passed; the message names the ranks.
    """
    found: dict[int, Receipt] = {}
    deadline = time.monotonic() + job.deadline_s
    wait_s, longest_s = _POLL_S
    while True:
        present = {entry.key for entry in backend.list(job.id.receipts)}
        for rank in range(job.world_size):
            key = job.id.receipt_key(rank)
            if rank not in found and key in present:
                found[rank] = _accept(Receipt.load(backend, key), rank, job)
        missing = [rank for rank in range(job.world_size) if rank not in found]
        if not missing:
            return [found[rank] for rank in range(job.world_size)]
        if time.monotonic() >= deadline:
            message = (
                f"step {job.id.step}: nothing was heard from rank {', '.join(map(str, missing))} within "
                f"{job.deadline_s:g} s. See that rank's log; if its storage is slow, raise checkpoint.save_deadline_s"
            )
            raise SaveFailed(message)
        pause(wait_s)
        wait_s = min(wait_s * 1.5, longest_s)


def _accept(receipt: Receipt, rank: int, job: SaveJob) -> Receipt:
    if receipt.rank != rank:
        raise Damaged(job.id.receipt_key(rank), f"it is the receipt of rank {receipt.rank}")
    if receipt.failed is not None:
        message = f"step {job.id.step}: rank {rank} could not write its shard: {receipt.failed}"
        raise SaveFailed(message)
    return receipt


def commit(backend: Backend, job: SaveJob, receipts: list[Receipt], *, saved_at: str | None = None) -> Manifest:
    """Make the checkpoint exist. `saved_at`: when its state was saved first, for a copy.

    Raises:
        Superseded: a later generation has started, this launcher is a zombie.
    """
    generations.refuse_if_superseded(backend, job.id.generation)
    manifest = Manifest(
        run=job.run,
        step=job.id.step,
        generation=job.id.generation,
        attempt=job.id.attempt,
        nonce=job.id.nonce,
        token=job.token,
        saved_at=saved_at or datetime.now(UTC).isoformat(timespec="seconds"),
        progress=job.progress,
        shards=tuple(receipt.entry for receipt in receipts),
    )
    # A receipt is seen before it is durable. What the manifest vouches for must not be lost while the manifest is kept.
    backend.settle(job.id.receipts)
    # THE COMMIT. Before this line returns the checkpoint does not exist for any reader; after it nothing loses it.
    backend.put(job.id.manifest_key, manifest.to_bytes())
    return manifest
