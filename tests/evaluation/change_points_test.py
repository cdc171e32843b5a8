"""The posterior of a change, against a sum over all segmentations of a few comparisons."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import choice_model, meta_learner, task
from metapers.core.task import Candidates
from metapers.evaluation import change_points

N, D, S = 5, 2, 3
KEY, NOTHING = jax.random.key(0), jnp.zeros(0)
USERS = np.random.default_rng(1).normal(size=(S, D)).astype(np.float32)
PRIOR = np.array([0.5, 0.3, 0.2], np.float32)


def log_likelihood(support):
  scores = jnp.einsum('nkd,sd->snk', support.candidates.features, jnp.asarray(USERS))
  shown = jax.vmap(choice_model.log_probs, (0, None))(scores, support.candidates.mask)
  each = jax.vmap(choice_model.chosen_log_probs, (0, None))(shown, support)
  weight = jnp.where(support.mask, support.weight, 0)
  return each @ weight


@functools.cache  # one object, so that it is compiled once
def types(has_update):
  """A learner of three types of users, with or without `update`."""

  def adapt(params, support, context, key):
    del params, context, key
    return log_likelihood(support)

  def update(params, user_state, comparison, context, key):
    return user_state + adapt(params, comparison, context, key)

  def predict(params, user_state, candidates):
    shares = jax.nn.softmax(jnp.log(jnp.asarray(PRIOR)) + user_state)
    scores = jnp.einsum('nkd,sd->snk', candidates.features, jnp.asarray(USERS))
    p = jax.vmap(choice_model.log_probs, (0, None))(scores, candidates.mask)
    return jnp.log(jnp.einsum('s,snk->nk', shares, jnp.exp(p)))

  return meta_learner.from_adapt_score(
    lambda key: {}, adapt, predict, predict=predict, update=update if has_update else None
  )


def comparisons(masked=(), seed=0, size=N):
  rng = np.random.default_rng(seed)
  features = jnp.asarray(2 * rng.normal(size=(size, 2, D)), jnp.float32)
  mask = jnp.ones(size, bool).at[jnp.asarray(masked, int)].set(False)
  choice = jnp.asarray(rng.integers(0, 2, size))
  weight = jnp.asarray(rng.integers(1, 3, size), jnp.float32)
  return task.choices(Candidates(features, jnp.ones((size, 2), bool)), choice, mask, weight)


@functools.cache
def compiled(has_update):
  return jax.jit(lambda given: change_points.predictive(types(has_update), {}, given, NOTHING, KEY))


def segment(likelihood, first, last):
  """Returns P(choices first..last-1) of one segment: a sum over the types."""
  return PRIOR @ likelihood[:, first:last].prod(1)


def by_segmentation(likelihood, num, hazard):
  """Returns P(start = m | choices 0..num-1) by a sum over all sets of changes, in float64."""
  total = np.zeros(likelihood.shape[1])
  for changes in itertools.product((False, True), repeat=num - 1):
    edges = [0, *(1 + np.flatnonzero(changes)), num]
    weight = np.prod([hazard if change else 1 - hazard for change in changes])
    total[edges[-2]] += weight * np.prod(
      [segment(likelihood, *e) for e in itertools.pairwise(edges)]
    )
  return total / total.sum()


def likelihoods(given):
  """Returns P(choice | type)^weight, [S, N], in float64."""
  features = np.asarray(given.candidates.features, np.float64)
  p = np.exp(np.einsum('nkd,sd->snk', features, USERS))
  p /= p.sum(-1, keepdims=True)
  return p[:, np.arange(p.shape[1]), np.asarray(given.choice)] ** np.asarray(given.weight)


def posterior(given, hazard, has_update=True):
  log_probs = compiled(has_update)(given)
  log_p = change_points.chosen(log_probs, given)
  return change_points.posterior(log_p, change_points.counted(given), hazard), log_probs


def power_evidence(given):
  """Returns a log-predictive whose products are the segments' evidence, weights included."""
  likelihood = likelihoods(given)
  log_p = np.zeros((N, N))
  for m in range(N):
    for n in range(m, N):
      log_p[m, n] = np.log(segment(likelihood, m, n + 1) / segment(likelihood, m, n))
  return jnp.asarray(log_p, jnp.float32)


