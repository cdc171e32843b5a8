"""Which questions a participant is asked next: a function of the seed and of the answers so far.

Batches begin at multiples of their size, and depend on the answers before them alone; so the same
answers give the same questions, whatever was undone in between.
"""

from collections.abc import Iterable, Mapping, Sequence
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


class Source(NamedTuple):
  """What a batch is drawn from: numbers of questions of the pool, and the best of them in order."""

  plan: Plan
  participant: int
  history: Sequence[Question]
  offered: list[int]
  ranked: list[int]


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
  source = Source(plan, participant, history, offered, _ranked(plan, history, offered))
  batch: list[Question] = []
  for position in range(first, first + count):
    question = _question(source, position, batch)
    if question is None:
      break
    batch.append(question)
  return _predicted(plan, history, batch)


def _question(source: Source, position: int, batch: Sequence[Question]) -> Question | None:
  """Draws the question that follows those of the batch; None where nothing is left to ask."""
  repeats = _repeatable(source.history, batch)
  rng = _rng(source.plan, source.participant, position, KIND)
  kind, chances = _kind(source.plan.settings, rng, bool(repeats))
  if kind == 'attention':
    places = _places(source.plan, source.participant, position, 2)
    return Question(
      position, kind, 'fixed', None, ATTENTION, places, chances[kind], (), None,
      _seed(source, position),
    )  # fmt: skip
  if kind == 'repeat':
    return _repeated(source, position, repeats, chances[kind])
  return _new(source, position, batch, kind, chances)


def _repeated(
  source: Source, position: int, repeats: Sequence[Question], chance: float
) -> Question:
  rng = _rng(source.plan, source.participant, position, DRAW)
  before = repeats[int(rng.integers(len(repeats)))]
  return before._replace(
    position=position, kind='repeat', rule='random', shown=_rolled(before.shown, 1), offered=(),
    propensity=chance / len(repeats), predicted=None, seed=_seed(source, position), id=0,
    answer=None,
  )  # fmt: skip


def _new(
  source: Source,
  position: int,
  batch: Sequence[Question],
  kind: str,
  chances: Mapping[str, float],
) -> Question | None:
  """Draws a question that was not asked yet, by chance or the best one; None where none is left."""
  plan, taken = source.plan, {question.pool for question in batch}
  left = [number for number in source.offered if number not in taken]
  if not left:
    return None
  best = next((number for number in source.ranked if number not in taken), None)
  is_random = kind == 'control' or best is None
  rng = _rng(plan, source.participant, position, DRAW)
  number = int(rng.choice(left)) if is_random else best
  by_rule = 1 / len(left) if best is None else float(number == best)
  propensity = chances['control'] / len(left) + chances['asked'] * by_rule
  items = tuple(plan.ids[int(row)] for row in plan.pool[number])
  places = _places(plan, source.participant, position, len(items))
  return Question(
    position, kind, 'random' if is_random else plan.settings.rule, number, items, places,
    propensity, tuple(left), None, _seed(source, position),
  )  # fmt: skip


def _kind(
  settings: Settings, rng: np.random.Generator, has_repeats: bool
) -> tuple[str, dict[str, float]]:
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


def _offered(plan: Plan, participant: int, history: Sequence[Question]) -> list[int]:
  """Draws the questions that a batch is chosen from, among those not asked yet."""
  asked = {question.pool for question in history}
  left = [number for number in range(len(plan.pool)) if number not in asked]
  rng = _rng(plan, participant, len(history), OFFER)
  return sorted(rng.permutation(left)[: plan.settings.pool_size].tolist()) if left else []


def _ranked(plan: Plan, history: Sequence[Question], offered: list[int]) -> list[int]:
  if plan.guide is None or plan.settings.rule == 'random' or not offered:
    return []
  count = min(plan.settings.batch_size, len(offered))  # one size, which is compiled once
  return [offered[place] for place in plan.guide.rank(history, plan.pool[offered], count)]


def _repeatable(history: Sequence[Question], batch: Sequence[Question]) -> list[Question]:
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


def _places(plan: Plan, participant: int, position: int, size: int) -> tuple[int, ...]:
  """Rotates the candidates, so that in any `size` questions each place has every rotation once."""
  block, place = divmod(position, size)
  rotations = _rng(plan, participant, block, PLACE).permutation(size)
  return _rolled(range(size), int(rotations[place]))


def _rolled(places: Iterable[int], by: int) -> tuple[int, ...]:
  return tuple(int(place) for place in np.roll(list(places), by))


def _predicted(plan: Plan, history: Sequence[Question], batch: list[Question]) -> list[Question]:
  """Adds to each question what the model predicts before any of the batch is answered."""
  known = {question.position: question.pool for question in batch if question.pool is not None}
  if plan.guide is None or not known:
    return batch
  found = plan.guide.predict(history, plan.pool[list(known.values())])
  predicted = dict(zip(known, found.tolist()))
  return [
    question._replace(predicted=tuple(predicted[question.position]))
    if question.position in predicted
    else question
    for question in batch
  ]


def _seed(source: Source, position: int) -> str:
  return '/'.join(map(str, (source.plan.settings.seed, source.participant, position)))


def _rng(plan: Plan, participant: int, place: int, stream: int) -> np.random.Generator:
  return np.random.default_rng([plan.settings.seed, participant, place, stream])
