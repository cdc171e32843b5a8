"""Learners of the bench on the task of the lookup study, trained here on its known users."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers import learners
from metapers.analysis.user_lookup import Choice, Drawn, Known
from metapers.bench import plan
from metapers.bench.plan import Entry
from metapers.core import task
from metapers.core.population import Population, Scaling
from metapers.core.tables import Histories
from metapers.core.task import Candidates, Task, Truth
from metapers.core.types import Int
from metapers.evaluation import adaptation
from metapers.populations import people
from metapers.training import meta_training
from metapers.training.meta_training import Training

MOST_FEATURES = 128  # beyond which training takes more than a report may
NUM_FOLDS = 20  # of the known users, one of which no learner trains on
CHUNK_SIZE = 20  # new users whose slates are copied at once


class Trained(NamedTuple):
  """How a learner is trained. num_steps: of gradients; 0 where `start` or `prepare` is all."""

  kwargs: Mapping[str, Any]
  num_steps: int = 0


LEARNERS = {
  'per_user': Trained({'hidden': ()}, 100),
  'low_rank': Trained({}, 200),
  'gaussian_prior': Trained({}),
  'dirichlet_mixture': Trained({'num_particles': 2048}),
}


def check(names: Sequence[str]) -> None:
  """Refuses learners that are not trained here.

  Raises:
    ValueError: naming those that are.
  """
  unknown = [name for name in names if name not in LEARNERS]
  if unknown:
    raise ValueError(
      f'no learner beside the lookups is called {", ".join(unknown)}; choose of '
      f'{", ".join(LEARNERS)}, or none'
    )


def picks(
  name: str, drawn: Drawn, counts: Sequence[int], *, seed: int = 0
) -> dict[int, Int[np.ndarray, 'T P']]:
  """Returns what a learner picks for each new user after their first n comparisons, by n.

  Args:
    name: one of LEARNERS.
    drawn: known users, whom it is trained on, and new ones.
    counts: the n.
    seed: of training.

  Raises:
    ValueError: for more than MOST_FEATURES features.
  """
  width = drawn.known.winning.shape[-1]
  if width > MOST_FEATURES:
    raise ValueError(f'{width} features are more than the {MOST_FEATURES} that are trained on here')
  known = population(drawn.known, seed)
  kwargs, num_steps = LEARNERS[name]
  entry = Entry(learners.factory(name), kwargs, name, Training(num_steps, evaluate_every=0))
  learner = plan.build(entry, known.spec)
  params = meta_training.meta_train(
    learner, known, entry.training, seed=seed, name=name, progress=False
  ).best_params
  evaluate = functools.partial(
    adaptation.evaluate, learner, params, shots=tuple(counts), chunk_size=CHUNK_SIZE,
    key=jax.random.key(seed),
  )  # fmt: skip
  chunks = np.array_split(
    np.arange(len(drawn.new.winning)), -(-len(drawn.new.winning) // CHUNK_SIZE)
  )
  scores = np.concatenate(
    [np.asarray(evaluate(*episodes(drawn, rows, known.scaling)).slate_scores) for rows in chunks], 1
  )  # [L, T, P, R]
  return dict(zip(counts, np.where(drawn.choice.mask, scores, -np.inf).argmax(-1)))


def population(known: Known, seed: int) -> Population:
  """Returns known users as people whose comparisons are the best and worst responses."""
  num_users, num_history, width = known.winning.shape
  first = np.arange(num_users * num_history)
  histories = Histories(
    features=np.concatenate([known.winning, known.losing]).reshape(-1, width),
    item_ids=np.arange(2 * first.size),
    user_ids=np.arange(num_users),
    chosen=first.reshape(num_users, num_history),
    rejected=(first + first.size).reshape(num_users, num_history),
    mask=np.ones((num_users, num_history), bool),
    context=np.concatenate([first, first]),
    identity=False,
    num_dropped=0,
    source='known users of a lookup',
    content_hash='',
  )
  size = num_history // 2
  return people.people(
    histories, num_support=size, num_query=num_history - size, num_folds=NUM_FOLDS,
    validation_share=1 / NUM_FOLDS, split_seed=seed,
  )  # fmt: skip


def episodes(drawn: Drawn, rows: Int[np.ndarray, 'T'], scaling: Scaling) -> tuple[Task, Truth]:
  """Returns new users with their comparisons as support and the prompts to pick for as slates.

  What won stands first or second by the number of the comparison.
  """

  def scaled(features):
    return jnp.asarray((features - scaling.mean) / scaling.scale, jnp.float32)

  winning, losing = (scaled(each[rows]) for each in (drawn.new.winning, drawn.new.losing))
  choice = jnp.broadcast_to(jnp.arange(winning.shape[1], dtype=jnp.int32) % 2, winning.shape[:2])
  is_first = (choice == 0)[..., None]
  both = [jnp.where(is_first, winning, losing), jnp.where(is_first, losing, winning)]
  shown = Candidates(jnp.stack(both, 2), jnp.ones((*choice.shape, 2), bool))
  support = task.choices(shown, choice)
  query = jax.tree.map(lambda x: x[:, :1], support)
  none = jnp.zeros((len(rows), 0), jnp.float32)
  users = jnp.full(len(rows), len(drawn.known.winning), jnp.int32)
  slate = slates(drawn.choice, len(rows), scaled)
  empty = dict.fromkeys(Truth._fields)
  return Task(support, query, users, none), Truth(**{**empty, 'slate': slate})


def slates(choice: Choice, num_users: int, scaled) -> Candidates:
  """Returns the same prompts for every user."""
  features, mask = scaled(choice.features), jnp.asarray(choice.mask)
  return Candidates(
    jnp.broadcast_to(features, (num_users, *features.shape)),
    jnp.broadcast_to(mask, (num_users, *mask.shape)),
  )