@pytest.mark.parametrize('hazard', [0.1, 0.6])
def test_the_posterior_is_that_of_all_segmentations(hazard):
  given = comparisons()
  found = change_points.posterior(power_evidence(given), given.mask, hazard)
  for num in range(1, N + 1):
    wanted = by_segmentation(likelihoods(given), num, hazard)
    np.testing.assert_allclose(np.exp(found.after[num - 1]), wanted, rtol=2e-4, atol=1e-6)
    if num < N:  # a change before the next comparison
      before = (1 - hazard) * wanted + hazard * (np.arange(N) == num)
      np.testing.assert_allclose(np.exp(found.before[num]), before, rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize('has_update', [False, True])
def test_each_stretch_is_predicted_from_its_own_comparisons(has_update):
  given = comparisons(masked=(2,))
  log_probs = compiled(has_update)(given)
  likelihood = np.where(np.asarray(given.mask)[None], likelihoods(given), 1)
  p = np.exp(np.einsum('nkd,sd->snk', np.asarray(given.candidates.features, np.float64), USERS))
  p /= p.sum(-1, keepdims=True)
  for m in range(N):
    for n in range(m, N):
      share = PRIOR * likelihood[:, m:n].prod(1)
      np.testing.assert_allclose(
        np.exp(log_probs[m, n]), share @ p[:, n] / share.sum(), rtol=1e-4, err_msg=f'{m} {n}'
      )


def test_types_of_users_are_predicted_as_by_a_learner_of_them():
  given = comparisons(masked=(2,))
  scores = jnp.einsum('nkd,sd->nsk', given.candidates.features, jnp.asarray(USERS))
  log_p, log_prior = jax.nn.log_softmax(scores), jnp.log(jnp.asarray(PRIOR)) + 3  # unnormalised
  found = change_points.predictive_of_types(log_p, given, log_prior)
  wanted = compiled(True)(given)
  for m in range(N):
    np.testing.assert_allclose(found[m, m:], wanted[m, m:], rtol=1e-4, atol=1e-5)
    assert (found[m, :m] == -jnp.inf).all()


def test_a_masked_comparison_is_none():
  given = comparisons(masked=(0, 3))
  found, log_probs = posterior(given, 0.2)
  wanted = change_points.posterior(
    change_points.chosen(log_probs, given)[np.ix_([1, 2, 4], [1, 2, 4])], jnp.ones(3, bool), 0.2
  )
  # The first preferences start at 0, where nothing is yet.
  start = np.exp(found.after[-1])
  np.testing.assert_allclose(start[[0, 2, 4]], np.exp(wanted.after[-1]), rtol=1e-5)
  assert not start[[1, 3]].any()
  np.testing.assert_array_equal(found.after[2], found.after[3])


def test_what_stands_in_masked_entries_reaches_nothing():
  given = comparisons(masked=(1,))
  spoiled = given._replace(
    candidates=given.candidates._replace(
      features=jnp.where(given.mask[:, None, None], given.candidates.features, jnp.nan)
    ),
    weight=jnp.where(given.mask, given.weight, jnp.nan),
  )
  of_user = jax.jit(lambda x: change_points.starts(types(True), {}, x, NOTHING, KEY, 0.2))
  jax.tree.map(np.testing.assert_array_equal, of_user(spoiled), of_user(given))


def test_without_comparisons_nothing_has_changed():
  given = comparisons(masked=range(N))
  found, _ = posterior(given, 0.2)
  np.testing.assert_array_equal(np.exp(found.after[-1]), [1, 0, 0, 0, 0])
  np.testing.assert_array_equal(change_points.outdated(found.after[-1]), np.zeros(N))
  assert not change_points.alarms(found.after, 0.5).any()


def test_weight_0_is_a_masked_comparison():
  given = comparisons(masked=(2,))
  weightless = given._replace(mask=jnp.ones(N, bool), weight=given.weight.at[2].set(0))
  found, wanted = (posterior(x, 0.2)[0] for x in (weightless, given))
  np.testing.assert_allclose(np.exp(found.after), np.exp(wanted.after), atol=1e-6)


def test_preferences_that_never_change_are_predicted_as_the_learner_does():
  given = comparisons()
  found, log_probs = posterior(given, 0.0)
  mixed = change_points.mixture(log_probs, found.before, given.candidates.mask)
  np.testing.assert_allclose(mixed, log_probs[0], atol=1e-6)


def test_the_mixture_is_the_learners_by_the_probability_of_their_starts():
  given = comparisons()
  found, log_probs = posterior(given, 0.3)
  mixed = change_points.mixture(log_probs, found.before, given.candidates.mask)
  for n in range(N):
    wanted = sum(np.exp(found.before[n, m] + log_probs[m, n]) for m in range(n + 1))
    np.testing.assert_allclose(np.exp(mixed[n]), wanted, rtol=1e-5)
  np.testing.assert_allclose(np.exp(mixed).sum(-1), 1, rtol=1e-5)


def test_a_comparison_is_outdated_where_the_start_is_later():
  log_start = jnp.log(jnp.array([0.5, 0.0, 0.3, 0.2]))
  np.testing.assert_allclose(change_points.outdated(log_start), [0.5, 0.5, 0.2, 0.0], atol=1e-6)


def test_an_alarm_is_of_a_change_since_the_last_one():
  probability = np.array(
    [
      [1.0, 0.0, 0.0, 0.0, 0.0],
      [0.1, 0.9, 0.0, 0.0, 0.0],  # raised
      [0.0, 1.0, 0.0, 0.0, 0.0],  # of the same change
      [0.0, 0.2, 0.8, 0.0, 0.0],  # not sure enough of another
      [0.0, 0.0, 0.1, 0.0, 0.9],  # raised
    ]
  )
  with np.errstate(divide='ignore'):
    log_start = jnp.asarray(np.log(probability), jnp.float32)
  found = change_points.alarms(log_start, 0.85)
  np.testing.assert_array_equal(found, [False, True, False, False, True])
