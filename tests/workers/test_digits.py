"""The example's data and model; how well it learns is shown end to end."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.utils.data import default_collate

from relight.configs.schema import TrainConfig
from relight.workers.errors import BadTask
from relight.workers.replay import Replayable
from relight.workers.sampler import SampleIndex
from relight.workers.task import load_task
from relight.workers.tasks.digits import DigitImages, Digits, one_cycle

TRAIN = TrainConfig(lr=0.003, epochs=1)


def test_the_two_splits_are_all_1797_images_and_share_none() -> None:
    train, validation = DigitImages(8, validation=False), DigitImages(8, validation=True)
    assert (len(train), len(validation)) == (1433, 364)
    images = {image.numpy().tobytes() for image in train.images}
    # Some digits were scanned alike; a shared sample would show as many more.
    assert sum(image.numpy().tobytes() in images for image in validation.images) <= 2


def test_each_digit_is_a_fifth_in_validation() -> None:
    labels = torch.tensor(DigitImages(8, validation=True).labels).bincount()
    everything = labels + torch.tensor(DigitImages(8, validation=False).labels).bincount()
    assert labels.tolist() == [-(-int(count) // 5) for count in everything]


def test_an_image_is_three_planes_of_minus_one_to_one() -> None:
    image, label = DigitImages(32, validation=True)[0]
    assert image.shape == (3, 32, 32)
    assert (float(image.min()), label) == (-1.0, 0)
    assert 0.5 < float(image.max()) <= 1.0


def test_training_images_are_augmented_and_replay() -> None:
    plain = DigitImages(32, validation=False)
    data = Replayable(Digits(TRAIN).train_data(), seed=0)
    first, again, later = data[SampleIndex(5, epoch=0)], data[SampleIndex(5, epoch=0)], data[SampleIndex(5, epoch=1)]
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], later[0])
    assert not torch.equal(first[0], plain[5][0])
    assert torch.equal(Digits(TRAIN, augment=False).train_data()[5][0], plain[5][0])


def test_the_task_trains_and_measures() -> None:
    task = load_task("relight.workers.tasks.digits:Digits", TRAIN, {"image_size": 16})
    assert isinstance(task, Digits)
    batch = default_collate([task.val_data()[index] for index in range(4)])
    model = task.model()
    optimizer = task.optimizer(model)
    assert task.scheduler(optimizer, total_steps=10) is not None
    task.loss(model, batch).backward()
    optimizer.step()
    values = task.metrics(model.eval(), batch)
    assert {name: tuple(value.shape) for name, value in values.items()} == {"accuracy": (4,), "loss": (4,)}


def test_the_rate_rises_and_falls_and_a_finished_run_may_go_on() -> None:
    rates = [one_cycle(step / 20) for step in range(24)]
    assert rates.index(max(rates)) == 6
    assert max(rates) == 1.0
    assert rates[20:] == [0.0] * 4


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(BadTask) as caught:
        Digits(TRAIN).train_data()
    assert str(caught.value) == "the digits example needs scikit-learn: pip install scikit-learn"
