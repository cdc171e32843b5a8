"""Ties as half comparisons: an approximation, for a model that was trained without ties."""

import numpy as np

from metapers.serving.answers import OUTCOMES
from metapers.serving.comparisons import Comparisons


def ties_as_halves(given: Comparisons) -> Comparisons:
  """Returns comparisons for a model that was trained without ties: an approximation of them.

  A tie becomes two comparisons of half a weight, one for each candidate, and "both bad" none; what
  is much better is the choice. docs/people.md measures what this costs beside the likelihood.

  Args:
    given: of pairs, [N, 2, D]; ids must be the caller's to give anew, and so must be None.

  Returns:
    Comparisons [2 N], the second half of each beside its first and masked where it is no tie: of a
    profile's capacity a tie takes two places, and the oldest that it holds may be there by half.

  Raises:
    ValueError: for ids, or more than two candidates.
  """
  if given.ids is not None or given.features.shape[-2] != 2:
    raise ValueError(
      'a tie becomes two comparisons of a pair, which are numbered anew: give pairs without ids'
    )
  if given.outcome is None:
    return given
  kinds = np.array(OUTCOMES)[given.outcome]
  shape = given.features.shape[:-1]
  shown = np.ones(shape, bool) if given.shown is None else given.shown
  weight = np.ones(shape[:-1]) if given.weight is None else given.weight
  is_tie, is_bad = kinds == 'tie', kinds == 'both_bad'
  halves = [
    (
      given.features,
      given.choice,
      shown & ~is_bad[..., None],
      np.where(is_tie, weight / 2, weight),
    ),
    (given.features, 1 - given.choice, shown & is_tie[..., None], weight / 2),
  ]
  # Beside each other: at the end of a history second halves would outlive the first ones.
  axis = len(shape) - 1
  features, choice, shown, weight = (
    np.stack(x, axis).reshape(*shape[:-2], 2 * shape[-2], *x[0].shape[axis:]) for x in zip(*halves)
  )
  mask = shown.any(-1)
  return Comparisons(
    features, choice, shown=shown, weight=np.where(mask, weight, 0), names=given.names
  )
