"""Ratings become the comparisons they imply, no more of them than asked."""

import os
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metapers.data import comparisons, rated_pairs


def write(folder, ratings, **items):
  num_items = 1 + max(row[1] for row in ratings)
  pd.DataFrame({'item_id': range(num_items), **items}).to_csv(folder / 'items.csv', index=False)
  columns = ['user_id', 'item_id', 'rating', 'order'][: len(ratings[0])]
  pd.DataFrame(ratings, columns=columns).to_csv(folder / 'ratings.csv', index=False)
  return str(folder)


def pairs_of(histories, user=0):
  real = histories.mask[user]
  return list(zip(histories.chosen[user, real].tolist(), histories.rejected[user, real].tolist()))


@settings(deadline=None)
@given(
  ratings=st.lists(st.integers(-3, 3), max_size=8),
  contexts=st.lists(st.integers(0, 1), min_size=8, max_size=8),
  gap=st.sampled_from([0.0, 1.0, 2.0, 3.0]),
  most=st.integers(1, 40),
)
def test_drawn_pairs_are_the_clear_ones_each_once(ratings, contexts, gap, most):
  contexts = np.array(contexts)[: len(ratings)]
  better, worse = rated_pairs.draw_pairs(
    np.array(ratings, float),
    contexts,
    None,
    np.random.default_rng(0),
    min_rating_gap=gap,
    max_comparisons=most,
  )
  size = range(len(ratings))
  clear = {
    (i, j) for i in size for j in size
    if ratings[i] - ratings[j] > gap and contexts[i] == contexts[j]
  }  # fmt: skip
  drawn = list(zip(better.tolist(), worse.tolist()))
  assert len(drawn) == len(set(drawn)) == min(most, len(clear))
  assert set(drawn) <= clear


def test_float32_rounding_makes_no_pair_clear():
  ratings = np.array([1.07, 0.07], np.float32).astype(float)
  assert ratings[0] - ratings[1] > 1
  better, _ = rated_pairs.draw_pairs(
    ratings, np.zeros(2, int), None, np.random.default_rng(0), min_rating_gap=1.0, max_comparisons=9
  )
  assert better.size == 0


def test_pairs_stand_where_their_later_item_was_rated(tmp_path):
  ratings = [('a', item, 9 - 2 * item, 10 * item) for item in (2, 0, 3, 1, 4)]
  histories = comparisons.load_comparisons(write(tmp_path, ratings))
  later = [max(pair) for pair in pairs_of(histories)]
  assert later == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4]


def test_people_who_see_no_difference_are_counted(tmp_path):
  ratings = [(7, 0, 1.0), (7, 1, 3.0), (8, 0, 1.0), (8, 1, 2.0), (9, 1, 3.0)]
  histories = comparisons.load_comparisons(write(tmp_path, ratings), min_comparisons=1)
  assert histories.user_ids.tolist() == [7]
  assert histories.num_dropped == 2


def test_rated_items_of_different_contexts_are_not_compared(tmp_path):
  path = write(tmp_path, [(0, 0, 9), (0, 1, 1), (0, 2, 1)], context=['x', 'y', 'x'])
  assert pairs_of(comparisons.load_comparisons(path, min_comparisons=1)) == [(0, 2)]


def test_complete_raters_are_kept(tmp_path):
  path = write(tmp_path, [(0, 0, 9), (1, 0, 9), (1, 1, 1), (2, 1, 5)])
  histories = comparisons.load_comparisons(path, min_comparisons=1, complete_raters_only=True)
  assert histories.user_ids.tolist() == [1]
  assert histories.num_dropped == 0


BAD_RATINGS = {
  r'user_id=0 rates item_id=1 more than once': [(0, 0, 9), (0, 1, 1), (0, 1, 2)],
  r"1 missing values in 'rating' of ratings": [(0, 0, 9), (0, 1, None)],
  r"columns \['rating'\] of ratings must be numbers": [(0, 0, 'good'), (0, 1, 'bad')],
  r'1 ratings are not finite': [(0, 0, np.inf), (0, 1, 1)],
}


@pytest.mark.parametrize('message', BAD_RATINGS)
def test_bad_ratings_are_refused(tmp_path, message):
  path = write(tmp_path, BAD_RATINGS[message])
  with pytest.raises(ValueError, match=message):
    comparisons.load_comparisons(path, min_comparisons=1)


def test_nobody_complete_is_an_error(tmp_path):
  path = write(tmp_path, [(0, 0, 9), (1, 1, 9)])
  with pytest.raises(ValueError, match=r'nobody rated all 2 items \(the most is 1\); set'):
    comparisons.load_comparisons(path, complete_raters_only=True)


@pytest.mark.skipif(not os.environ.get('METAPERS_JESTER'), reason='METAPERS_JESTER is not set')
def test_the_complete_raters_of_jester_are_read_quickly():
  start = time.monotonic()
  histories = comparisons.load_comparisons(os.environ['METAPERS_JESTER'], complete_raters_only=True)
  assert time.monotonic() - start < 20  # 0.4 s on two idle cores
  assert len(histories.user_ids) == 1473
  assert histories.chosen.shape == (1473, 400)
  assert histories.features.shape == (100, 100)
  assert histories.mask.sum() == 588_526
