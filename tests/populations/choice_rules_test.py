import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metapers.populations import choice_rules

SIZE = 6
CASES = [('random', 2), ('controversial', 2), ('extreme', 2), ('best_of_k', 4)]
NOISE = [(0.0, 0.0), (0.7, 0.0), (0.0, 0.2), (0.5, 0.1)]


def slate(seed, num_reward_models=3):
  rewards = jax.random.normal(jax.random.key(seed), (SIZE, num_reward_models))
  return rewards, rewards @ jnp.array([0.2, 0.5, 0.3])


@pytest.mark.parametrize(('pair_rule', 'num_candidates'), CASES)
def test_only_real_candidates_are_shown_and_each_once(pair_rule, num_candidates):
  rewards, utilities = slate(0)
  mask = jnp.array([True, True, False, True, True, True])
  draw = jax.vmap(
    lambda key: choice_rules.draw_shown(
      key, rewards, utilities, mask, pair_rule=pair_rule, num_candidates=num_candidates
    )
  )
  order, possible = draw(jax.random.split(jax.random.key(1), 200))
  assert possible.all()
  for row in np.asarray(order[:, :num_candidates]):
    assert len(set(row)) == num_candidates
    assert 2 not in row


@pytest.mark.parametrize('mask', [[1, 1, 1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 0, 0, 1], [0] * 8])
def test_what_is_shown_first_is_as_a_stable_sort_has_it(mask):
  key, mask = jax.random.key(3), np.asarray(mask, bool)
  order, _ = choice_rules.draw_shown(
    key, jnp.zeros((8, 2)), jnp.zeros(8), jnp.asarray(mask), pair_rule='best_of_k', num_candidates=5
  )
  priority = np.asarray(jax.random.gumbel(jax.random.split(key)[0], (8,), jnp.float32))
  expected = np.argsort(np.where(mask, -priority, np.inf), kind='stable')
  np.testing.assert_array_equal(order, expected[: len(order)])


def test_extreme_shows_argmax_and_argmin_in_both_orders():
  rewards, utilities = slate(2)
  draw = jax.vmap(
    lambda key: choice_rules.draw_shown(
      key, rewards, utilities, jnp.ones(SIZE, bool), pair_rule='extreme', num_candidates=2
    )[0]
  )
  order = np.asarray(draw(jax.random.split(jax.random.key(3), 400)))
  best, worst = int(utilities.argmax()), int(utilities.argmin())
  assert {tuple(pair) for pair in order[:, :2].tolist()} == {(best, worst), (worst, best)}
  assert abs(np.mean(order[:, 0] == best) - 0.5) < 0.1
  assert np.all(np.sort(order, -1) == np.arange(SIZE))  # the rest of the slate follows, as evidence


def test_extreme_shows_any_of_tied_best_and_worst_responses():
  utilities = jnp.array([1.0, 0.0, 1.0, 0.5, 0.0, 1.0])
  draw = jax.vmap(
    lambda key: choice_rules.draw_shown(
      key,
      utilities[:, None],
      utilities,
      jnp.ones(SIZE, bool),
      pair_rule='extreme',
      num_candidates=2,
    )[0]
  )
  order = np.asarray(draw(jax.random.split(jax.random.key(3), 1200)))[:, :2]
  shown = np.bincount(order.ravel(), minlength=SIZE) / 1200
  np.testing.assert_allclose(shown, [1 / 3, 1 / 2, 1 / 3, 0, 1 / 2, 1 / 3], atol=0.06)
  alike, is_possible = choice_rules.draw_shown(
    jax.random.key(0), jnp.zeros((3, 1)), jnp.zeros(3), jnp.ones(3, bool),
    pair_rule='extreme', num_candidates=2,
  )  # fmt: skip
  assert len(set(np.asarray(alike[:2]).tolist())) == 2 and is_possible


def test_controversial_pairs_are_those_without_consensus():
  rewards = jnp.array([[0.0, 0.0], [1.0, 1.0], [2.0, -1.0]])
  expected = [[False, False, True], [False, False, True], [True, True, False]]
  assert choice_rules.is_controversial(rewards).tolist() == expected


def test_controversial_slates_without_such_a_pair_are_impossible():
  rewards = jnp.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
  _, possible = choice_rules.draw_shown(
    jax.random.key(0), rewards, rewards[:, 0], jnp.ones(3, bool),
    pair_rule='controversial', num_candidates=2,
  )  # fmt: skip
  assert not possible


@pytest.mark.parametrize(('temperature', 'flip_rate'), NOISE)
def test_choices_follow_their_likelihood(temperature, flip_rate):
  utilities = jnp.array([0.3, -0.2, 0.9, 5.0])
  mask = jnp.array([True, True, True, False])
  noise = {'temperature': jnp.asarray(temperature), 'flip_rate': jnp.asarray(flip_rate)}
  p = np.exp(choice_rules.log_choice(utilities, mask, **noise))
  assert np.isclose(p.sum(), 1, atol=1e-5)
  draw = jax.vmap(lambda key: choice_rules.draw_choice(key, utilities, mask, **noise))
  drawn = draw(jax.random.split(jax.random.key(5), 20_000))
  np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 20_000, p, atol=0.012)


def test_a_flip_goes_to_a_uniform_other_candidate():
  log_p = choice_rules.log_choice(
    jnp.array([0.0, 1.0, 2.0]), jnp.ones(3, bool),
    temperature=jnp.asarray(0.0), flip_rate=jnp.asarray(0.2),
  )  # fmt: skip
  np.testing.assert_allclose(jnp.exp(log_p), [0.1, 0.1, 0.8], rtol=1e-5)


@settings(max_examples=50)
@given(hnp.arrays(np.float32, 4, elements=st.floats(-3, 3, width=32)), hnp.arrays(bool, 4))
def test_log_choice_is_a_distribution_over_real_candidates(utilities, mask):
  for temperature, flip_rate in NOISE:
    p = np.exp(
      choice_rules.log_choice(
        jnp.asarray(utilities), jnp.asarray(mask),
        temperature=jnp.asarray(temperature), flip_rate=jnp.asarray(flip_rate),
      )
    )  # fmt: skip
    assert np.all(p[~mask] == 0)
    if mask.sum() >= 2:
      assert np.isclose(p.sum(), 1, atol=1e-4)
