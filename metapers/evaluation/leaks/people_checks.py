"""No person, conversation or pair of items is on both sides of a division of real people."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from metapers.core.population import ItemChoices
from metapers.core.types import Int
from metapers.evaluation.leaks import matching
from metapers.evaluation.leaks.matching import Codes, HostArray, Leak

RARE = 1e-3  # chance that two people are alike by accident


def shared_people(ids: Mapping[str, Sequence | np.ndarray]) -> list[Leak]:
  """Finds people that stand in two splits, by their ids; white space around these is ignored.

  Args:
    ids: name of a split -> ids of its people.
  """
  named = {split: {str(one).strip() for one in own} for split, own in ids.items()}
  found = []
  for first, second in itertools.combinations(named, 2):
    both = sorted(named[first] & named[second])
    if both:
      found.append(
        f'{len(both)} people, such as {both[0]!r}, are among both {first} and {second} people: '
        'divide people, not comparisons, and give everyone one id'
      )
  return [Leak('people', message) for message in found]


def coded(
  people: ItemChoices, num_items: int
) -> tuple[Int[np.ndarray, 'U N'], Int[np.ndarray, 'U N']]:
  """Numbers what everyone was asked, and what they answered; -1 where nothing; in sorted order."""
  chosen, rejected = (np.asarray(part, np.int64) for part in (people.chosen, people.rejected))
  low, high = np.minimum(chosen, rejected), np.maximum(chosen, rejected)
  asked = np.where(people.mask, low * num_items + high, -1)
  answered = np.where(people.mask, chosen * num_items + rejected, -1)
  order = np.lexsort((answered, asked))
  return np.take_along_axis(asked, order, 1), np.take_along_axis(answered, order, 1)


def shared_histories(people: Mapping[str, ItemChoices], num_items: int) -> list[Leak]:
  """Finds people of two splits who were asked and answered the very same.

  Two people may do so by accident where few pairs went to many: such are reported only if their
  agreement is rarer than RARE, given how often others gave their answers. Like-minded people agree
  more often than that, so that even these are not certain to be the same person.

  Args:
    people: name of a split -> its people.
    num_items: I.
  """
  parts = {split: coded(own, num_items) for split, own in people.items()}
  chance = AnswerShares(parts)
  found = []
  for first, second in itertools.combinations(parts, 2):
    (asked, answered), (asked_too, answered_too) = parts[first], parts[second]
    is_same = np.isin(matching.keys(answered_too), matching.keys(answered))
    alike = (answered_too >= 0).any(1) & is_same
    num_chances = num_equal(matching.keys(asked), matching.keys(asked_too))
    rare = [
      chance.log(asked_too[row], answered_too[row]) + np.log(num_chances) < np.log(RARE)
      for row in np.flatnonzero(alike)
    ]
    if any(rare):
      sizes = num_asked_alike(matching.keys(asked), matching.keys(asked_too))
      chances = [chance.log(*row) for row in zip(asked_too, answered_too, strict=True)]
      expected = float(np.sum(np.minimum(sizes * np.exp(chances), 1)[(answered_too >= 0).any(1)]))
      found.append(
        f'{sum(rare)} of {len(alike)} {second} people have the very history of a {first} person, '
        f'where {expected:.2g} would be expected by chance: if they are the same people, drop them'
      )
  return [Leak('people', message, is_certain=False) for message in found]


class AnswerShares:
  """How often everyone's answers were given.

  Args:
    parts: split -> what was asked and answered, as numbers.
  """

  def __init__(self, parts: Mapping[str, tuple[np.ndarray, np.ndarray]]):
    asked, answered = (
      np.concatenate([one.ravel() for one in part]) for part in zip(*parts.values())
    )
    self._asked, self._answered = (
      np.unique(codes[codes >= 0], return_counts=True) for codes in (asked, answered)
    )

  def log(self, asked: Int[np.ndarray, 'N'], answered: Int[np.ndarray, 'N']) -> float:
    """Returns log Π (n_answer - 1) / n_asked: the two people's own answers left out, Laplace."""
    of_asked, of_answered = (
      counts[np.searchsorted(values, codes[codes >= 0])]
      for (values, counts), codes in ((self._asked, asked), (self._answered, answered))
    )
    return float(np.sum(np.log(np.maximum(of_answered - 1, 1) / of_asked)))


def num_asked_alike(first: np.ndarray, second: np.ndarray) -> Int[np.ndarray, '_']:
  """Counts, for each key of the second, the equal keys of the first."""
  ordered = np.sort(first)
  return np.searchsorted(ordered, second, 'right') - np.searchsorted(ordered, second, 'left')


def num_equal(first: np.ndarray, second: np.ndarray) -> int:
  """Counts the pairs of a key of one and an equal key of the other."""
  (values, counts), (others, other_counts) = (
    np.unique(part, return_counts=True) for part in (first, second)
  )
  _, at, at_other = np.intersect1d(values, others, return_indices=True)
  return int(np.dot(counts[at], other_counts[at_other]))


def shared_conversations(
  people: Mapping[str, ItemChoices], contexts: Int[HostArray, 'I']
) -> list[Leak]:
  """Finds conversations that stand in two splits.

  Args:
    people: name of a split -> its people.
    contexts: conversation of every item.
  """
  used = {split: np.unique(contexts[own.chosen[own.mask]]) for split, own in people.items()}
  found = []
  for first, second in itertools.combinations(used, 2):
    both = np.intersect1d(used[first], used[second]).size
    if both:
      found.append(
        f'{both} of {used[second].size} conversations of {second} people are of {first} people, '
        'too: leave them out of one'
      )
  return [Leak('conversations', message) for message in found]


def divided_conversations(
  name: str, support: Codes, query: Codes, contexts: Int[HostArray, 'I']
) -> list[Leak]:
  """Finds people evaluated on a conversation of their own support.

  Args:
    name: of the split.
    support: an item of every comparison.
    query: likewise.
    contexts: conversation of every item.
  """
  count, num_people = matching.num_repeated(
    *(part._replace(code=contexts[part.code]) for part in (support, query))
  )
  if not count:
    return []
  message = (
    f'{count} query comparisons of {num_people} {name} people belong to a conversation of their '
    'support, whose later turns repeat what was chosen: set item_holdout=True'
  )
  return [Leak('conversations', message)]


def repeated_pairs(name: str, support: Codes, query: Codes) -> list[Leak]:
  """Finds people evaluated on a pair of their own support; codes [T, N] number the pairs."""
  count, num_people = matching.num_repeated(support, query)
  if not count:
    return []
  message = (
    f'{count} query comparisons of {num_people} {name} users stand in their own support: mask them '
    'in the query'
  )
  return [Leak('pairs', message)]
