"""Nothing but preference reveals the chosen candidate: not its place, its form or one feature.

Preferences that users share make features predictive, too, and rightly so: at α = 1 a single reward
model predicts 99.7 % of best-against-worst pairs. A cue is reported only if it is right nearly
always, and then more often than the mean user's preference, or so that one threshold separates all
chosen candidates from all others, whatever the prompt.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from metapers.core.task import Choices
from metapers.core.types import Bool, Float, Int
from metapers.evaluation.leaks import matching
from metapers.evaluation.leaks.matching import Leak

STANDARD_ERRORS = 5.0  # of the count of a position; one population in a million by chance
FEWEST, LEAST_SHARE = 40, 0.1  # comparisons, and share of all of them, in which a cue differs
ONE_SIDE = 0.99  # of these
ABOVE_PREFERENCE = 0.02  # what shared preference does not explain
SEPARATED = 0.995  # of the candidates that one threshold puts on the right side
MOST_NUMBERS = 2**21  # features looked at
RIDGE = 1e-3


class Offers(NamedTuple):
  """X comparisons of many users.

  features: [X, K, D]. mask: [X, K]. choice: [X]. as_mean_user: [X], whether the mean user would
  choose the same; None where nobody knows. names: [D] of the features.
  """

  features: Float[np.ndarray, 'X K D']
  mask: Bool[np.ndarray, 'X K']
  choice: Int[np.ndarray, 'X']
  as_mean_user: Bool[np.ndarray, 'X'] | None
  names: tuple[str, ...]


def offers(choices: Choices, as_mean_user: Bool[np.ndarray, 'T N'] | None = None) -> Offers:
  """Lists the real comparisons of T users; features in several arrays become one vector.

  Args:
    choices: [T, N, ...].
    as_mean_user: whether the mean user would choose the same.
  """
  real = np.asarray(choices.mask)
  features, names = matching.columns(choices.candidates)
  return Offers(
    features[real],
    np.asarray(choices.candidates.mask)[real],
    np.asarray(choices.choice)[real],
    None if as_mean_user is None else np.asarray(as_mean_user)[real],
    names,
  )


def position(name: str, shown: Offers) -> list[Leak]:
  """Tests whether each place is chosen as often as chance would, given how many are real.

  The count's standard error is sqrt(Σ p (1 - p)), with p = 1 / (real candidates).
  """
  chance = shown.mask / np.maximum(shown.mask.sum(-1, keepdims=True), 1)
  counts = np.bincount(shown.choice, minlength=shown.mask.shape[1])
  error = np.sqrt(np.sum(chance * (1 - chance), 0))
  found = []
  for place in np.flatnonzero(np.abs(counts - chance.sum(0)) > STANDARD_ERRORS * error + 1):
    found.append(
      f'place {place} holds the chosen candidate in {counts[place]} of {len(shown.choice)} {name} '
      f'comparisons, {chance[:, place].sum():.0f} expected: show candidates in random order'
    )
  return [Leak('cues', message) for message in found]


def row_forms(features: Float[np.ndarray, 'X K D']) -> Float[np.ndarray, 'X K 4']:
  """Returns the form of a vector: its number of zeros, integers and gaps, and its constancy."""
  forms = (
    np.sum(features == 0, -1),
    np.sum(features == np.round(features), -1),
    np.sum(~np.isfinite(features), -1),
    np.all(features == features[..., :1], -1),
  )
  return np.stack(forms, -1).astype(np.float32)


# Of features [X, K, D]; where they are functions of single features, the result has D columns.
SINGLE: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
  'the value of feature': np.nan_to_num,
  'a zero in feature': lambda x: (x == 0).astype(np.float32),
  'a whole number in feature': lambda x: (x == np.round(x)).astype(np.float32),
  'a missing value in feature': lambda x: (~np.isfinite(x)).astype(np.float32),
}
ROW_FORMS = ('the number of zeros', 'the number of whole numbers', 'the number of gaps',
             'being constant')  # fmt: skip


def form(name: str, shown: Offers) -> list[Leak]:
  """Looks for a feature, or a form of one, that reveals the chosen candidate.

  Args:
    name: of the split, for the message.
    shown: comparisons of several users, sorted by user.
  """
  few = thinned(shown, MOST_NUMBERS // max(1, math.prod(shown.features.shape[1:])))
  found = []
  for cue, measure in SINGLE.items():
    columns = revealing(measure(few.features), few)
    found += [f'{cue} {shown.names[column]}' for column in columns[:1]]
  found += [ROW_FORMS[column] for column in revealing(row_forms(few.features), few)]
  if not found and probe_reveals(few):
    found.append('a linear function of the features')
  return [
    Leak(
      'cues',
      f'{cue} reveals the chosen candidate in {name} comparisons of all users alike: make chosen '
      'and rejected by the same code',
    )
    for cue in dict.fromkeys(found)
  ]


def take_rows(shown: Offers, rows: np.ndarray | slice) -> Offers:
  """Returns some of the comparisons."""
  common = None if shown.as_mean_user is None else shown.as_mean_user[rows]
  return Offers(shown.features[rows], shown.mask[rows], shown.choice[rows], common, shown.names)


def thinned(shown: Offers, count: int) -> Offers:
  """Keeps `count` comparisons, evenly spread."""
  size = len(shown.choice)
  rows = np.unique(np.linspace(0, max(size - 1, 0), min(count, size)).astype(int))
  return take_rows(shown, rows)


def revealing(values: Float[np.ndarray, 'X K C'], shown: Offers) -> list[int]:
  """Returns the columns of a cue that reveal the chosen candidate, and not as preference does."""
  if len(shown.choice) < FEWEST:
    return []
  chosen_at = (np.arange(shown.mask.shape[1]) == shown.choice[:, None])[..., None]
  other = shown.mask[..., None] & ~chosen_at
  chosen = np.sum(np.where(chosen_at, values, 0), 1)  # [X, C]
  above = chosen > np.max(np.where(other, values, -np.inf), 1)
  below = chosen < np.min(np.where(other, values, np.inf), 1)
  differs = np.any(other & (values != chosen[:, None]), 1)
  num_differing = differs.sum(0)
  one_side = np.maximum(above.sum(0), below.sum(0)) / np.maximum(num_differing, 1)
  suspects = (num_differing >= max(FEWEST, LEAST_SHARE * len(chosen))) & (one_side >= ONE_SIDE)
  return [
    int(column)
    for column in np.flatnonzero(suspects)
    if not is_preference(shown.as_mean_user, differs[:, column], one_side[column])
    or is_separated(values[..., column], chosen_at[..., 0], other[..., 0])
  ]


def is_preference(
  as_mean_user: Bool[np.ndarray, 'X'] | None, differs: Bool[np.ndarray, 'X'], one_side: float
) -> bool:
  """Returns whether the mean user's preference is right nearly as often, where a cue differs."""
  if as_mean_user is None:
    return False
  return bool(as_mean_user[differs].mean() > one_side - ABOVE_PREFERENCE)


