import numpy as np
import pandas as pd
import pytest

from metapers.data import comparisons, made_people


def test_people_differ_as_their_kind_says():
  weights = {kind: made_people.made_people(kind).weights for kind in made_people.KINDS}
  assert len(np.unique(weights['gaussian'], axis=0)) == 200
  assert len(np.unique(weights['types'], axis=0)) == made_people.NUM_TYPES
  assert len(np.unique(weights['same'], axis=0)) == 1
  with pytest.raises(ValueError, match="unknown kind 'alike' of people; known: gaussian, types"):
    made_people.made_people('alike')


def test_utilities_differ_by_what_is_said_and_own_preferences_are_their_share():
  sizes = {'num_people': 500, 'num_features': 200, 'num_items': 500}
  made = made_people.made_people('gaussian', own_share=0.6, spread=3.0, **sizes)
  first, second = made.features[::2], made.features[1::2]
  gap = made.weights @ (first - second).T
  np.testing.assert_allclose(gap.std(), 3.0, rtol=0.05)
  own = (gap - gap.mean(0)).var() / gap.var()
  np.testing.assert_allclose(own, 0.6, rtol=0.1)


def test_choices_follow_utilities_as_often_as_bradley_and_terry_say():
  made = made_people.made_people('gaussian', num_people=300)
  table = made_people.compare(made, 40)
  utilities = made.weights @ made.features.T
  chosen, rejected = (
    utilities[table['user_id'], table[column]] for column in ('chosen', 'rejected')
  )
  gap = np.abs(chosen - rejected)
  expected = (1 / (1 + np.exp(-gap))).mean()
  np.testing.assert_allclose((chosen > rejected).mean(), expected, atol=0.01)
  pairs = pd.DataFrame(np.sort(table[['chosen', 'rejected']], axis=1)).assign(u=table['user_id'])
  assert not pairs.duplicated().any()


def test_a_folder_is_read_and_is_the_same_again(tmp_path):
  sizes = {'num_people': 9, 'num_items': 4, 'num_features': 3}
  one, two = (
    comparisons.load_comparisons(str(made_people.write_people(tmp_path / name, 'types', **sizes)))
    for name in ('one', 'two')
  )
  assert one.content_hash == two.content_hash
  assert one.features.shape == (4, 3)
  assert one.mask.sum(1).tolist() == [6] * 9  # all pairs of four items
