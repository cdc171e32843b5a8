"""Active querying: the questions a learner picks for each user, and what it predicts after each.

The pool of a user is the support of their episode; an answer is given when it is asked for.
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
from metapers.core.types import Array, Float, Int, Params, PRNGKey, UserState
from metapers.evaluation import acquisition, adaptation, stopping
from metapers.evaluation.acquisition import Acquisition, Pool
from metapers.evaluation.predictions import Predictions
from metapers.evaluation.stopping import Standing

NONE_LEFT = np.int32(2**31 - 1)  # beyond every pool, so that writing there writes nothing


class Answers(NamedTuple):
  """What T users were asked, Q questions each, and what was predicted of them.

  predictions: [L = Q + 1, T, ...] after 0, 1, ..., Q answers. questions: [Q, T] positions in the
  pool, in the order in which they were asked; NONE_LEFT where a pool was exhausted. standing:
  [L, T, M], how sure it is after each which response of every slate is the best; None unless asked.
  """

  predictions: Predictions
  questions: Int[Array, 'Q T']
  standing: Standing | None


class Program(NamedTuple):
  """The static options by which a compiled program is known; see `ask`."""

  learner: MetaLearner
  rules: tuple[Acquisition, ...]
  num_questions: int
  chunk_size: int
  with_standing: bool


def ask(
  learner: MetaLearner,
  params: Params,
  tasks: Task,
  truth: Truth | None = None,
  *,
  rule: str,
  rules: Mapping[str, Acquisition] = acquisition.RULES,
  num_questions: int,
  chunk_size: int = 64,
  with_standing: bool = False,
  key: PRNGKey,
) -> Answers:
  """Returns the questions that a rule picks for every user, one after another, and predictions.

  After each answer the learner updates its user state, or, without `update`, adapts anew to all
  answers; the rule then picks the comparison of the pool that draws from the posterior value most.

  Args:
    learner: compiled once for its functions and the shapes, whatever the rule.
    params: of the learner.
    tasks: T users, whose supports are the pools.
    truth: gives the slates to score, as in `adaptation.evaluate`.
    rule: name of the rule to ask by; its targets are the pool.
    rules: acquisition functions by name.
    num_questions: Q. A user whose pool is exhausted is asked nothing more.
    chunk_size: users asked at once; bounds the memory. 1 keeps a learner's conditionals.
    with_standing: say after each answer how sure it is which response of a slate is the best.
    key: user t adapts and is asked with `fold_in(key, t)`, whatever the rule.

  Raises:
    ValueError: for an unknown rule, fewer questions than 0, more than the pool holds, or a standing
      without slates.
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
  if with_standing and not slate.mask.size:
    raise ValueError('with_standing needs slates of responses, and these users have none')
  program = Program(learner, tuple(rules.values()), num_questions, chunk_size, with_standing)
  number = jnp.asarray(list(rules).index(rule))
  return _ask(program, params, (tasks, slate), number, key)


@functools.partial(jax.jit, static_argnums=0)
def _ask(
  program: Program,
  params: Params,
  people: tuple[Task, Candidates],
  rule: Int[Array, ''],
  key: PRNGKey,
) -> Answers:
  def one(user: Int[Array, '']) -> Answers:
    person, slate = task.take(people, user)
    return ask_one(program, params, person, slate, rule=rule, key=jax.random.fold_in(key, user))

  answers = batches.map_chunks(one, people[0].user.shape[0], program.chunk_size)
  return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), answers)


def ask_one(
  program: Program,
  params: Params,
  person: Task,
  slate: Candidates,
  *,
  rule: Int[Array, ''],
  key: PRNGKey,
) -> Answers:
  """Returns what one user is asked, [Q], and what is predicted, [L, ...]."""
  learner, pool = program.learner, person.support
  key_adapt, key_rule = jax.random.split(key)
  given = person.context, key_adapt

  def after_answer(state, questions, latest):
    if learner.update is None:
      return learner.adapt(params, answered(pool, questions), *given)
    return learner.update(params, state, answered(pool, latest[None]), *given)

  def turn(carry, number):
    state = after_answer(*carry)
    log_probs = learner.predict(params, state, person.query.candidates)
    predictions = Predictions(log_probs, learner.score(params, state, slate))
    standing = None
    if program.with_standing:
      drawn = learner.sample(params, state, slate)  # [S, M, R]
      standing = jax.vmap(stopping.standing, (0, 1, 0))(predictions.slate_scores, drawn, slate.mask)
    shown = pool_of(learner, params, state, pool, jax.random.fold_in(key_rule, number))
    latest = best_unasked(jax.lax.switch(rule, program.rules, shown), pool, carry[1])
    # After the last answer there is no place for a further question.
    questions = carry[1].at[number].set(latest, mode='drop')
    return (state, questions, latest), (predictions, standing)

  state = adaptation.state_without_support(learner, params, pool, *given)
  start = (state, jnp.full(program.num_questions, NONE_LEFT, jnp.int32), jnp.int32(NONE_LEFT))
  turns = jnp.arange(program.num_questions + 1)
  (_, questions, _), (predictions, standing) = jax.lax.scan(turn, start, turns)
  return Answers(predictions, questions, standing)


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
  """Returns the pool, which is its own target, under draws from a user's posterior."""
  mask = pool.candidates.mask & pool.mask[:, None]
  utilities = learner.sample(params, user_state, pool.candidates._replace(mask=mask))
  return Pool(utilities, mask, utilities, mask, key)


def questions_needed(
  accuracy: Float[np.ndarray, 'J L'], level: Float[np.ndarray, 'J']
) -> Float[np.ndarray, 'J']:
  """Returns the number of questions at which a curve first reaches a level: [J], interpolated.

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
  """Returns how many questions more a rival needs for the accuracy `after` so many: [J].

  Args:
    accuracy: with resamples, see `estimates.estimate`.
    rival: the same of a rival, on the same evaluation set.
    after: number of questions.
  """
  return questions_needed(rival, accuracy[:, after]) - after
