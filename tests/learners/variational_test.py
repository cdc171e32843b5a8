import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from metapers import learners
from metapers.core import choice_model, task
from metapers.learners import diagonal, variational
from metapers.learners.diagonal import Gaussian
from metapers.populations import toy

SMALL = {'num_features': 3, 'hidden': 4, 'width': 4}


def episode(**sizes):
  return toy.two_types(num_features=3, num_support=4, num_query=6, **sizes).episode_of(
    (), jnp.asarray(0), 'train'
  )[0]


def nll(learner, params, state, query):
  return float(choice_model.nll(learner.predict(params, state, query.candidates), query))


def test_divergence_is_the_integral():
  q = Gaussian(jnp.array([0.3, -1.0]), jnp.array([-0.5, 0.4]))
  p = Gaussian(jnp.array([0.0, 0.5]), jnp.array([0.2, -0.3]))
  expected = 0.0
  for j in range(2):
    one, other = (
      stats.norm(float(g.mean[j]), np.exp(float(g.log_variance[j]) / 2)) for g in (q, p)
    )
    expected += integrate.quad(
      lambda x, one=one, other=other: one.pdf(x) * (one.logpdf(x) - other.logpdf(x)), -12, 12
    )[0]
  np.testing.assert_allclose(diagonal.divergence(q, p), expected, rtol=1e-5)


def test_draws_have_the_moments():
  of = Gaussian(jnp.array([0.3, -1.0]), jnp.array([-0.5, 0.4]))
  drawn = diagonal.draw(of, jax.random.key(0), 40_000)
  np.testing.assert_allclose(drawn.mean(0), of.mean, atol=0.03)
  np.testing.assert_allclose(np.log(drawn.var(0)), of.log_variance, atol=0.03)


def test_guidance_is_0_for_opposite_means_of_one_spread_and_most_for_the_same_means():
  mean, spread = jnp.array([1.0, -2.0]), jnp.array([0.5, 0.1])
  plain = Gaussian(mean, spread)
  guide = variational.swap_guidance
  assert np.isclose(guide(plain, Gaussian(-3 * mean, 2 * spread), 0.7), 0, atol=1e-5)
  assert np.isclose(guide(plain, Gaussian(mean, -spread), 0.7), 1 + 0.7, atol=1e-4)
  across = Gaussian(jnp.array([2.0, 1.0]), spread)
  assert np.isclose(guide(plain, across, 0.7), 0.5, atol=1e-5)
  nothing = Gaussian(jnp.zeros(2), jnp.zeros(2))
  gradient = jax.grad(lambda g: guide(g, g, 1.0))(nothing)
  assert np.isfinite(jnp.stack(gradient)).all()


def test_scaled_has_norm_root_of_its_size():
  z = variational.scaled(jnp.array([3.0, 4.0, 0.0]))
  np.testing.assert_allclose(z, np.sqrt(3) * np.array([0.6, 0.8, 0.0]), rtol=1e-5, atol=1e-6)


def test_a_deterministic_np_btl_has_the_nll_after_adapting_as_its_loss():
  learner = learners.make('np_btl', **SMALL, num_heads=2)
  params = learner.init(jax.random.key(0))
  given = episode()
  state = learner.adapt(params, given.support, given.context, jax.random.key(1))
  assert state.shape == (4,)
  loss, _ = learner.loss(params, given, jax.random.key(2))
  np.testing.assert_allclose(loss, nll(learner, params, state, given.query), rtol=1e-5)


