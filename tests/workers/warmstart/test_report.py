"""What a person reads, and what the journal keeps, of the weights that a run begins with."""

from __future__ import annotations

import torch

from relight.workers.checkpoint.warmstart.comparing import Comparison, Wanting, compare
from relight.workers.checkpoint.warmstart.report import Initial
from relight.workers.checkpoint.warmstart.settings import InitFrom
from relight.workers.checkpoint.warmstart.tensors import Described


def test_the_report_says_what_became_of_every_tensor() -> None:
    source = {f"module.body.{number}": Described(torch.float16, (512, 1024)) for number in range(6)}
    source |= {f"module.old.{number}": Described(torch.float32, (3,)) for number in range(7)}
    source |= {"module.head": Described(torch.float32, (9,))}
    model = {f"body.{number}": Described(torch.float32, (512, 1024)) for number in range(6)}
    model |= {"head": Described(torch.float32, (3,)), "norm": Described(torch.float32, (3,))}
    done = compare(source, Wanting(model), InitFrom("a.pt", exclude=["head"], strict=False), "a.pt")
    initial = Initial("a.pt", done, source, model)
    assert initial.text == (
        "beginning with the weights of a.pt\n"
        "  loaded      6 of 8 tensors, 6.0 MiB\n"
        "  converted   6 from float16 to float32\n"
        "  kept        1 as initialised, by your choice: head\n"
        "  missing     1 not in the source, as initialised: norm\n"
        "  left        1 in the source, not chosen: head\n"
        "  unexpected  7 in the source, not in the model: old.0, old.1, old.2, old.3 and 3 more\n"
        "  names       without what DDP or torch.compile had put in them"
    )
    assert initial.facts == {
        "source": "a.pt", "loaded": 6, "tensors": 8, "bytes": 6 << 20, "converted": 6, "kept": 1, "missing": 1,
        "left": 1, "unexpected": 7,
    }  # fmt: skip


def test_where_all_fits_the_report_is_one_line_long() -> None:
    described = {"weight": Described(torch.float32, (2,))}
    initial = Initial("a.pt", Comparison(pairs=(("weight", "weight"),)), described, described)
    assert initial.text == "beginning with the weights of a.pt\n  loaded      1 of 1 tensors, 8 bytes"
