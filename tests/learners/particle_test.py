import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from metapers import learners
from metapers.core import choice_model, outcomes, task
from metapers.core.task import Candidates, Task
from metapers.learners import particle, particle_bank

D, S, N, K = 2, 5, 6, 3
KEY = jax.random.key(0)
CONTEXT = np.zeros(0, np.float32)
TIE = ('tie',)


def learner(**options):
  return learners.make('particle', num_features=D, num_particles=S, num_samples=400, **options)


def params(scale=2.0):
  rng = np.random.default_rng(0)
  bank = {'heads': scale * rng.normal(size=(S, D)), 'log_weights': rng.normal(size=S)}
  return {'bank': jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), bank)}


@functools.cache
def comparisons(seed=1, num_real=N - 1):
  """Comparisons of three, the last of them masked, with weights of any size."""
  rng = np.random.default_rng(seed)
  features = rng.normal(size=(N, K, D)).astype(np.float32)
  mask = np.ones((N, K), bool)
  mask[1, 2] = False
  made = task.choices(
    *jax.tree.map(jnp.asarray, (Candidates(features, mask), rng.integers(0, 2, N))),
    weight=jnp.asarray(rng.uniform(0.2, 3, N), jnp.float32),
  )
  return task.with_shots(made, num_real)


def log_p_of(head, candidates):
  """Log-probabilities [N, K] of one user, in float64."""
  u = np.where(candidates.mask, np.float64(candidates.features) @ np.float64(head), -np.inf)
  return u - np.log(np.exp(u).sum(-1, keepdims=True))


def enumerated(given, shown):
  """Marginal log-likelihood of `given`, posterior, and P(choice) of `shown`, user by user."""
  bank = jax.tree.map(np.float64, params()['bank'])
  prior = np.exp(bank['log_weights']) / np.exp(bank['log_weights']).sum()
  joint = prior.copy()
  for s, head in enumerate(bank['heads']):
    log_p = log_p_of(head, given.candidates)
    for n in np.flatnonzero(given.mask):
      joint[s] *= np.exp(log_p[n, given.choice[n]]) ** float(given.weight[n])
  shares = joint / joint.sum()
  p = sum(q * np.exp(log_p_of(head, shown)) for q, head in zip(shares, bank['heads']))
  return np.log(joint.sum()), shares, p


def test_the_posterior_is_that_of_enumeration():
  given, shown = comparisons(), comparisons(seed=2).candidates
  _, shares, p = enumerated(given, shown)
  made = learner()
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), params())
    state = made.adapt(wide, given, CONTEXT, KEY)
    found = np.exp(made.predict(wide, state, shown))
    scores = made.score(wide, state, shown)
    drawn = made.sample(wide, state, shown)
  np.testing.assert_allclose(found, p, rtol=1e-9, atol=1e-12)
  expected = np.float64(shown.features) @ (shares @ np.float64(params()['bank']['heads']))
  np.testing.assert_allclose(scores, np.where(shown.mask, expected, 0), rtol=1e-9, atol=1e-12)
  # Systematic: each share is met to within one draw in 400.
  np.testing.assert_allclose(np.asarray(drawn).mean(0), scores, atol=0.05)


def test_the_loss_is_the_marginal_likelihood_of_all_comparisons():
  parts = comparisons(num_real=3), comparisons(seed=2)
  evidence, _, _ = enumerated(task.concat(*parts), parts[0].candidates)
  weight = sum(float(task.total_weight(part)) for part in parts)
  value, metrics = learner().loss(params(), Task(*parts, jnp.int32(0), CONTEXT), KEY)
  np.testing.assert_allclose(value, -evidence / weight, rtol=1e-5)
  _, _, p = enumerated(*parts[:1], parts[1].candidates)
  query = jax.tree.map(np.asarray, parts[1])
  chosen = np.log(p[np.arange(N), query.choice])
  expected = -np.average(chosen[query.mask], weights=query.weight[query.mask])
  np.testing.assert_allclose(metrics['nll'], expected, rtol=1e-5)


