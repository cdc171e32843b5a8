"""The generator of neural-process Bradley-Terry models: its pairs and its users."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.evaluation import adaptation
from metapers.populations import np_btl

NUM_USERS = 4000


@functools.cache
def published():
  return np_btl.published_pairs()


@functools.cache
def episodes_of_test(pairs):
  population = np_btl.np_btl(pairs=pairs, num_held_out=NUM_USERS)
  return adaptation.episodes(population, split='test', num_users=NUM_USERS)[0]


def raw(choices):
  return np.asarray(choices.candidates.features[..., 0]) / 4 + 0.5


def test_types_prefer_the_larger_and_the_nearer_to_a_half():
  y = np.random.default_rng(0).random((1000, 2))
  preferred = np.argmax(np_btl.rewards(jnp.asarray(y, jnp.float32)), 1)
  np.testing.assert_array_equal(preferred[:, 0], np.argmax(y, 1))
  np.testing.assert_array_equal(preferred[:, 1], np.argmin(np.abs(y - 0.5), 1))


def test_published_pairs_are_those_of_the_published_script():
  sizes = {name: len(pairs.y) for name, pairs in published().items()}
  assert sizes == {'train': 16039, 'validation': 2025, 'test': 1936}
  assert sizes['test'] // 64 == 30  # batches, as the published notebook shows
  drawn = np.concatenate([pairs.y for pairs in published().values()])
  first = np.array([0.5488135, 0.71518937], np.float32)  # of the legacy generator, seed 0
  assert np.any(np.all(np.abs(drawn - first) < 1e-7, -1))


@pytest.mark.parametrize('split', ['train', 'validation', 'test'])
def test_published_labels_are_each_types_preference(split):
  y, choice = (np.asarray(part) for part in published()[split])
  np.testing.assert_array_equal(choice[:, 0], np.argmax(y, 1))
  np.testing.assert_array_equal(choice[:, 1], np.argmin(np.abs(y - 0.5), 1))


@pytest.mark.parametrize('split', ['train', 'validation', 'test'])
def test_episodes_show_distinct_pairs_of_their_split_only(split):
  population = np_btl.np_btl(pairs='published', num_held_out=50)
  keys = jax.random.split(jax.random.key(0), 50)
  drawn, _ = jax.vmap(lambda key: population.sample_episode(population.arrays, key, split))(keys)
  parts = drawn.support, drawn.query
  shown = np.concatenate([part.candidates.features[..., 0] for part in parts], 1)
  scaled = (np.asarray(published()[split].y) - np_btl.CENTRE) / np_btl.SCALE
  for pairs in shown:
    assert len({tuple(pair) for pair in pairs}) == 30
  assert {tuple(pair) for pair in shown.reshape(-1, 2)} <= {tuple(pair) for pair in scaled}


@pytest.mark.parametrize('pairs', ['fresh', 'published'])
def test_users_choose_by_their_type(pairs):
  tasks = episodes_of_test(pairs)
  y, choice = raw(tasks.query), np.asarray(tasks.query.choice)
  np.testing.assert_array_equal(choice[::2], np.argmax(y[::2], -1))
  np.testing.assert_array_equal(choice[1::2], np.argmin(np.abs(y[1::2] - 0.5), -1))


def test_the_simulation_knows_what_each_type_chooses():
  tasks = episodes_of_test('fresh')
  simulation = np_btl.np_btl().simulation
  p = np.asarray(simulation.choice_probabilities(tasks.query.candidates))  # [T, N, K, Z]
  assert p.shape[-1] == len(simulation.reward_models) == 2
  for z in (0, 1):
    own = p[z::2, ..., z]
    np.testing.assert_array_equal(own.argmax(-1), tasks.query.choice[z::2])


def test_fresh_y_are_uniform_and_scaled_as_recorded():
  tasks, scaling = episodes_of_test('fresh'), np_btl.np_btl().scaling
  y = np.asarray(tasks.query.candidates.features) * scaling.scale + scaling.mean
  np.testing.assert_allclose(np.histogram(y, 10, (0, 1))[0] / y.size, 0.1, atol=0.004)


def test_the_same_user_is_the_same_to_the_bit_and_others_are_not():
  population = np_btl.np_btl()

  def y(user, split, population=population):
    return raw(population.episode_of(population.arrays, user, split)[0].query)

  np.testing.assert_array_equal(y(3, 'test'), y(3, 'test'))
  for other in (y(5, 'test'), y(3, 'validation'), y(3, 'test', np_btl.np_btl(seed=1))):
    assert not np.any(other == y(3, 'test'))


@pytest.mark.parametrize(('num_users', 'size'), [(0, np_btl.HISTORIES_OF_STREAM), (6, 6)])
def test_histories_are_of_the_known_users_or_of_a_sample(num_users, size):
  population = np_btl.np_btl(num_users=num_users)
  histories = population.histories(population.arrays)
  assert histories.support.choice.shape == (size, 30)
  assert (population.spec.num_histories, population.spec.history_length) == (size, 30)


def test_known_users_have_their_row_and_new_ones_none():
  population = np_btl.np_btl(num_users=6)
  draw = jax.vmap(lambda key: population.sample_episode(population.arrays, key, 'train')[0].user)
  rows = np.asarray(draw(jax.random.split(jax.random.key(0), 100)))
  assert set(rows) == set(range(6))
  assert int(population.episode_of(population.arrays, 2, 'test')[0].user) == 6


@pytest.mark.parametrize(
  ('options', 'match'),
  [
    ({'pairs': 'stale'}, "'fresh' or 'published', got 'stale'"),
    ({'num_support': 0}, 'num_support must be at least 1, got 0'),
    ({'num_query': 0}, 'num_query must be at least 1'),
    ({'num_users': -1}, 'num_users must be at least 0, got -1'),
    ({'num_held_out': 0}, 'num_held_out must be at least 1'),
    ({'pairs': 'published', 'num_query': 1927}, "1937 distinct pairs .* of 1936 .* pairs='fresh'"),
  ],
)
def test_options_that_do_not_fit_are_refused(options, match):
  with pytest.raises(ValueError, match=match):
    np_btl.np_btl(**options)
