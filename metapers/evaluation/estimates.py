"""Every metric of a learner with its resamples, so that seeds, differences and intervals follow."""

import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from metapers.core.task import Task, Truth
from metapers.core.types import Bool, Float, Int
from metapers.evaluation import bootstrap, calibration, intervals, metrics, ranges
from metapers.evaluation.bootstrap import Draws
from metapers.evaluation.predictions import Predictions

Estimates = dict[str, Float[np.ndarray, 'J L']]
WORST_SHARE = 0.1
WORST = 'accuracy_worst_decile'
BY_CHANCE = 'ece_by_chance'  # what `ece` has been freed of; never compared
COVERAGES = (0.8, 0.5)  # of the most confident predictions
LEAST_GAP = 0.03  # between pooled and ceiling: a share of less would be a share of noise


class EvaluationSet(NamedTuple):
  """Episodes with the resamples that all learners evaluated on them share.

  weights: group of metrics -> [Q, T*N]; row 0 weighs the sample itself, the others resamples; the
    rows of seeds, which weigh it as row 0 does, are left out.
  rival: index of the response model to win against, or None.
  num_users: users with at least one query comparison that counts.
  num_prompts: P that count, or items, of the group of metrics with the fewest; 1 where users alone
    are resampled.
  num_items: K, of a comparison, where items were resampled in the place of prompts; else 1.
  """

  tasks: Task
  truth: Truth | None
  draws: Draws
  weights: dict[str, np.ndarray]
  rival: int | None
  num_users: int
  num_prompts: int = 1
  num_items: int = 1

  @property
  def sizes(self) -> dict[str, int]:
    """The sizes that `intervals.interval` asks for."""
    return {
      'num_users': self.num_users,
      'num_prompts': self.num_prompts,
      'num_items': self.num_items,
    }


def evaluation_set(
  tasks: Task,
  truth: Truth | None = None,
  *,
  rival: int | None = None,
  items: Int[np.ndarray, 'T N K'] | None = None,
  owners: Int[np.ndarray, 'T N'] | None = None,
  num_resamples: int = 1000,
  seed: int = 0,
) -> EvaluationSet:
  """Returns an evaluation set: the episodes, and resamples of them.

  Args:
    tasks: T episodes.
    truth: of simulated users. Without it (real people) only users are resampled, and `items`.
    items: ids of what people compare, for intervals for new items; None for these ones alone.
    owners: whose answer each is, where episodes are put together of several users', such as
      `streams.owners`; by default episode t is of user t.
    rival: index into `truth.slate_models` of the response model to win against.
    num_resamples: of the bootstrap.
    seed: of the bootstrap.

  Raises:
    ValueError: for a rival of real people or one that wrote no response, fewer than two users who
      have a comparison that is real and weighs something, or nothing else to evaluate.
  """
  if rival is not None and truth is None:
    raise ValueError('a rival needs slates, which real people do not have; use rival=None')
  divided = jax.device_get(metrics.denominators(tasks, truth, rival=rival))
  empty = [
    group for group in ('query', 'rival') if group in divided and not divided[group][0].any()
  ]
  if empty:
    raise ValueError(
      f'nothing to evaluate in {empty[0]!r}: give users with real query comparisons of positive '
      f'weight, and a rival among the response models of the slates (rival={rival})'
    )
  num_users = int((divided['query'].value.sum(-1) > 0).sum())
  if num_users < 2:
    raise ValueError(
      f'an interval needs at least 2 users with query comparisons that count; of {len(tasks.user)} '
      f'there is {num_users}'
    )
  divided = {group: value for group, value in divided.items() if value.value.any()}
  if items is not None:
    divided['query'] = divided['query']._replace(prompts=items)
  ids = [np.ravel(each.prompts) for each in divided.values() if each.prompts is not None]
  ids = np.concatenate(ids) if ids else None
  draws = bootstrap.draw(len(tasks.user), ids, num_resamples=num_resamples, seed=seed)
  weights = {name: bootstrap.weights(draws, *each, owners=owners) for name, each in divided.items()}
  num_prompts = min(map(distinct_prompts, divided.values()))
  num_items = 1 if items is None else items.shape[-1]
  return EvaluationSet(tasks, truth, draws, weights, rival, num_users, num_prompts, num_items)


def distinct_prompts(divided: metrics.Denominator) -> int:
  """Returns of how many prompts or items something counts; 1 where they are not resampled."""
  if divided.prompts is None:
    return 1
  return np.unique(np.asarray(divided.prompts)[np.asarray(divided.value) > 0]).size


