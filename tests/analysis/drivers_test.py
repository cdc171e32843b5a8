"""Regressions of preference on features, against scikit-learn and by hand."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import linear_model

from metapers.analysis import drivers, sampling
from metapers.analysis.study_frame import Whose, pick, value_of


def draw(seed=0, prompts=60, responses=4, features=3, users=5):
  rng = np.random.default_rng(seed)
  mask = rng.random((prompts, responses)) < 0.8
  mask[:, :2] = True
  values = rng.normal(2, 3, (prompts, responses, features))
  scores = np.concatenate([values[..., :1], rng.normal(size=(prompts, responses, 1))], -1)
  weights = rng.dirichlet(np.ones(2), users)
  return values, np.where(mask[..., None], scores, 0), mask, weights


def test_extremes_are_the_best_and_the_worst_real_response():
  _, scores, mask, weights = draw()
  found = drivers.extremes(scores, mask, weights)
  for user, prompt in np.ndindex(found.best.shape):
    rewards = {r: scores[prompt, r] @ weights[user] for r in np.flatnonzero(mask[prompt])}
    assert found.best[user, prompt] == max(rewards, key=rewards.get)
    assert found.worst[user, prompt] == min(rewards, key=rewards.get)


def rows_of(values, mask, found, user):
  scaled = drivers.standardised(values, mask)
  prompts = np.arange(len(mask))
  rows = np.concatenate([scaled[prompts, each[user]] for each in found])
  return rows, np.repeat([1, 0], len(mask))


def test_coefficients_are_those_of_scikit_learn():
  values, scores, mask, weights = draw()
  found = drivers.extremes(scores, mask, weights)
  fitted = drivers.fit(values, mask, found)
  for user in range(len(weights)):
    rows, labels = rows_of(values, mask, found, user)
    model = linear_model.LogisticRegression(tol=1e-8, max_iter=1000).fit(rows, labels)
    np.testing.assert_allclose(fitted.together[user], model.coef_[0], atol=2e-3)
    one = linear_model.LogisticRegression(tol=1e-8, max_iter=1000).fit(rows[:, 1:2], labels)
    assert fitted.alone[user, 1] == pytest.approx(one.coef_[0, 0], abs=2e-3)


def test_a_row_that_counts_twice_stands_twice():
  rng = np.random.default_rng(1)
  rows, labels = rng.normal(size=(30, 2)), rng.integers(0, 2, 30)
  twice = np.concatenate([rows, rows[:10]]), np.concatenate([labels, labels[:10]])
  weight = np.where(np.arange(30) < 10, 2, 1)
  found = [
    drivers.ridge_logistic(*(jnp.asarray(x, jnp.float32) for x in given))
    for given in ((rows, labels, weight), (*twice, np.ones(40)))
  ]
  np.testing.assert_allclose(*found, atol=1e-4)


def test_standardised_features_have_mean_0_and_sd_1_over_real_responses():
  values, _, mask, _ = draw()
  values[..., 2] = 7
  scaled = drivers.standardised(values, mask)
  np.testing.assert_allclose(scaled[mask].mean(0), 0, atol=1e-6)
  np.testing.assert_allclose(scaled[mask].std(0), [1, 1, 0], atol=1e-6)
  assert not scaled[~mask].any()


def test_inflation_is_that_of_regressions_on_the_other_features():
  values, _, mask, _ = draw()
  values[..., 2] = values[..., 0] + 0.5 * values[..., 2]
  found = drivers.collinearity(values, mask)
  shown = values[mask]
  np.testing.assert_allclose(found.correlation, np.corrcoef(shown.T))
  for column in range(3):
    others = np.delete(shown, column, 1)
    model = linear_model.LinearRegression().fit(others, shown[:, column])
    share = model.score(others, shown[:, column])
    assert found.inflation[column] == pytest.approx(1 / (1 - share))


def test_a_constant_feature_goes_with_no_other():
  values, _, mask, _ = draw()
  values[..., 1] = 3
  found = drivers.collinearity(values, mask)
  np.testing.assert_allclose(found.correlation[1], [0, 1, 0])


def test_exchanged_pairs_are_the_same_pairs():
  _, scores, mask, weights = draw()
  found = drivers.extremes(scores, mask, weights)
  other = drivers.exchanged(found, 0)
  np.testing.assert_array_equal(np.sort(np.stack(found), 0), np.sort(np.stack(other), 0))
  assert 0.3 < (other.best == found.best).mean() < 0.7


def test_the_error_of_a_median_is_that_of_many_samples():
  rng = np.random.default_rng(2)
  samples = rng.exponential(size=(400, 200, 1))
  spread = np.median(samples, 1).std()
  claimed = np.mean([drivers.median_errors(one)[0] for one in samples])
  assert claimed == pytest.approx(spread, rel=0.15)


def test_the_study_holds_quantiles_over_users():
  values, scores, mask, weights = draw(users=30)
  fitted = drivers.fit(values, mask, drivers.extremes(scores, mask, weights))
  tied = drivers.collinearity(values, mask)
  names = ('tokens', 'b', 'c')
  frame = drivers.study(fitted, tied, names, Whose('drivers', 'x'), has_published=True)
  found = pick(frame, group='tokens')
  own = fitted.together[:, 0]
  assert value_of(found, statistic='coefficient, median') == pytest.approx(np.median(own))
  assert value_of(found, statistic='coefficient, 95 %') == pytest.approx(np.quantile(own, 0.95))
  above = sampling.mean((own > 0).astype(float))
  assert value_of(found, statistic='share of users above 0') == pytest.approx(above.value)
  published = found[found['published'].notna()]
  assert published[['statistic', 'published']].to_numpy().tolist() == [
    ['coefficient, median', drivers.PUBLISHED['tokens']]
  ]
  assert value_of(frame, group='b / c') == pytest.approx(tied.correlation[1, 2])
