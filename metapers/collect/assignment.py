"""Which questions a participant is asked next: a function of the seed and of the answers so far.

Batches begin at multiples of their size, and depend on the answers before them alone; so the same
answers give the same questions, whatever was undone in between.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from metapers.collect.settings import Settings
from metapers.collect.store import Question
from metapers.core.types import Float, Int

REPEAT_AFTER = 3  # questions in between
ATTENTION = ('attention:choose', 'attention:leave')  # items of a check: the first is to be chosen
KIND, OFFER, PLACE, DRAW = range(4)  # streams of random numbers


class Guide(Protocol):
  """What a model says of one participant."""

  def rank(
    self, history: Sequence[Question], questions: Int[np.ndarray, 'M K'], count: int
  ) -> list[int]:
    """Returns the most informative `count` of the questions, the best first."""
    ...

  def predict(
    self, history: Sequence[Question], questions: Int[np.ndarray, 'M K']
  ) -> Float[np.ndarray, 'M K']:
    """Returns the probability that each candidate is chosen."""
    ...


class Plan(NamedTuple):
  """What questions are made from: settings, ids of the items, pool [M, K] of rows of items, and a
  model or None."""

  settings: Settings
  ids: Sequence[str]
  pool: Int[np.ndarray, 'M K']
  guide: Guide | None


def next_batch(plan: Plan, participant: int, history: Sequence[Question]) -> list[Question]:
  """Returns the next batch of questions; none where all were asked.

  Args:
    plan: of the study.
    participant: the number, part of the seed.
    history: questions so far, all answered.
  """
  settings, first = plan.settings, len(history)
  count = min(settings.batch_size, settings.num_questions - first)
  offered = _offered(plan, participant, history)
  if count <= 0 or first % settings.batch_size:  # after a batch that could not be filled
    return []
  asked = _ranked(plan, history, offered)
  taken: list[int] = []
  batch: list[Question] = []
  for position in range(first, first + count):
    question = _question(plan, participant, position, history, offered, asked, taken, batch)
    if question is None:
      break
    batch.append(question)
  return _predicted(plan, history, batch)


def _question(plan, participant, position, history, offered, asked, taken, batch):
  """Draws one question of a batch; None where nothing is left to ask."""
  repeats = _repeatable(history, batch)
  kind, chances = _kind(plan.settings, _rng(plan, participant, position, KIND), bool(repeats))
  left = [number for number in offered if number not in taken]
  rng = _rng(plan, participant, position, DRAW)
  seed = '/'.join(map(str, (plan.settings.seed, participant, position)))
  if kind == 'attention':
    places = _places(plan, participant, position, 2)
    return Question(
      position, kind, 'fixed', None, ATTENTION, places, chances['attention'], (), None, seed
    )
  if kind == 'repeat':
    before = repeats[rng.integers(len(repeats))]
    return before._replace(
      position=position, kind='repeat', rule='random', shown=_rolled(before.shown, 1), offered=(),
      propensity=chances['repeat'] / len(repeats), predicted=None, seed=seed, id=0, answer=None,
    )  # fmt: skip
  if not left:
    return None
  best = next((number for number in asked if number not in taken), None)
  is_random = kind == 'control' or best is None
  number = int(rng.choice(left)) if is_random else best
  taken.append(number)
  by_rule = 1 / len(left) if best is None else float(number == best)
  propensity = chances['control'] / len(left) + chances['asked'] * by_rule
  items = tuple(plan.ids[row] for row in plan.pool[number])
  rule = 'random' if is_random else plan.settings.rule
  places = _places(plan, participant, position, len(items))
  return Question(position, kind, rule, number, items, places, propensity, tuple(left), None, seed)


def _kind(settings, rng, has_repeats):
  """Draws the kind of a question; returns it with the chance of each."""
  chances = {
    'control': settings.control_share,
    'repeat': settings.repeat_share * has_repeats,
    'attention': settings.attention_share,
  }
  chances['asked'] = max(1 - sum(chances.values()), 0.0)
  drawn, below = rng.uniform(), 0.0
  for kind, chance in chances.items():
    below += chance
    if drawn < below:
      return kind, chances
  return 'asked', chances


def _offered(plan, participant, history):
  """Draws the questions that a batch is chosen from, among those not asked yet."""
  asked = {question.pool for question in history}
  left = [number for number in range(len(plan.pool)) if number not in asked]
  rng = _rng(plan, participant, len(history), OFFER)
  return sorted(rng.permutation(left)[: plan.settings.pool_size].tolist()) if left else []


def _ranked(plan, history, offered):
  if plan.guide is None or plan.settings.rule == 'random' or not offered:
    return []
  count = min(plan.settings.batch_size, len(offered))  # one size, which is compiled once
  return [offered[place] for place in plan.guide.rank(history, plan.pool[offered], count)]


def _repeatable(history, batch):
  """Returns the questions with a choice that may be asked again: once, and not at once."""
  again = {question.pool for question in (*history, *batch) if question.kind == 'repeat'}
  last = len(history) + len(batch) - REPEAT_AFTER
  return [
    question
    for question in history
    if question.position < last
    and question.pool is not None
    and question.pool not in again
    and question.answer is not None
    and question.answer.answer == 'choice'
  ]


def _places(plan, participant, position, size):
  """Rotates the candidates, so that in any `size` questions each place has every rotation once."""
  block, place = divmod(position, size)
  rotations = _rng(plan, participant, block, PLACE).permutation(size)
  return _rolled(range(size), int(rotations[place]))


def _rolled(places, by):
  return tuple(int(place) for place in np.roll(list(places), by))


def _predicted(plan, history, batch):
  """Adds to each question what the model predicts before any of the batch is answered."""
  known = [question for question in batch if question.pool is not None]
  if plan.guide is None or not known:
    return batch
  found = plan.guide.predict(history, plan.pool[[question.pool for question in known]])
  predicted = {question.position: row for question, row in zip(known, found.tolist())}
  return [
    question._replace(predicted=tuple(predicted[question.position]))
    if question.position in predicted
    else question
    for question in batch
  ]


def _rng(plan, participant, place, stream):
  return np.random.default_rng([plan.settings.seed, participant, place, stream])
