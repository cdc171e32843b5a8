import numpy as np

from metapers.analysis import gains
from metapers.evaluation import bootstrap, estimates, intervals


def evaluated(num_users):
  draws = bootstrap.draw(num_users, None, num_resamples=400, seed=0)
  return estimates.EvaluationSet(None, None, draws, {}, None, num_users)


def test_users_are_counted_on_either_side_and_equal_ones_on_neither():
  reference = np.array([[0.5, 0.5, 0.5, 0.5]] * 2, np.float32)
  accuracy = np.array([[0.4, 0.6, 0.6, 0.5], [0.5, 0.5, 0.5 + 1e-8, 0.4]], np.float32)
  worse, better = gains.shares(evaluated(4), accuracy, reference)
  np.testing.assert_allclose(worse[0], [0.25, 0.25])
  np.testing.assert_allclose(better[0], [0.5, 0])


def test_users_with_nothing_to_count_are_left_out():
  reference = np.array([[0.5, np.nan, 0.5]], np.float32)
  accuracy = np.array([[0.4, np.nan, 0.6]], np.float32)
  worse, better = gains.shares(evaluated(3), accuracy, reference)
  assert (worse[0], better[0]) == (0.5, 0.5)
  assert np.isnan(worse).sum() < 40  # resamples of the user who has nothing alone


def test_the_interval_is_that_of_a_share_of_users():
  num_users = 200
  reference = np.full((1, num_users), 0.5, np.float32)
  accuracy = np.where(np.arange(num_users) < 50, 0.4, 0.6)[None].astype(np.float32)
  worse, _ = gains.shares(evaluated(num_users), accuracy, reference)
  variance = intervals.variances(worse, num_users).users.item()
  np.testing.assert_allclose(np.sqrt(variance), np.sqrt(0.25 * 0.75 / num_users), rtol=0.25)
