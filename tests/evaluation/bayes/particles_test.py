import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metapers.evaluation.bayes import evidence, particles
from metapers.evaluation.bayes.evidence import Evidence, Rule, UserModels
from metapers.evaluation.bayes.particles import Particles
from metapers.populations import dirichlet

RULE = Rule('random', 2)
MODELS, SIZE, NUM = 4, 4000, 3
absorb = jax.jit(particles.absorb, static_argnames='rule')


def draws(concentration, seed, size=SIZE):
  rng = np.random.default_rng(seed)
  return jnp.asarray(dirichlet.sample_log_weights(rng, size, concentration, MODELS)).T


def start(log_weights, concentration, flip_rate=0.0):
  size = log_weights.shape[1]
  noise = jnp.zeros(size), jnp.full(size, flip_rate)
  user_models = UserModels(jnp.full(size, concentration), *noise)
  return Particles(log_weights, jnp.zeros(size), user_models, jnp.zeros(NUM, jnp.int32))


def comparisons(seed=0):
  rewards = jax.random.normal(jax.random.key(seed), (NUM, 2, MODELS))
  choice = jnp.zeros(NUM, jnp.int32)
  return evidence.evidence_of(rewards, jnp.ones((NUM, 2), bool), choice, rule=RULE)


@jax.jit
def sweeps(key, state, given):
  def sweep(state, key):
    return particles.rejuvenate(key, state, given, rule=RULE), None

  return jax.lax.scan(sweep, state, jax.random.split(key, 30))[0]


def distances(log_weights, expected):
  """Kolmogorov-Smirnov distance of each log w_b and of the largest, where they are not rounded."""
  both = [np.minimum(np.asarray(x), -1e-5) for x in (log_weights, expected)]
  both = [np.concatenate([x, x.max(0)[None]]) for x in both]
  return [np.asarray(stats.ks_2samp(*pair))[0] for pair in zip(*both)]


@pytest.mark.parametrize('concentration', [0.01, 0.05, 1.0, 10.0])
def test_moves_reach_the_prior_from_elsewhere(concentration):
  skewed = draws(concentration, 0).at[0].add(2 / concentration)
  state = start(jax.nn.log_softmax(skewed, 0), concentration)
  moved = sweeps(jax.random.key(1), state, comparisons())
  assert max(distances(moved.log_weights, draws(concentration, 2))) < 0.05


def test_moves_keep_a_constrained_prior():
  given, candidates = comparisons(9), draws(0.3, 4, 200_000)
  feasible = np.all(np.einsum('nb,bs->ns', given.contrasts[0], np.exp(candidates)) > 0, 0)
  expected = np.asarray(candidates)[:, feasible]
  assert 2 * SIZE < expected.shape[1] < 100_000
  state = start(jnp.asarray(expected[:, :SIZE]), 0.3)
  state = state._replace(rung=jnp.full(NUM, particles.LAST))
  moved = sweeps(jax.random.key(5), state, given)
  assert np.all(np.einsum('nb,bs->ns', given.contrasts[0], np.exp(moved.log_weights)) > -1e-5)
  assert max(distances(moved.log_weights, expected[:, SIZE:])) < 0.05


def test_conditioning_agrees_with_rejection():
  given, candidates = comparisons(9), draws(0.3, 4, 200_000)
  feasible = np.all(np.einsum('nb,bs->ns', given.contrasts[0], np.exp(candidates)) > 0, 0)
  state = start(draws(0.3, 6), 0.3)
  for n in range(NUM):
    state = absorb(
      jax.random.fold_in(jax.random.key(7), n), state, given, jnp.asarray(n), rule=RULE
    )
  weights = particles.mean(jnp.exp(state.log_weights), state)
  expected = np.exp(candidates)[:, feasible].mean(1)
  np.testing.assert_allclose(weights, expected, atol=0.02)
  assert np.all(state.rung == particles.LAST)


def test_a_rare_choice_is_reached_down_the_ladder():
  # Only users with w_0 > 0.98 choose so: 8 in a million of this prior, and none of its particles.
  contrast = jnp.full((1, NUM, MODELS), -1.0).at[..., 0].set(1 / 49)
  given = Evidence(contrast, jnp.ones((1, NUM), bool), jnp.ones(NUM))
  state = start(draws(1.0, 0), 1.0)
  assert jnp.exp(state.log_weights[0]).max() < 0.97
  state = absorb(jax.random.key(0), state, given, jnp.asarray(0), rule=RULE)
  assert state.rung[0] == particles.LAST
  assert jnp.exp(state.log_weights[0]).min() > 0.98 - 1e-4
  assert jnp.unique(state.log_weights[0]).size > SIZE / 4


def test_an_impossible_choice_kills_none_and_can_be_counted():
  given = Evidence(jnp.full((1, NUM, MODELS), -1.0), jnp.ones((1, NUM), bool), jnp.ones(NUM))
  state = absorb(jax.random.key(0), start(draws(0.3, 0), 0.3), given, jnp.asarray(1), rule=RULE)
  assert 0 < state.rung[1] < particles.LAST
  assert np.all(state.rung[jnp.array([0, 2])] == 0)
  assert np.all(np.isfinite(state.log_weights))
  assert particles.effective_size(state.log_importance) > 100


def test_resampling_keeps_averages_and_user_models_together():
  state = start(draws(0.3, 0), 0.3)
  marked = state.user_models._replace(flip_rate=state.log_weights[0])
  importance = jax.random.normal(jax.random.key(1), (SIZE,))
  state = state._replace(user_models=marked, log_importance=importance)
  drawn = particles.resample(jax.random.key(2), state)
  assert np.array_equal(drawn.user_models.flip_rate, drawn.log_weights[0])
  before, after = (particles.mean(jnp.exp(x.log_weights), x) for x in (state, drawn))
  np.testing.assert_allclose(before, after, atol=0.01)


def test_effective_size_counts_equal_particles():
  importance = jnp.array(
    [[0.0, 0.0, -jnp.inf, 0.0], [-jnp.inf] * 4, [-900.0, -jnp.inf, 0.0, -90.0]]
  )
  np.testing.assert_allclose(particles.effective_size(importance), [3, 0, 1], rtol=1e-5)
