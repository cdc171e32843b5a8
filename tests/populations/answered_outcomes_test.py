import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_tables import NAMES, table

from metapers.populations.reward_ensemble import reward_ensemble

TIE, BAD = 2, 3
WIDTHS = {'tie_width': 0.4, 'outside_utility': -0.2, 'strong_width': 0.9}


def made(**changes):
  sizes = {'num_support': 8, 'num_query': 8, 'num_slates': 4, 'num_held_out': 50}
  options = {'outcomes': ('strong', 'both_bad', 'tie'), **WIDTHS, **sizes, **changes}
  return reward_ensemble(table(), **options)


@functools.cache
def population():
  return made()


def episodes(population, split, count=48):
  one = functools.partial(population.sample_episode, population.arrays, split=split)
  return jax.jit(jax.vmap(lambda key: one(key)))(jax.random.split(jax.random.key(0), count))


def test_answers_without_noise_are_by_thresholds():
  tasks, truth = episodes(population(), 'test')
  rewards = np.asarray(tasks.support.candidates.features)[..., :2, :3]  # of the scores track
  a, b = np.moveaxis(np.einsum('tnkb,tb->tnk', rewards, truth.weights), -1, 0)
  gap, answer = a - b, np.asarray(tasks.support.choice)
  level = np.where(np.abs(gap) <= 0.4, (a + b) / 2 + 0.2, np.maximum(a, b))
  level = np.where(np.abs(gap) > 0.9, level + (np.abs(gap) - 0.9) / 2, level)
  expected = np.where(gap > 0, 0, 1) + np.where(np.abs(gap) > 0.9, 4, 0)
  expected = np.where(np.abs(gap) <= 0.4, TIE, expected)
  expected = np.where(level < -0.2, BAD, expected)
  np.testing.assert_array_equal(answer, expected)
  assert set(answer.ravel().tolist()) == set(range(6))
  assert tasks.support.mask.all()


@pytest.mark.parametrize('split', ['train', 'test'])
def test_the_query_is_a_forced_choice_of_two(split):
  tasks, truth = episodes(population(), split)
  mask = tasks.query.candidates.mask
  assert mask[..., :2].all()
  assert not mask[..., 2:].any()
  utilities = jnp.einsum('tneb,tb->tne', truth.query_rewards, truth.weights)[..., :2]
  np.testing.assert_array_equal(utilities.argmax(-1), tasks.query.choice)
  np.testing.assert_array_equal(mask, truth.query_mask)


def test_known_users_of_a_pool_give_answers_of_one_kind():
  pool = made(num_users=40)
  histories = jax.jit(pool.histories)(pool.arrays)
  assert histories.support.candidates.mask.all()
  assert (histories.support.choice[:, 8:] == TIE).any()
  tasks, _ = episodes(pool, 'test')
  assert not tasks.query.candidates.mask[..., 2:].any()


def test_flags_are_the_last_features_and_none_of_a_plain_text():
  spec = population().spec
  assert spec.num_features == 6
  assert spec.num_candidates == 6
  assert spec.feature_names == (*NAMES, 'tie', 'both_bad', 'strong')
  assert spec.outcomes == ('tie', 'both_bad', 'strong')
  assert population().scaling.mean.shape == (6,)
  tasks, truth = episodes(population(), 'test')
  flags = tasks.support.candidates.features[..., 3:]
  expected = [[0, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
  np.testing.assert_array_equal(flags, np.broadcast_to(expected, flags.shape))
  assert truth.slate.features.shape[-1] == 6
  assert not truth.slate.features[..., 3:].any()


def test_without_outcomes_users_answer_as_ever():
  forced, plain = made(outcomes=()), reward_ensemble(table(), num_support=8, num_query=8)
  assert forced.spec.num_candidates == plain.spec.num_candidates == 2
  assert forced.spec.num_features == 3
  assert 'outcomes' not in forced.record


def test_label_accuracy_is_of_who_must_choose():
  noisy = [made(outcomes=kinds, label_accuracy=0.8) for kinds in ((), ('tie', 'both_bad'))]
  temperatures = [one.arrays.users['test'].temperature[0] for one in noisy]
  np.testing.assert_allclose(*temperatures)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'pair_rule': 'extreme'}, 'not shown by pair_rule extreme, got num_candidates=2'),
    ({'pair_rule': 'best_of_k', 'num_candidates': 3}, 'are of 2 candidates'),
    ({'outcomes': ('ties',)}, 'outcomes must be some of tie, both_bad, strong'),
    ({'strong_width': -1.0}, 'strong_width at least 0'),
    ({'tie_width': float('nan')}, 'must be finite'),
  ],
)
def test_impossible_outcomes_are_refused(changes, message):
  with pytest.raises(ValueError, match=message):
    made(**changes)
