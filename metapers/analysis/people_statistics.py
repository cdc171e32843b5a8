"""How much people who compare items differ: the same statistics for real and simulated people.

Each is of binary answers, which of two items is preferred, by whoever gave them: simulated users
who answer the same questions have as many answers, and the same finite-sample bias.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import linalg, special

from metapers.analysis import sampling, study_frame
from metapers.analysis.study_frame import NONE, Cell, Whose
from metapers.core.tables import Histories
from metapers.core.types import Float, Int

DISAGREEMENT, ENTROPY, RANK = 'disagreement', 'entropy of the answers', 'split-half effective rank'
REPEATED = 'disagreement with oneself'
STATISTICS = (DISAGREEMENT, ENTROPY, RANK, REPEATED)
LEAST_PEOPLE = 20  # in a context, whose rank is found
NUM_WAYS = 5  # factors that complete the diagonal of what ratings say


class Answers(NamedTuple):
  """M answers of people about pairs of I items.

  user: [M] whose. first, second: [M] items, first < second. sign: [M], 1 where the first one is
  preferred, -1 for the second. context: [I] of the items. num_users: U. is_rated: whether answers
  are implied by ratings of items, whose noise several of them share.
  """

  user: Int[np.ndarray, 'M']
  first: Int[np.ndarray, 'M']
  second: Int[np.ndarray, 'M']
  sign: Int[np.ndarray, 'M']
  context: Int[np.ndarray, 'I']
  num_users: int
  is_rated: bool = False


def answers_of(
  histories: Histories, *, max_users: int | None = None, is_rated: bool = False
) -> Answers:
  """Returns the comparisons of people as answers, of at most some of the people."""
  shown = slice(max_users)
  user, place = np.nonzero(histories.mask[shown])
  chosen, rejected = histories.chosen[user, place], histories.rejected[user, place]
  first, second = np.minimum(chosen, rejected), np.maximum(chosen, rejected)
  sign = np.where(chosen == first, 1, -1)
  num_users = len(histories.mask[shown])
  context = np.asarray(histories.context)
  return Answers(user, first, second, sign, context, num_users, is_rated)


def some(answers: Answers, kept: np.ndarray) -> Answers:
  """Returns some of the answers; people keep their numbers."""
  return answers._replace(
    user=answers.user[kept],
    first=answers.first[kept],
    second=answers.second[kept],
    sign=answers.sign[kept],
  )


class Division(NamedTuple):
  """Random halves of answers and of people, 0 or 1.

  side: [M] of each answer; -1 of those that are in neither. person: [U] of each person.
  """

  side: Int[np.ndarray, 'M']
  person: Int[np.ndarray, 'U']


def divide(answers: Answers, *, seed: int = 0) -> Division:
  """Returns random halves of the answers and of the people who gave them."""
  rng = np.random.default_rng([seed, 7])
  side = sides_of(answers, rng)
  return Division(side, rng.permutation(np.arange(answers.num_users) % 2))


def some_of(division: Division, kept: np.ndarray) -> Division:
  """Returns the halves of some of the answers; people keep theirs."""
  return division._replace(side=division.side[kept])


def counts_by_pair(answers: Answers) -> tuple[Float[np.ndarray, 'Q'], Float[np.ndarray, 'Q']]:
  """Returns how many answers each pair got, and how many of them prefer its first item."""
  pair = answers.first * len(answers.context) + answers.second
  _, number = np.unique(pair, return_inverse=True)
  total = np.bincount(number).astype(float)
  return total, np.bincount(number, answers.sign > 0, len(total))


class Pairs(NamedTuple):
  """Pairs that got two answers or more. total: [Q]. above: [Q], that prefer the first item."""

  total: Float[np.ndarray, 'Q']
  above: Float[np.ndarray, 'Q']


def answered_twice(answers: Answers) -> Pairs:
  """Returns the pairs that got two answers or more."""
  total, above = counts_by_pair(answers)
  return Pairs(total[total > 1], above[total > 1])


def disagreement(pairs: Pairs) -> float:
  """Returns how often two different answers about one pair differ, mean over pairs with two.

  2 n₊ n₋ / (n (n - 1)), without bias for any number n of answers
  """
  total, above = pairs
  rates = 2 * above * (total - above) / (total * (total - 1))
  return float(rates.mean()) if len(rates) else NONE


def entropy(pairs: Pairs) -> float:
  """Returns the mean entropy of the answers about a pair, in nats: 0 to log 2, over pairs with two.

  Too low where a pair has few answers, by about 1 / (2 n): compare at equal numbers of them.
  """
  share = pairs.above / pairs.total
  found = special.entr(share) + special.entr(1 - share)
  return float(found.mean()) if len(found) else NONE


def self_disagreement(answers: Answers) -> float:
  """Returns how often two answers of one person about one pair differ; NaN where nobody repeats."""
  size = len(answers.context)
  pair = (answers.user * size + answers.first) * size + answers.second
  _, number = np.unique(pair, return_inverse=True)
  total = np.bincount(number)
  above = np.bincount(number, answers.sign > 0)
  kept = total > 1
  couples = (total * (total - 1))[kept].sum()
  return float(2 * (above * (total - above))[kept].sum() / couples) if couples else NONE


def split_half_rank(answers: Answers, division: Division) -> float:
  """Returns the effective number of ways in which people differ, freed of independent noise.

      (tr M)² / <M₁, M₂>,  M = mean over people of a_u b_u'

  where a_u and b_u are a person's mean answers for each item around everybody's, by two halves of
  their answers, and M₁ and M₂ are of two halves of the people: no noise meets itself. Ratings are
  divided by item, for two answers that read one rating share its noise: then the diagonal of M is
  what NUM_WAYS factors of the rest say, and larger ranks are too low. Contexts with fewer than
  LEAST_PEOPLE are left out; NaN where noise leaves nothing.
  """
  squared, products = 0.0, 0.0
  for context in np.unique(answers.context[answers.first]):
    items = np.flatnonzero(answers.context == context)
    inside = answers.context[answers.first] == context
    ends = [halves_of(some(answers, inside & (division.side == half)), items) for half in (0, 1)]
    people = np.flatnonzero((ends[0][1].sum(1) > 0) & (ends[1][1].sum(1) > 0))
    if len(people) >= LEAST_PEOPLE:
      parts = [people[division.person[people] == half] for half in (0, 1)]
      moments = [cross_moment(ends, part) for part in (people, *parts)]
      trace, product = _traced(*moments, is_completed=answers.is_rated)
      squared, products = squared + trace * abs(trace), products + product
  return squared / products if products > 0 and squared > 0 else NONE


def sides_of(answers: Answers, rng: np.random.Generator) -> Int[np.ndarray, 'M']:
  """Returns the half of each answer, 0 or 1; -1 of those whose items' ratings are in both."""
  if not answers.is_rated:
    return rng.integers(2, size=len(answers.user))
  half = rng.integers(2, size=(answers.num_users, len(answers.context)))
  first, second = half[answers.user, answers.first], half[answers.user, answers.second]
  return np.where(first == second, first, -1)


