import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from metapers import learners
from metapers.core import task
from metapers.core.task import Candidates, Task
from metapers.learners import linear_head, simplex_prior

D = 3
ALPHA = np.array([2.0, 0.3, 0.3])
SCALE = 6.0
KEY = jax.random.key(0)
CONTEXT = jnp.zeros(0)
SIMPLEX = {'signed': False, 'num_particles': 256, 'fit_learning_rate': 0.05}


def people(num_users=150, num_comparisons=24, scale=SCALE, signs=1.0):
  """Tasks of users whose weights are Dirichlet(ALPHA) times a scale."""
  rng = np.random.default_rng(0)
  weights = signs * scale * rng.dirichlet(ALPHA, num_users)
  x = rng.normal(size=(num_users, num_comparisons, 2, D)).astype(np.float32)
  noise = rng.gumbel(size=x.shape[:3])
  choice = (np.einsum('unkd,ud->unk', x, weights) + noise).argmax(-1).astype(np.int32)
  mask = np.ones(x.shape[:3], bool)
  given = jax.vmap(task.choices)(
    *jax.tree.map(jnp.asarray, (Candidates(x, mask), choice, mask[..., 0]))
  )
  empty = jax.tree.map(lambda leaf: leaf[:, :0], given)
  users = jnp.arange(num_users, dtype=jnp.int32)
  return Task(given, empty, users, jnp.zeros((num_users, 0)))


def make(**options):
  return learners.make('empirical_bayes', num_features=D, **options)


@functools.cache
def fitted(prior, inference='importance', **options):
  learner = make(prior=prior, inference=inference, fit_steps=60, **SIMPLEX | options)
  return learner, jax.jit(learner.prepare)(learner.init(KEY), people(), KEY)


def test_the_concentration_and_scale_of_made_up_people_are_found():
  _, params = fitted('dirichlet')
  found = np.exp(params['prior']['log_concentration'])
  np.testing.assert_allclose(found / found.sum(), ALPHA / ALPHA.sum(), atol=0.1)
  assert 0.5 < found.sum() / ALPHA.sum() < 2
  np.testing.assert_allclose(np.exp(params['prior']['log_scale']), SCALE, rtol=0.3)


def test_a_logistic_normal_has_the_mean_and_spread_of_made_up_people():
  _, params = fitted('logistic_normal')
  weights = params['bank']['heads'] / np.exp(params['prior']['log_scale'])
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
  mean = ALPHA / ALPHA.sum()
  np.testing.assert_allclose(weights.mean(0), mean, atol=0.1)
  sd = np.sqrt(mean * (1 - mean) / (1 + ALPHA.sum()))
  np.testing.assert_allclose(weights.std(0), sd, rtol=0.5)


def test_the_scale_of_noiseless_people_is_finite():
  learner = make(fit_steps=60, **SIMPLEX)
  params = jax.jit(learner.prepare)(learner.init(KEY), people(scale=1e4), KEY)
  assert 8 < np.exp(params['prior']['log_scale']) < 200


def test_a_few_people_move_the_prior_no_further_than_its_spread_allows():
  family = simplex_prior.Family(
    lambda width: {'log_scale': jnp.log(jnp.float32(5))},
    lambda params, key, num_draws: jnp.zeros((num_draws, 1)),  # one weight, of 1
  )
  contrasts = np.array([1.0, 0.5], np.float32)  # of two people, in favour of what they chose
  x = jnp.asarray(np.stack([contrasts, 0 * contrasts], -1)[:, None, :, None])
  given = task.choices(Candidates(x, jnp.ones((2, 1, 2), bool)), jnp.zeros((2, 1), jnp.int32))
  known = Task(given, given, jnp.arange(2, dtype=jnp.int32), jnp.zeros((2, 0)))
  options = {'num_draws': 1, 'num_steps': 400, 'learning_rate': 0.1, 'signed': False}
  found = simplex_prior.fit(family, family.init(1), known, (KEY, KEY), **options)['log_scale']

  def energy(log_scale):
    away = (log_scale - np.log(5)) / 2
    return np.logaddexp(0, -np.exp(log_scale) * contrasts).sum() + away**2 / 2

  expected = optimize.minimize_scalar(energy, bounds=(0, 9), method='bounded').x
  np.testing.assert_allclose(found, expected, atol=1e-3)


def test_what_people_dislike_has_a_weight_of_its_own():
  tasks = people(signs=np.array([1.0, -1.0, 1.0]))
  learner = make(fit_steps=60, num_particles=256, fit_learning_rate=0.05)
  params = jax.jit(learner.prepare)(learner.init(KEY), tasks, KEY)
  np.testing.assert_array_equal(np.sign(params['bank']['heads'].mean(0)), [1, -1, 1])


@pytest.mark.parametrize('prior', ['dirichlet', 'logistic_normal'])
def test_the_fit_raises_the_marginal_likelihood(prior):
  learner, params = fitted(prior)
  tasks = people()

  def evidence(params):
    def of_one(given):
      state = learner.adapt(params, given, CONTEXT, KEY)
      return jax.nn.logsumexp(state.log_likelihood) - jnp.log(SIMPLEX['num_particles'])

    return float(jax.vmap(of_one)(tasks.support).mean())

  assert evidence(params) > evidence(learner.init(KEY)) + 0.2


