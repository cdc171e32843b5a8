"""Scripted participants, whose taste is known: whether what a study claims of them is so."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from metapers.collect import assignment
from metapers.collect.assignment import Plan
from metapers.collect.beliefs import Beliefs
from metapers.collect.store import Answer, Question
from metapers.core.types import Bool, Float
from metapers.evaluation import stopping

LEVELS = (0.0, 0.8, 0.9, 0.95)  # 0: whatever is claimed


class Claims(NamedTuple):
  """What is claimed of T participants after their last answer, and what is so.

  probability: [T] that the text named is the best of the target. lost: [T], by how much the best
  one is liked better, in logits.
  """

  probability: Float[np.ndarray, 'T']
  lost: Float[np.ndarray, 'T']

  @property
  def is_best(self) -> Bool[np.ndarray, 'T']:
    """Whether the text named is the best."""
    return self.lost <= 0


def claims(plan: Plan, beliefs: Beliefs, num_people: int, *, strength: float = 1.0) -> Claims:
  """Returns what the page would claim of simulated participants, asked as the plan says.

  A participant likes item i by u_i = s w·x_i, where w ~ N(0, I) is their own, x standardised as the
  model's features are and s the strength, and chooses a over b with probability σ(u_a - u_b): at
  s = 1 those are the participants whom the model of `running.prior` expects.

  Args:
    plan: of the study, with `beliefs` as its guide.
    beliefs: of its model.
    num_people: T.
    strength: s, above 0.
  """
  features = beliefs.standardised()
  found = []
  for participant in range(1, num_people + 1):
    rng = np.random.default_rng([plan.settings.seed, participant, 99])
    utility = strength * features @ rng.standard_normal(features.shape[1])
    standing = beliefs.standing(answered(plan, participant, utility, rng))
    target = utility[beliefs.target]
    found.append((standing.probability, target.max() - utility[standing.best]))
  probability, lost = np.array(found, np.float64).T
  return Claims(probability, lost)


def answered(
  plan: Plan, participant: int, utility: Float[np.ndarray, 'I'], rng: np.random.Generator
) -> list[Question]:
  """Returns all questions of a participant with their answers.

  Args:
    plan: of the study; checks of attention are answered right.
    participant: the number.
    utility: [I] of the items, in logits.
    rng: of the choices.
  """
  row_of = {name: row for row, name in enumerate(plan.ids)}
  history: list[Question] = []
  while batch := assignment.next_batch(plan, participant, history):
    for question in batch:
      choice = 0
      if question.kind != 'attention':
        liked = utility[[row_of[name] for name in question.items]]
        choice = int(np.argmax(liked + rng.gumbel(size=liked.size)))
      given = Answer('choice', str(question.position), choice)
      history.append(question._replace(id=question.position + 1, answer=given))
  return history


def lines(found: Claims) -> Iterator[str]:
  """Yields, for each level of the claim, how many reach it and how often it is right.

  With half a 95 % interval over participants; where all are right, or none, by the rule of three.
  """
  for level in LEVELS:
    reached = found.probability >= level
    said = f'claims of at least {level:.2f}: {reached.mean():.1%} of {reached.size} participants'
    if not reached.any():
      yield said
      continue
    right, count = found.is_best[reached].mean(), reached.sum()
    half = stopping.half_of_share(float(right), int(count))
    claimed = found.probability[reached].mean()
    yield f'{said}, claimed {claimed:.1%}, right {right:.1%} +- {half:.1%}'
