"""Bradley-Terry strengths of each person's items with `choix`, in a Python loop."""

import choix  # pyright: ignore[reportMissingImports]
import numpy as np

from metapers.bench.speed.implementation import Step
from metapers.bench.speed.workload import PENALTY, Case, Data


def prepare(case: Case, data: Data) -> Step:
  """Returns one step: the people one after another."""
  items = data.support.argmax(-1)  # [T, N, 2]
  first = np.take_along_axis(items, data.support_choice[..., None], -1)
  second = np.take_along_axis(items, 1 - data.support_choice[..., None], -1)
  wins = np.concatenate([first, second], -1).tolist()

  def strengths(user):
    return choix.opt_pairwise(case.features, wins[user], alpha=PENALTY, tol=1e-12)

  def step():
    found = np.array([strengths(user) for user in range(case.users)])
    mode = np.take_along_axis(found, items.reshape(case.users, -1), -1).reshape(items.shape)
    gap = (mode[..., 0] - mode[..., 1]) * (1 - 2 * data.support_choice)
    return float(np.log1p(np.exp(-gap)).mean()), {'mode': mode}

  return step
