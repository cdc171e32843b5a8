"""Exports fitted to the comparisons at hand: one person's under a standard prior, or many people's.

Nothing is written and nobody is held out: for tables, intervals and workdirs take `bench`.
"""

import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers import learners
from metapers.core import population as populations
from metapers.core.population import Population, Spec
from metapers.core.types import Bool, Float, Int
from metapers.io import leaves
from metapers.populations import people
from metapers.populations.people_episodes import Arrays, Layout, People
from metapers.serving import exports
from metapers.serving.exports import Export
from metapers.training import meta_training
from metapers.training.meta_training import Training

MOST = 32  # comparisons in either part of a training episode
SIZES = ('num_features', 'num_users', 'num_candidates', 'num_histories', 'history_length')


class Given(NamedTuple):
  """M comparisons of U people.

  features: [M, 2, D], raw. choice: [M], 0 or 1. user: [M], 0 to U - 1, each at least once.
  names: of the D features; () where they have none.
  """

  features: Float[np.ndarray, 'M 2 D']
  choice: Int[np.ndarray, 'M']
  user: Int[np.ndarray, 'M']
  names: tuple[str, ...] = ()


def by_user(
  user: Int[np.ndarray, 'M'], num_users: int
) -> tuple[Int[np.ndarray, 'U N'], Bool[np.ndarray, 'U N']]:
  """Returns the rows of each user in order, and where they are real; else the rows are any."""
  counts = np.bincount(user, minlength=num_users)
  order = np.argsort(user, kind='stable')
  slots = np.arange(max(counts.max(initial=0), 1))
  first = np.cumsum(counts) - counts
  rows = order[np.minimum(first[:, None] + slots, user.size - 1)]
  return rows, slots < counts[:, None]


def standard(given: Given) -> Export:
  """Returns Bayesian logistic regression: u(x) = w·x with w ~ N(0, I), x in standard deviations.

  Nothing is learned from the choices: they are what profiles are adapted to.
  """
  width = given.features.shape[-1]
  kwargs = {'num_features': width, 'hidden': [], 'width': width, 'num_samples': 128}
  learner = learners.make('bayes_head', **kwargs)
  shapes = jax.eval_shape(learner.init, jax.random.key(0))
  params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
  params['factors'] = jax.tree.map(lambda leaf: np.eye(width, dtype=np.float32), params['factors'])
  return Export(
    learner='bayes_head',
    kwargs=kwargs,
    params=leaves.named(params),
    num_candidates=2,
    scaling=people.scaling_of(*table_of(given)),
    feature_names=given.names,
    trained_on={'source': 'nobody: a standard normal prior'},
    about='Bayesian logistic regression under a standard normal prior',
  )


def training(num_steps: int, learning_rate: float) -> Training:
  """Returns how a learner is trained, without evaluation on the way."""
  return Training(
    num_steps=num_steps,
    learning_rate=learning_rate,
    evaluate_every=0,
    steps_per_call=min(100, max(num_steps, 1)),
  )


def trained(
  given: Given, learner: str, training: Training, *, hidden: tuple[int, ...], seed: int
) -> Export:
  """Returns a learner trained on what all these people chose.

  Every step draws MOST comparisons of a person at most to adapt to and as many to predict; what is
  fitted to the known people as a whole (`start`, `prepare`: priors and banks) is shown as many of
  each, drawn once.

  Args:
    given: of at least two people.
    learner: a key of `learners.LEARNERS`.
    training: how.
    hidden: widths of its hidden layers, where it has them.
    seed: of training.

  Raises:
    ValueError: for an unknown learner, fewer than two people, or none who made two comparisons.
  """
  population = population_of(given)
  spec, known = population.spec, inspect.signature(learners.factory(learner)).parameters
  sizes = {name: getattr(spec, name) for name in SIZES if name in known}
  kwargs = {**sizes, **({'hidden': list(hidden)} if 'hidden' in known else {})}
  result = meta_training.meta_train(
    learners.make(learner, **kwargs), population, training, seed=seed, progress=False
  )
  about = f'{learner} trained on {spec.num_users} people for {training.num_steps} steps'
  return exports.export_of(learner, kwargs, result.params, population, about=about)


def population_of(given: Given) -> Population:
  """Returns a population of these people, all of them in the train split.

  Raises:
    ValueError: for fewer than two people, or none who made two comparisons.
  """
  items, table = table_of(given)
  num_users, longest = table.mask.shape
  if num_users < 2 or longest < 2:
    raise ValueError(
      f'learning across people needs two of them, and comparisons to adapt to and to predict: got '
      f'{num_users} people with at most {longest}; give users=, or a trained model'
    )
  scaling = people.scaling_of(items, table)
  scaled = (items - scaling.mean) / scaling.scale
  layout = Layout(min(MOST, longest // 2), min(MOST, longest - longest // 2), num_users)
  return Population(
    arrays=Arrays(
      jnp.asarray(scaled, jnp.float32), {'train': table}, {'train': jnp.arange(num_users)}
    ),
    **people.functions(layout)._asdict(),
    spec=spec_of(given, layout),
    scaling=scaling,
    source='people given to fit',
    record={'num_people': num_users, 'num_comparisons': len(given.choice)},
  )


def spec_of(given: Given, layout: Layout) -> Spec:
  """Returns the sizes of a population whose people are all in the train split."""
  return Spec(
    features=populations.vector(given.features.shape[-1]),
    num_candidates=2,
    num_support=layout.num_support,
    num_query=layout.num_query,
    num_users=layout.num_users,
    num_held_out={},
    num_histories=layout.num_users,
    history_length=layout.num_support + layout.num_query,
    feature_names=given.names,
  )


def table_of(given: Given) -> tuple[Float[np.ndarray, 'I D'], People]:
  """Returns the different items, raw, and the people's comparisons among them."""
  width = given.features.shape[-1]
  items, item = np.unique(given.features.reshape(-1, width), axis=0, return_inverse=True)
  pair = item.reshape(-1, 2)  # [M, 2]
  chosen = np.take_along_axis(pair, given.choice[:, None], 1)[:, 0]
  num_users = int(given.user.max(initial=0)) + 1
  rows, mask = by_user(given.user, num_users)
  table = People(
    *map(jnp.asarray, (chosen[rows], (pair.sum(1) - chosen)[rows], mask, mask & False))
  )
  return items, table
