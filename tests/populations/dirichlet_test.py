import numpy as np
import pytest

from metapers.populations import dirichlet


@pytest.mark.parametrize('concentration', [0.001, 0.01, 0.05, 0.1, 1.0, 10.0])
def test_draws_are_finite_and_have_dirichlet_moments(concentration):
  size, count = 10, 20_000
  log_w = dirichlet.sample_log_weights(np.random.default_rng(0), count, concentration, size)
  assert np.all(np.isfinite(log_w))
  w = np.exp(log_w.astype(np.float64))
  np.testing.assert_allclose(w.sum(-1), 1, atol=1e-5)
  squares = (w**2).sum(-1)
  expected = (concentration + 1) / (size * concentration + 1)
  assert abs(squares.mean() - expected) < 4 * squares.std() / np.sqrt(count)
  assert abs(w[:, 0].mean() - 1 / size) < 4 * w[:, 0].std() / np.sqrt(count)


def test_tiny_weights_keep_their_order_of_magnitude():
  # Var[log w] is about 2 trigamma(α) ~ 2/α²: nothing may be clipped at float32's smallest number.
  log_w = dirichlet.sample_log_weights(np.random.default_rng(0), 20_000, 0.001, 2)
  difference = log_w[:, 0] - log_w[:, 1]
  assert np.isclose(difference.std(), np.sqrt(2) / 0.001, rtol=0.05)


@pytest.mark.parametrize('concentration', [0.0, -1.0, float('nan'), float('inf')])
def test_concentration_must_be_positive(concentration):
  with pytest.raises(ValueError, match='concentration must be positive'):
    dirichlet.sample_log_weights(np.random.default_rng(0), 3, concentration, 2)


def test_there_must_be_users():
  with pytest.raises(ValueError, match='num_users must be at least 1, got 0'):
    dirichlet.sample_log_weights(np.random.default_rng(0), 0, 1.0, 2)
