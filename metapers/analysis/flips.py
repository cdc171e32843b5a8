"""Flip rate: the share of predictions that change when every label of a user is flipped.

A learner that ignores labels (or reads only which candidates were shown) has a rate of 0; one that
personalises has a high one. Not to be confused with the label noise that populations call
`flip_rate`.

Reference:
  Wang et al. 2026, P-TTT (preference-aligned test-time training): flip rates of 77.8 % for the
  method and 14.1 % for in-context learning. Unlike there, predictions of new users count.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import masked
from metapers.core.task import Task
from metapers.core.types import Array, Bool, Float
from metapers.evaluation import estimates, metrics
from metapers.evaluation.estimates import EvaluationSet
from metapers.evaluation.predictions import Predictions


def flipped(tasks: Task) -> Task:
  """Returns the tasks with every real support choice flipped; the query stays.

  Raises:
    ValueError: for comparisons of more than two candidates, which have no opposite choice.
  """
  support = tasks.support
  num_candidates = support.candidates.mask.shape[-1]
  if num_candidates != 2:
    raise ValueError(
      f'labels are flipped between 2 candidates, got {num_candidates}; use num_candidates=2'
    )
  choice = jnp.where(support.mask, 1 - support.choice, support.choice)
  return tasks._replace(support=support._replace(choice=choice))


def flip_rate(
  evaluated: EvaluationSet, before: Predictions, after: Predictions
) -> Float[np.ndarray, 'J L']:
  """Returns the share of query predictions that change when the support's labels are flipped.

  A prediction is the set of likeliest candidates, each with an equal share; the change is half the
  summed absolute difference: 0 where nothing changes, a constant score included.

  Args:
    evaluated: of the users.
    before: predictions after adapting to the labels as they are.
    after: to those of `flipped(evaluated.tasks)`; nothing else may differ, the key included.

  Returns:
    Mean over users of the user's own share, row 0 the value, the others resamples.

  Raises:
    ValueError: for predictions of other shapes.
  """
  if before.log_probs.shape != after.log_probs.shape:
    raise ValueError(
      f'predictions before and after must be of the same queries and shots, got '
      f'{before.log_probs.shape} and {after.log_probs.shape}'
    )
  query = metrics.counted(evaluated.tasks.query)
  changed = _changed(before.log_probs, after.log_probs, query.candidates.mask, query.mask)
  return estimates.weigh(evaluated.weights['query'], np.asarray(changed)[None], ['flip_rate'])[0]


@jax.jit
def _changed(
  before: Float[Array, 'L T N K'],
  after: Float[Array, 'L T N K'],
  shown: Bool[Array, 'T N K'],
  real: Bool[Array, 'T N'],
) -> Float[Array, 'L T N']:
  picks = functools.partial(metrics.picks, mask=shown)
  change = 0.5 * jnp.abs(jax.vmap(picks)(before) - jax.vmap(picks)(after)).sum(-1)
  return jax.vmap(masked.fill, (0, None))(change, real)
