import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import population
from metapers.populations import toy


def spec(features):
  return population.Spec(
    features=features,
    num_candidates=2,
    num_support=1,
    num_query=1,
    num_users=0,
    num_held_out={},
    num_histories=1,
    history_length=2,
  )


def test_a_single_vector_has_a_width():
  assert spec(population.vector(7)).num_features == 7
  assert spec(population.vector(7)).num_context == 0


def test_a_tree_of_features_has_none_and_says_so():
  tree = {'scores': population.vector(3)}
  with pytest.raises(ValueError, match='needs features that are one vector, got the tree'):
    _ = spec(tree).num_features


def test_histories_hold_all_that_known_users_did_and_an_empty_query():
  users = toy.two_types(num_users=5, num_support=3, num_query=4)
  histories = users.histories(())
  assert histories.support.choice.shape == (5, 7)
  assert histories.query.choice.shape == (5, 0)
  episode, _ = users.episode_of((), jnp.asarray(2), 'train')
  np.testing.assert_array_equal(histories.support.choice[2, :3], episode.support.choice)
  np.testing.assert_array_equal(histories.support.choice[2, 3:], episode.query.choice)
  np.testing.assert_array_equal(histories.user, np.arange(5))


@pytest.mark.parametrize('dtype', ['float16', 'float32'])
def test_what_rounding_leaves_of_a_constant_is_not_blown_up(dtype):
  below, above = np.nextafter(np.array(0.7, dtype), np.array([0, 1], dtype))
  constant = np.resize(np.array([below, 0.7, above], dtype), 999)
  real = np.random.default_rng(0).normal(size=999).astype(dtype)
  found = population.scaling_of(np.stack([constant, real, 100 + real], 1))
  np.testing.assert_allclose(found.scale, [1, np.std(real), np.std(real)], rtol=0.01)


def test_small_differences_of_large_numbers_count_in_float64():
  values = 1e9 + np.random.default_rng(0).normal(size=(999, 1))
  np.testing.assert_allclose(population.scaling_of(values).scale, values.std(0), rtol=1e-6)


def test_fixed_keys_of_all_users_and_of_what_is_split_from_them_differ():
  keys = [population.fixed_key(split) for split in (*population.SPLITS, population.SEEN)]
  users = [jax.random.fold_in(key, user) for key in keys for user in range(50)]
  parts = [part for key in users for part in jax.random.split(key, 3)]
  made = {tuple(jax.random.key_data(key).tolist()) for key in (*keys, *users, *parts)}
  assert len(made) == len(keys) + len(users) + len(parts)
