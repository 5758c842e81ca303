"""The example: torchvision's ResNet-18 on scikit-learn's digits, 1,797 real 8x8 images that ship in the package."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import Dataset
from torchvision.models import resnet18
from torchvision.transforms import InterpolationMode, v2

from ..errors import BadTask
from ..task import Task

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from ...configs.schema import TrainConfig

_CLASSES = 10
_BRIGHTEST = 16.0
_EVERY_NTH_VALIDATES = 5
_RISING = 0.3


class Digits(Task):
    """Needs scikit-learn (`pip install scikit-learn`)."""

    def __init__(self, train: TrainConfig, *, image_size: int = 32, augment: bool = True) -> None:
        """`image_size` is the pixels per side that digits are scaled up to; `augment` turns and shifts them."""
        super().__init__(train)
        self.image_size = image_size
        self.augment = augment

    def model(self) -> nn.Module:
        model: nn.Module = resnet18(num_classes=_CLASSES)
        return model

    def optimizer(self, model: nn.Module) -> Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=self.train.lr, weight_decay=0.05, fused=True)

    def scheduler(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        # Not OneCycleLR: it keeps its length in the checkpoint, and then a run cannot be made longer.
        return LambdaLR(optimizer, lambda step: one_cycle(step / total_steps))

    def train_data(self) -> Dataset[tuple[Tensor, int]]:
        transform = v2.RandomAffine(10, translate=(0.1, 0.1), interpolation=InterpolationMode.BILINEAR, fill=-1.0)
        return DigitImages(self.image_size, validation=False, transform=transform if self.augment else None)

    def val_data(self) -> Dataset[tuple[Tensor, int]]:
        return DigitImages(self.image_size, validation=True)

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        images, labels = batch
        return functional.cross_entropy(model(images), labels)

    def metrics(self, model: nn.Module, batch: Any) -> dict[str, Tensor]:
        images, labels = batch
        scores = model(images)
        return {
            "accuracy": (scores.argmax(dim=1) == labels).float(),
            "loss": functional.cross_entropy(scores, labels, reduction="none"),
        }


def one_cycle(done: float) -> float:
    """Which part of the full rate applies when `done` (0..1) of the steps are: a linear rise, then half a cosine."""
    if done < _RISING:
        return 0.04 + 0.96 * done / _RISING
    return (1 + math.cos(math.pi * min(1, (done - _RISING) / (1 - _RISING)))) / 2


class DigitImages(Dataset[tuple[Tensor, int]]):
    """`([3, size, size] float32 image, label)` of one of the two splits. Every fifth image of each digit validates."""

    def __init__(self, image_size: int, *, validation: bool, transform: nn.Module | None = None) -> None:
        images, labels = _load_digits()
        chosen = _validates(labels) == validation
        self.labels = labels[chosen].tolist()
        self.images = _enlarge(images[chosen], image_size)
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        if self.transform is not None:
            image = self.transform(image)
        return image.expand(3, -1, -1), self.labels[index]


def _load_digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise BadTask("the digits example needs scikit-learn: pip install scikit-learn") from None
    images, labels = load_digits(return_X_y=True)
    return images.astype(np.float32).reshape(-1, 8, 8), labels


def _validates(labels: np.ndarray) -> np.ndarray:
    """Stratified and fixed: the n-th image of a digit validates when n is a multiple of five."""
    nth = np.empty(len(labels), dtype=np.int64)
    for digit in range(_CLASSES):
        mask = labels == digit
        nth[mask] = np.arange(mask.sum())
    chosen: np.ndarray = nth % _EVERY_NTH_VALIDATES == 0
    return chosen


def _enlarge(images: np.ndarray, size: int) -> Tensor:
    """`[n, 8, 8]` of 0..16 to `[n, 1, size, size]` of -1..1."""
    tensor = torch.from_numpy(images).unsqueeze(1) / _BRIGHTEST * 2 - 1
    return functional.interpolate(tensor, size=(size, size), mode="bilinear", align_corners=False)
