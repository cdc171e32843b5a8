"""Ridge regression inside prompts."""

import numpy as np
import pytest

from metapers.data import ridge


def draw(noise, seed=0, prompts=200):
  rng = np.random.default_rng(seed)
  features = rng.normal(size=(prompts, 6, 3)).astype(np.float32)
  true = rng.normal(size=(3, 2)).astype(np.float32)
  offset = 5 * rng.normal(size=(prompts, 1, 2))  # what a prompt adds to all its responses
  scores = features @ true + offset + noise * rng.normal(size=(prompts, 6, 2))
  return features, scores.astype(np.float32), rng.random((prompts, 6)) < 0.8, true


def test_noiseless_coefficients_are_recovered_whatever_prompts_add():
  features, scores, mask, true = draw(noise=0)
  fit = ridge.within_prompt_ridge(features, scores, mask, np.ones(200, bool), penalty=1e-6)
  np.testing.assert_allclose(fit, true, atol=1e-4)
  r2 = ridge.within_prompt_r2(ridge.predict(features, mask, fit), scores, mask)
  np.testing.assert_allclose(r2, 1, atol=1e-6)


def test_it_solves_the_stated_normal_equations():
  features, scores, mask, _ = draw(noise=1, prompts=5)
  fit = ridge.within_prompt_ridge(features, scores, mask, np.ones(5, bool), penalty=7.0)
  rows = [(features[p][mask[p]], scores[p][mask[p]]) for p in range(5)]
  x = np.concatenate([x - x.mean(0) for x, _ in rows])
  y = np.concatenate([y - y.mean(0) for _, y in rows])
  gradient = x.T @ (x @ fit - y) + 7.0 * np.mean(x**2, 0)[:, None] * fit
  np.testing.assert_allclose(gradient, 0, atol=1e-3)


def test_masked_entries_and_other_prompts_change_nothing():
  features, scores, mask, _ = draw(noise=1)
  train = np.arange(200) < 150
  fit = ridge.within_prompt_ridge(features, scores, mask, train)
  used = (mask & train[:, None])[..., None]
  dirty = [np.where(used, x, np.nan).astype(np.float32) for x in (features, scores)]
  np.testing.assert_array_equal(ridge.within_prompt_ridge(*dirty, mask, train), fit)


def test_rescaling_a_feature_changes_no_prediction():
  features, scores, mask, _ = draw(noise=1)
  train, scale = np.ones(200, bool), np.array([1, 100, 0.01], np.float32)
  first = ridge.within_prompt_ridge(features, scores, mask, train, penalty=50.0)
  second = ridge.within_prompt_ridge(features * scale, scores, mask, train, penalty=50.0)
  np.testing.assert_allclose(
    ridge.predict(features, mask, first), ridge.predict(features * scale, mask, second), atol=1e-4
  )


def test_a_constant_feature_and_half_precision_are_harmless():
  features, scores, mask, true = draw(noise=0)
  features[..., 0] = 1
  fit = ridge.within_prompt_ridge(features.astype(np.float16), scores, mask, np.ones(200, bool))
  assert np.all(np.isfinite(fit))
  np.testing.assert_allclose(fit[0], 0, atol=1e-6)
  np.testing.assert_allclose(fit[1:], true[1:], atol=0.5)


def test_explained_variance_is_the_signal_share():
  features, scores, mask, true = draw(noise=2, prompts=3000)
  held_out = np.arange(3000) >= 2000
  r2 = ridge.held_out_r2(features, scores, mask, held_out)
  signal = np.square(true).sum(0)
  np.testing.assert_allclose(r2, signal / (signal + 4), atol=0.03)


def test_held_out_scores_reach_no_coefficient():
  features, scores, mask, _ = draw(noise=1)
  held_out = np.arange(200) >= 150
  other = np.where(held_out[:, None, None], 2 * scores, scores)
  first, second = (ridge.held_out_r2(features, each, mask, held_out) for each in (scores, other))
  fit = ridge.within_prompt_ridge(features, scores, mask, ~held_out)
  predicted = ridge.predict(features[held_out], mask[held_out], fit)
  expected = ridge.within_prompt_r2(predicted, 2 * scores[held_out], mask[held_out])
  np.testing.assert_array_equal(second, expected)
  assert np.all(second < first)


def test_bad_arguments_are_refused():
  features, scores, mask, _ = draw(noise=1, prompts=5)
  with pytest.raises(ValueError, match='penalty must be >= 0'):
    ridge.within_prompt_ridge(features, scores, mask, np.ones(5, bool), penalty=-1.0)
  with pytest.raises(ValueError, match='no real response'):
    ridge.within_prompt_ridge(features, scores, mask, np.zeros(5, bool))
