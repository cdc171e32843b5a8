"""The exact posterior of users who may say "about the same" and "both bad", against a grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from metapers.core.tables import RewardTable
from metapers.evaluation.bayes import references
from metapers.populations.reward_ensemble import reward_ensemble

TIE_WIDTH, OUTSIDE, STRONG_WIDTH = 0.6, -0.3, 1.2
CONCENTRATION = 0.5
SHOTS = (0, 2, 5)


def table():
  rng = np.random.default_rng(0)
  rewards = rng.normal(size=(120, 4, 3)).astype(np.float32)
  split = np.repeat([0, 1, 2], [60, 30, 30])
  models = np.tile(np.arange(4), (120, 1))
  statistics = np.zeros(3, np.float32), np.ones(3, np.float32)
  names = ('a', 'b', 'c')
  return RewardTable(
    rewards, None, np.ones((120, 4), bool), names, models, tuple('0123'), *statistics, split,
    'synthetic', 'hash',
  )  # fmt: skip


def grid(size=240):
  """Equally likely points of a Dirichlet over three models: quantiles of stick-breaking Betas."""
  v = (np.arange(size) + 0.5) / size
  first = stats.beta.ppf(v, CONCENTRATION, 2 * CONCENTRATION)[:, None]
  second = stats.beta.ppf(v, CONCENTRATION, CONCENTRATION)[None]
  points = np.broadcast_arrays(first, (1 - first) * second, (1 - first) * (1 - second))
  return np.stack(points, -1).reshape(-1, 3)


def noisy(a, b, temperature):
  """Davidson's tie, an outside option, and adjacent categories: P [G, O], from the strengths."""
  pi_a, pi_b = np.exp(a / temperature), np.exp(b / temperature)
  nu, theta = np.exp(TIE_WIDTH / 2 / temperature), np.exp(OUTSIDE / temperature)
  much = np.exp(-STRONG_WIDTH / 2 / temperature)
  columns = (
    pi_a, pi_b, nu * np.sqrt(pi_a * pi_b), theta * np.ones_like(pi_a),
    much * pi_a * np.sqrt(pi_a / pi_b), much * pi_b * np.sqrt(pi_b / pi_a),
  )  # fmt: skip
  return np.stack(columns, -1) / np.sum(columns, 0)[:, None]


def sharp(a, b):
  """The limit without noise, by thresholds of differences and levels."""
  gap, strength = a - b, np.abs(a - b)
  is_tie, is_strong = strength <= TIE_WIDTH, strength > STRONG_WIDTH
  reached = np.where(is_tie, (a + b + TIE_WIDTH) / 2, np.maximum(a, b))
  reached += np.where(is_strong, (strength - STRONG_WIDTH) / 2, 0)
  is_bad = reached < OUTSIDE
  columns = (
    ~is_bad & ~is_tie & ~is_strong & (gap > 0), ~is_bad & ~is_tie & ~is_strong & (gap < 0),
    ~is_bad & is_tie, is_bad,
    ~is_bad & is_strong & (gap > 0), ~is_bad & is_strong & (gap < 0),
  )  # fmt: skip
  return np.stack(columns, -1).astype(float)


@pytest.mark.parametrize('temperature', [0.0, 0.4])
def test_the_reference_is_the_posterior_on_a_grid(temperature):
  population = reward_ensemble(
    table(),
    concentration=CONCENTRATION,
    temperature=temperature,
    outcomes=('tie', 'both_bad', 'strong'),
    tie_width=TIE_WIDTH,
    outside_utility=OUTSIDE,
    strong_width=STRONG_WIDTH,
    num_support=5,
    num_query=6,
    num_slates=2,
  )
  users = jnp.arange(4)
  tasks, truth = jax.vmap(lambda user: population.episode_of(population.arrays, user, 'test'))(
    users
  )
  made, diagnostics = references.bayes(
    tasks, truth, population.simulation, split='test', shots=SHOTS, num_particles=3000
  )
  assert np.all(diagnostics.num_unexplained == 0)
  points, rewards = grid(), table().rewards.astype(np.float64)
  features = np.asarray(tasks.support.candidates.features, np.float64)[..., :2, :3]
  query = np.asarray(tasks.query.candidates.features, np.float64)[..., :2, :3]
  assert np.isclose(features[..., None, None, :], rewards).all(-1).any((-1, -2)).all()

  def answered(pair):
    a, b = points @ pair[0], points @ pair[1]
    return noisy(a, b, temperature) if temperature else sharp(a, b)

  for user in range(4):
    answers = np.asarray(tasks.support.choice[user])
    likelihood = np.stack([answered(p)[:, k] for p, k in zip(features[user], answers)])
    for row, shots in enumerate(SHOTS):
      weights = likelihood[:shots].prod(0)
      for n, pair in enumerate(query[user]):
        gap = points @ (pair[0] - pair[1])
        first = special.expit(gap / temperature) if temperature else (gap > 0).astype(float)
        expected = np.average(first, weights=weights)
        p = np.exp(np.asarray(made.log_probs[row, user, n]))
        np.testing.assert_allclose(p[:2], [expected, 1 - expected], atol=0.03)
        np.testing.assert_array_equal(p[2:], 0)
