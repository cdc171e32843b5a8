"""What a model makes of a participant's answers: predictions, questions, and what it believes.

A model that was trained to read answers other than choices (`Export.outcomes`) reads "about the
same" and "both bad" as what they are. To another one they say nothing: two opposite choices of half
a weight would make it too unsure, as docs/people.md measures. "Skip", strengths, and what is no
choice among more than two texts tell no model anything.
"""

import functools
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metapers.collect.items import Items
from metapers.collect.store import OUTCOMES, Question
from metapers.core import fields
from metapers.core.types import Any, Float, Int
from metapers.serving import answers, columns
from metapers.serving.comparisons import Comparisons
from metapers.serving.personalizer import Personalizer
from metapers.serving.profiles import Profile

KEPT = 1024  # profiles in memory
WIDTH = 1.645  # standard deviations to the ends of an interval of 90 %
Heard = tuple[tuple[int, ...], int, int]  # rows of items, the chosen one, index of answers.OUTCOMES


class Direction(NamedTuple):
  """How a feature counts: the chance that a text is preferred which has more of it by one standard
  deviation, all else being average, and the ends of an interval of about 90 %."""

  name: str
  chance: float
  low: float
  high: float


class Standing(NamedTuple):
  """Which item is best, the probability that it is, and the expected regret in logits; see
  `Personalizer.stop`."""

  best: int
  probability: float
  regret: float


