"""MAML with `higher`: a copy of the network per user, in a Python loop."""

import higher  # pyright: ignore[reportMissingImports]
import torch

from metapers.bench.speed import torch_models
from metapers.bench.speed.implementation import Step
from metapers.bench.speed.workload import Case, Data


class Utility(torch.nn.Module):
  """w·x + MLP(x), with parameters of the library's names, in which dots are slashes."""

  def __init__(self, params: torch_models.Tensors):
    super().__init__()
    for name, value in params.items():
      self.register_parameter(name.replace('.', '/'), torch.nn.Parameter(value))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """Returns the gap of utility of the chosen and the other one, [N]."""
    # `higher` puts a user's own tensors in their place here, which `named_parameters` leaves out.
    own = self._parameters.items()
    params = {name.replace('/', '.'): value for name, value in own if value is not None}
    return torch_models.gaps_of(torch_models.linear_mlp({**params}, 'adapted', x)[..., 0])


def prepare(case: Case, data: Data) -> Step:
  """Returns one step: the users one after another."""
  params, support, query = torch_models.tensors(data)
  log_rate = params.pop('log_rates').requires_grad_()
  model = Utility(params)
  trained = dict(model.named_parameters())
  optimizer = torch.optim.SGD(model.parameters(), lr=1.0)

  def loss_of_user(user):
    rate = {'lr': [log_rate.exp()]}
    copied = higher.innerloop_ctx(model, optimizer, copy_initial_weights=False, override=rate)
    with copied as (adapted, descent):
      for _ in range(case.inner_steps):
        descent.step(torch_models.loss_of_gaps(adapted(support[user])).sum())
      loss = torch_models.loss_of_gaps(adapted(query[user])).mean() / case.users
      loss.backward()
      return loss.item()

  def step():
    model.zero_grad()
    log_rate.grad = None
    loss = sum(loss_of_user(user) for user in range(case.users))
    return loss, torch_models.gradient_of({**trained, 'log_rates': log_rate})

  return step
