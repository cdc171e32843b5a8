import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.llm import user_model

KEY = jax.random.key(0)
VOCABULARY = jax.random.normal(jax.random.key(1), (11, 3))


def test_soft_tokens_start_as_distinct_words():
  rows = np.asarray(user_model.rows_of(KEY, VOCABULARY, 6))
  places = [int(np.flatnonzero((np.asarray(VOCABULARY) == row).all(-1))[0]) for row in rows]
  assert len(set(places)) == 6
  assert user_model.rows_of(KEY, VOCABULARY, 14).shape == (14, 3)


def test_individuals_start_alike_and_unknown_ones_stay_generic():
  users = user_model.individual(4, 2)
  params = users.init(KEY, VOCABULARY)
  generic = users.generic(params)
  for row in (0, 3, 4):
    np.testing.assert_array_equal(users.known(params, jnp.asarray(row)), generic)
  params['offsets'] = params['offsets'].at[3].set(1.0)
  np.testing.assert_allclose(users.known(params, jnp.asarray(3)), generic + 1)
  for unknown in (4, 5, -1):
    np.testing.assert_array_equal(users.known(params, jnp.asarray(unknown)), generic)


def test_clusters_are_mixed_and_unknown_users_have_the_last_row():
  users = user_model.cluster(4, 2, num_clusters=3)
  params = users.init(KEY, VOCABULARY)
  params['logits'] = params['logits'].at[1].set(jnp.log(jnp.asarray([0.5, 0.25, 0.25])))
  expected = jnp.tensordot(jnp.asarray([0.5, 0.25, 0.25]), params['clusters'], 1)
  np.testing.assert_allclose(users.known(params, jnp.asarray(1)), expected, rtol=1e-6)
  params['logits'] = params['logits'].at[3].set(1.0 + jnp.arange(3))
  for unknown in (4, 5, -1, -2):
    found = users.known(params, jnp.asarray(unknown))
    np.testing.assert_array_equal(found, users.generic(params))


def test_a_new_user_has_the_posterior_of_the_clusters():
  users = user_model.cluster(2, 1, num_clusters=3)
  params = users.init(KEY, VOCABULARY)

  def loss(soft, sharpness):
    return sharpness * jnp.sum(soft**2)

  losses = np.asarray(jnp.sum(params['clusters'] ** 2, (1, 2)))
  odds = np.exp(np.asarray(params['logits'][-1]) - losses)
  expected = np.tensordot(odds / odds.sum(), np.asarray(params['clusters']), 1)
  np.testing.assert_allclose(users.fit(params, loss), expected, rtol=1e-5)


def test_choices_that_tell_nothing_leave_scores_as_they_are():
  users = user_model.cluster(2, 1, num_clusters=3)
  assert users.prepare(users.init(KEY, VOCABULARY), jnp.zeros_like)['sharpness'] == 1


def test_directions_are_the_second_moment_of_offsets():
  offsets = jax.random.normal(KEY, (5, 2, 3))
  found = user_model.directions(offsets, 5).reshape(5, -1)
  flat = offsets.reshape(5, -1)
  np.testing.assert_allclose(found.T @ found, flat.T @ flat / 5, atol=1e-5)


def test_a_new_individual_is_the_mode_of_their_posterior():
  users = user_model.individual(5, 2, shrinkage=0.5, inner_steps=200)
  params = users.init(KEY, VOCABULARY)
  params = users.prepare({**params, 'offsets': jax.random.normal(KEY, (5, 2, 3))}, None)
  target = jnp.ones((2, 3))

  def loss(soft):
    return 0.5 * jnp.sum((soft - target) ** 2)

  basis = np.asarray(params['directions'], float).reshape(5, -1)
  off = np.asarray(target - params['generic'], float).ravel()
  z = np.linalg.solve(basis @ basis.T + 0.5 * np.eye(5), basis @ off)
  expected = np.asarray(params['generic']) + (z @ basis).reshape(2, 3)
  np.testing.assert_allclose(users.fit(params, loss), expected, atol=1e-3)


def test_effective_clusters_count_equal_ones():
  logits = jnp.asarray([[9.0, -9, -9], [-9, 9, -9], [9, -9, -9], [-9, 9, -9]])
  np.testing.assert_allclose(user_model.effective_clusters(logits), 2, rtol=1e-3)
  np.testing.assert_allclose(user_model.effective_clusters(jnp.zeros((2, 3))), 3, rtol=1e-5)


def test_known_users_may_start_apart():
  vocabulary = 0.2 * jax.random.normal(KEY, (500, 16))
  alike, apart = (
    user_model.individual(50, 4, offset_scale=scale).init(KEY, vocabulary) for scale in (0.0, 2.0)
  )
  np.testing.assert_array_equal(alike['offsets'], 0)
  np.testing.assert_array_equal(alike['generic'], apart['generic'])
  np.testing.assert_allclose(np.std(apart['offsets']), 0.4, rtol=0.05)
  assert len(np.unique(apart['offsets'].reshape(50, -1), axis=0)) == 50
  with pytest.raises(ValueError, match='offset_scale'):
    user_model.individual(4, 2, offset_scale=-1.0)
