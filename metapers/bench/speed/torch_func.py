"""PyTorch's own way to many users at once: `torch.func.vmap` over them, gradients inside."""

import torch

from metapers.bench.speed import torch_models
from metapers.bench.speed.implementation import Step
from metapers.bench.speed.workload import Case, Data

CHUNKS = (8, 32, 256)  # users at once


def prepare(case: Case, data: Data) -> tuple[Step, ...]:
  """Returns the step by chunks of users of each size."""
  params, support, query = torch_models.tensors(data)
  trained = {name: value.requires_grad_() for name, value in params.items()}
  users = torch.arange(case.users)
  losses = torch.func.vmap(torch_models.user_loss(case), (None, 0, 0, 0), randomness='error')

  def step_by(size):
    def step():
      total = 0.0
      gradient = {name: torch.zeros_like(value) for name, value in trained.items()}
      for chunk in users.split(size):
        loss = losses(trained, support[chunk], query[chunk], chunk).sum() / case.users
        found = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        for name, slope in zip(trained, found, strict=True):
          if slope is not None:
            gradient[name] += slope
        total += loss.item()
      return total, {name: value.numpy() for name, value in gradient.items()}

    return step

  return tuple(map(step_by, sorted({min(size, case.users) for size in CHUNKS})))
