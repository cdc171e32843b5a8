import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import meta_learner, task
from metapers.core.task import Candidates, Task

VOCABULARY, WIDTH, NUM_CANDIDATES = 10, 3, 2


def init(key):
  return {'words': jax.random.normal(key, (VOCABULARY,)), 'direction': jnp.ones(WIDTH)}


def utilities(params, features):
  return params['words'][features['ids']] + features['x'] @ params['direction']


def adapt(params, support, context, key):
  del key
  chosen = task.chosen_mask(support) * support.weight[:, None]
  about_user = params['words'][context['ids']].sum() + context['x'].sum()
  return {'shift': jnp.sum(chosen * utilities(params, support.candidates.features)) + about_user}


def score(params, user_state, candidates):
  return jnp.tanh(user_state['shift']) * utilities(params, candidates.features)


def update(params, user_state, comparison, context, key):
  before = adapt(params, task.with_shots(comparison, 0), context, key)
  after = adapt(params, comparison, context, key)
  return jax.tree.map(lambda old, new, base: old + new - base, user_state, after, before)


@functools.cache
def learner():
  return meta_learner.from_adapt_score(init, adapt, score, update=update)


def choices(num_comparisons, key):
  key_ids, key_x, key_choice = jax.random.split(key, 3)
  shape = (num_comparisons, NUM_CANDIDATES)
  features = {
    'ids': jax.random.randint(key_ids, shape, 0, VOCABULARY),
    'x': jax.random.normal(key_x, (*shape, WIDTH)),
  }
  choice = jax.random.randint(key_choice, (num_comparisons,), 0, NUM_CANDIDATES)
  return task.choices(Candidates(features, jnp.ones(shape, bool)), choice)


def episode():
  key_support, key_query = jax.random.split(jax.random.key(0))
  context = {'ids': jnp.array([1, 4]), 'x': jnp.array([0.5])}
  return Task(choices(4, key_support), choices(5, key_query), jnp.asarray(0), context)


def spoil(given, kept):
  """Masks all but the first comparisons and puts garbage of the right dtype there."""
  mask = jnp.arange(given.choice.size) < kept
  ids = jnp.where(mask[:, None], given.candidates.features['ids'], -(10**6))
  x = jnp.where(mask[:, None, None], given.candidates.features['x'], jnp.nan)
  return task.Choices(
    Candidates({'ids': ids, 'x': x}, given.candidates.mask),
    jnp.where(mask, given.choice, 10**6),
    mask,
    jnp.where(mask, given.weight, jnp.nan),
  )


def shortened(given, kept):
  return task.take(given, jnp.arange(kept))


def test_features_and_context_may_be_trees_and_masked_garbage_in_them_reaches_nothing():
  made, params, key = learner(), init(jax.random.key(1)), jax.random.key(2)
  clean = episode()._replace(
    support=shortened(episode().support, 2), query=shortened(episode().query, 3)
  )
  dirty = episode()._replace(support=spoil(episode().support, 2), query=spoil(episode().query, 3))
  losses = [
    jax.value_and_grad(lambda p, g=given: made.loss(p, g, key)[0])(params)
    for given in (clean, dirty)
  ]
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *losses)
  states = [made.adapt(params, given.support, given.context, key) for given in (clean, dirty)]
  assert np.allclose(states[0]['shift'], states[1]['shift'])
  log_p = made.predict(params, states[1], dirty.query.candidates)
  np.testing.assert_allclose(
    log_p[:3], made.predict(params, states[0], clean.query.candidates), rtol=1e-6
  )


def test_features_and_context_keep_their_dtypes():
  found = {}

  def look(params, support, context, key):
    found['features'], found['context'] = support.candidates.features, context
    return adapt(params, support, context, key)

  made = meta_learner.from_adapt_score(init, look, score)
  given = episode()
  made.loss(init(jax.random.key(1)), given, jax.random.key(2))
  dtypes = jax.tree.map(lambda x: x.dtype, found)
  expected = {'features': given.support.candidates.features, 'context': given.context}
  assert dtypes == jax.tree.map(lambda x: x.dtype, expected)


def test_start_and_prepare_are_called_once_with_clean_histories():
  calls = []

  def noted(name):
    def step(params, histories, key):
      del key
      calls.append((name, bool(jnp.all(jnp.isfinite(histories.support.candidates.features['x'])))))
      return params | {'direction': params['direction'] + 1}

    return step

  made = meta_learner.from_adapt_score(
    init, adapt, score, start=noted('start'), prepare=noted('prepare')
  )
  given = episode()._replace(support=spoil(episode().support, 2))
  histories = jax.tree.map(lambda x: x[None], given._replace(query=shortened(given.query, 0)))
  params = init(jax.random.key(1))
  for step in (made.start, made.prepare):
    params = step(params, histories, jax.random.key(2))
  assert calls == [('start', True), ('prepare', True)]
  np.testing.assert_array_equal(params['direction'], 3)


def test_a_learner_that_needs_no_histories_keeps_its_parameters():
  params = init(jax.random.key(1))
  assert learner().start(params, episode(), jax.random.key(2)) is params
  assert learner().prepare(params, episode(), jax.random.key(2)) is params


def test_one_comparison_after_another_is_all_of_them_and_a_masked_one_changes_no_bit():
  params, given, key = init(jax.random.key(1)), episode(), jax.random.key(2)
  state = learner().adapt(params, task.with_shots(given.support, 0), given.context, key)
  one_more = learner().update
  assert one_more is not None
  for n in range(4):
    comparison = task.take(given.support, jnp.array([n]))
    state = one_more(params, state, comparison, given.context, key)
    same = one_more(params, state, spoil(comparison, 0), given.context, key)
    assert same['shift'] == state['shift']
  expected = learner().adapt(params, given.support, given.context, key)
  assert np.allclose(state['shift'], expected['shift'], rtol=1e-5)


def test_a_learner_has_a_posterior_where_it_is_given_draws():
  def sample(params, user_state, candidates):
    return jnp.stack([score(params, user_state, candidates)] * 2)

  assert not learner().has_posterior
  assert meta_learner.from_adapt_score(init, adapt, score, sample=sample).has_posterior
  params, given = init(jax.random.key(1)), episode()
  state = learner().adapt(params, given.support, given.context, jax.random.key(2))
  drawn = learner().sample(params, state, given.query.candidates)
  np.testing.assert_array_equal(drawn, learner().score(params, state, given.query.candidates)[None])


@pytest.mark.parametrize('weight', [0.0, 2.0])
def test_weights_reach_adapt_and_the_loss(weight):
  params, given, key = init(jax.random.key(1)), episode(), jax.random.key(2)
  weighted = given.support._replace(weight=given.support.weight.at[0].set(weight))
  if weight:
    expected = task.concat(given.support, shortened(given.support, 1))
  else:
    expected = given.support._replace(mask=given.support.mask.at[0].set(False))
  states = [
    learner().adapt(params, part, given.context, key)['shift'] for part in (weighted, expected)
  ]
  assert np.allclose(*states, rtol=1e-5)


def test_a_support_without_rows_is_one_without_real_rows():
  def first_weight(params, support, context, key):
    return support.weight[0] + support.candidates.features['x'].sum()

  made = meta_learner.from_adapt_score(init, first_weight, score)
  given = episode()
  empty = jax.tree.map(lambda x: x[:0], given.support)
  found, expected = (
    made.adapt({}, support, given.context, jax.random.key(0))
    for support in (empty, task.with_shots(given.support, 0))
  )
  assert found == expected == 0