def _traced(
  whole: np.ndarray, first: np.ndarray, second: np.ndarray, *, is_completed: bool
) -> tuple[float, float]:
  if not is_completed:
    return float(np.trace(whole)), float(np.sum(first * second))
  own = completed_diagonal(whole)
  rest = ~np.eye(len(whole), dtype=bool)
  return float(own.sum()), float(np.sum((first * second)[rest]) + np.sum(own**2))


def completed_diagonal(
  moment: Float[np.ndarray, 'J J'], *, num_ways: int = NUM_WAYS, num_steps: int = 12
) -> Float[np.ndarray, 'J']:
  """Returns the diagonal that the first factors of the rest of a matrix give, by iteration."""
  filled = moment.copy()
  np.fill_diagonal(filled, 0)
  own = np.abs(filled).max(1)
  largest = max(len(filled) - num_ways, 0), len(filled) - 1
  for _ in range(num_steps):
    np.fill_diagonal(filled, own)
    values, vectors = linalg.eigh(filled, subset_by_index=largest)
    own = np.sum(vectors**2 * np.maximum(values, 0), 1)
  return own


def halves_of(
  answers: Answers, items: Int[np.ndarray, 'J']
) -> tuple[Float[np.ndarray, 'U J'], Float[np.ndarray, 'U J']]:
  """Returns each person's mean answer for each item, 1 preferred to -1, and the number of answers.

  Around the mean of all people; 0 for an item that a person did not compare.
  """
  place = np.full(len(answers.context), -1)
  place[items] = np.arange(len(items))
  shape, size = (answers.num_users, len(items)), answers.num_users * len(items)
  total, counts = np.zeros(size), np.zeros(size)
  for item, sign in ((answers.first, answers.sign), (answers.second, -answers.sign)):
    cell = answers.user * len(items) + place[item]
    total += np.bincount(cell, sign, size)
    counts += np.bincount(cell, minlength=size)
  mean = np.divide(total, counts, out=np.zeros(size), where=counts > 0).reshape(shape)
  counts = counts.reshape(shape)
  seen = counts > 0
  of_item = np.where(seen, mean, 0).sum(0) / np.maximum(seen.sum(0), 1)
  return np.where(seen, mean - of_item, 0), counts