def is_separated(
  values: Float[np.ndarray, 'X K'], chosen: Bool[np.ndarray, 'X K'], other: Bool[np.ndarray, 'X K']
) -> bool:
  """Returns whether one threshold separates chosen candidates from others in all comparisons."""
  own, others = np.sort(values[chosen]), np.sort(values[other])
  thresholds = np.concatenate([own, others])
  above = 1 - np.searchsorted(own, thresholds) / own.size  # share of chosen >= threshold
  below = np.searchsorted(others, thresholds) / others.size  # share of others < threshold
  balanced = (above + below) / 2
  upside_down = np.searchsorted(own, thresholds, 'right') / own.size
  upside_down = (upside_down + 1 - np.searchsorted(others, thresholds, 'right') / others.size) / 2
  return bool(max(balanced.max(), upside_down.max()) >= SEPARATED)


def probe_reveals(shown: Offers) -> bool:
  """Fits a linear function that separates the chosen on half of the users, tests the rest."""
  half = len(shown.choice) // 2
  if half < FEWEST:
    return False
  features = np.nan_to_num(shown.features).astype(np.float64)
  chosen = np.take_along_axis(features, shown.choice[:, None, None], 1)  # [X, 1, D]
  gaps = np.sum((chosen - features) * shown.mask[..., None], 1)[:half]
  scale = np.maximum(gaps.std(0), 1e-12)
  gaps = (gaps / scale)[: max(FEWEST, min(half, 1024))]
  size = RIDGE * len(gaps)
  weights = np.linalg.solve(gaps.T @ gaps + size * np.eye(gaps.shape[1]), gaps.sum(0))
  scores = features[half:] @ (weights / scale)  # [X, K]
  return bool(revealing(scores[..., None], take_rows(shown, slice(half, None))))
