import itertools

import numpy as np

from metapers.collect import items as texts
from metapers.collect.items import Items


def made(words, features):
  """Items of one context."""
  ids = tuple(f'i{row}' for row in range(len(words)))
  return Items(ids, tuple(words), ('',) * len(words), np.array(features, float), ('f',), '')


def test_no_two_candidates_have_equal_features_or_equal_texts_and_all_others_are_asked():
  words, features = 'abbaac', [[1], [1], [2], [3], [2], [-0.0]]
  found = texts.pool(made(words, features), 2, 0).tolist()
  expected = [
    [a, b]
    for a, b in itertools.combinations(range(6), 2)
    if words[a] != words[b] and features[a] != features[b]
  ]
  assert found == expected and [1, 2] not in found
  of_three = texts.pool(made(words, features), 3, 0)
  assert all(list(pair) in found for three in of_three for pair in itertools.combinations(three, 2))


def test_without_features_texts_alone_tell_items_apart():
  found = texts.pool(made('aba', np.zeros((3, 0))), 2, 0)
  assert found.tolist() == [[0, 1], [1, 2]]
