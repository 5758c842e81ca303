"""What became of the saves, as every rank comes to know it."""

from __future__ import annotations

import pytest

from relight.storage.persister import Outcome
from relight.workers.agreement import Votes
from relight.workers.checkpoint.ledger import Ledger
from relight.workers.errors import SavesKeepFailing


def test_a_step_that_is_saved_once_more_starts_with_a_clean_sheet() -> None:
    """Else the first failure, still voted on, would call off the second try."""
    ledger = Ledger(0, max_failed_saves=3)
    ledger.begin(20)
    ledger.hear(Votes(failed_step=20))
    assert ledger.failed_step == 20
    ledger.begin(20)
    assert ledger.failed_step < 20
    ledger.hear(Votes(committed_step=20, failed_step=ledger.failed_step))
    assert (ledger.committed_step, ledger.failed_step) == (20, 19)


def test_one_failure_is_counted_once_however_it_is_heard() -> None:
    ledger = Ledger(0, max_failed_saves=2)
    ledger.begin(20)
    ledger.hear(Votes(failed_step=20))
    ledger.enter(Outcome(20, failed="no"))
    ledger.hear(Votes(failed_step=20))
    ledger.begin(30)
    with pytest.raises(SavesKeepFailing) as stopped:
        ledger.hear(Votes(failed_step=30))
    assert str(stopped.value) == "2 saves in a row have failed, the last one at step 30: no"