def test_the_loss_is_divided_by_weights_of_less_than_one_comparison():
  light = comparisons()._replace(weight=jnp.full(N, 0.1))
  none = task.with_shots(light, 0)
  evidence, _, _ = enumerated(light, light.candidates)
  value, _ = learner().loss(params(), Task(none, light, jnp.int32(0), CONTEXT), KEY)
  np.testing.assert_allclose(value, -evidence / (0.1 * (N - 1)), rtol=1e-5)


def test_one_more_comparison_is_reading_all_of_them():
  made, given = learner(), comparisons()
  state = made.adapt(params(), task.with_shots(given, 0), CONTEXT, KEY)
  for n in range(N):
    one = task.take(given, jnp.array([n]))
    state = made.update(params(), state, one, CONTEXT, KEY)
  expected = made.adapt(params(), given, CONTEXT, KEY)
  np.testing.assert_allclose(state.log_likelihood, expected.log_likelihood, rtol=1e-5)


def test_narrow_kernels_leave_the_reweighted_bank():
  given, shown = comparisons(), comparisons(seed=2).candidates
  still, moving = learner(), learner(num_moves=3, bandwidth=1e-3)
  found, expected = (
    made.predict(params(), made.adapt(params(), given, CONTEXT, KEY), shown)
    for made in (moving, still)
  )
  np.testing.assert_allclose(np.exp(found), np.exp(expected), atol=1e-4)
  assert moving.update is None


def test_without_comparisons_a_moving_bank_stays_where_it_is():
  none, shown = task.with_shots(comparisons(), 0), comparisons(seed=2).candidates
  found, expected = (
    made.predict(params(), made.adapt(params(), none, CONTEXT, KEY), shown)
    for made in (learner(num_moves=3, bandwidth=2.0), learner())
  )
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_kernel_weighs_what_an_integral_over_it_gives():
  bank = particle_bank.Bank(**params()['bank'])
  given, bandwidth = comparisons(), 0.5
  found = particle_bank.moved(
    bank, given.candidates.features, task.drop_masked(given), bandwidth=bandwidth, num_steps=6
  )
  axis = np.linspace(-6, 6, 121)
  away = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, D)
  normal = np.exp(-0.5 * (away**2).sum(-1))
  for s, head in enumerate(np.float64(bank.heads)):
    heads = jnp.asarray(head + bandwidth * away, jnp.float32)
    real = task.drop_masked(given)
    each = particle_bank.log_likelihoods(heads, real.candidates.features, real)
    likelihood = np.float64(each).sum(0)
    exact = np.log(normal @ np.exp(likelihood) / normal.sum())
    np.testing.assert_allclose(found.log_weights[s] - bank.log_weights[s], exact, atol=0.03)
    assert np.argmax(normal * np.exp(likelihood)) == np.argmin(
      np.linalg.norm(head + bandwidth * away - np.asarray(found.heads[s]), axis=-1)
    )


def test_contradicting_noiseless_choices_do_not_kill_a_moving_bank():
  """Users of the bank are sure, and none of them chose what this one did."""
  sure = params(scale=100.0)
  given = comparisons()
  made = learner(num_moves=8, bandwidth=30.0)
  log_p = made.predict(sure, made.adapt(sure, given, CONTEXT, KEY), given.candidates)
  still = learner()
  fixed = still.predict(sure, still.adapt(sure, given, CONTEXT, KEY), given.candidates)
  assert choice_model.nll(log_p, given) < 0.5 * choice_model.nll(fixed, given)


def histories():
  """Three users of one direction each, and one who did nothing."""
  directions = jnp.array([[3.0, 0], [0, 3], [-3, 0], [1, 1]])
  x = jax.random.normal(KEY, (4, 30, 2, D))
  choice = jnp.einsum('unkd,ud->unk', x, directions).argmax(-1)
  did = jnp.broadcast_to(jnp.array([True, True, True, False])[:, None], choice.shape)
  given = task.choices(Candidates(x, jnp.ones(x.shape[:3], bool)), choice, did)
  empty = jax.tree.map(lambda leaf: leaf[:, :0], given)
  return Task(given, empty, jnp.arange(4, dtype=jnp.int32), jnp.zeros((4, 0)))


