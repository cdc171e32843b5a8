import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metapers.core import choice_model, masked, task
from metapers.core.task import Candidates

SCORES = hnp.arrays(np.float32, (3, 4), elements=st.floats(-50, 50, width=32))
MASKS = hnp.arrays(bool, (3, 4))


def choices(choice, mask):
  real = jnp.asarray(mask).any(-1)
  return task.choices(Candidates(jnp.zeros((*np.shape(mask), 1)), jnp.asarray(mask)), choice, real)


def test_two_candidates_are_bradley_terry():
  scores = jnp.array([[0.3, -1.2]])
  p = jnp.exp(choice_model.log_probs(scores, jnp.ones((1, 2), bool)))
  assert np.allclose(p[0, 0], 1 / (1 + np.exp(-1.5)))


@settings(max_examples=50)
@given(SCORES, MASKS)
def test_masked_candidates_count_for_nothing(scores, mask):
  p = np.exp(choice_model.log_probs(jnp.asarray(scores), jnp.asarray(mask)))
  for row in range(3):
    kept = scores[row][mask[row]]
    expected = np.exp(kept - kept.max()) / np.exp(kept - kept.max()).sum() if kept.size else []
    np.testing.assert_allclose(p[row][mask[row]], expected, atol=1e-5)
    assert np.all(p[row][~mask[row]] == 0)


@settings(max_examples=25)
@given(MASKS)
def test_nan_in_masked_scores_reaches_neither_value_nor_gradient(mask):
  scores = jnp.where(jnp.asarray(mask), 1.0, jnp.nan)
  made = choices(jnp.argmax(jnp.asarray(mask), -1), mask)

  def loss(scores):
    return choice_model.nll(choice_model.log_probs(scores, jnp.asarray(mask)), made)

  value, gradient = jax.value_and_grad(loss)(scores)
  assert np.isfinite(value)
  assert np.all(np.isfinite(gradient))
  assert np.all(np.asarray(gradient)[~mask] == 0)


def test_ties_are_worth_one_over_their_number():
  made = choices(jnp.array([0, 1]), np.ones((2, 4), bool))
  log_p = jnp.array([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
  np.testing.assert_allclose(choice_model.correct(log_p, made), [0.25, 0.5])


def test_a_masked_choice_out_of_range_changes_nothing():
  made = choices(jnp.array([0, 10**6]), np.array([[True, True], [False, False]]))
  log_p = jnp.log(jnp.array([[0.9, 0.1], [0.5, 0.5]]))
  assert np.allclose(choice_model.nll(log_p, made), -np.log(0.9))


def test_mean_probability_averages_probabilities():
  scores = jnp.array([[[2.0, 0.0]], [[-1.0, 0.0]]])
  p = jnp.exp(choice_model.mean_probability(scores, jnp.ones((1, 2), bool)))
  expected = np.mean([1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(1.0))])
  assert np.allclose(p[0, 0], expected)


@pytest.mark.parametrize('reduce', [masked.total, masked.mean, masked.largest])
def test_reductions_ignore_what_is_masked(reduce):
  x = jnp.array([[1.0, jnp.nan, 3.0]])
  mask = jnp.array([[True, False, True]])
  np.testing.assert_allclose(reduce(x, mask, -1), reduce(jnp.array([[1.0, 3.0]]), mask[:, ::2], -1))


def test_a_comparison_of_weight_two_counts_twice_in_the_means():
  log_p = jnp.log(jnp.array([[0.9, 0.1], [0.3, 0.7]]))
  made = choices(jnp.array([0, 0]), np.ones((2, 2), bool))._replace(weight=jnp.array([2.0, 1.0]))
  assert np.allclose(choice_model.nll(log_p, made), -np.log([0.9, 0.9, 0.3]).mean())
  assert np.allclose(choice_model.total_nll(log_p, made), -np.log([0.9, 0.9, 0.3]).sum())
  assert np.allclose(choice_model.accuracy(log_p, made), 2 / 3)


def test_where_nothing_weighs_means_are_zero_with_finite_gradients():
  made = choices(jnp.array([0, 1]), np.ones((2, 2), bool))._replace(weight=jnp.zeros(2))

  def nll(scores):
    return choice_model.nll(choice_model.log_probs(scores, made.candidates.mask), made)

  value, gradient = jax.value_and_grad(nll)(jnp.ones((2, 2)))
  assert value == 0
  assert not np.any(gradient)
