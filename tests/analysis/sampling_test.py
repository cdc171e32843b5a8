"""Sampling errors against draws of both samples, and by hand."""

import numpy as np
import pytest

from metapers.analysis import sampling


def test_the_two_way_error_is_that_of_new_prompts_and_new_draws():
  rng = np.random.default_rng(0)

  def sample():
    return rng.normal(size=(8, 1)) + 2 * rng.normal(size=(1, 40)) + rng.normal(size=(8, 40))

  found = [sampling.two_way(sample()) for _ in range(400)]
  spread = np.std([one.value for one in found])
  claimed = np.sqrt(np.mean([one.standard_error**2 for one in found]))
  assert claimed == pytest.approx(spread, rel=0.1)
  assert spread == pytest.approx(np.sqrt(1 / 8 + 4 / 40 + 1 / 320), rel=0.1)


def test_one_draw_has_the_error_of_its_prompts():
  values = np.array([[1.0, 2.0, 6.0]])
  assert sampling.two_way(values) == pytest.approx((3, np.sqrt(7 / 3)))


def test_a_mean_of_independent_values_has_the_textbook_error():
  assert sampling.mean(np.array([1.0, 3.0])) == pytest.approx((2, 1))
  assert np.isnan(sampling.mean(np.array([1.0])).standard_error)


def test_the_jackknife_of_a_mean_is_its_error():
  values = np.random.default_rng(1).normal(size=(20, 3))
  sums = sampling.without_each(np.repeat(values, 2, 0))  # 40 prompts: 20 parts of 2
  found = sampling.jackknife(sums / 38)
  np.testing.assert_allclose(found, values.std(0, ddof=1) / np.sqrt(20))


def test_each_part_of_the_prompts_is_left_out_once():
  sums = np.arange(7.0)
  np.testing.assert_allclose(sampling.without_each(sums), 21 - sums)
  assert len(sampling.without_each(np.ones(63))) == sampling.NUM_PARTS
