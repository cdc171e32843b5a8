import numpy as np
import pytest

from metapers.analysis import active_units


def test_dimensions_count_by_their_variance_over_users():
  users = np.random.default_rng(0).normal(size=(4000, 4))
  means = users * np.sqrt([1.0, 0.02, 0.005, 0.0])[None] + 7  # where the mean is does not matter
  assert active_units.active_units(means) == 0.5
  assert active_units.active_units(means, threshold=0.001) == 0.75
  assert active_units.active_units(np.ones((5, 3))) == 0


def test_the_variance_is_the_unbiased_one():
  means = np.array([[0.0], [0.2]])  # variance 0.02, and 0.01 if divided by 2
  assert active_units.active_units(means, threshold=0.015) == 1


@pytest.mark.parametrize('shape', [(1, 3), (3, 0)])
def test_fewer_than_two_users_or_no_dimension_are_refused(shape):
  with pytest.raises(ValueError, match=r'at least 2 users, got'):
    active_units.active_units(np.zeros(shape))


def test_what_is_not_finite_is_refused():
  with pytest.raises(ValueError, match='must be finite'):
    active_units.active_units(np.array([[0.0], [np.nan]]))
