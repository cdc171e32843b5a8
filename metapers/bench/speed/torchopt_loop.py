"""MAML with TorchOpt: its functional descent for each user, in a Python loop."""

import torchopt  # pyright: ignore[reportMissingImports]

from metapers.bench.speed import torch_models
from metapers.bench.speed.implementation import Step
from metapers.bench.speed.workload import Case, Data


def prepare(case: Case, data: Data) -> Step:
  """Returns one step: the users one after another."""
  params, support, query = torch_models.tensors(data)
  trained = {name: value.requires_grad_() for name, value in params.items()}

  def gaps(adapted, x):
    return torch_models.gaps_of(torch_models.linear_mlp(adapted, 'adapted', x)[..., 0])

  def loss_of_user(user):
    descent = torchopt.FuncOptimizer(torchopt.sgd(lr=trained['log_rates'].exp()))
    adapted = {name: value for name, value in trained.items() if name != 'log_rates'}
    for _ in range(case.inner_steps):
      loss = torch_models.loss_of_gaps(gaps(adapted, support[user])).sum()
      adapted = descent.step(loss, adapted)
    loss = torch_models.loss_of_gaps(gaps(adapted, query[user])).mean() / case.users
    loss.backward()
    return loss.item()

  def step():
    for value in trained.values():
      value.grad = None
    loss = sum(loss_of_user(user) for user in range(case.users))
    return loss, torch_models.gradient_of(trained)

  return step
