"""What the contract examines: a learner, briefly trained on a population with a known answer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metapers.core import task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Task
from metapers.core.types import Array, Callable, Float, Params, Scalar
from metapers.populations import toy

SHAPE = {'num_features': 4, 'num_support': 8, 'num_query': 16, 'num_users': 64}


class Exceptions(NamedTuple):
  """What a learner is excused from, each named on its row.

  adapts: False where the user state is empty (pooled), so that support cannot matter.
  order_matters: True where the order of the support may count.
  exact_gradient: False where the loss is not differentiated exactly (first order, surrogates).
  constant: names of top-level parameters that the loss does not train.
  num_steps: of the short training, and learning_rate: of its Adam.
  """

  adapts: bool = True
  order_matters: bool = False
  exact_gradient: bool = True
  constant: tuple[str, ...] = ()
  num_steps: int = 150
  learning_rate: float = 1e-2


class Subject(NamedTuple):
  """What the checks are given.

  start, trained: parameters before and after a short training. tasks: [T, ...] of K = 2; wide: of
  K = 3. predictions: jitted `(params, task) -> log-probabilities [N, K]` of the query after
  adapting. value_and_grad: jitted `(params, task) -> (loss, gradient)`.
  """

  learner: MetaLearner
  excused: Exceptions
  start: Params
  trained: Params
  tasks: Task
  wide: Task
  predictions: Callable[[Params, Task], Float[Array, 'N K']]
  value_and_grad: Callable[[Params, Task], tuple[Scalar, Params]]


def predictions(learner: MetaLearner, params: Params, seen: Task) -> Float[Array, 'N K']:
  """Adapts to the support of one task and returns the query's log-probabilities [N, K]."""
  user_state = learner.adapt(params, seen.support, seen.context, jax.random.key(1))
  return learner.predict(params, user_state, seen.query.candidates)


def train_briefly(learner: MetaLearner, params: Params, excused: Exceptions) -> Params:
  """Trains on `toy.two_types` for a few seconds, with supports of 0 to 8 comparisons."""
  population = toy.two_types(**SHAPE)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(excused.learning_rate))

  def task_loss(params, key):
    key_task, key_shots, key_loss = jax.random.split(key, 3)
    seen, _ = population.sample_episode((), key_task, 'train')
    shots = jax.random.randint(key_shots, (), 0, SHAPE['num_support'] + 1)
    seen = seen._replace(support=task.with_shots(seen.support, shots))
    return learner.loss(params, seen, key_loss)[0]

  def step(carry, key):
    params, state = carry
    keys = jax.random.split(key, 32)
    gradient = jax.grad(lambda p: jax.vmap(task_loss, (None, 0))(p, keys).mean())(params)
    updates, state = optimizer.update(gradient, state, params)
    return (optax.apply_updates(params, updates), state), None

  keys = jax.random.split(jax.random.key(2), excused.num_steps)
  run = jax.jit(lambda carry: jax.lax.scan(step, carry, keys)[0])
  params, _ = run((params, optimizer.init(params)))
  return learner.prepare(params, population.histories(()), jax.random.key(3))


def held_out_tasks(num_candidates: int) -> Task:
  """Returns the fixed tasks [T, ...] of 64 unseen users of `toy.two_types`."""
  population = toy.two_types(**SHAPE, num_candidates=num_candidates)
  draw = jax.jit(jax.vmap(lambda user: population.episode_of((), user, 'test')[0]))
  return draw(jnp.arange(64))


def subject(learner: MetaLearner, excused: Exceptions) -> Subject:
  """Trains the learner briefly and draws tasks, once for all the checks."""
  start = learner.init(jax.random.key(0))

  def loss(params, seen):
    return learner.loss(params, seen, jax.random.key(6))[0]

  return Subject(
    learner=learner,
    excused=excused,
    start=start,
    trained=train_briefly(learner, start, excused),
    tasks=held_out_tasks(2),
    wide=held_out_tasks(3),
    predictions=jax.jit(lambda params, seen: predictions(learner, params, seen)),
    value_and_grad=jax.jit(jax.value_and_grad(loss)),
  )


def first(tasks: Task) -> Task:
  """Returns the first task of a batch."""
  return task.take(tasks, jnp.asarray(0))


def same(actual: Array, expected: Array, claim: str, tolerance: float = 2e-4) -> None:
  """Asserts that log-probabilities agree as probabilities, to `tolerance`.

  Raises:
    AssertionError: naming the claim and the largest difference.
  """
  worst = float(jnp.max(jnp.abs(jnp.exp(actual) - jnp.exp(expected))))
  assert worst <= tolerance, f'{claim}: they differ by {worst:.2g}'


def all_finite(tree: Params) -> bool:
  """Tells whether every leaf is finite."""
  return all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(tree))
