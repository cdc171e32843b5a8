import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import outcomes, task
from metapers.core.outcomes import Answers
from metapers.core.task import Candidates

TIE, BAD, STRONG = 2, 3, 4  # of all kinds; strongly a, and then strongly b
WIDTHS = {'tie_width': 0.6, 'outside_utility': -0.4, 'strong_width': 1.5}


def answers(*kinds):
  return Answers(kinds, tuple(outcomes.offset(kind, **WIDTHS) for kind in kinds))


def probabilities(a, b, given):
  utilities = np.array(outcomes.utilities_of(jnp.array([a, b]), given), np.float64)
  return np.exp(utilities) / np.exp(utilities).sum()


@pytest.mark.parametrize(('a', 'b'), [(0.3, -1.2), (2.0, 1.9)])
def test_a_tie_is_that_of_davidson(a, b):
  strengths, nu = np.exp([a, b]), np.exp(WIDTHS['tie_width'] / 2)
  both = nu * np.sqrt(strengths.prod())
  expected = np.array([*strengths, both]) / (strengths.sum() + both)
  np.testing.assert_allclose(probabilities(a, b, answers('tie')), expected, rtol=1e-5)


def test_both_bad_is_an_outside_option():
  a, b, theta = 0.3, -1.2, WIDTHS['outside_utility']
  expected = np.exp([a, b, theta]) / np.exp([a, b, theta]).sum()
  np.testing.assert_allclose(probabilities(a, b, answers('both_bad')), expected, rtol=1e-5)


def test_strengths_are_adjacent_categories_of_equal_spacing():
  given = answers('tie', 'strong')

  def ladder(gap):
    p = np.log(probabilities(gap / 2, -gap / 2, given))
    return np.diff(p[[4, 1, 2, 0, 3]])  # strongly b, b, tie, a, strongly a

  np.testing.assert_allclose(ladder(1.3) - ladder(-0.7), np.full(4, 2.0 / 2), rtol=1e-5)


@pytest.mark.parametrize('gap', [-3.0, -1.51, -1.49, -0.61, -0.59, 0.0, 0.59, 0.61, 1.49, 1.51])
def test_without_noise_widths_are_thresholds_of_the_difference(gap):
  utilities = outcomes.utilities_of(jnp.array([2 + gap, 2.0]), answers('tie', 'strong'))
  size = abs(gap)
  plain, strong = (0, 3) if gap > 0 else (1, 4)
  expected = 2 if size < 0.6 else plain if size < 1.5 else strong
  assert utilities.argmax() == expected


@pytest.mark.parametrize(('level', 'is_bad'), [(-0.5, True), (-0.3, False)])
def test_without_noise_neither_is_better_than_two_below_the_outside_utility(level, is_bad):
  utilities = outcomes.utilities_of(jnp.array([level - 9, level]), answers('both_bad'))
  assert (utilities.argmax() == 2) == is_bad


def test_a_linear_utility_of_features_has_the_offsets_as_weights_of_the_flags():
  rng = np.random.default_rng(0)
  kinds = outcomes.KINDS
  given = answers(*kinds)
  weights = rng.normal(size=5).astype(np.float32)
  plain = jnp.asarray(rng.normal(size=(7, 2, 5)), jnp.float32)
  shown = Candidates(outcomes.widened(plain, kinds), jnp.ones((7, 2), bool))
  expanded = outcomes.expand(shown, kinds)
  utilities = expanded.features @ jnp.append(weights, jnp.asarray(given.offsets, jnp.float32))
  expected = np.stack([outcomes.utilities_of(row @ weights, given) for row in plain])
  np.testing.assert_allclose(utilities, expected, rtol=1e-4, atol=1e-5)
  np.testing.assert_array_equal(expanded.features[:, :2], shown.features)


def test_rewards_of_outcomes_weigh_up_to_their_utilities():
  rng = np.random.default_rng(0)
  given = answers(*outcomes.KINDS)
  rewards, weights = jnp.asarray(rng.normal(size=(2, 4)), jnp.float32), jnp.full(4, 0.25)
  expected = outcomes.utilities_of(rewards @ weights, given)
  np.testing.assert_allclose(outcomes.rewards_of(rewards, given) @ weights, expected, rtol=1e-5)


def test_outcomes_of_a_pair_that_is_not_there_are_not_there():
  features = jnp.zeros((2, 2, 4))
  mask = jnp.array([[True, True], [True, False]])
  expanded = outcomes.expand(Candidates(features, mask), ('tie',))
  np.testing.assert_array_equal(expanded.mask, [[True] * 3, [False] * 3])


def test_no_outcomes_change_nothing():
  shown = Candidates(jnp.ones((2, 3, 4)), jnp.ones((2, 3), bool))
  assert outcomes.expand(shown, ()) is shown
  np.testing.assert_array_equal(outcomes.utilities_of(jnp.arange(3.0), Answers()), [0, 1, 2])


@pytest.mark.parametrize('given', ['ties', ('tie', 'tie')])
def test_unknown_or_repeated_outcomes_are_refused(given):
  with pytest.raises(ValueError, match='outcomes must be some of tie, both_bad, strong'):
    outcomes.of_names(given)


def test_kinds_have_one_order():
  assert outcomes.of_names(['strong', 'tie']) == ('tie', 'strong')


def every_answer():
  kinds = outcomes.KINDS
  pair = Candidates(jnp.ones((7, 2, 5)), jnp.ones((7, 2), bool))
  mask = jnp.arange(7) < 6  # the last is no comparison
  weight = jnp.arange(1.0, 8)
  return task.choices(outcomes.expand(pair, kinds), jnp.arange(7), mask, weight), kinds


def test_dropped_ties_are_no_comparisons():
  found = outcomes.as_pairs(*every_answer(), 'dropped')
  np.testing.assert_array_equal(found.mask, [True, True, False, False, True, True, False])
  np.testing.assert_array_equal(found.choice[np.array(found.mask)], [0, 1, 0, 1])
  np.testing.assert_array_equal(found.weight, np.arange(1.0, 8))
  assert found.candidates.features.shape == (7, 2, 5)


def test_a_tie_of_halves_chooses_each_text_by_half():
  found = outcomes.as_pairs(*every_answer(), 'halves')
  chosen = np.zeros((7, 2))
  rows = np.repeat(np.arange(7), 2)[np.array(found.mask)]
  np.add.at(chosen, (rows, found.choice[found.mask]), found.weight[found.mask])
  expected = [[1, 0], [0, 2], [1.5, 1.5], [0, 0], [5, 0], [0, 6], [0, 0]]
  np.testing.assert_array_equal(chosen, expected)