class Beliefs:
  """A model at work on a study's items; threads may share it, and take turns.

  Args:
    model: a trained learner with a posterior.
    items: whose features it reads.
    target: rows of the items of which the best one is to be found.

  Attributes:
    readable: the answers that the model reads, of `answers.OUTCOMES`.

  Raises:
    ValueError: for features that are not the model's, or a learner without a posterior.
  """

  def __init__(self, model: Personalizer, items: Items, target: Int[np.ndarray, 'R']):
    names, expected = items.names, model.export.item_names
    features = items.features
    if names and expected:
      features = features[:, columns.places(names, expected)]
    if model.num_context:
      raise ValueError('this model reads a context of each person, which a study does not ask for')
    if features.shape[1] != model.num_features:
      raise ValueError(
        f'the model reads {model.num_features} features, and the items have {features.shape[1]}'
      )
    self.model, self.target = model, target
    self.names = expected or names or tuple(f'feature {i}' for i in range(features.shape[1]))
    self._features = features
    # A model that knows the likelihood of some answers must not guess that of others.
    self.readable = ('chosen', *model.export.outcomes)
    self.turn = threading.RLock()  # one at a time: the model takes all cores
    self._profile = functools.lru_cache(KEPT)(self._adapted)
    self._rows = {name: row for row, name in enumerate(items.ids)}
    self.has_surprise = self._can_be_surprised()

  def features(self, candidates: Any) -> Float[np.ndarray, 'N D']:
    """Returns raw features of candidates, each the id of an item or a list of numbers.

    Raises:
      ValueError: for an id that no item has, or what is no list of numbers.
    """
    if not isinstance(candidates, list):
      raise ValueError(f'candidates must be a list, got {type(candidates).__name__}')
    unknown = [name for name in candidates if isinstance(name, str) and name not in self._rows]
    if unknown:
      raise ValueError(f'no item is called {unknown[0]!r:.80}')
    width = self._features.shape[1]
    wrong = [c for c in candidates if not isinstance(c, str) and not _are_numbers(c, width)]
    if wrong:
      raise ValueError(
        f'each candidate must be the id of an item or a list of {width} numbers, got '
        f'{wrong[0]!r:.80}'
      )
    rows = [self._features[self._rows[c]] if isinstance(c, str) else c for c in candidates]
    return np.array(rows, np.float64).reshape(len(rows), width)

  def standardised(self) -> Float[np.ndarray, 'I D']:
    """Returns the features of all items as the model reads them."""
    mean, scale = (part[: self.model.num_features] for part in self.model.export.scaling)
    return (self._features - mean) / scale

  def profile(self, history: Sequence[Question]) -> Profile:
    """Returns the profile of what was answered so far."""
    return self._profile(tuple(filter(None, map(self._heard, history))))

  def rank(
    self, history: Sequence[Question], questions: Int[np.ndarray, 'M K'], count: int
  ) -> list[int]:
    """Returns the `count` of the questions from which most is to be learned, the best first.

    Of each it is what a choice would tell, even where other answers are read.
    """
    profile = self.profile(history)
    with self.turn:
      return self.model.ask(profile, self._features[questions], count=count).tolist()

  def predict(
    self, history: Sequence[Question], questions: Int[np.ndarray, 'M K']
  ) -> Float[np.ndarray, 'M K']:
    """Returns the probability that each candidate is chosen, given that one is.

    Of more than two it is the softmax of the expected utilities, which is surer than the mean over
    the posterior.
    """
    profile, features = self.profile(history), self._features[questions]
    with self.turn:
      if questions.shape[1] == 2:
        chance = self.model.probability(profile, features[:, 0], features[:, 1])
        return np.stack([chance, 1 - chance], -1).astype(np.float64)
      size = features.shape[:2]
      scores = self.model.score(profile, features.reshape(-1, features.shape[-1])).reshape(size)
    exp = np.exp(scores - scores.max(-1, keepdims=True))
    return (exp / exp.sum(-1, keepdims=True)).astype(np.float64)

  def directions(self, history: Sequence[Question]) -> list[Direction]:
    """Returns how each feature counts, as far as it is known."""
    profile = self.profile(history)
    mean, scale = (part[: self.model.num_features] for part in self.model.export.scaling)
    more = mean + np.diag(scale)
    average = np.broadcast_to(mean, more.shape)
    with self.turn:
      chance = self.model.probability(profile, more, average)
      spread = WIDTH * self.model.uncertainty(profile, more, average)
    low, high = np.clip(chance - spread, 0, 1), np.clip(chance + spread, 0, 1)
    return [
      Direction(name, *map(float, bounds)) for name, *bounds in zip(self.names, chance, low, high)
    ]

  def standing(self, history: Sequence[Question]) -> Standing:
    """Returns how sure it is which item of the target is best; `best` is its row among all."""
    profile = self.profile(history)
    with self.turn:
      found = self.model.stop(profile, self._features[self.target])
    best = int(self.target[int(found.best)])
    return Standing(best, float(found.probability), float(found.regret))

  def surprise(self, history: Sequence[Question]) -> float | None:
    """Returns the log of the evidence for a taste that no seen person had; None without such."""
    if not self.has_surprise:
      return None
    return float(self.model.surprise(self.profile(history)).log_ratio)

  def _heard(self, question: Question) -> Heard | None:
    """Returns what an answer tells the model; None where that is nothing."""
    answer, is_pair = question.answer, len(question.items) == 2
    outcome = None if answer is None else OUTCOMES.get(answer.answer)
    if answer is None or outcome not in self.readable or question.kind == 'attention':
      return None
    if outcome != 'chosen' and not is_pair:
      return None
    rows = tuple(self._rows[name] for name in question.items)
    return rows, answer.choice or 0, answers.OUTCOMES.index(outcome)

  def _adapted(self, heard: tuple[Heard, ...]) -> Profile:
    count = len(heard)
    size = max(self.model.capacity, count)  # the same for all: each size compiles
    rows = np.zeros((size, len(heard[0][0]) if heard else 2), np.int32)
    chosen, outcome = np.zeros((2, size), np.int32)
    if heard:
      rows[:count], chosen[:count], outcome[:count] = zip(*heard)
    shown = np.broadcast_to(np.arange(size)[:, None] < count, rows.shape)
    given = Comparisons(self._features[rows], chosen, shown=shown)
    if self.model.export.outcomes and rows.shape[1] == 2:
      given = given._replace(outcome=outcome)
    with self.turn:
      return self.model.adapt(given)

  def _can_be_surprised(self) -> bool:
    try:
      self.model.surprise(self.profile(()))
    except ValueError:  # of a learner that weighs nothing from outside
      return False
    return True


def _are_numbers(given: Any, count: int) -> bool:
  """Returns whether JSON holds a list of so many numbers; True and texts are none."""
  return (
    isinstance(given, list)
    and len(given) == count
    and all(type(one) in (int, float) and abs(one) <= fields.LARGEST for one in given)
  )