def estimate(evaluated: EvaluationSet, predictions: Predictions) -> Estimates:
  """Returns every metric of one learner: [J, L], row 0 the value, the others resamples.

  Raises:
    ValueError: where the chosen candidate's log-probability, or a score, is not finite.
  """
  observed = jax.device_get(
    metrics.numerators(predictions, evaluated.tasks, evaluated.truth, rival=evaluated.rival)
  )
  estimates = {}
  for group, weights in evaluated.weights.items():
    names = list(observed[group])
    estimates |= dict(zip(names, weigh(weights, np.stack(list(observed[group].values())), names)))
  query = observed['query']
  estimates |= calibration_of(evaluated, query, predictions.log_probs.shape[-1])
  estimates[WORST] = worst_users(evaluated, query['accuracy'])
  return estimates | selective(evaluated, query['confidence'], query['accuracy'])


def calibration_of(
  evaluated: EvaluationSet, query: Mapping[str, np.ndarray], num_candidates: int
) -> Estimates:
  """Returns how far confidence and accuracy are apart beyond chance, and what chance gives."""
  weights = evaluated.weights['query']
  confidence = np.asarray(query['confidence'])
  columns = calibration.bin_gaps(confidence, query['accuracy'], num_candidates)
  signed = calibration.signed_gaps(columns, weights[0], user_halves(evaluated))
  *found, error = weigh(weights, np.concatenate([columns, signed[None]]), ['ece'])
  error, gaps = widened(error, calibration.SIGN_NOISE), np.stack(found, 1)  # [J, C, L]
  masses = calibration.bin_masses(confidence, weights[0], num_candidates)
  chance = calibration.by_chance(gaps, masses, evaluated.sizes)
  return {
    'ece': error,
    BY_CHANCE: np.broadcast_to(calibration.expected_error(chance), error.shape),
    'brier_calibration': calibration.brier_calibration(gaps, chance),
  }


def weigh(
  weights: Float[np.ndarray, 'Q O'], values: Float[np.ndarray, 'C L T N'], names: Sequence[str]
) -> Float[np.ndarray, 'C J L']:
  """Returns all columns under the weights of O = T*N observations, in one matrix product.

  Raises:
    ValueError: for a value that is not finite, naming the metric.
  """
  flat = values.reshape(*values.shape[:2], -1)
  require_finite(names, flat)
  # The large matrix on the left: OpenBLAS is seven times slower on its transpose.
  product = bootstrap.with_seeds(weights @ flat.reshape(-1, flat.shape[-1]).T)  # [J, C*L]
  return np.moveaxis(product.reshape(len(product), *flat.shape[:2]), 0, 1)


def require_finite(names: Sequence[str], columns: Sequence[np.ndarray] | np.ndarray) -> None:
  """Refuses measured values that are not finite.

  Raises:
    ValueError: naming the metrics.
  """
  bad = [name for name, values in zip(names, columns) if not np.isfinite(values).all()]
  if bad:
    raise ValueError(
      f'{", ".join(bad)} not finite: the predictions hold NaN or give a real choice probability 0; '
      'the parameters may have diverged'
    )


def worst_users(
  evaluated: EvaluationSet, accuracy: Float[np.ndarray, 'L T N']
) -> Float[np.ndarray, 'J L']:
  """Returns the accuracy of the tenth of the users who do worst, as other queries tell: [J, L].

  Users are ranked by one half of their queries and measured by the other, both ways: measured by
  the same ones, the worst of equals would look bad by chance alone. Users with a single query are
  left out. Rows that draw users rank them anew; in the others the same users are the worst.

  Args:
    evaluated: T users.
    accuracy: of each query; anything where it does not count.
  """
  one, other = halves(evaluated)
  ways = tail_means(evaluated, accuracy, one, other), tail_means(evaluated, accuracy, other, one)
  size = evaluated.num_users
  return widened(np.mean(ways, 0), intervals.of_fewer(round(WORST_SHARE * size), size))


def widened(
  samples: Float[np.ndarray, 'J L'], factor: float | Float[np.ndarray, 'L']
) -> Float[np.ndarray, 'J L']:
  """Returns resamples that differ from the sample by a factor more."""
  return samples[:1] + factor * (samples - samples[:1])


def halves(evaluated: EvaluationSet) -> tuple[Bool[np.ndarray, 'T N'], Bool[np.ndarray, 'T N']]:
  """Returns every other query of each user that counts, and the rest of these."""
  real = np.asarray(metrics.counted(evaluated.tasks.query).mask)
  is_even = np.cumsum(real, -1) % 2 == 0
  return real & is_even, real & ~is_even


def user_halves(
  evaluated: EvaluationSet,
) -> tuple[Bool[np.ndarray, 'T N'], Bool[np.ndarray, 'T N']]:
  """Returns the queries that count of every other user who has one, and those of the rest."""
  real = np.asarray(metrics.counted(evaluated.tasks.query).mask)
  is_even = (np.cumsum(real.any(-1)) % 2 == 0)[:, None]
  return real & is_even, real & ~is_even


