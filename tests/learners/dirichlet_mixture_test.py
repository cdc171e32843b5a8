import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

from metapers import learners
from metapers.core import task
from metapers.core.task import Candidates
from metapers.learners import dirichlet_mixture as subject

KEY = jax.random.key(0)
CONTEXT = np.zeros(0, np.float32)
ALPHA, SCALE = 0.3, 4.0
ONE_CELL = {'concentrations': (ALPHA,), 'scales': (SCALE,), 'outside_prior': 1e-6}


@functools.cache
def made(num_features, **options):
  """A learner with parameters that `init` of another number of features made, and its functions."""
  learner = learners.make('dirichlet_mixture', num_features=num_features, **options)
  params = learners.make('dirichlet_mixture', num_features=10, **options).init(KEY)
  return learner, params, jax.jit(learner.adapt), jax.jit(learner.predict)


def pairs(chosen, rejected):
  """Comparisons [N] of pairs, the first of each chosen."""
  features = jnp.stack([jnp.asarray(chosen), jnp.asarray(rejected)], 1).astype(jnp.float32)
  candidates = Candidates(features, jnp.ones(features.shape[:2], bool))
  return task.choices(candidates, jnp.zeros(features.shape[0], jnp.int32))


def probability(made, support, chosen, rejected):
  """P(chosen over rejected), [N]."""
  _, params, adapt, predict = made
  state = adapt(params, support, CONTEXT, KEY)
  return np.exp(predict(params, state, pairs(chosen, rejected).candidates))[:, 0]


def exact(support_gaps, gaps, concentration, scale, num_draws=400_000):
  """P(choice) of a Dirichlet user by so many draws of NumPy's own."""
  rng = np.random.default_rng(7)
  weights = scale * rng.dirichlet(np.full(gaps.shape[1], concentration), num_draws)
  agreed, answered = (1 / (1 + np.exp(-weights @ x.T)) for x in (support_gaps, gaps))
  likelihood = agreed.prod(1)
  return likelihood @ answered / likelihood.sum()


@pytest.mark.parametrize('num_features', [2, 4, 10, 16])
def test_it_is_the_exact_posterior_of_any_number_of_features(num_features):
  """The parameters are those of ten features; the answer is NumPy's for as many as are given."""
  rng = np.random.default_rng(num_features)
  chosen, rejected, a, b = rng.normal(size=(4, 6, num_features))
  found = probability(made(num_features, **ONE_CELL), pairs(chosen, rejected), a, b)
  np.testing.assert_allclose(found, exact(chosen - rejected, a - b, ALPHA, SCALE), atol=0.03)


def test_more_features_than_draws_are_kept_for_have_draws_of_their_own():
  learner = learners.make('dirichlet_mixture', num_features=20)
  heads = subject.heads_of(learner.init(KEY)['bank'], 20)
  np.testing.assert_allclose(jnp.abs(heads).sum(1)[:8], np.resize(subject.SCALES, 8), rtol=1e-5)
  assert heads.shape == (4096 + 512, 20)


def test_the_order_of_the_features_hardly_matters():
  rng = np.random.default_rng(1)
  chosen, rejected, a, b = rng.normal(size=(4, 8, 10))
  first = probability(made(10), pairs(chosen, rejected), a, b)
  order = rng.permutation(10)
  other = (x[:, order] for x in (a, b))
  second = probability(made(10), pairs(chosen[:, order], rejected[:, order]), *other)
  np.testing.assert_allclose(first, second, atol=0.05)


def test_what_was_said_again_is_never_held_against_itself():
  """E[p^(n+1)] / E[p^n] does not fall with n: a moment inequality, of 40 pairs."""
  rng = np.random.default_rng(2)
  a, b = 3 * rng.normal(size=(2, 40, 10))
  learner, params, _, _ = made(10)

  def of_pair(a, b, times):
    support = pairs(jnp.tile(a[None], (64, 1)), jnp.tile(b[None], (64, 1)))
    state = learner.adapt(params, task.with_shots(support, times), CONTEXT, KEY)
    return jnp.exp(learner.predict(params, state, pairs(a[None], b[None]).candidates))[0, 0]

  every = jax.jit(jax.vmap(jax.vmap(of_pair, (0, 0, None)), (None, None, 0)))
  found = every(a, b, jnp.array([0, 1, 2, 8, 32, 64]))
  assert np.all(np.diff(found, axis=0) > -1e-5)
  assert found[-1].min() > 0.8


