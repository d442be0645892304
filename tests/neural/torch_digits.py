"""Small PyTorch networks on scikit-learn's digits, trained in seconds: right networks to wrap rightly and wrongly."""

import functools

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import gmm

CLASSES, NULL, DIM = 10, 10, 64
BETAS = np.linspace(1e-4, 0.02, 1000)
STEPS = 700


def digits():
    """Images (n, 64) in -1..1 and their labels (n,)."""
    x, y = load_digits(return_X_y=True)
    return (x / 8 - 1).astype(np.float32), y.astype(int)


class Net(nn.Module):
    """x (n, 64), a time in 0..1 (n,) and labels (n,) -> (n, 64)."""

    def __init__(self, width=192):
        super().__init__()
        self.label = nn.Embedding(CLASSES + 1, 48)
        self.body = nn.Sequential(
            nn.Linear(DIM + 64 + 48, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, DIM),
        )
        self.register_buffer("freqs", torch.exp(torch.linspace(0, 5, 32)))

    def forward(self, x, u, label):
        angles = u[:, None] * self.freqs
        return self.body(torch.cat([x, angles.sin(), angles.cos(), self.label(label)], -1))


@functools.cache
def trained(kind):
    """A network that predicts ε of the DDPM chain ("eps", time index/1000) or the velocity of gmm.flow() ("flow")."""
    torch.set_num_threads(1)  # layers this small only lose by more
    torch.manual_seed(0)
    x0, y = (torch.tensor(part) for part in digits())
    alpha_bar = torch.tensor(np.cumprod(1 - BETAS), dtype=torch.float32)
    net = Net()
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        pick = torch.randint(len(x0), (256,))
        clean, label, noise = x0[pick], y[pick].clone(), torch.randn(256, DIM)
        label[torch.rand(256) < 0.15] = NULL
        if kind == "eps":
            index = torch.randint(1000, (256,))
            square = alpha_bar[index][:, None]
            noisy, time, target = square.sqrt() * clean + (1 - square).sqrt() * noise, index / 1000, noise
        else:
            time = torch.rand(256)
            noisy = (1 - time[:, None]) * clean + time[:, None] * noise
            target = noise - clean
        loss = ((net(noisy, time, label) - target) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
    return net.eval()


def process(kind):
    """The forward process of `trained(kind)`."""
    return gmm.ddpm(BETAS) if kind == "eps" else gmm.flow()
