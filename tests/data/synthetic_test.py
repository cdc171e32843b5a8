"""The synthetic stand-in for PersonalLLM."""

import numpy as np
import pytest

from metapers.data import (
  personal_llm_constants,
  reward_table,
  ridge,
  synthetic,
)

DEFAULT = synthetic.synthetic_store()
SMALL = synthetic.synthetic_store(num_prompts=50)


def scores_of(table):
  return reward_table.z_scores(table.rewards, table.mask, table.mean, table.std)


def test_sizes_and_splits_are_the_published_ones():
  assert DEFAULT.rewards.shape == (10402, 8, 10)
  assert DEFAULT.features.shape == (10402, 8, 64)
  assert DEFAULT.rewards.dtype == DEFAULT.features.dtype == np.float32
  assert np.bincount(DEFAULT.prompt_split).tolist() == [8402, 1000, 1000]


def test_train_statistics_are_the_published_ones():
  published = np.array(list(personal_llm_constants.REWARD_MODELS.values()))
  np.testing.assert_allclose(DEFAULT.mean, published[:, 0], atol=1e-3)
  np.testing.assert_allclose(DEFAULT.std, published[:, 1], atol=1e-3)


@pytest.mark.parametrize('feature_r2', [0.3, 0.5, 0.8])
@pytest.mark.parametrize('seed', [0, 5])
def test_ridge_explains_the_stated_share_of_unseen_prompts(feature_r2, seed):
  table = synthetic.synthetic_store(feature_r2=feature_r2, seed=seed)
  test, scores = table.prompt_split == 2, scores_of(table)
  r2 = ridge.held_out_r2(table.features, scores, table.mask, test)
  assert abs(r2.mean() - feature_r2) <= 0.02
  assert r2.min() > 0.35 * feature_r2  # quality, which some like most, hardly shows


def test_scores_are_the_same_whatever_the_features():
  other = synthetic.synthetic_store(num_prompts=50, feature_r2=0.8)
  np.testing.assert_array_equal(other.rewards, SMALL.rewards)
  assert not np.allclose(other.features, SMALL.features, atol=0.1)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
  again = synthetic.synthetic_store(num_prompts=50)
  np.testing.assert_array_equal(again.rewards, SMALL.rewards)
  np.testing.assert_array_equal(again.features, SMALL.features)
  assert again.manifest_hash == SMALL.manifest_hash
  other = synthetic.synthetic_store(num_prompts=50, seed=1)
  assert not np.allclose(other.rewards, SMALL.rewards, atol=0.1)
  assert other.manifest_hash != SMALL.manifest_hash


def test_its_source_says_that_it_is_synthetic():
  assert SMALL.source.startswith('synthetic')


def test_prompts_differ_in_the_mean_of_their_scores():
  shared = scores_of(DEFAULT).mean(1).var(0)
  assert np.all(shared > 0.2) and np.all(shared < 0.6)


def test_reward_models_and_response_models_differ():
  centred = ridge.center(scores_of(DEFAULT), DEFAULT.mask).reshape(-1, 10)
  correlation = np.corrcoef(centred.T)[~np.eye(10, dtype=bool)]
  assert 0.2 < correlation.mean() < 0.7
  assert np.ptp(scores_of(DEFAULT).mean((0, 2))) > 0.5


def test_the_map_of_features_is_not_affine():
  points = 2 * np.eye(synthetic.CALIBRATED.habits.shape[1], dtype=np.float32)[None]
  there, back, zero = map(synthetic.feature_map, (points, -points, 0 * points))
  assert np.abs(there + back - 2 * zero).mean() > 0.2


def test_no_response_repeats_another():
  assert DEFAULT.mask.all()
  assert reward_table.usable_responses(DEFAULT.rewards).all()


def test_an_uncalibrated_share_and_too_few_prompts_are_refused():
  with pytest.raises(ValueError, match=r'one of 0\.3, 0\.5, 0\.8 \(calibrated\), got 0\.4'):
    synthetic.synthetic_store(feature_r2=0.4)
  with pytest.raises(ValueError, match='cannot be split'):
    synthetic.synthetic_store(num_prompts=4)
