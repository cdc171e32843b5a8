"""What the contract examines: a learner, briefly trained on a population with a known answer."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from metapers.core import task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Choices, Task
from metapers.core.types import Any, Array, Callable, Float, Key, Params, PRNGKey, Scalar, UserState
from metapers.populations import toy

SHAPE = {'num_features': 4, 'num_support': 8, 'num_query': 16, 'num_users': 64}
TASKS = 64  # T
BATCH = 32  # tasks in a step of the short training
# Checks compile much and compute little: half of their time would go into optimising code.
HURRIED = {'xla_backend_optimization_level': 0, 'xla_llvm_disable_expensive_passes': True}
REPEATED = HURRIED | {'xla_backend_optimization_level': 1}  # of a loop that runs for seconds


class Exceptions(NamedTuple):
  """What a learner is excused from, each named on its row.

  adapts: False where the user state is empty (pooled), so that support cannot matter.
  order_matters: True where the order of the support may count.
  weight: False where weights of comparisons cannot be honoured.
  trained: False where there is nothing to train: `start` and `prepare` are all. Then nothing is
    claimed of gradients and of training, but 8 shots must still beat 0.
  exact_gradient: False where the loss is not differentiated exactly (first order, surrogates).
  constant: names of top-level parameters that the loss does not train.
  num_steps: of the short training, and learning_rate: of its Adam.
  """

  adapts: bool = True
  order_matters: bool = False
  weight: bool = True
  trained: bool = True
  exact_gradient: bool = True
  constant: tuple[str, ...] = ()
  num_steps: int = 150
  learning_rate: float = 1e-2


class Subject(NamedTuple):
  """What the checks are given.

  initial, start, trained: parameters as `init` makes them, as the learner's `start` leaves them,
    and after a short training and `prepare`.
  histories: of the 64 known users. tasks: [T, ...] of K = 2; wide: of K = 3. The tasks are host
    arrays: what the checks do to them compiles nothing.
  alone: user state and log-probabilities [N, K] of the first task, without jit or vmap.
  predictions: compiled `(params, tasks) -> log-probabilities [T, N, K]` of the queries after
    adapting. Each shape compiles once: checks keep to the shapes of `tasks`.
  value_and_grad: compiled `(params, tasks) -> (mean loss, gradient)`; the gradient is {} where
    there is nothing to train.
  """

  learner: MetaLearner
  excused: Exceptions
  initial: Params
  start: Params
  trained: Params
  histories: Task
  tasks: Task
  wide: Task
  alone: Callable[[], tuple[UserState, Float[Array, 'N K']]]
  predictions: Callable[[Params, Task], Float[Array, 'T N K']]
  value_and_grad: Callable[[Params, Task], tuple[Scalar, Params]]


def subject(learner: MetaLearner, excused: Exceptions, *, num_context: int = 0) -> Subject:
  """Returns the learner, briefly trained, and tasks, made once for all the checks.

  Args:
    learner: built for 4 features, and 64 known users or histories where it asks for their number.
    excused: what it is excused from.
    num_context: C, the width of the contexts that it is built for.
  """
  tasks, wide = (held_out_tasks(candidates, num_context) for candidates in (2, 3))
  histories = known_histories(num_context)
  return subject_of(learner, excused, histories, tasks, wide, num_context=num_context)


def subject_of(
  learner: MetaLearner,
  excused: Exceptions,
  histories: Task,
  tasks: Task,
  wide: Task,
  *,
  num_context: int = 0,
) -> Subject:
  """Returns the learner with histories and tasks that are given; trained on the contract's own.

  Args:
    learner: as of `subject`, and built for what is given.
    excused: what it is excused from; of other answers than the contract's, from training.
    histories: of the known users.
    tasks: of others.
    wide: likewise, with more candidates.
    num_context: C.
  """
  initial = quick_jit(learner.init)(jax.random.key(0))
  start = learner.start(initial, histories, jax.random.key(5))
  trained = train_briefly(learner, start, excused, num_context) if excused.trained else start
  trained = learner.prepare(trained, histories, jax.random.key(3))
  return Subject(
    learner=learner,
    excused=excused,
    initial=initial,
    start=start,
    trained=trained,
    histories=histories,
    tasks=tasks,
    wide=wide,
    alone=functools.cache(lambda: adapt_and_predict(learner, trained, first(tasks))),
    predictions=quick_jit(
      jax.vmap(lambda params, episode: adapt_and_predict(learner, params, episode)[1], (None, 0))
    ),
    value_and_grad=quick_jit(mean_loss_and_gradient(learner, excused)),
  )


def quick_jit(function: Callable, options: dict[str, Any] = HURRIED) -> Callable:
  """Returns the function under jit, compiled in a hurry where the options are known to work."""
  return jax.jit(function, compiler_options=options if jax.default_backend() == 'cpu' else None)


def adapt_and_predict(
  learner: MetaLearner, params: Params, episode: Task
) -> tuple[UserState, Float[Array, 'N K']]:
  """Returns the user state of one task's support, and log-probabilities [N, K] of its query."""
  user_state = learner.adapt(params, episode.support, episode.context, jax.random.key(1))
  return user_state, learner.predict(params, user_state, episode.query.candidates)


