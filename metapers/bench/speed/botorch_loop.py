"""BoTorch's `PairwiseGP`, one for each person, in a Python loop: another model, probit and RBF."""

import torch
from botorch.models.pairwise_gp import PairwiseGP  # pyright: ignore[reportMissingImports]

from metapers.bench.speed.implementation import Step
from metapers.bench.speed.workload import Case, Data


def prepare(case: Case, data: Data) -> Step:
  """Returns one step: the mode of each person's posterior, at the model's own scales."""
  points = torch.from_numpy(data.support.reshape(case.users, -1, case.features)).double()
  items = torch.arange(points.shape[1]).reshape(-1, 2)
  is_second = torch.from_numpy(data.support_choice.astype(bool))[..., None]
  wins = torch.where(is_second, items.flip(1)[None], items[None])  # [T, N, 2]

  def step():
    modes = [PairwiseGP(points[user], wins[user]).utility for user in range(case.users)]
    return float('nan'), {'mode': torch.stack(modes).detach().numpy()}

  return step
