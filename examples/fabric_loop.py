"""A Lightning Fabric loop that can be killed at any time: what Fabric has set up is given to the Checkpointer.

relight run --nproc-per-node 2 -- fabric_loop.py, or torchrun, or: python fabric_loop.py
"""

from __future__ import annotations

import os

import relight
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

fabric = Fabric(accelerator="cpu", devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
fabric.launch()
fabric.seed_everything(7, verbose=False)

points = torch.randn(800, 8, generator=torch.Generator().manual_seed(0))
data = TensorDataset(points, points.square().sum(dim=1, keepdim=True))
net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
model, optimizer = fabric.setup(net, torch.optim.AdamW(net.parameters(), lr=0.01))
loader = fabric.setup_dataloaders(DataLoader(data, batch_size=16, shuffle=True))
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)

checkpoint = relight.Checkpointer("runs/fabric", model=model, optimizer=optimizer, scheduler=scheduler, loader=loader)
for epoch in checkpoint.restore().epochs(4):
    for x, y in loader:
        loss = nn.functional.mse_loss(model(x), y)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        if checkpoint.step(loss=loss):
            raise SystemExit(checkpoint.exit_code)
    scheduler.step()
    fabric.print(f"epoch {epoch}: learning rate {scheduler.get_last_lr()[0]:.5f}")