def mean_loss(learner: MetaLearner, params: Params, tasks: Task, keys: Key[Array, 'T']) -> Scalar:
  """Returns the mean of what training minimises: `batch_loss` where there is one, else `loss`."""
  if learner.batch_loss is not None:
    return learner.batch_loss(params, tasks, keys)[0].mean()
  return jax.vmap(learner.loss, (None, 0, 0))(params, tasks, keys)[0].mean()


def mean_loss_and_gradient(learner: MetaLearner, excused: Exceptions) -> Callable:
  """Returns `(params, tasks) -> (mean loss, gradient)`; see `Subject`."""

  def loss(params, tasks):
    keys = jax.random.split(jax.random.key(6), tasks.user.shape[0])
    return mean_loss(learner, params, tasks, keys)

  return jax.value_and_grad(loss) if excused.trained else lambda *given: (loss(*given), {})


def train_briefly(
  learner: MetaLearner, params: Params, excused: Exceptions, num_context: int = 0
) -> Params:
  """Returns parameters trained on `toy.two_types` for seconds, with supports of 0 to 8."""
  population = toy.two_types(**SHAPE)
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(excused.learning_rate))

  def draw(key):
    key_task, key_shots, key_context = jax.random.split(key, 3)
    episode, _ = population.sample_episode((), key_task, 'train')
    shots = jax.random.randint(key_shots, (), 0, SHAPE['num_support'] + 1, jnp.int32)
    episode = episode._replace(support=task.with_shots(episode.support, shots))
    return with_context(episode, num_context, key_context)

  def step(carry, key):
    params, state = carry
    key_draw, key_loss = jax.random.split(key)
    tasks = jax.vmap(draw)(jax.random.split(key_draw, BATCH))
    keys = jax.random.split(key_loss, BATCH)
    gradient = jax.grad(lambda p: mean_loss(learner, p, tasks, keys))(params)
    updates, state = optimizer.update(gradient, state, params)
    return (optax.apply_updates(params, updates), state), None

  keys = jax.random.split(jax.random.key(2), excused.num_steps)

  def run(params):
    return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]

  return quick_jit(run, REPEATED)(params)


@functools.cache
def known_histories(num_context: int) -> Task:
  """Returns the histories [U, ...] of the 64 known users of `toy.two_types`."""

  def draw():
    return with_context(toy.two_types(**SHAPE).histories(()), num_context, jax.random.key(4))

  return quick_jit(draw)()


@functools.cache
def held_out_tasks(num_candidates: int, num_context: int) -> Task:
  """Returns the fixed tasks [T, ...] of 64 held-out users of `toy.two_types`."""
  population = toy.two_types(**SHAPE, num_candidates=num_candidates)

  def draw(users):
    tasks = jax.vmap(lambda user: population.episode_of((), user, 'test')[0])(users)
    return with_context(tasks, num_context, jax.random.key(7))

  return jax.device_get(quick_jit(draw)(np.arange(TASKS)))


def with_context(tasks: Task, width: int, key: PRNGKey) -> Task:
  """Returns tasks whose contexts [*T, C] are standard normal, of width C."""
  return tasks._replace(
    context=jax.random.normal(key, (*jnp.shape(tasks.user), width), jnp.float32)
  )


def first(tasks: Task) -> Task:
  """Returns the first task of a batch."""
  return jax.tree.map(lambda x: jnp.asarray(x[0]), tasks)


def take_comparisons(choices: Choices, index: list[int], num_real: int) -> Choices:
  """Returns the comparisons [T, N] of these numbers, of which the first `num_real` are real."""
  chosen = jax.tree.map(lambda x: np.asarray(x)[:, index], choices)
  return task.with_shots(chosen, num_real)


def assert_same(
  actual: Array | np.ndarray,
  expected: Array | np.ndarray,
  claim: str,
  tolerance: float = 2e-4,
) -> None:
  """Asserts that log-probabilities agree as probabilities, to `tolerance`.

  Raises:
    AssertionError: naming the claim and the largest difference.
  """
  worst = float(np.max(np.abs(np.exp(actual) - np.exp(expected))))
  assert worst <= tolerance, f'{claim}: they differ by {worst:.2g}'


def assert_near(actual: Params, expected: Params, claim: str, tolerance: float = 1e-5) -> None:
  """Asserts that trees agree to `tolerance`, of each value or of 1, whichever is larger.

  Raises:
    AssertionError: naming the claim, the leaf and the largest difference.
  """
  for (path, a), b in zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected)):
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    worst = np.max(np.abs(a - b) / np.maximum(1.0, np.abs(b)), initial=0.0)
    name = jax.tree_util.keystr(path)
    assert worst <= tolerance, f'{claim}: {name or "values"} differ by {worst:.2g}'


def all_finite(tree: Params) -> bool:
  """Returns whether every leaf is finite."""
  return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


def same_bits(actual: Params, expected: Params) -> bool:
  """Returns whether two trees have the same structure, and each leaf the same dtype and bits."""
  leaves, others = (list(map(np.asarray, jax.tree.leaves(tree))) for tree in (actual, expected))
  return jax.tree.structure(actual) == jax.tree.structure(expected) and all(
    a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(leaves, others)
  )
