"""The best of a few arms by questions: which comparison to ask, and when to stop.

The arms are candidates, such as replies to one prompt, and the questions comparisons of two of
them. All is read off draws from a learner's posterior. Questions end when the probability that the
pick is the best, see `stopping.standing`, reaches a level.

References:
  Russo 2016, arXiv:1602.08448 (top two); Frazier, Powell and Dayanik 2008 (SIAM Journal on Control
  and Optimization 47: the knowledge gradient); Chi et al. 2024 (UserAlign).
"""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import batches, task
from metapers.core.meta_learner import MetaLearner
from metapers.core.task import Candidates, Choices, Task
from metapers.core.types import Array, Float, Int, Params, PRNGKey
from metapers.evaluation import acquisition, asking, stopping
from metapers.evaluation.acquisition import Acquisition, Pool
from metapers.evaluation.stopping import Standing

LEVEL = 0.9  # of P(best is best), at which questions end


def pairs_of(num_arms: int) -> Int[np.ndarray, 'N 2']:
  """Returns all pairs of arms."""
  return np.stack(np.triu_indices(num_arms, 1), -1).astype(np.int32)


def top_two(pool: Pool) -> Float[Array, 'N']:
  """Returns the probability that one of the two compared is the best arm: largest of the top two.

  Unlike the paper, which draws the two, those of the largest probabilities are compared, so that
  nothing is random. `pool.targets` are the arms, [S, 1, J]; all that are compared are among them.
  """
  arms = jnp.where(pool.target_mask[None], pool.targets, -jnp.inf)[:, 0]
  chance = (arms >= arms.max(-1, keepdims=True)).mean(0)  # [J]
  # The arm compared is the nearest: two calls of `sample` round the same utility differently.
  apart = jnp.abs(pool.utilities[..., None] - arms[:, None, None]).mean(0)  # [N, K, J]
  return jnp.where(pool.mask, chance[apart.argmin(-1)], 0).sum(-1)


def knowledge_gradient(pool: Pool) -> Float[Array, 'N']:
  """Returns E max_j E[u_j | answer] - max_j E[u_j]: what one answer adds to the utility picked.

  The expectations are over draws, those given an answer weighted by how likely each draw gives it.
  """
  p = acquisition.probabilities(pool.utilities, pool.mask)
  arms = jnp.where(pool.target_mask[None], pool.targets, 0)
  after = jnp.einsum('snk,sqj->nkqj', p, arms) / len(p)  # times P(answer)
  there = pool.target_mask[None, None]
  best = jnp.where(there, after, -jnp.inf).max(-1).sum(1)  # [N, Q]
  now = jnp.where(pool.target_mask, arms.mean(0), -jnp.inf).max(-1)
  return (best - now[None]).mean(-1)


RULES: dict[str, Acquisition] = {
  'random': acquisition.random,
  'bald': acquisition.bald,
  'epig': acquisition.epig,
  'top_two': top_two,
  'knowledge_gradient': knowledge_gradient,
}


class Found(NamedTuple):
  """What T users were asked, and the best arm after 0, 1, ..., Q answers.

  standing: [T, L], which is picked and how sure it is. questions: positions in the pool;
  `asking.NONE_LEFT` where it was exhausted.
  """

  standing: Standing
  questions: Int[Array, 'T Q']

  def stops(self, level: float) -> Int[np.ndarray, 'T']:
    """Returns after how many answers P(best is best) first reaches a level; Q if it never does."""
    probability = np.asarray(self.standing.probability).T
    return np.minimum(stopping.stops(probability, level), len(probability) - 1)


def ask(
  learner: MetaLearner,
  params: Params,
  tasks: Task,
  arms: Candidates,
  *,
  rule: str,
  rules: Mapping[str, Acquisition] = RULES,
  num_questions: int,
  chunk_size: int = 16,
  key: PRNGKey,
) -> Found:
  """Returns what each user is asked to find the best of their arms.

  All Q questions are asked of everybody; `Found.stops` says which of them were needed.

  Args:
    learner: with a posterior.
    params: of it.
    tasks: T users, whose queries are the pool, comparisons of the arms with the answers that the
      user would give; the supports are what is known before.
    arms: [T, 1, J].
    rule: name of the rule to ask by.
    rules: acquisition functions by name; their targets are the arms.
    num_questions: Q.
    chunk_size: users at once.
    key: of user t `fold_in(key, t)`.

  Raises:
    ValueError: for a learner without a posterior, an unknown rule, or more questions than there
      are.
  """
  if not learner.has_posterior:
    raise ValueError('questions end by draws from a posterior, which this learner does not have')
  if rule not in rules:
    raise ValueError(f'unknown rule {rule!r}; known: {", ".join(rules)}')
  size = tasks.query.choice.shape[-1]
  if not 0 <= num_questions <= size:
    raise ValueError(f'num_questions must lie in 0..{size}, the comparisons of the pool')
  program = _Program(learner, rules[rule], num_questions, chunk_size)
  return _ask(program, params, (tasks, arms), key)


class _Program(NamedTuple):
  learner: MetaLearner
  rule: Acquisition
  num_questions: int
  chunk_size: int


@functools.partial(jax.jit, static_argnums=0)
def _ask(program: _Program, params: Params, people: tuple[Task, Candidates], key: PRNGKey) -> Found:
  def one(user: Int[Array, '']) -> Found:
    person, arms = task.take(people, user)
    return _ask_one(program, params, person, arms, jax.random.fold_in(key, user))

  return batches.map_chunks(one, people[0].user.shape[0], program.chunk_size)


def _ask_one(
  program: _Program, params: Params, person: Task, arms: Candidates, key: PRNGKey
) -> Found:
  learner, pool = program.learner, person.query

  def turn(questions, number):
    known = task.concat(person.support, asking.answered(pool, questions))
    state = learner.adapt(params, known, person.context, key)
    shown = pool_of(learner, params, state, pool, arms, jax.random.fold_in(key, number))
    mean = learner.score(params, state, arms)[0]
    standing = stopping.standing(mean, shown.targets[:, 0], arms.mask[0])
    latest = asking.best_unasked(program.rule(shown), pool, questions)
    return questions.at[number].set(latest, mode='drop'), standing

  nothing = jnp.full(program.num_questions, asking.NONE_LEFT, jnp.int32)
  questions, standing = jax.lax.scan(turn, nothing, jnp.arange(program.num_questions + 1))
  return Found(standing, questions)


def pool_of(
  learner: MetaLearner, params: Params, user_state, pool: Choices, arms: Candidates, key: PRNGKey
) -> Pool:
  """Returns comparisons under draws from a posterior, with the arms under the same draws."""
  mask = pool.candidates.mask & pool.mask[:, None]
  utilities = learner.sample(params, user_state, pool.candidates._replace(mask=mask))
  targets = learner.sample(params, user_state, arms)
  return Pool(utilities, mask, targets, arms.mask, key)
