import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import linalg

from metapers import learners
from metapers.core import task
from metapers.learners import vrf
from metapers.learners.diagonal import Gaussian
from metapers.populations import toy

D, KEY = 4, jax.random.key(0)
SMALL = {'num_features': D, 'hidden': 8, 'width': 3, 'rank': 2}


def made(**options):
  learner = learners.make('vrf', **SMALL | options)
  return learner, learner.init(KEY)


def episode():
  return toy.two_types(num_features=D).episode_of((), jnp.asarray(0), 'train')[0]


def test_distances_are_wasserstein_of_full_covariances():
  rng = np.random.default_rng(0)
  user = Gaussian(*rng.normal(size=(2, 3)).astype(np.float32))
  bases = Gaussian(*rng.normal(size=(2, 4, 3)).astype(np.float32))
  found = vrf.squared_distances(*(jax.tree.map(jnp.asarray, one) for one in (user, bases)))
  for distance, mean, log_variance in zip(found, *bases, strict=True):
    one, other = np.diag(np.exp(user.log_variance)), np.diag(np.exp(log_variance))
    root = linalg.sqrtm(one)
    cross = linalg.sqrtm(root @ other @ root)  # Bures: tr(A + B - 2 (A^½ B A^½)^½)
    bures = np.trace(one + other - 2 * cross)
    np.testing.assert_allclose(distance, np.sum((user.mean - mean) ** 2) + bures, rtol=1e-4)


@pytest.mark.parametrize(('nll', 'least'), [(0.9, 0.8), (0.3, 0.0)])
def test_the_variance_that_attenuates_best_is_that_of_the_error(nll, least):
  grid = jnp.linspace(0, 3, 3001)
  values = jax.vmap(lambda v: vrf.attenuated(jnp.float32(nll), v))(grid)
  np.testing.assert_allclose(grid[jnp.argmin(values)], least, atol=5e-3)
  np.testing.assert_allclose(values[0], nll, rtol=1e-6)


def test_certain_users_count_more_in_the_gradient():
  slope = jax.grad(vrf.attenuated)
  certain, uncertain = (slope(jnp.float32(0.5), jnp.float32(v)) for v in (0.1, 1.0))
  np.testing.assert_allclose((certain, uncertain), (1 / 1.1, 0.5), rtol=1e-6)


def test_a_user_at_a_basis_far_from_the_others_has_its_reward():
  learner, params = made()
  params = params | {'places': jnp.array([[9.0, 0, 0], [-9.0, 0, 0]])}
  candidates = episode().query.candidates
  state = vrf.of_raw(params['places'][1], params['widths'][1])
  expected = candidates.features @ params['basis']['linear']['kernel'][:, 1]
  np.testing.assert_allclose(learner.score(params, state, candidates), expected, rtol=1e-5)
  between = Gaussian(jnp.zeros(3), jnp.zeros(3))
  mean = (candidates.features @ params['basis']['linear']['kernel']).mean(-1)
  np.testing.assert_allclose(learner.score(params, between, candidates), mean, rtol=1e-4, atol=1e-5)


def test_without_attenuation_and_divergence_the_loss_is_the_nll():
  learner, params = made(attenuation=0.0, kl_weight=0.0)
  value, metrics = learner.loss(params, episode(), KEY)
  np.testing.assert_allclose(value, metrics['nll'], rtol=1e-6)


def test_the_loss_adds_the_weighted_divergence_to_the_attenuated_nll():
  learner, params = made(attenuation=0.5, kl_weight=0.1)
  given = episode()
  value, metrics = learner.loss(params, given, KEY)
  mean, log_variance = map(np.asarray, learner.adapt(params, given.support, given.context, KEY))
  spread = np.exp(log_variance / 2)
  variance = 0.5 * np.mean(spread**2)
  divergence = np.sum(spread**2 + mean**2 - 1 - 2 * np.log(spread)) / 2
  expected = metrics['nll'] / (1 + variance) + np.log1p(variance) / 2 + 0.1 * divergence
  np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_without_comparisons_all_new_users_are_one():
  learner, params = made()
  nothing = task.with_shots(episode().support, 0)
  other = jax.tree.map(lambda x: x, nothing)
  other = other._replace(
    candidates=other.candidates._replace(features=other.candidates.features + 1)
  )
  states = [learner.adapt(params, each, jnp.zeros(0), KEY) for each in (nothing, other)]
  np.testing.assert_array_equal(states[0].mean, states[1].mean)
  assert np.isfinite(states[0].log_variance).all()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'rank': 0}, 'rank must be at least 1'),
    ({'kl_weight': -1.0}, 'kl_weight must be at least 0, got -1.0'),
    ({'attenuation': -1.0}, 'attenuation must be at least 0, got -1.0'),
  ],
)
def test_impossible_options_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    made(**options)
