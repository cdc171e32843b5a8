"""PyTorch's own way to many users at once: `torch.func.vmap` over them, gradients inside."""

import time

import torch

from metapers.bench.speed import torch_models
from metapers.bench.speed.implementation import Step
from metapers.bench.speed.workload import Case, Data
from metapers.core.types import Callable

CHUNKS = (8, 32, 256)  # users at once; the fastest is kept


def prepare(case: Case, data: Data) -> Step:
  """Returns one step: users are taken in chunks of the size that was fastest in a trial."""
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

  sizes = sorted({min(size, case.users) for size in CHUNKS})
  return step_by(min(sizes, key=lambda size: seconds(step_by(size))))


def seconds(step: Callable) -> float:
  """Returns the time of a call after a first."""
  step()
  start = time.process_time()
  step()
  return time.process_time() - start
