"""LoRe's objective (Bose et al. 2025, arXiv:2504.14439) as a Python loop over users."""

import torch

from metapers.bench.speed import torch_models
from metapers.bench.speed.implementation import Step
from metapers.bench.speed.workload import Case, Data

TEMPERATURE = 100


def prepare(case: Case, data: Data) -> Step:
  """Returns one step: the mean loss of all users' comparisons, and its gradient."""
  params, support, query = torch_models.tensors(data)
  basis, table = params['basis.linear.kernel'], params['table']
  trained = {'basis': basis.requires_grad_(), 'table': table.requires_grad_()}
  pairs = torch.cat([support[:, :, 0] - support[:, :, 1], query[:, :, 0] - query[:, :, 1]], 1)

  def step():
    basis.grad = table.grad = None
    loss = torch.zeros(())
    for user in range(case.users):
      logits = pairs[user] @ (basis @ torch.softmax(table[user], 0)) / TEMPERATURE
      loss = loss + torch.nn.functional.softplus(-logits).mean() / case.users
    loss.backward()
    return loss.item(), torch_models.gradient_of(trained)

  return step
