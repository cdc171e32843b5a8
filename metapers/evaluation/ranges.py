"""Which values a metric can take: where its interval must end."""

import numpy as np

from metapers.core.types import Float

SHARES = (
  'accuracy', 'accuracy_noiseless', 'accuracy_worst_decile', 'turn_accuracy', 'confidence', 'top1',
  'win_rate', 'win_rate_oracle', 'flip_rate', 'accuracy_worst_group', 'accuracy_best_group',
  'is_best', 'ended', 'disagreement', 'disagreement_query', 'nearest_disagreement_mean',
  'nearest_disagreement_none',
)  # fmt: skip
SHARES_OF = ('selective_accuracy_', 'users_worse_than_', 'users_better_than_')
# In [0, 1], but no means over users, for which alone the rule of three holds.
OTHER_SHARES = ('contested', 'contested_query', 'nearest_disagreement_median')
FROM_ZERO = ('nll', 'regret', 'cumulative_regret', 'ece_by_chance')


def is_share(metric: str) -> bool:
  """Returns whether a metric is a mean over users of what lies in [0, 1].

  Args:
    metric: as in results.csv; a group or subset behind an @ changes nothing.
  """
  base, is_difference = parts_of(metric)
  return not is_difference and (base in SHARES or base.startswith(SHARES_OF))


def bounds(metric: str) -> tuple[float, float]:
  """Returns the least and the greatest value of a metric, infinite where there is none.

  `ece` and `brier_calibration` are freed of chance, so that they may be negative.

  Args:
    metric: as in results.csv; a group or subset behind an @ changes nothing.
  """
  base, is_difference = parts_of(metric)
  if base in SHARES + OTHER_SHARES or base.startswith(SHARES_OF):
    return (-1.0 if is_difference else 0.0), 1.0
  return (0.0 if base in FROM_ZERO and not is_difference else -np.inf), np.inf


def parts_of(metric: str) -> tuple[str, bool]:
  """Returns what is measured, and whether the metric is a difference of two of it.

  What stands behind an @ or a `_minus_` is left out, whichever of the two comes first.
  """
  own, minus, _ = metric.partition('_minus_')
  return own.partition('@')[0], bool(minus)


def within(metric: str, interval: Float[np.ndarray, '3 L']) -> Float[np.ndarray, '3 L']:
  """Returns value, low and high of an interval, which ends where the metric does.

  `value ± t √V` is symmetric and would leave the range of a share that is near 0 or 1.
  """
  value, low, high = interval
  least, greatest = bounds(metric)
  return np.stack([value, np.maximum(low, least), np.minimum(high, greatest)])
