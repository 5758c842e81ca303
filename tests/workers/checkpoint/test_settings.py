"""What a user may choose about checkpoints, as the storage is told it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from relight.storage.retention import Best, Rules
from relight.workers.checkpoint.settings import CheckpointSettings, WhenBusy
from relight.workers.origin import origin

BEST = Best(metric="accuracy")


@pytest.mark.parametrize(
    ("chosen", "rules"),
    [
        ({}, Rules()),
        ({"keep_last": 7, "pin": [3, 4]}, Rules(keep_last=7, pinned=(3, 4))),
        ({"keep_every": 1000}, Rules(every_steps=1000)),
        ({"keep_every": "2h", "keep_best": BEST}, Rules(every_s=7200.0, best=BEST)),
    ],
)
def test_what_is_chosen_becomes_rules(chosen: dict[str, Any], rules: Rules) -> None:
    assert CheckpointSettings(**chosen).saving(origin({})).rules == rules


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        ({"keep_last": 0}, "keep_last must be at least 1, not 0"),
        ({"keep_every": "often"}, 'expected steps (50) or a time ("30s", "5m", "1.5h"), greater than 0'),
    ],
)
def test_what_cannot_be_is_refused(chosen: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError) as refused:
        _ = CheckpointSettings(**chosen).saving(origin({}))
    assert str(refused.value) == text


def test_a_misspelt_answer_to_a_busy_persister_is_refused() -> None:
    assert CheckpointSettings(when_busy="queue").answer is WhenBusy.QUEUE
    with pytest.raises(ValueError) as refused:
        _ = CheckpointSettings(when_busy="never").answer
    assert str(refused.value) == "when_busy: expected defer, wait, skip, queue; got 'never'"


def test_copies_are_made_by_as_many_threads_as_a_rank_has_processors() -> None:
    processors = len(os.sched_getaffinity(0))
    alone = CheckpointSettings().saving(origin({})).copy_threads
    assert alone == min(processors, 4)
    assert CheckpointSettings().saving(origin({"LOCAL_WORLD_SIZE": str(processors)})).copy_threads == 1
    assert CheckpointSettings().saving(origin({"LOCAL_WORLD_SIZE": "100000"})).copy_threads == 1
