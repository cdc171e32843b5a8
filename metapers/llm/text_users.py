"""A finite population of users who compared texts: stored comparisons, of any source."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import population, task
from metapers.core.population import SEEN, Functions, Population, Simulation, Spec
from metapers.core.task import Choices, Task, Truth
from metapers.core.types import Callable


class Split(NamedTuple):
  """Users of a split, with a leading U; truth is None of real people."""

  tasks: Task
  truth: Truth | None = None


def text_users(
  splits: Mapping[str, Split],
  *,
  num_query: int,
  num_support: int = 0,
  source: str,
  licence: str = population.DRAWN,
  simulation: Simulation | None = None,
  content_hash: str = '',
) -> Population:
  """Returns a population of stored users.

  Training draws a user, each of whose comparisons is as likely as any other user's, and num_query
  of their comparisons, each apart from the others; an episode of another split is what is stored.
  With `num_support` a user's comparisons are dealt out instead: so many to the support, and others
  to the query.

  Args:
    splits: 'train', whose supports hold all comparisons of the known users and whose queries are
      empty (N = 0); SEEN, the same users on what training never showed; 'validation' and 'test'.
    num_query: comparisons of one user in a step of training.
    num_support: what learners that adapt have of a user in a step of training; as many as held-out
      users have.
    source: one line on where the users come from.
    licence: of the data.
    simulation: of simulated users.
    content_hash: sha256 of the data.

  Raises:
    ValueError: for a missing split, or train queries that are not empty.
  """
  missing = [name for name in (*population.SPLITS, SEEN) if name not in splits]
  if missing:
    raise ValueError(f'splits lack {", ".join(missing)}')
  if splits['train'].tasks.query.choice.shape[1] or num_query < 1:
    raise ValueError('train users have all comparisons in their support, and num_query is above 0')
  known, held_out = splits['train'].tasks, splits['test'].tasks
  sizes = known.support.choice.shape[1], held_out.support.choice.shape[1]
  if num_support and (num_support != sizes[1] or num_support + num_query > sizes[0]):
    raise ValueError(
      f'num_support must be what held-out users have, {sizes[1]}, and with num_query at most the '
      f'{sizes[0]} comparisons of a train user; got {num_support} and {num_query}'
    )
  made = functions(num_query, num_support)
  return Population(
    arrays=dict(splits),
    **made._asdict(),
    spec=Spec(
      features=one_candidate(known.support),
      num_candidates=known.support.candidates.mask.shape[-1],
      num_support=held_out.support.choice.shape[1],
      num_query=held_out.query.choice.shape[1],
      num_users=num_users(splits['train']),
      num_held_out={name: num_users(splits[name]) for name in (*population.SPLITS[1:], SEEN)},
      num_histories=num_users(splits['train']),
      history_length=known.support.choice.shape[1],
      context=jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), known.context),
    ),
    scaling=population.unscaled(0),
    source=source,
    content_hash=content_hash,
    simulation=simulation,
    licence=licence,
  )


def num_users(split: Split) -> int:
  """Returns U of a split."""
  return split.tasks.user.shape[0]


def one_candidate(given: Choices):
  """Returns the tree of the shapes of one candidate's features."""
  lead = given.candidates.mask.ndim
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape[lead:], x.dtype), given.candidates.features
  )


def functions(num_query: int, num_support: int = 0) -> Functions:
  """Returns the functions of `text_users`."""

  def dealt(own, key):
    drawn = jax.random.uniform(key, own.support.mask.shape, jnp.float32)
    order = jnp.argsort(jnp.where(own.support.mask, drawn, 2))
    support, query = (
      task.take(own.support, rows)
      for rows in (order[:num_support], order[num_support : num_support + num_query])
    )
    return own._replace(support=support, query=query), None

  def sample_episode(arrays, key, split):
    key_user, key_rows = jax.random.split(key)
    stored = arrays[split]
    if split != 'train':
      number = jax.random.randint(key_user, (), 0, num_users(stored), jnp.int32)
      return task.take((stored.tasks, stored.truth), number)
    number = jax.random.categorical(key_user, jnp.log(task.total_weight(stored.tasks.support)))
    own = task.take(stored.tasks, number)
    if num_support:
      return dealt(own, key_rows)
    odds = jnp.log(jnp.where(own.support.mask, own.support.weight, 0))
    rows = jax.random.categorical(key_rows, odds, shape=(num_query,))
    nothing = jax.tree.map(lambda x: x[:0], own.support)
    query = task.take(own.support, rows)
    query = query._replace(weight=jnp.ones_like(query.weight))  # what weighs more is drawn more
    return own._replace(support=nothing, query=query), None

  def episode_of(arrays, user, split):
    return task.take((arrays[split].tasks, arrays[split].truth), user)

  return Functions(sample_episode, episode_of, lambda arrays: arrays['train'].tasks)


Change = Callable[[Choices], Choices]


def changed(splits: Mapping[str, Split], change: Change) -> dict[str, Split]:
  """Returns users whose comparisons are changed: supports and queries of all splits."""

  def one(split):
    tasks = split.tasks
    tasks = tasks._replace(support=change(tasks.support), query=change(tasks.query))
    return split._replace(tasks=tasks)

  return {name: one(split) for name, split in splits.items()}
