"""How new users are: how far from the nearest user that learners were trained on.

Where the nearest of these agrees on everything, a new user is new by name only.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.analysis import disagreement, groups
from metapers.analysis.disagreement import Contrasts
from metapers.analysis.groups import Groups
from metapers.core.population import Population
from metapers.core.types import Array, Float
from metapers.evaluation import estimates
from metapers.evaluation.estimates import Estimates, EvaluationSet

SAMPLE_OF_STREAM = 1000  # train users to be near to, where the stream of them has no end
DECIMALS = 3  # of weights: at small α most users are further from 0 by rounding than by preference


class Distances(NamedTuple):
  """How far each of T users is from the nearest of `num_train` train users.

  disagreement: [T], share of random comparisons on which the two differ. l1: [T], distance of
  their weights, at most 2.
  """

  disagreement: Float[np.ndarray, 'T']
  l1: Float[np.ndarray, 'T']
  num_train: int


def train_weights(trained_on: Population) -> Float[Array, 'U B']:
  """Returns the weights of the train users, or of a sample of an endless stream.

  Raises:
    ValueError: for users whom weights do not describe.
  """
  facts = trained_on.simulation
  if facts is None or facts.users is None:
    raise ValueError(
      f'distances are between weights of users, which {trained_on.source!r} does not have; give a '
      'population whose simulation has users'
    )
  size = trained_on.spec.num_users or SAMPLE_OF_STREAM
  return facts.users(trained_on.arrays, 'train').weights[:size]


@functools.partial(jax.jit, static_argnames='chunk_size')
def nearest_l1(
  weights: Float[Array, 'T B'], known: Float[Array, 'U B'], *, chunk_size: int = 16
) -> Float[Array, 'T']:
  """Returns min_u Σ_b |w_tb - w_ub|, from 0 (the same) to 2: [T]."""

  def nearest(user):
    return jnp.min(jnp.sum(jnp.abs(known - user[None]), -1))

  return jax.lax.map(nearest, weights, batch_size=chunk_size)


@functools.partial(jax.jit, static_argnames='chunk_size')
def nearest_disagreement(
  weights: Float[Array, 'T B'],
  known: Float[Array, 'U B'],
  values: Float[Array, 'Q B'],
  *,
  chunk_size: int = 64,
) -> Float[Array, 'T']:
  """Returns the share of comparisons on which each user and the nearest train user differ: [T].

  Args:
    weights: [T, B] of new users.
    known: [U, B] of train users.
    values: [Q, B] of the comparisons.
    chunk_size: new users at once; U · Q preferences are held besides.
  """
  theirs = disagreement.preferences(known, values)

  def nearest(user):
    own = disagreement.preferences(user[None], values)[0]
    differ = len(values) - theirs @ own  # whole numbers, so that none is exactly none
    return jnp.min(differ) / (2 * len(values))

  return jax.lax.map(nearest, weights, batch_size=chunk_size)


def to_nearest(
  weights: Float[Array, 'T B'], known: Float[Array, 'U B'], contrasts: Contrasts
) -> Distances:
  """Returns how far users are from the nearest train users.

  Args:
    weights: [T, B] of the users.
    known: [U, B], such as `train_weights`.
    contrasts: comparisons that they may differ on, such as `disagreement.random_contrasts`.
  """
  differ = nearest_disagreement(weights, known, jnp.asarray(contrasts.values))
  return Distances(np.asarray(differ), np.asarray(nearest_l1(weights, known)), len(known))


def user_groups(weights: Float[Array, 'T B'], found: Distances) -> dict[str, Groups]:
  """Returns users grouped by distance to the train users, and by the entropy of their weights.

  Args:
    weights: [T, B] of the users.
    found: of the same.
  """
  nearest = f'the nearest of {found.num_train:,} train users'
  entropy = groups.entropy(np.asarray(weights))
  made = (
    groups.by_size(
      'nearest_disagreement',
      found.disagreement,
      title=f'share of random comparisons on which {nearest} disagrees',
      in_percent=True,
    ),
    groups.by_size(
      'nearest_l1',
      found.l1.round(DECIMALS),
      title=f'L1 distance of the weights to those of {nearest}, at most 2',
    ),
    groups.by_size('entropy', entropy.round(DECIMALS), title='entropy of the weights, in nats'),
  )
  return {one.name: one for one in made}


def describe_users(evaluated: EvaluationSet, found: Distances, contrasts: Contrasts) -> Estimates:
  """Returns how much users differ from one another and from the train users: name -> [J, 1].

  `disagreement` and `contested` are on random comparisons, `..._query` on those that are evaluated;
  `nearest_disagreement_none` is the share of users whom the nearest train user always agrees with.

  Args:
    evaluated: of T simulated users.
    found: of the same.
    contrasts: random comparisons of the prompts that they are evaluated on.

  Raises:
    ValueError: for users whose truth is unknown.
  """
  if evaluated.truth is None:
    raise ValueError(
      'the preferences of these users are unknown; give an evaluation set with truth'
    )
  draws, weights = evaluated.draws, evaluated.truth.weights
  query = disagreement.query_contrasts(evaluated.tasks, evaluated.truth)
  samples = {
    'disagreement': disagreement.rate(draws, weights, contrasts),
    'disagreement_query': disagreement.rate(draws, weights, query),
    'contested': disagreement.contested(draws, weights, contrasts),
    'contested_query': disagreement.contested(draws, weights, query),
    'nearest_disagreement_mean': groups.user_mean(draws, found.disagreement),
    'nearest_disagreement_median': groups.user_median(draws, found.disagreement),
    'nearest_disagreement_none': groups.user_mean(
      draws, (found.disagreement == 0).astype(np.float32)
    ),
    'nearest_l1_median': groups.user_median(draws, found.l1),
  }
  return {name: values[:, None] for name, values in samples.items()}


def in_words(
  evaluated: EvaluationSet, described: Estimates, found: Distances, num_contrasts: int
) -> tuple[str, ...]:
  """Returns what `describe_users` found, as sentences.

  Args:
    evaluated: of T users.
    described: of the same.
    found: of the same.
    num_contrasts: random comparisons that it was found on.
  """
  said = {
    name: in_percent(estimates.interval(name, samples, is_certain=False, **evaluated.sizes)[:, 0])
    for name, samples in described.items()
  }
  l1 = float(described['nearest_l1_median'][0, 0])
  return (
    f'Two of the users disagree on {said["disagreement"]} of random comparisons of the prompts '
    f'that they are evaluated on, and on {said["disagreement_query"]} of the query comparisons; '
    f'some two of the {len(found.l1)} disagree on {said["contested"]} and '
    f'{said["contested_query"]}.',
    f'The nearest of {found.num_train:,} train users disagrees with a user on '
    f'{said["nearest_disagreement_median"]} of random comparisons (median; mean '
    f'{said["nearest_disagreement_mean"]}); with {said["nearest_disagreement_none"]} of the users '
    f'on none of {num_contrasts:,}. Median L1 distance of the weights: {l1:.3g}.',
  )


def in_percent(interval: Float[np.ndarray, '3']) -> str:
  """Returns value, low and high of a share as text."""
  value, low, high = (100 * float(each) for each in interval)
  return f'{value:.1f} % [{low:.1f}, {high:.1f}]'