def cross_moment(
  ends: list[tuple[np.ndarray, np.ndarray]], people: Int[np.ndarray, 'V']
) -> Float[np.ndarray, 'J J']:
  """Returns the mean product of both halves' answers, over people who gave both; symmetric."""
  (one, one_counts), (other, other_counts) = ends
  found = one[people].T @ other[people]
  seen = (one_counts[people] > 0).astype(float).T @ (other_counts[people] > 0)
  mean = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
  return (mean + mean.T) / 2


def values_of(answers: Answers, *, seed: int = 0) -> dict[str, float]:
  """Returns all statistics of some people's answers, by name."""
  return divided_values(answers, divide(answers, seed=seed))


def divided_values(answers: Answers, division: Division) -> dict[str, float]:
  """Returns what `values_of` does, for halves that are drawn already."""
  pairs = answered_twice(answers)
  return {
    DISAGREEMENT: disagreement(pairs),
    ENTROPY: entropy(pairs),
    RANK: split_half_rank(answers, division),
    REPEATED: self_disagreement(answers),
  }


def with_errors(answers: Answers, *, seed: int = 0) -> dict[str, tuple[float, float]]:
  """Returns name -> value and its standard error for new people, by leaving out some of them.

  Those who are left keep their halves: drawn anew, these would add their own noise to the error.
  """
  division = divide(answers, seed=seed)
  rng = np.random.default_rng([seed, 8])
  group = rng.permutation(np.arange(answers.num_users) % sampling.NUM_PARTS)
  masks = [group[answers.user] != number for number in range(sampling.NUM_PARTS)]
  left_out = [divided_values(some(answers, kept), some_of(division, kept)) for kept in masks]
  found = {}
  for name, value in divided_values(answers, division).items():
    error = sampling.jackknife(np.array([each[name] for each in left_out]))
    found[name] = (value, float(error))
  return found


def study(
  given: Mapping[Whose, Mapping[str, tuple[float, float]]], *, extra: Mapping[str, Answers]
) -> pd.DataFrame:
  """Returns the statistics of real and simulated people, as `study_frame.COLUMNS`.

  Args:
    given: whose -> the statistics.
    extra: population -> its answers, whose numbers are told.
  """
  blocks = [
    study_frame.rows(whose, [Cell('', name, *value) for name, value in found.items()])
    for whose, found in given.items()
  ]
  for population, answers in extra.items():
    total, _ = counts_by_pair(answers)
    cells = [
      Cell('', 'people', float(answers.num_users)),
      Cell('', 'answers', float(len(answers.user))),
      Cell('', 'answers a pair', float(total.mean())),
    ]
    blocks.append(study_frame.rows(Whose('people', population), cells))
  return study_frame.joined(blocks)
