"""What stopping rules are worth: how sure learners say they are of the best of a pool, and how
often it is the best, when asking ends there.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd

from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population
from metapers.core.task import Truth
from metapers.core.types import Bool, Float, Int, Params, PRNGKey
from metapers.evaluation import adaptation, asking, stopping

LEVELS = (0.8, 0.9, 0.95)


class Sure(NamedTuple):
  """A learner with its parameters. chunk_size: people asked at once."""

  learner: MetaLearner
  params: Params
  chunk_size: int = 64


class Course(NamedTuple):
  """What is claimed of T people's pools after 0, 1, ..., Q questions each, and what is so.

  probability: [L, T] that the pick is the best. lost: [L, T] by taking it, in the unit of rewards.
  """

  probability: Float[np.ndarray, 'L T']
  lost: Float[np.ndarray, 'L T']

  @property
  def is_best(self) -> Bool[np.ndarray, 'L T']:
    """Whether the pick is the best."""
    return self.lost <= 0


def table(
  rows: Mapping[str, Sure],
  population: Population,
  *,
  num_people: int = 2000,
  num_questions: int = 32,
  levels: Sequence[float] = LEVELS,
  rule: str = 'bald',
  key: PRNGKey,
) -> pd.DataFrame:
  """Returns what each learner's stopping rules cost and give: one row a learner and rule.

  Each unseen person has a pool of questions, the support of their episode, and one slate of
  responses of which the best is wanted. A rule stops once P(the pick is the best) >= `level`, or
  after all questions; beside it stand fixed numbers of questions, whose level is NaN.

  Args:
    rows: learners that have a posterior; `evaluation.bayes.exact_learner` is the best possible.
    population: of simulated users.
    num_people: T.
    num_questions: Q.
    levels: of the rules.
    rule: by which questions are chosen, of `acquisition.RULES`.
    key: of what is random in asking.

  Returns:
    Columns learner; level; questions, the mean number asked; stopped, the share of people for whom
    the level was reached; claimed and right, among those, the mean probability and the share of
    best picks; right_half, half its 95 % interval over people; lost, the mean reward lost over all.

  Raises:
    ValueError: for people whose rewards nobody knows, or as `asking.ask`.
  """
  tasks, truth = adaptation.episodes(population, split='test', num_users=num_people)
  if truth is None:
    raise ValueError(f'{population.source}: which response is best is known of simulated users')
  found = []
  for name, (learner, params, chunk_size) in rows.items():
    answers = asking.ask(
      learner,
      params,
      tasks,
      first_slate(truth),
      rule=rule,
      num_questions=num_questions,
      chunk_size=chunk_size,
      with_standing=True,
      key=key,
    )
    course = course_of(answers, truth)
    found += [{'learner': name, **stopped_at(course, level)} for level in levels]
    found += [{'learner': name, **asked(course, count)} for count in counts(num_questions)]
  return pd.DataFrame(found)


def first_slate(truth: Truth) -> Truth:
  """Returns the truth with one slate a person: of more, one would be asked for all at once."""
  return truth._replace(slate=jax.tree.map(lambda x: x[:, :1], truth.slate))


def course_of(answers: asking.Answers, truth: Truth) -> Course:
  """Returns what the answers of T people claim of their first slates, and what is so."""
  standing = jax.device_get(answers.standing)
  utilities = np.einsum('trb,tb->tr', truth.slate_rewards[:, 0], truth.weights)
  utilities = np.where(truth.slate.mask[:, 0], utilities, -np.inf)
  lost = utilities.max(1, keepdims=True) - utilities  # [T, R]
  picked = np.take_along_axis(lost, standing.best[:, :, 0].T, 1).T
  return Course(standing.probability[:, :, 0], picked)


def stopped_at(course: Course, level: float) -> dict[str, Any]:
  """Returns the row of the rule that stops at a level."""
  last = len(course.probability) - 1
  when = stopping.stops(course.probability, level)
  at = np.minimum(when, last)
  return {'level': level, 'questions': at.mean(), **_summary(course, at, when <= last)}


def asked(course: Course, count: int) -> dict[str, Any]:
  """Returns the row of as many questions to everybody."""
  at = np.full(course.lost.shape[1], count)
  return {'level': np.nan, 'questions': float(count), **_summary(course, at, at >= 0)}


def counts(num_questions: int) -> list[int]:
  """Returns 0 and the powers of two up to a number of questions."""
  return [0, *(2**power for power in range(num_questions.bit_length()))]


def _summary(
  course: Course, at: Int[np.ndarray, 'T'], stopped: Bool[np.ndarray, 'T']
) -> dict[str, float]:
  people = np.arange(at.size)
  right, claimed = course.is_best[at, people][stopped], course.probability[at, people][stopped]
  share = right.mean() if right.size else np.nan
  return {
    'stopped': stopped.mean(),
    'claimed': claimed.mean() if claimed.size else np.nan,
    'right': share,
    'right_half': stopping.half_of_share(float(share), right.size) if right.size else np.nan,
    'lost': course.lost[at, people].mean(),
  }
