"""A store in numbers, against a count by hand."""

import numpy as np
import pytest

from metapers.data import reward_table, ridge, store_summary, synthetic

TABLE = synthetic.synthetic_store(num_prompts=60)


def test_the_correlation_is_the_mean_over_pairs_of_models_inside_prompts():
  mask = TABLE.mask.copy()
  mask[3, 2:] = False
  found = store_summary.summarize(TABLE._replace(mask=mask))
  scores = (TABLE.rewards - TABLE.mean) / TABLE.std
  rows = np.concatenate([own[real] - own[real].mean(0) for own, real in zip(scores, mask)])
  by_hand = [np.corrcoef(rows[:, i], rows[:, j])[0, 1] for i in range(10) for j in range(i)]
  assert found.correlation == pytest.approx(np.mean(by_hand), abs=1e-5)
  assert found.masked == (0, 6, 480)


def test_features_explain_scores_of_test_prompts():
  scores = reward_table.z_scores(TABLE.rewards, TABLE.mask, TABLE.mean, TABLE.std)
  expected = ridge.held_out_r2(TABLE.features, scores, TABLE.mask, TABLE.prompt_split == 2)
  np.testing.assert_array_equal(store_summary.summarize(TABLE).feature_r2, expected)
  assert store_summary.summarize(TABLE._replace(features=None)).feature_r2 is None


def test_one_reward_model_has_no_correlation():
  one = TABLE._replace(
    rewards=TABLE.rewards[..., :1], mean=TABLE.mean[:1], std=TABLE.std[:1], features=None
  )
  assert np.isnan(store_summary.summarize(one).correlation)
