"""Splits, usable responses and statistics of raw scores."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from metapers.data import reward_table


def test_splits_have_the_published_sizes_and_test_comes_last():
  split = reward_table.assign_splits(10402, num_validation=1000, num_test=1000)
  assert reward_table.split_sizes(split) == {'train': 8402, 'validation': 1000, 'test': 1000}
  assert np.all(split[-1000:] == 2)


def test_validation_prompts_are_always_the_same_and_spread_out():
  split = reward_table.assign_splits(1040, num_validation=100, num_test=100)
  again = reward_table.assign_splits(1040, num_validation=100, num_test=100)
  np.testing.assert_array_equal(split, again)
  assert np.ptp(np.flatnonzero(split == 1)) > 800


def test_drawn_splits_are_no_end_of_a_sorted_file_and_equal_prompts_share_one():
  prompts = np.repeat([f'prompt {number}' for number in range(500)], 2)
  split = reward_table.draw_splits(prompts)
  assert reward_table.split_sizes(split) == {'train': 800, 'validation': 100, 'test': 100}
  np.testing.assert_array_equal(split[::2], split[1::2])
  for part in np.split(split, 4):  # no split keeps to a part of the file
    assert np.all(np.abs(np.bincount(part, minlength=3) / 250 - [0.8, 0.1, 0.1]) < 0.06)
  with pytest.raises(ValueError, match='2 different prompts cannot be split'):
    reward_table.draw_splits(np.array(['a', 'b', 'a ']))


def test_prompts_without_text_are_no_held_out_ones_unless_none_has_any():
  split = reward_table.draw_splits(np.array([' '] * 50 + ['a', 'b', 'c']))
  assert sorted(split[50:]) == [0, 1, 2]
  assert not split[:50].any()
  without_text = reward_table.draw_splits(np.full(10, ' '))
  assert reward_table.split_sizes(without_text) == {'train': 8, 'validation': 1, 'test': 1}


@pytest.mark.parametrize('sizes', [(10, 0, 5), (10, 5, 0), (10, 5, 5), (10, 20, 5)])
def test_an_empty_split_is_refused(sizes):
  with pytest.raises(ValueError, match='each needs at least one'):
    reward_table.assign_splits(sizes[0], num_validation=sizes[1], num_test=sizes[2])


SCORES = arrays.arrays(
  np.float32, (3, 5, 2), elements=st.sampled_from([0.0, 1.0, np.nan, np.inf]), fill=st.nothing()
)


@given(SCORES)
def test_usable_responses_agree_with_a_loop(rewards):
  usable = reward_table.usable_responses(rewards)
  for prompt, response in np.ndindex(3, 5):
    own = rewards[prompt, response]
    repeats = any(np.array_equal(own, rewards[prompt, other]) for other in range(response))
    assert usable[prompt, response] == (np.isfinite(own).all() and not repeats)


def test_a_repeated_text_is_not_usable():
  rewards = np.arange(8, dtype=np.float32).reshape(1, 4, 2)
  texts = np.array([['a', 'b', 'a', 'b ']], object)
  assert reward_table.usable_responses(rewards, texts).tolist() == [[True, True, False, True]]


def test_statistics_use_neither_test_prompts_nor_masked_responses():
  rng = np.random.default_rng(0)
  rewards = rng.normal(3, 2, (6, 4, 2)).astype(np.float32)
  split = np.array([0, 1, 0, 0, 2, 2])
  mask = rng.random((6, 4)) < 0.7
  mean, std = reward_table.statistics(rewards, mask, split)
  kept = rewards[:4][mask[:4]]
  np.testing.assert_allclose(mean, kept.mean(0), rtol=1e-5)
  np.testing.assert_allclose(std, kept.std(0), rtol=1e-5)
  dirty = np.where(mask[..., None] & (split != 2)[:, None, None], rewards, np.nan)
  np.testing.assert_array_equal(reward_table.statistics(dirty, mask, split)[0], mean)


def test_z_scores_have_mean_0_and_sd_1_and_are_0_where_masked():
  rewards = np.random.default_rng(0).normal(3, 2, (6, 4, 2)).astype(np.float32)
  rewards[0, 0] = np.nan
  mask, split = np.isfinite(rewards).all(-1), np.zeros(6, int)
  scores = reward_table.z_scores(rewards, mask, *reward_table.statistics(rewards, mask, split))
  np.testing.assert_allclose(scores[mask].mean(0), 0, atol=1e-6)
  np.testing.assert_allclose(scores[mask].std(0), 1, atol=1e-6)
  assert np.all(scores[0, 0] == 0)


def test_a_constant_reward_model_is_refused():
  rewards = np.random.default_rng(0).normal(size=(6, 4, 2)).astype(np.float32)
  rewards[..., 1] = 0.1  # of which the mean of many is another number
  everything = np.ones((6, 4), bool), np.zeros(6, int)
  with pytest.raises(ValueError, match='reward model number 1'):
    reward_table.statistics(rewards, *everything)
  with pytest.raises(ValueError, match='reward model flat gives'):
    reward_table.statistics(rewards, *everything, ('fine', 'flat'))
  rewards[5] = 3  # a test prompt
  with pytest.raises(ValueError, match='reward model flat gives'):
    reward_table.check_varied(
      {'flat': rewards[..., 1]}, everything[0], np.array([0, 0, 0, 1, 1, 2])
    )


def test_scores_that_only_rounding_tells_apart_are_constant():
  computed = np.array([0.1 + 0.2, 0.3, 0.3])
  assert np.ptp(computed) > 0
  reward_table.refuse_constant({'fine': computed * np.array([1, 1, 1 + 1e-6])})
  with pytest.raises(ValueError, match='reward model flat gives every train response the same'):
    reward_table.refuse_constant({'flat': computed})
