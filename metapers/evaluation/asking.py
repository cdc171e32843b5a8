"""Users who are asked: after every answer the learner adapts and the rule picks the next question.

The pool of a user is the support of their episode; an answer is seen when it was asked for.
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import batches, masked, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates, Choices, Task, Truth
from metapers.core.types import Array, Callable, Float, Int, Params, PRNGKey, UserState
from metapers.evaluation import acquisition, adaptation
from metapers.evaluation.acquisition import Pool, Rule
from metapers.evaluation.predictions import Predictions

Update = Callable[[Params, UserState, Choices, Array, PRNGKey], UserState]
NONE_LEFT = np.int32(2**31 - 1)  # beyond every pool, so that writing there writes nothing


class Answers(NamedTuple):
  """What came of asking T users Q questions.

  predictions: [L = Q + 1, T, ...] after 0, 1, ..., Q answers. questions: [Q, T] positions in the
  pool, in the order in which they were asked; NONE_LEFT where a pool was exhausted.
  """

  predictions: Predictions
  questions: Int[Array, 'Q T']


class Simulation(NamedTuple):
  """What a compiled simulation is known by; see `ask`."""

  learner: MetaLearner
  rules: tuple[Rule, ...]
  update: Update
  num_questions: int
  chunk_size: int


def ask(
  learner: MetaLearner,
  params: Params,
  tasks: Task,
  truth: Truth | None = None,
  *,
  rule: str,
  rules: Mapping[str, Rule] = acquisition.RULES,
  num_questions: int,
  update: Update | None = None,
  chunk_size: int = 64,
  key: PRNGKey,
) -> Answers:
  """Asks every user, one question after another, and predicts after each answer, in one call.

  Args:
    learner: compiled once for its functions and the shapes, whatever the rule.
    params: of the learner.
    tasks: T users, whose supports are the pools.
    truth: gives the slates to score, as in `adaptation.evaluate`.
    rule: name of the rule to ask by; its targets are the pool.
    rules: those that there are.
    num_questions: Q. A user whose pool is exhausted is asked nothing more.
    update: `(params, user_state, support, context, key) -> user_state`, for a learner that goes on
      where it stood; by default it adapts anew to all answers.
    chunk_size: users asked at once; bounds the memory. 1 keeps a learner's conditionals.
    key: user t adapts and is asked with `fold_in(key, t)`, whatever the rule.

  Raises:
    ValueError: for an unknown rule, fewer questions than 0, or more than the pool holds.
  """
  size = tasks.support.choice.shape[-1]
  if rule not in rules:
    raise ValueError(f'unknown rule {rule!r}; known: {", ".join(rules)}')
  if not 0 <= num_questions <= size:
    raise ValueError(
      f'num_questions must lie in 0..{size}, what the pool (the support of an episode) holds; got '
      f'{num_questions}. Lower it or raise num_support of the population'
    )
  slate = adaptation.no_slates(tasks) if truth is None else truth.slate
  simulation = Simulation(
    learner, tuple(rules.values()), update or adapt_anew(learner), num_questions, chunk_size
  )
  number = jnp.asarray(list(rules).index(rule))
  return _ask(simulation, params, (tasks, slate), number, key)


@functools.lru_cache(maxsize=64)  # one object a learner, for it is what jit knows the code by
def adapt_anew(learner: MetaLearner) -> Update:
  """Makes the update of a learner that forgets its state and adapts to all answers."""

  def update(params, user_state, support, context, key):
    del user_state
    return learner.adapt(params, support, context, key)

  return update


@functools.partial(jax.jit, static_argnums=0)
def _ask(
  simulation: Simulation,
  params: Params,
  people: tuple[Task, Candidates],
  rule: Int[Array, ''],
  key: PRNGKey,
) -> Answers:
  def one(user: Int[Array, '']) -> Answers:
    person, slate = task.take(people, user)
    return ask_one(simulation, params, person, slate, rule=rule, key=jax.random.fold_in(key, user))

  answers = batches.map_chunks(one, people[0].user.shape[0], simulation.chunk_size)
  return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), answers)


def ask_one(
  simulation: Simulation,
  params: Params,
  person: Task,
  slate: Candidates,
  *,
  rule: Int[Array, ''],
  key: PRNGKey,
) -> Answers:
  """Asks one user: [L, ...] and [Q]."""
  learner, pool = simulation.learner, person.support
  key_adapt, key_rule = jax.random.split(key)

  def turn(carry, number):
    state, questions = carry
    support = answered(pool, questions)
    state = simulation.update(params, state, support, person.context, key_adapt)
    log_probs = learner.predict(params, state, person.query.candidates)
    predictions = Predictions(log_probs, learner.score(params, state, slate))
    shown = pool_of(learner, params, state, pool, jax.random.fold_in(key_rule, number))
    value = jax.lax.switch(rule, simulation.rules, shown)
    # After the last answer there is no place for a further question.
    questions = questions.at[number].set(best_unasked(value, pool, questions), mode='drop')
    return (state, questions), predictions

  questions = jnp.full(simulation.num_questions, NONE_LEFT)
  state = learner.adapt(params, answered(pool, questions), person.context, key_adapt)
  numbers = jnp.arange(simulation.num_questions + 1)
  (_, questions), predictions = jax.lax.scan(turn, (state, questions), numbers)
  return Answers(predictions, questions)


def best_unasked(
  value: Float[Array, 'N'], pool: Choices, questions: Int[Array, 'Q']
) -> Int[Array, '']:
  """Returns the most valuable comparison not yet asked, or NONE_LEFT."""
  is_asked = jnp.zeros_like(pool.mask).at[questions].set(True, mode='drop')
  is_left = pool.mask & ~is_asked
  return jnp.where(is_left.any(), masked.argmax(value, is_left), NONE_LEFT)


def answered(pool: Choices, questions: Int[Array, 'Q']) -> Choices:
  """Returns the answers so far, in the order asked, as a support of Q comparisons."""
  is_answered = questions != NONE_LEFT
  support = task.take(pool, jnp.where(is_answered, questions, 0))
  return support._replace(mask=support.mask & is_answered)


def pool_of(
  learner: MetaLearner, params: Params, user_state: UserState, pool: Choices, key: PRNGKey
) -> Pool:
  """Shows the pool, which is its own target, to the draws of a user's posterior."""
  mask = pool.candidates.mask & pool.mask[:, None]
  utilities = learner.sample(params, user_state, pool.candidates._replace(mask=mask))
  return Pool(utilities, mask, utilities, mask, key)


def questions_needed(
  accuracy: Float[np.ndarray, 'J L'], level: Float[np.ndarray, 'J']
) -> Float[np.ndarray, 'J']:
  """Returns after how many questions a curve first reaches a level: [J], between whole numbers.

  The curve counts by its best so far and is linear in between; one that ends below counts L - 1,
  the least that it can be.
  """
  best = np.maximum.accumulate(accuracy, axis=1)
  last = accuracy.shape[1] - 1
  above = np.minimum((best < level[:, None]).sum(1), last)
  below = np.maximum(above - 1, 0)
  row = np.arange(len(best))
  rise = best[row, above] - best[row, below]
  share = (level - best[row, below]) / np.where(rise > 0, rise, 1)
  return below + np.clip(np.where(rise > 0, share, above > 0), 0, 1)


def questions_ahead(
  accuracy: Float[np.ndarray, 'J L'], rival: Float[np.ndarray, 'J L'], after: int
) -> Float[np.ndarray, 'J']:
  """Returns how many questions more a rival needs for what was reached `after` so many: [J].

  Args:
    accuracy: with resamples, see `estimates.estimate`.
    rival: judged by the same evaluated.
    after: number of questions.
  """
  return questions_needed(rival, accuracy[:, after]) - after
