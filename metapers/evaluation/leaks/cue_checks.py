"""Nothing but taste tells the chosen candidate: not its place, its form, or a feature of its own.

Taste that users share makes features tell, too, and rightly so: at α = 1 a single reward model
foretells 99.7 % of best-against-worst pairs. A cue is told only if it is right nearly always, and
then more often than the mean user's taste, or so that one threshold parts all chosen candidates
from all others, whatever the prompt.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from metapers.core.task import Choices
from metapers.core.types import Bool, Float, Int
from metapers.evaluation.leaks.matching import Leak

STANDARD_ERRORS = 5.0  # of the count of a position; one population in a million by chance
FEWEST, LEAST_SHARE = 40, 0.1  # comparisons, and share of all of them, in which a cue differs
ONE_SIDE = 0.99  # of these
ABOVE_TASTE = 0.02  # what shared taste does not explain
PARTED = 0.995  # of the candidates that one threshold puts on the right side
MOST_NUMBERS = 2**21  # features looked at
RIDGE = 1e-3


class Offers(NamedTuple):
  """X comparisons of many users.

  features: [X, K, D]. mask: [X, K]. choice: [X]. taste: [X], whether the mean user would choose
  so, too; None where nobody knows.
  """

  features: Float[np.ndarray, 'X K D']
  mask: Bool[np.ndarray, 'X K']
  choice: Int[np.ndarray, 'X']
  taste: Bool[np.ndarray, 'X'] | None


def offers(choices: Choices, taste: Bool[np.ndarray, 'T N'] | None = None) -> Offers:
  """Lists the real comparisons of T users.

  Args:
    choices: [T, N, ...].
    taste: whether the mean user would choose so.
  """
  real = np.asarray(choices.mask)
  return Offers(
    np.asarray(choices.candidates.features)[real],
    np.asarray(choices.candidates.mask)[real],
    np.asarray(choices.choice)[real],
    None if taste is None else np.asarray(taste)[real],
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
  return [Leak('cues', told) for told in found]


def row_forms(features: Float[np.ndarray, 'X K D']) -> Float[np.ndarray, 'X K 4']:
  """Returns what one sees of a vector without its meaning: zeros, integers, gaps, constancy."""
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
  """Looks for a feature, or the look of one, that tells the chosen candidate.

  Args:
    name: of the split, for the message.
    shown: comparisons of several users, sorted by user.
  """
  few = thinned(shown, MOST_NUMBERS // max(1, math.prod(shown.features.shape[1:])))
  found = []
  for cue, look in SINGLE.items():
    columns = telling(look(few.features), few)
    found += [f'{cue} {column}' for column in columns[:1]]
  found += [ROW_FORMS[column] for column in telling(row_forms(few.features), few)]
  if not found and probe_tells(few):
    found.append('a linear function of the features')
  return [
    Leak(
      'cues',
      f'{cue} tells the chosen candidate in {name} comparisons of all users alike: make chosen and '
      'rejected by the same code',
    )
    for cue in dict.fromkeys(found)
  ]


def take(shown: Offers, rows: np.ndarray | slice) -> Offers:
  """Returns some of the comparisons."""
  taste = None if shown.taste is None else shown.taste[rows]
  return Offers(shown.features[rows], shown.mask[rows], shown.choice[rows], taste)


def thinned(shown: Offers, count: int) -> Offers:
  """Keeps `count` comparisons, evenly spread."""
  size = len(shown.choice)
  rows = np.unique(np.linspace(0, max(size - 1, 0), min(count, size)).astype(int))
  return take(shown, rows)


def telling(values: Float[np.ndarray, 'X K C'], shown: Offers) -> list[int]:
  """Returns the columns of a cue that tell the chosen candidate, and not as taste does."""
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
    if not is_taste(shown.taste, differs[:, column], one_side[column])
    or is_parted(values[..., column], chosen_at[..., 0], other[..., 0])
  ]


def is_taste(
  taste: Bool[np.ndarray, 'X'] | None, differs: Bool[np.ndarray, 'X'], one_side: float
) -> bool:
  """Tells whether the mean user's taste is right nearly as often, where a cue differs."""
  return taste is not None and bool(taste[differs].mean() > one_side - ABOVE_TASTE)


def is_parted(
  values: Float[np.ndarray, 'X K'], chosen: Bool[np.ndarray, 'X K'], other: Bool[np.ndarray, 'X K']
) -> bool:
  """Tells whether one threshold parts chosen candidates from others over all comparisons."""
  own, others = np.sort(values[chosen]), np.sort(values[other])
  thresholds = np.concatenate([own, others])
  above = 1 - np.searchsorted(own, thresholds) / own.size  # share of chosen >= threshold
  below = np.searchsorted(others, thresholds) / others.size  # share of others < threshold
  balanced = (above + below) / 2
  upside_down = np.searchsorted(own, thresholds, 'right') / own.size
  upside_down = (upside_down + 1 - np.searchsorted(others, thresholds, 'right') / others.size) / 2
  return bool(max(balanced.max(), upside_down.max()) >= PARTED)


def probe_tells(shown: Offers) -> bool:
  """Fits a linear function that tells chosen from others on half of the users, tests the rest."""
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
  return bool(telling(scores[..., None], take(shown, slice(half, None))))
