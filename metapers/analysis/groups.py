"""Results by group of users, such as by how far they are from the nearest train user."""

from typing import NamedTuple

import jax
import numpy as np
from scipy import special

from metapers.core.types import Bool, Float, Int
from metapers.evaluation import bootstrap, estimates, intervals, metrics
from metapers.evaluation.estimates import Estimates, EvaluationSet
from metapers.evaluation.predictions import Predictions

EXTREMES = ('accuracy_worst_group', 'accuracy_best_group', 'accuracy_group_gap')
LEAST_USERS = 5  # of a group, in each half of the users
NOBODY = -1  # the group of users who are left out


class Groups(NamedTuple):
  """G groups of T users, in the order of a quantity.

  name: of the quantity. labels: [G] its range in each group. index: [T] the group of each user.
  title: what the quantity is, in words.
  """

  name: str
  labels: tuple[str, ...]
  index: Int[np.ndarray, 'T']
  title: str = ''


def entropy(weights: Float[np.ndarray, 'T B']) -> Float[np.ndarray, 'T']:
  """Returns -Σ_b w_b log w_b in nats, from 0 (one reward model is all) to log B: [T]."""
  return special.entr(weights).sum(-1)


def by_size(
  name: str,
  values: Float[np.ndarray, 'T'],
  *,
  title: str = '',
  num_groups: int = 4,
  in_percent: bool = False,
) -> Groups:
  """Returns users grouped by the size of a quantity, in groups about as large as each other.

  Equal values stay together. Where an equal share of the users or more stand at 0, these are a
  group of their own and the rest are divided; too few distinct values make fewer groups.

  Args:
    name: of the quantity.
    values: [T].
    title: what the quantity is, in words.
    num_groups: G at most.
    in_percent: whether labels are in percent.

  Raises:
    ValueError: for fewer than one group, or a value that is not finite.
  """
  if num_groups < 1 or not np.isfinite(values).all():
    raise ValueError(f'{name}: expected finite values and num_groups >= 1, got {num_groups}')
  at_zero = values == 0
  num_rest = num_groups - int(at_zero.mean() >= 1 / num_groups)
  edges = np.zeros(0) if num_rest == num_groups else np.zeros(1)
  rest = values[~at_zero] if edges.size else values
  if rest.size and num_rest:
    edges = np.append(edges, np.quantile(rest, np.arange(1, num_rest) / num_rest))
  place = np.searchsorted(np.unique(edges), values, side='left')  # groups are (edge, next edge]
  _, index = np.unique(place, return_inverse=True)
  labels = [span(values[index == group], in_percent) for group in range(index.max() + 1)]
  return Groups(name, tuple(labels), index, title)


def span(values: Float[np.ndarray, 'T'], in_percent: bool) -> str:
  """Returns the least and the largest of some values, as text."""
  scale, unit = (100, ' %') if in_percent else (1, '')
  low, high = (f'{scale * value + 0.0:.3g}' for value in (values.min(), values.max()))  # no '-0'
  return (low if low == high else f'{low}-{high}') + unit


def sizes(groups: Groups, evaluated: EvaluationSet) -> Int[np.ndarray, 'G']:
  """Returns how many users of each group have a query comparison that counts."""
  there = np.asarray(metrics.counted(evaluated.tasks.query).mask).any(-1)
  return np.bincount(groups.index[there], minlength=len(groups.labels))