def test_draws_are_those_of_the_prior():
  prior = {
    'log_concentration': jnp.log(jnp.asarray(ALPHA, jnp.float32)),
    'log_scale': jnp.zeros(()),
  }
  drawn = np.exp(simplex_prior.dirichlet().draw(prior, KEY, 20000))
  mean = ALPHA / ALPHA.sum()
  np.testing.assert_allclose(drawn.mean(0), mean, atol=0.01)
  np.testing.assert_allclose(drawn.var(0), mean * (1 - mean) / (1 + ALPHA.sum()), rtol=0.05)


def normal_prior():
  rng = np.random.default_rng(1)
  prior = {'mean': rng.normal(size=D), 'root': rng.normal(size=(D, D)), 'log_scale': 1.0}
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), prior)


def test_laplace_is_at_the_mode_that_a_general_minimiser_finds():
  prior = normal_prior()
  given = task.take(people(num_users=1, num_comparisons=6).support, 0)
  x = np.float64(given.candidates.features)
  rows = x[np.arange(6), given.choice] - x[np.arange(6), 1 - np.asarray(given.choice)]

  def head(z):
    a = np.float64(prior['mean']) + np.float64(prior['root']) @ z
    return np.e * np.exp(a) / np.exp(a).sum()

  def energy(z):
    return np.logaddexp(0, -rows @ head(z)).sum() + 0.5 * z @ z

  found = simplex_prior.laplace(
    prior, given.candidates.features, given, KEY, signed=False, num_steps=20, num_samples=4
  )
  mode = optimize.minimize(energy, np.zeros(D), tol=1e-10).x
  np.testing.assert_allclose(found.mean, mode, atol=2e-3)
  slopes = optimize.approx_fprime(mode, head, 1e-6)
  p = 1 / (1 + np.exp(-rows @ head(mode)))
  through = rows @ slopes
  precision = np.eye(D) + (through.T * (p * (1 - p))) @ through
  np.testing.assert_allclose(found.covariance, np.linalg.inv(precision), atol=5e-3)


def test_laplace_predicts_nearly_what_importance_sampling_does():
  _, params = fitted('logistic_normal')
  tasks = jax.tree.map(lambda x: x[:20], people())
  supports = jax.vmap(lambda given: task.with_shots(given, 6))(tasks.support)

  def predict(inference):
    learner = make(prior='logistic_normal', inference=inference, num_samples=200, **SIMPLEX)

    def of_one(support, given):
      state = learner.adapt(params, support, CONTEXT, KEY)
      return jnp.exp(learner.predict(params, state, given.candidates))

    return jax.vmap(of_one)(supports, tasks.support)

  assert np.abs(predict('laplace') - predict('importance')).mean() < 0.06


@functools.cache
def gaussian():
  """`gaussian_prior`, prepared, and the comparisons of one user."""
  tasks = jax.tree.map(lambda x: x[:20], people())
  learner = learners.make('gaussian_prior', num_features=D, num_samples=64)
  return learner, learner.prepare(learner.init(KEY), tasks, KEY), tasks


def test_the_gaussian_prior_is_that_of_gaussian_prior():
  _, expected, tasks = gaussian()
  learner = make(prior='gaussian', inference='laplace')
  found = learner.prepare(learner.init(KEY), tasks, KEY)
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_expectation_propagation_is_of_that_prior_and_surer_of_users_than_their_mode():
  learner, params, tasks = gaussian()
  other = make(prior='gaussian', inference='ep')
  support = task.take(tasks.support, 0)
  by_mode, by_mean = (each.adapt(params, support, CONTEXT, KEY) for each in (learner, other))
  assert isinstance(by_mean, linear_head.Posterior)
  # Posteriors of logistic choices are skewed away from the prior, and their means lie farther out.
  assert 1 < np.linalg.norm(by_mean.mean) / np.linalg.norm(by_mode.mean) < 1.5
  shown = support.candidates
  found, expected = (
    jnp.exp(each.predict(params, state, shown))
    for each, state in ((other, by_mean), (learner, by_mode))
  )
  np.testing.assert_allclose(found, expected, atol=0.1)


@pytest.mark.parametrize(
  ('prior', 'inference', 'reason'),
  [
    ('dirichlet', 'ep', "no Gaussian vector.*choose 'importance'"),
    ('dirichlet', 'laplace', 'its mode is not inside'),
    ('logistic_normal', 'ep', "not linear.*choose 'laplace' or 'importance'"),
    ('gaussian', 'importance', "too few of its draws.*choose 'laplace' or 'ep'"),
    ('gaussian', 'exact', 'none of that name'),
    ('cauchy', 'laplace', 'known: gaussian, logistic_normal, dirichlet'),
  ],
)
def test_what_a_prior_cannot_be_inferred_by_is_refused_with_the_reason(prior, inference, reason):
  with pytest.raises(ValueError, match=reason):
    make(prior=prior, inference=inference)


def test_histories_of_nobody_are_refused():
  learner = make(**SIMPLEX)
  nobody = jax.tree.map(lambda x: x[:0], people(num_users=2))
  with pytest.raises(ValueError, match='no users'):
    learner.prepare(learner.init(KEY), nobody, KEY)


@pytest.mark.parametrize('prior', ['dirichlet', 'logistic_normal'])
def test_weights_that_are_never_negative_refuse_answers_beside_a_choice(prior):
  sizes = {'num_features': D, 'outcomes': ('strong',)}
  with pytest.raises(ValueError, match=r'empirical_bayes .*signed=False .* \(strong\) .* as_pairs'):
    learners.make('empirical_bayes', **sizes, prior=prior, signed=False)
  learners.make('empirical_bayes', **sizes, prior=prior)
  learners.make('empirical_bayes', **sizes, prior='gaussian', inference='ep', signed=False)
