"""A Hugging Face Accelerate loop that can be killed at any time: what was prepared is given to the Checkpointer.

relight run --nproc-per-node 2 -- accelerate_loop.py, or accelerate launch, or: python accelerate_loop.py
"""

from __future__ import annotations

import relight
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
set_seed(7)

points = torch.randn(800, 8, generator=torch.Generator().manual_seed(0))
data = TensorDataset(points, points.square().sum(dim=1, keepdim=True))
net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))
adamw = torch.optim.AdamW(net.parameters(), lr=0.01)
cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adamw, T_max=400)
shuffled = DataLoader(data, batch_size=8, shuffle=True)
model, optimizer, scheduler, loader = accelerator.prepare(net, adamw, cosine, shuffled)

checkpoint = relight.Checkpointer("runs/hf", model=model, optimizer=optimizer, scheduler=scheduler, loader=loader)
for epoch in checkpoint.restore().epochs(4):
    for x, y in loader:
        with accelerator.accumulate(model):
            loss = nn.functional.mse_loss(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients and checkpoint.step(loss=loss):
            raise SystemExit(checkpoint.exit_code)
    accelerator.print(f"epoch {epoch}: learning rate {scheduler.get_last_lr()[0]:.5f}")
accelerator.end_training()
