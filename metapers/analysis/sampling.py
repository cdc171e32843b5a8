"""Sampling errors of what is found on prompts, for users who are drawn anew.

A statistic that is a mean over prompts has a value for each of D draws of users and each of P
prompts; both are samples, and new ones of either would move the mean.
"""

from typing import NamedTuple

import numpy as np

from metapers.core.types import Float

NUM_PARTS = 20  # of the prompts, one of which is left out at a time


class Estimate(NamedTuple):
  """A mean and its standard error."""

  value: float
  standard_error: float


def two_way(values: Float[np.ndarray, 'draws P']) -> Estimate:
  """Returns the mean over draws and prompts, with its error for new ones of both.

      Var = Var_p(mean over draws) / P + Var_d(mean over prompts) / D - Var_dp(rest) / (P D)

  where the rest is what is left of a value after the mean of its row and of its column: both
  others contain it. With one draw the error is for new prompts alone.

  Args:
    values: of each draw of users on each prompt.

  Reference:
    Owen 2007, Annals of Applied Statistics 1(2) ("the pigeonhole bootstrap"), for the sum.
  """
  num_draws, num_prompts = values.shape
  by_prompt, by_draw = values.mean(0), values.mean(1)
  of_prompts = _variance(by_prompt) / num_prompts
  if num_draws < 2:
    return Estimate(float(values.mean()), float(np.sqrt(of_prompts)))
  rest = values - by_prompt - by_draw[:, None] + values.mean()
  freedom = max((num_draws - 1) * (num_prompts - 1), 1)
  of_rest = np.sum(rest**2) / freedom / values.size
  of_draws = _variance(by_draw) / num_draws
  least = max(of_prompts, of_draws)
  return Estimate(float(values.mean()), float(np.sqrt(max(of_prompts + of_draws - of_rest, least))))


def mean(values: Float[np.ndarray, 'N']) -> Estimate:
  """Returns the mean of independent values with its error; NaN for the error of one value."""
  size = len(values)
  error = np.sqrt(_variance(values) / size) if size > 1 else np.nan
  return Estimate(float(values.mean()), float(error))


def jackknife(left_out: Float[np.ndarray, 'G *shape']) -> Float[np.ndarray, '*shape']:
  """Returns the standard error of a statistic from its G values with one part left out each.

  sqrt((G - 1) / G · Σ_g (θ_g - mean)²)
  """
  size = len(left_out)
  spread = np.sum((left_out - left_out.mean(0)) ** 2, 0)
  return np.asarray(np.sqrt((size - 1) / size * spread))


def without_each(sums: Float[np.ndarray, 'P *shape']) -> Float[np.ndarray, 'G *shape']:
  """Returns the sum over prompts with each of at most NUM_PARTS parts of the prompts left out.

  Args:
    sums: of each prompt.
  """
  parts = np.array_split(np.arange(len(sums)), min(NUM_PARTS, len(sums)))
  by_part = np.stack([sums[part].sum(0) for part in parts])
  return by_part.sum(0) - by_part


def _variance(values: np.ndarray) -> float:
  return float(values.var(ddof=1)) if len(values) > 1 else 0.0