def test_a_latent_np_btl_draws_from_what_support_and_query_tell_and_pays_for_it():
  weight = 0.3
  learner = learners.make('np_btl', **SMALL, num_heads=2, kl_weight=weight)
  params = learner.init(jax.random.key(0))
  given, key = episode(), jax.random.key(2)
  encoder = variational.latent_encoder(3, variational.Sizes(4, 4, 1, 2), 8, odd=False)
  prior, posterior = (
    Gaussian(*jnp.split(encoder.apply(params['encoder'], choices), 2))
    for choices in (given.support, task.concat(given.support, given.query))
  )
  state = learner.adapt(params, given.support, given.context, key)
  np.testing.assert_allclose(state, prior.mean, rtol=1e-5, atol=1e-6)
  z = diagonal.draw(posterior, key, 1)[0]
  expected = nll(learner, params, z, given.query)
  expected += weight * diagonal.divergence(posterior, prior)
  loss, _ = learner.loss(params, given, key)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize('num_candidates', [2, 3])
def test_loss_of_vpl_and_spl_is_as_written(num_candidates):
  options = {'kl_weight': 0.2, 'swap_weight': 0.5, 'swap_spread': 0.7, 'num_samples': 3}
  learner = learners.make('spl', **SMALL, **options)
  params = learner.init(jax.random.key(0))
  given, key = episode(num_candidates=num_candidates), jax.random.key(2)
  encoder = variational.latent_encoder(3, variational.Sizes(4, 4, 1, 1), 8, odd=False)
  plain, swapped = (
    Gaussian(*jnp.split(jnp.tanh(encoder.apply(params['encoder'], given.support, is_swapped)), 2))
    for is_swapped in (False, True)
  )
  z = diagonal.draw(plain, key, 1)[0]
  nll_of_draw = nll(learner, params, variational.Latent(z, z[None]), given.query)
  kl = 0.5 * jnp.sum(plain.mean**2 + jnp.exp(plain.log_variance) - 1 - plain.log_variance)
  guidance = variational.swap_guidance(plain, swapped, 0.7)
  loss, metrics = learner.loss(params, given, key)
  np.testing.assert_allclose(loss, nll_of_draw + 0.2 * kl + 0.5 * guidance, rtol=1e-5)
  np.testing.assert_allclose(metrics['nll'], nll_of_draw, rtol=1e-5)
  without = learners.make('vpl', **SMALL, kl_weight=0.2, num_samples=3).loss(params, given, key)[0]
  np.testing.assert_allclose(without, nll_of_draw + 0.2 * kl, rtol=1e-5)


def test_vpl_predicts_by_the_mean_and_samples_by_draws():
  learner = learners.make('vpl', **SMALL, num_samples=3)
  params = learner.init(jax.random.key(0))
  given = episode()
  state = learner.adapt(params, given.support, given.context, jax.random.key(1))
  candidates = given.query.candidates
  sampled = learner.sample(params, state, candidates)
  assert learner.has_posterior and sampled.shape == (3, 6, 2)
  moved = state._replace(draws=jnp.broadcast_to(state.mean, state.draws.shape))
  scores = learner.score(params, moved, candidates)
  np.testing.assert_allclose(learner.score(params, state, candidates), scores)
  same = learner.sample(params, moved, candidates)
  np.testing.assert_allclose(same, np.broadcast_to(scores, same.shape), rtol=1e-4, atol=1e-6)
  assert np.abs(state.mean).max() < 1


@pytest.mark.parametrize(
  ('name', 'options', 'message'),
  [
    ('np_btl', {'kl_weight': -1.0}, 'kl_weight must be at least 0, got -1.0'),
    ('vpl', {'swap_weight': -1.0}, 'swap_weight must be at least 0'),
    ('spl', {'swap_weight': 0.0}, 'swap_weight must be positive, got 0.0'),
    ('vpl', {'num_samples': 0}, 'num_samples must be at least 1'),
    ('vpl', {'num_heads': 3}, 'num_heads must divide width'),
    ('transformer_np', {'num_slots': 0}, 'num_slots must be at least 1'),
    ('transformer_np', {'num_cross_layers': 0}, 'num_cross_layers must be at least 1'),
  ],
)
def test_options_out_of_range_are_refused(name, options, message):
  with pytest.raises(ValueError, match=message):
    learners.make(name, num_features=3, **options)