def estimate(
  evaluated: EvaluationSet, predictions: Predictions, groups: Groups, *, row: int = -1
) -> Estimates:
  """Returns the metrics of the queries within each group: [J, G], with the set's own resamples.

  Mean over the group's users of the user's own ratio; differences between learners stay paired.

  Args:
    evaluated: of T users.
    predictions: of one learner.
    groups: of the same users.
    row: which of the L numbers of shots.

  Raises:
    ValueError: for groups of other users, or predictions that are not finite.
  """
  num_users = len(evaluated.tasks.user)
  if groups.index.shape != (num_users,):
    raise ValueError(
      f'{groups.name} groups {groups.index.size} users, but {num_users} are evaluated; group these'
    )
  one = jax.tree.map(lambda x: x[row : row + 1 or None], predictions)
  observed = jax.device_get(
    metrics.numerators(one, evaluated.tasks, evaluated.truth, rival=evaluated.rival)
  )
  names = [*observed['query'], 'number of users']
  counted = np.asarray(metrics.counted(evaluated.tasks.query).mask, np.float32)[None]
  values = np.stack([*observed['query'].values(), counted])  # [C, 1, T, N]
  is_member = groups.index == np.arange(len(groups.labels))[:, None]  # [G, T]
  inside = estimates.weigh(evaluated.weights['query'], values * is_member[None, :, :, None], names)
  shares = bootstrap.nan_if_none(inside[-1])  # a resample may miss a whole group
  present = (is_member & counted[0].any(-1)).sum(-1).tolist()
  factor = np.array([intervals.of_fewer(n, evaluated.num_users) for n in present], np.float32)
  return {
    name: estimates.widened(value / shares, factor) for name, value in zip(names[:-1], inside)
  }


def extremes(
  evaluated: EvaluationSet, predictions: Predictions, groups: Groups, *, row: int = -1
) -> Estimates:
  """Returns the accuracy of the worst and of the best group, and the gap between them: [J, 1].

  Which group is worst and which is best is told by every other user, and measured on the rest, both
  ways: told and measured by the same ones, the worst of equals would look bad by chance. They stay
  the same in all resamples.

  Args:
    evaluated: of T users.
    predictions: of one learner.
    groups: of the same users; those with fewer than LEAST_USERS in either half are left out.
    row: which of the L numbers of shots.

  Returns:
    By name; {} where fewer than two groups are large enough.
  """
  halves, counts = _halves(evaluated, groups)
  large = np.flatnonzero(counts.min(0) >= LEAST_USERS)
  if large.size < 2:
    return {}
  own = [groups._replace(index=np.where(half, groups.index, NOBODY)) for half in halves]
  found = [estimate(evaluated, predictions, one, row=row)['accuracy'][:, large] for one in own]
  ways = [(found[0], found[1]), (found[1], found[0])]
  worst = np.mean([on[:, np.argmin(by[0])] for by, on in ways], 0)[:, None]
  best = np.mean([on[:, np.argmax(by[0])] for by, on in ways], 0)[:, None]
  return dict(zip(EXTREMES, (worst, best, best - worst), strict=True))


def least_measured(evaluated: EvaluationSet, groups: Groups) -> int:
  """Returns on how many users, at least, each of `extremes` is measured."""
  _, counts = _halves(evaluated, groups)
  return int(counts[:, counts.min(0) >= LEAST_USERS].min(-1).sum())


def _halves(
  evaluated: EvaluationSet, groups: Groups
) -> tuple[Bool[np.ndarray, '2 T'], Int[np.ndarray, '2 G']]:
  # Every other user, and how many of each group are among them.
  halves = np.stack([mask.any(-1) for mask in estimates.user_halves(evaluated)])
  size = len(groups.labels)
  return halves, np.stack([np.bincount(groups.index[half], minlength=size) for half in halves])


def user_mean(draws: bootstrap.Draws, values: Float[np.ndarray, 'T']) -> Float[np.ndarray, 'J']:
  """Returns the mean of a quantity over users, with resamples of the users."""
  return draws.users @ values / draws.users.sum(-1)


def user_median(draws: bootstrap.Draws, values: Float[np.ndarray, 'T']) -> Float[np.ndarray, 'J']:
  """Returns the (lower) median of a quantity over users, with resamples of the users."""
  order = np.argsort(values, kind='stable')
  below = np.cumsum(draws.users[:, order], -1)
  return values[order][np.argmax(below >= below[:, -1:] / 2, -1)]