def test_answers_that_contradict_each_other_are_believed_as_the_exact_posterior_does():
  rng = np.random.default_rng(3)
  a, b = rng.normal(size=(2, 20, 4))
  cell = made(4, **ONE_CELL | {'concentrations': (1.0,)})
  for row in range(20):
    one, other = a[row : row + 1], b[row : row + 1]
    support = pairs(np.concatenate([one, other] * 6), np.concatenate([other, one] * 6))
    gaps = np.concatenate([one - other, other - one] * 6)
    expected = exact(gaps, one - other, 1.0, SCALE)
    np.testing.assert_allclose(probability(cell, support, one, other), expected, atol=0.05)


def test_shares_are_the_maximum_likelihood_estimate():
  """Against scipy's optimum of the same concave function, by softmax."""
  rng = np.random.default_rng(4)
  evidence = rng.normal(size=(30, 5)) * 2

  def negative(logits):
    log_shares = logits - np.logaddexp.reduce(logits)
    total = np.logaddexp.reduce(evidence + log_shares, axis=1).sum()
    return -total - 0.5 / 5 * log_shares.sum()

  best = optimize.minimize(negative, np.zeros(5), method='BFGS').x
  shares = np.exp(best - np.logaddexp.reduce(best))
  found = subject.fitted_shares(jnp.asarray(evidence, jnp.float32), 0.5)
  np.testing.assert_allclose(found, shares, atol=5e-3)


def test_the_fit_finds_the_cell_that_known_users_are_of():
  """200 users of α = 0.1 and s = 8, of a grid of nine cells."""
  options = {'concentrations': (0.01, 0.1, 1.0), 'scales': (2.0, 8.0, 32.0)}
  learner = learners.make('dirichlet_mixture', num_features=4, num_fit_particles=9 * 256, **options)
  rng = np.random.default_rng(5)
  features = rng.normal(size=(200, 40, 2, 4))
  utilities = np.einsum('unkd,ud->unk', features, 8 * rng.dirichlet(np.full(4, 0.1), 200))
  choice = np.argmax(utilities + rng.gumbel(size=utilities.shape), -1)
  histories = users_of(features, choice)
  shares = jax.jit(learner.prepare)(learner.init(KEY), histories, KEY)['shares']
  assert np.argmax(shares) == 4
  assert shares[4] > 0.6


def users_of(features, choice):
  """Histories of U users."""
  candidates = Candidates(jnp.asarray(features, jnp.float32), jnp.ones(features.shape[:3], bool))
  choices = task.choices(candidates, jnp.asarray(choice, jnp.int32))
  users = jnp.arange(len(choice), dtype=jnp.int32)
  return task.Task(choices, choices, users, jnp.zeros((len(choice), 0)))


def test_without_known_users_every_cell_is_as_likely():
  learner = learners.make('dirichlet_mixture', num_features=3)
  params = learner.init(KEY)
  nobody = users_of(np.zeros((0, 2, 2, 3)), np.zeros((0, 2)))
  same = learner.prepare(params, nobody, KEY)
  np.testing.assert_allclose(same['shares'], 1 / 48, rtol=1e-6)


def flagged(weights, scale, num_shots=64):
  """Share of users whose surprise is ever raised, by utilities that are `scale * weights`."""
  rng = np.random.default_rng(6)
  num_users, num_features = weights.shape
  features = rng.normal(size=(num_users, num_shots, 2, num_features))
  utilities = scale * np.einsum('unkd,ud->unk', features, weights)
  histories = users_of(features, np.argmax(utilities + rng.gumbel(size=utilities.shape), -1))
  learner, params, _, _ = made(num_features, num_particles=1024, num_outside=256)
  adapt = jax.jit(jax.vmap(learner.adapt, (None, 0, 0, None)))
  return adapt(params, histories.support, histories.context, KEY).surprise.is_flagged.mean()


def test_few_users_of_the_prior_are_ever_flagged_and_most_from_outside_are():
  rng = np.random.default_rng(8)
  assert flagged(rng.dirichlet(np.full(10, 0.1), 100), 8.0) <= 0.05
  disliking = rng.normal(size=(100, 10))
  assert flagged(disliking / np.abs(disliking).sum(1, keepdims=True), 32.0) > 0.6


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'concentrations': (0.1, 0.0)}, 'concentrations must be positive'),
    ({'scales': ()}, 'scales must be positive'),
    ({'outside_prior': 0.0}, 'outside_prior must lie between 0 and 1'),
    ({'num_outside': 0}, 'num_outside must be at least 1'),
  ],
)
def test_options_out_of_range_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    learners.make('dirichlet_mixture', num_features=3, **options)


def test_people_who_may_say_more_than_a_choice_are_refused():
  expected = r'dirichlet_mixture .* \(tie, strong\) .* another learner, .* or as_pairs'
  with pytest.raises(ValueError, match=expected):
    learners.make('dirichlet_mixture', num_features=5, outcomes=('strong', 'tie'))
