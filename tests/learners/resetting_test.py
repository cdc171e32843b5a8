"""The learner that forgets what is outdated, against the posterior of all starts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers import learners
from metapers.core import task
from metapers.core.task import Candidates
from metapers.evaluation import change_points
from metapers.learners import resetting
from metapers.testing.subject import quick_jit

D, N = 3, 6
INNER = {'name': 'dirichlet_mixture', 'num_particles': 64, 'num_outside': 8}
KEY, NOTHING = jax.random.key(1), jnp.zeros(0)


def comparisons(seed=0, masked=(), size=N):
  """Of someone who likes the first feature, then what the first comparisons speak against."""
  rng = np.random.default_rng(seed)
  features = jnp.asarray(3 * rng.normal(size=(size, 2, D)), jnp.float32)
  direction = jnp.where(jnp.arange(size)[:, None] < 3, jnp.eye(D)[0], -jnp.eye(D)[0])
  choice = jnp.argmax(jnp.einsum('nkd,nd->nk', features, direction), -1)
  mask = jnp.ones(size, bool).at[jnp.asarray(masked, int)].set(False)
  return task.choices(Candidates(features, jnp.ones((size, 2), bool)), choice, mask)


@functools.cache
def made(**options):
  learner = learners.make('resetting', num_features=D, inner=INNER, **options)
  return learner, learner.init(jax.random.key(0))


@functools.cache
def compiled(function):
  return quick_jit(function)


def adapted(learner, params, support):
  return compiled(learner.adapt)(params, support, NOTHING, KEY)


@functools.cache
def alone():
  kwargs = {name: value for name, value in INNER.items() if name != 'name'}
  return learners.make(INNER['name'], num_features=D, **kwargs)


@pytest.mark.parametrize('masked', [(), (1,)])
def test_with_places_for_all_it_is_the_posterior_of_all_starts(masked):
  learner, params = made(hazard=0.2, num_starts=N + 1)
  given, one = comparisons(masked=masked), alone()
  find = jax.jit(lambda x: change_points.predictive(one, params, x, NOTHING, KEY))
  log_probs = find(given)
  log_p = change_points.chosen(log_probs, given)
  starts = change_points.posterior(log_p, given.mask, 0.2)
  wanted = change_points.mixture(log_probs, starts.before, given.candidates.mask)
  for n in np.flatnonzero(given.mask).tolist():
    state = adapted(learner, params, task.with_shots(given, int(given.mask[:n].sum())))
    found = compiled(learner.predict)(params, state, given.candidates)
    np.testing.assert_allclose(np.exp(found[n]), np.exp(wanted[n]), rtol=1e-4, err_msg=str(n))
    np.testing.assert_allclose(
      np.sort(np.exp(state.log_weights))[::-1][:N],
      np.sort(np.exp(starts.before[n]))[::-1],
      atol=1e-5,
    )


def test_preferences_that_never_change_are_the_inner_learners():
  learner, params = made(hazard=0.0, num_starts=3)
  given, one = comparisons(), alone()
  state, own = adapted(learner, params, given), adapted(one, params, given)
  query = comparisons(seed=3).candidates
  for function, other in ((learner.predict, one.predict), (learner.score, one.score)):
    np.testing.assert_allclose(
      compiled(function)(params, state, query), compiled(other)(params, own, query), atol=1e-6
    )


def test_the_least_likely_start_gives_way_and_the_rest_share_what_is_left():
  learner, params = made(hazard=0.2, num_starts=3)
  state = adapted(learner, params, comparisons())
  shares = np.exp(state.log_weights)
  np.testing.assert_allclose(shares.sum(), 1, rtol=1e-5)
  assert np.isclose(shares, 0.2, rtol=1e-5).any()  # of a change just now


def test_what_is_outdated_is_forgotten():
  learner, params = made(hazard=0.05, num_starts=N + 1)
  plain, _ = made(hazard=0.0, num_starts=3)
  given = comparisons(size=12)
  query = comparisons(size=12, seed=5).candidates
  turned = jnp.argmin(query.features[..., 0], -1)
  p, q = (
    np.exp(compiled(one.predict)(params, adapted(one, params, given), query))[
      np.arange(12), turned
    ].mean()
    for one in (learner, plain)
  )
  assert p > q


def test_weight_0_is_a_masked_comparison():
  learner, params = made(hazard=0.2, num_starts=N + 1)
  given = comparisons(masked=(2,))
  weightless = given._replace(mask=jnp.ones(N, bool), weight=given.weight.at[2].set(0))
  found, wanted = (adapted(learner, params, x) for x in (weightless, given))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, wanted)


def test_nothing_known_is_finite_and_the_prior():
  learner, params = made(hazard=0.2, num_starts=N + 1)
  state = adapted(learner, params, comparisons(masked=range(N)))
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
  query = comparisons(seed=3).candidates
  one = alone()
  own = adapted(one, params, comparisons(masked=range(N)))
  np.testing.assert_allclose(
    learner.predict(params, state, query), one.predict(params, own, query), atol=1e-5
  )


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'inner': {'name': 'cnp'}}, 'has no update'),
    ({'inner': {'name': 'nobody'}}, "unknown learner 'nobody'"),
    ({'hazard': 1.0}, 'hazard lie in'),
    ({'hazard': -0.1}, 'hazard lie in'),
    ({'num_starts': 1}, 'num_starts must be at least 2'),
    ({'num_samples': 0}, 'num_samples must be at least 1'),
    ({'outcomes': ('tie',)}, r'dirichlet_mixture .* \(tie\) .* or as_pairs'),
  ],
)
def test_what_cannot_be_is_refused(options, message):
  with pytest.raises(ValueError, match=message):
    resetting.resetting(D, **options)


@pytest.mark.parametrize('inner', ['pooled', 'lookup', 'dirichlet_mixture'])
def test_every_learner_that_is_recommended_adapts(inner):
  sizes = {'num_users': 3, 'num_histories': 3, 'history_length': N}
  learner = learners.make('resetting', num_features=D, **sizes, inner={'name': inner})
  params = learner.init(jax.random.key(0))
  given = comparisons()
  state = learner.adapt(params, given, NOTHING, KEY)
  for log_p in (
    learner.predict(params, state, given.candidates),
    learner.score(params, state, given.candidates),
    learner.sample(params, state, given.candidates),
  ):
    assert log_p.shape[-2:] == (N, 2) and jnp.isfinite(log_p).all()


def test_without_resets_a_posterior_is_the_inner_learners():
  inner = {'inner': {'name': 'pooled'}}
  assert not learners.make('resetting', num_features=D, **inner, hazard=0.0).has_posterior
  assert learners.make('resetting', num_features=D, **inner).has_posterior


def test_an_inner_learner_without_a_name_is_asked_for_one():
  with pytest.raises(ValueError, match=r"need its 'name', got \{'hidden': \(3,\)\}"):
    learners.make('resetting', num_features=D, inner={'hidden': (3,)})