def test_the_bank_starts_at_what_fits_known_users():
  made = learner(ridge=0.1)
  before = made.init(KEY)
  heads = made.start(before, histories(), KEY)['bank']['heads']
  unit = heads / np.linalg.norm(heads, axis=-1, keepdims=True)
  np.testing.assert_allclose(unit[:3], [[1, 0], [0, 1], [-1, 0]], atol=0.35)
  assert np.linalg.norm(heads[4] - heads[0]) > 0  # a copy of the first, with noise
  assert np.linalg.norm(heads[4] - heads[0]) < 2


def noisy(num_users=6, length=9, scale=0.5):
  """Users of whom some comparisons are masked, and the last of whom has none."""
  rng = np.random.default_rng(3)
  x = rng.normal(size=(num_users, length, 2, D)).astype(np.float32)
  heads = scale * rng.normal(size=(num_users, D))
  p_second = 1 / (1 + np.exp(np.einsum('und,ud->un', x[:, :, 0] - x[:, :, 1], heads)))
  choice = (rng.random(p_second.shape) < p_second).astype(np.int32)
  did = rng.random(p_second.shape) < 0.8
  did[-1] = False
  shown = Candidates(x, np.ones(x.shape[:3], bool))
  given = task.choices(*jax.tree.map(jnp.asarray, (shown, choice, did)))
  return Task(given, given, jnp.arange(num_users, dtype=jnp.int32), jnp.zeros((num_users, 0)))


def held_back_nll(ridge, known):
  """NLL of two comparisons in four by what fits the two before them, user by user in float64."""
  total = 0
  for user in range(len(known.user)):
    own = task.take(known.support, user)

    def nll(head, part, own=own):
      log_p = log_p_of(head, own.candidates)
      return -sum(log_p[n, own.choice[n]] for n in np.flatnonzero(own.mask) if n // 2 % 2 == part)

    def objective(head, nll=nll):
      return nll(head, 0) + ridge / 2 * head @ head

    total += nll(scipy.optimize.minimize(objective, np.zeros(D)).x, 1)
  return total


@pytest.mark.parametrize('scale', [0.5, 30.0])
def test_known_users_are_fitted_by_the_ridge_that_predicts_best(scale):
  known = noisy(scale=scale)
  every = [held_back_nll(ridge, known) for ridge in particle.RIDGES]
  best = particle.RIDGES[int(np.argmin(every))]
  np.testing.assert_allclose(jax.jit(particle.best_ridge)(known), best)
  made = learner(ridge=None)
  start, given = made.start(params(), known, KEY), learner(ridge=best).start(params(), known, KEY)
  np.testing.assert_allclose(start['bank']['heads'], given['bank']['heads'], rtol=1e-5)


def test_both_halves_of_a_tie_are_on_one_side():
  rng = np.random.default_rng(4)
  texts = outcomes.widened(jnp.asarray(rng.normal(size=(20, 12, 2, D)), jnp.float32), TIE)
  heads = 6 * rng.normal(size=(20, D))
  shown = outcomes.expand(Candidates(texts, jnp.ones(texts.shape[:3], bool)), TIE)
  utilities = np.einsum('unkd,ud->unk', shown.features[..., :D], heads)
  answer = (utilities + np.array([0, 0, 2]) + rng.gumbel(size=utilities.shape)).argmax(-1)
  assert 0.2 < (answer == 2).mean() < 0.5
  given = outcomes.as_pairs(task.choices(shown, jnp.asarray(answer)), TIE, 'halves')
  known = Task(given, given, jnp.arange(20, dtype=jnp.int32), jnp.zeros((20, 0)))
  assert particle.best_ridge(known) < 1


@pytest.mark.parametrize(
  'option', [{'num_particles': 0}, {'num_moves': -1}, {'bandwidth': 0.0}, {'ridge': 0.0}]
)
def test_options_out_of_range_are_refused(option):
  with pytest.raises(ValueError, match=next(iter(option))):
    learners.make('particle', num_features=D, **option)
