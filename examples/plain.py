"""Train a small network with DistributedDataParallel: a script as it is before it hears of Relight.

torchrun --standalone --nproc-per-node 2 plain.py
"""

from __future__ import annotations

import argparse
import os
import time

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler


class Rings(Dataset[tuple[Tensor, Tensor]]):
    """Points in a plane, to be told apart by their distance from the middle. Noise is added anew each time."""

    def __init__(self, size: int, seed: int, noise: float) -> None:
        self.points = 2 * torch.rand(size, 2, generator=torch.Generator().manual_seed(seed)) - 1
        self.labels = (3 * self.points.norm(dim=1)).long().clamp(max=3)
        self.noise = noise

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.points[index] + self.noise * torch.randn(2), self.labels[index]


def build_model() -> nn.Module:
    return nn.Sequential(
        nn.Linear(2, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4)
    )


@torch.no_grad()
def validate(model: nn.Module, loader: DataLoader[tuple[Tensor, Tensor]], device: torch.device) -> float:
    model.eval()
    counts = torch.zeros(2, device=device)
    for points, labels in loader:
        guesses = model(points.to(device)).argmax(dim=1)
        counts += torch.tensor([(guesses == labels.to(device)).sum(), len(labels)], device=device)
    dist.all_reduce(counts)
    model.train()
    return float(counts[0] / counts[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32, help="per rank")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", default="rings.pt")
    args = parser.parse_args()

    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank = dist.get_rank()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")
    torch.manual_seed(1000 + rank)

    model = DistributedDataParallel(build_model().to(device))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    loss_function = nn.CrossEntropyLoss()

    train_data, valid_data = Rings(1600, seed=0, noise=0.02), Rings(400, seed=1, noise=0.0)
    sampler: DistributedSampler[Tensor] = DistributedSampler(train_data, shuffle=True)
    loader = DataLoader(train_data, args.batch_size, sampler=sampler, num_workers=args.workers)
    valid_loader = DataLoader(valid_data, batch_size=100, sampler=DistributedSampler(valid_data, shuffle=False))

    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        started, seen, total = time.monotonic(), 0, 0.0
        for batch in loader:
            points, labels = (each.to(device) for each in batch)
            loss = loss_function(model(points), labels)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            seen, total = seen + len(labels), total + loss.item() * len(labels)
        scheduler.step()
        accuracy = validate(model, valid_loader, device)
        if rank == 0:
            speed = seen / (time.monotonic() - started)
            print(f"epoch {epoch}: loss {total / max(seen, 1):.4f}, accuracy {accuracy:.1%}, {speed:.0f} samples/s")

    if rank == 0:
        torch.save(model.module.state_dict(), args.out)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