def tail_means(
  evaluated: EvaluationSet,
  accuracy: Float[np.ndarray, 'L T N'],
  by: Bool[np.ndarray, 'T N'],
  on: Bool[np.ndarray, 'T N'],
) -> Float[np.ndarray, 'J L']:
  """Returns the accuracy on the queries `on` of the users who do worst on the queries `by`."""
  weights, counts = evaluated.weights['query'], evaluated.draws.users
  shares = weights[0].reshape(by.shape).astype(np.float64)
  mass_by, mass_on = (shares * by).sum(-1), (shares * on).sum(-1)  # [T]
  there = (mass_by > 0) & (mass_on > 0)
  scale_by, scale_on = (np.where(there, 1 / np.where(there, x, 1), 0) for x in (mass_by, mass_on))
  ranks = (accuracy * shares * by).sum(-1) * scale_by  # [L, T]
  measured = (accuracy * shares * on).sum(-1) * scale_on
  drawn = bootstrap.kinds(len(counts)).users
  present = there * np.concatenate([counts[:1], counts[drawn]])  # users are drawn in no other row
  taken = [bootstrap.lower_tail(row, present, WORST_SHARE) for row in ranks]
  own = [tails @ row / bootstrap.nan_if_none(tails.sum(-1)) for tails, row in zip(taken, measured)]
  columns = np.stack([tails[0] * scale_on for tails in taken])[..., None] * on  # [L, T, N]
  hits, mass = weigh(
    weights, np.stack([columns * accuracy, columns]).astype(np.float32), [WORST] * 2
  )
  found = hits / bootstrap.nan_if_none(mass)  # [J, L], the users of the sample
  found[drawn] = np.stack(own, 1)[1:]
  return found


def selective(
  evaluated: EvaluationSet,
  confidence: Float[np.ndarray, 'L T N'],
  accuracy: Float[np.ndarray, 'L T N'],
) -> Estimates:
  """Returns the accuracy on the most confident COVERAGES of all predictions, by name: [J, L]."""
  weights = evaluated.weights['query']
  real = np.asarray(evaluated.tasks.query.mask)
  mass = np.where(real, weights[0].reshape(real.shape), 0)
  slices = [calibration.confidence_slices(row, mass) for row in confidence]
  shares = np.stack(slices, 1)  # [C, L, T, N]
  columns = np.concatenate([shares, shares * accuracy])
  masses, hits = np.split(weigh(weights, columns, ['confidence'] * len(columns)), 2)
  return {
    f'selective_accuracy_{round(100 * coverage)}': calibration.selective_accuracy(
      masses, hits, coverage
    )
    for coverage in COVERAGES
  }


def interval(
  metric: str,
  samples: Float[np.ndarray, 'J L'],
  *,
  is_certain: bool = False,
  level: float = 0.95,
  **sizes: int,
) -> Float[np.ndarray, '3 L']:
  """Returns value, low and high of a metric, within the range that its name stands for.

  Args:
    metric: its name.
    samples: row 0 the value, the others its resamples.
    is_certain: where no resample differs, none of new users would: so it is by construction.
    level: of the interval.
    **sizes: as `intervals.interval` asks for.
  """
  is_open = ranges.is_share(metric) and not is_certain
  of = intervals.share_interval if is_open else intervals.interval
  return ranges.within(metric, of(samples, level=level, **sizes))


def average(seeds: Sequence[Estimates], name: str) -> Estimates:
  """Returns the mean over the seeds of a learner, with resamples of users, prompts and seeds.

  Args:
    seeds: the estimates of each. The interval of one is for this trained model; that of several for
      the mean of as many models that are trained anew.
    name: of the learner, whose seeds are drawn apart from those of others.
  """
  draw = zlib.crc32(name.encode())
  return {
    metric: bootstrap.over_seeds([one[metric] for one in seeds], np.random.default_rng(draw))
    for metric in seeds[0]
  }


def differences(
  estimates: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray], name: str
) -> Estimates:
  """Returns `{metric}_minus_{name}`, paired: both are of the same evaluation set."""
  return {
    f'{metric}_minus_{name}': value - reference[metric]
    for metric, value in estimates.items()
    if metric in reference and metric != BY_CHANCE
  }


def recovered(
  estimates: Mapping[str, np.ndarray],
  floor: Mapping[str, np.ndarray],
  ceiling: Mapping[str, np.ndarray],
  *,
  metric: str = 'accuracy',
) -> Float[np.ndarray, 'J L']:
  """Returns the share of the gap between the pooled learner and the ceiling that a learner closes.

  (learner - floor) / (ceiling - floor), paired; NaN at numbers of shots where the gap of the sample
  is less than LEAST_GAP.

  Args:
    estimates: of the learner.
    floor: of the pooled learner.
    ceiling: of `bayes`.
    metric: a share, of which more is better.
  """
  gap = ceiling[metric] - floor[metric]
  is_wide = (gap[0] >= LEAST_GAP) & (gap != 0)
  return np.where(is_wide, estimates[metric] - floor[metric], np.nan) / np.where(is_wide, gap, 1)
