"""The generator of neural-process Bradley-Terry models: its pairs, its users, its exact answer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metapers import learners
from metapers.core import choice_model, task
from metapers.core.task import Candidates, Task
from metapers.evaluation import adaptation
from metapers.populations import np_btl
from metapers.training import loop, meta_training

SHOTS = (0, 1, 3, 5, 10)
NUM_USERS = 4000


@functools.cache
def published():
  return np_btl.published_pairs()


@functools.cache
def episodes_of_test(pairs):
  population = np_btl.np_btl(pairs=pairs, num_held_out=NUM_USERS)
  return adaptation.episodes(population, split='test', num_users=NUM_USERS)[0]


def accuracies(log_p, tasks):
  return np.asarray(choice_model.correct(log_p, tasks.query).mean(-1))


def raw(choices):
  return np.asarray(choices.candidates.features[..., 0]) / 4 + 0.5


def one_task(support_y, chosen, query_y):
  """One user who was shown `support_y` [N, 2] and is judged on `query_y` [N', 2]."""

  def choices(y, choice):
    features = (jnp.asarray(y, jnp.float32)[None, ..., None] - 0.5) * 4
    shown = Candidates(features, jnp.ones(features.shape[:-1], bool))
    return task.choices(shown, jnp.asarray(choice)[None], shown.mask[..., 0])

  support, query = choices(support_y, chosen), choices(query_y, np.zeros(len(query_y), int))
  return Task(support, query, jnp.zeros(1, int), jnp.zeros((1, 0)))


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
def episodes_of_test_show_distinct_pairs_of_their_split_only(split):
  population = np_btl.np_btl(pairs='published', num_held_out=50)
  keys = jax.random.split(jax.random.key(0), 50)
  drawn, _ = jax.vmap(lambda key: population.sample_episode(population.arrays, key, split))(keys)
  shown = np.concatenate([raw(drawn.support), raw(drawn.query)], 1)
  own = {tuple(pair) for pair in np.round(np.asarray(published()[split].y), 6)}
  for pairs in np.round(shown, 6):
    assert len({tuple(pair) for pair in pairs}) == 30
  assert {tuple(pair) for pair in np.round(shown, 6).reshape(-1, 2)} <= own


@pytest.mark.parametrize('pairs', ['fresh', 'published'])
def test_users_choose_by_their_type(pairs):
  tasks = episodes_of_test(pairs)
  y, choice = raw(tasks.query), np.asarray(tasks.query.choice)
  np.testing.assert_array_equal(choice[::2], np.argmax(y[::2], -1))
  np.testing.assert_array_equal(choice[1::2], np.argmin(np.abs(y[1::2] - 0.5), -1))


def test_fresh_y_are_uniform_and_scaled_as_recorded():
  tasks, scaling = episodes_of_test('fresh'), np_btl.np_btl().scaling
  y = np.asarray(tasks.query.candidates.features) * scaling.scale + scaling.mean
  np.testing.assert_allclose(np.histogram(y, 10, (0, 1))[0] / y.size, 0.1, atol=0.004)


@pytest.mark.parametrize('k', SHOTS)
def test_exact_accuracy_on_fresh_pairs_is_the_closed_form(k):
  check_accuracy('fresh', k, agreement=0.5)


@pytest.mark.parametrize('k', SHOTS)
def test_exact_accuracy_on_published_pairs_follows_from_their_agreement(k):
  choice = np.asarray(published()['test'].choice)
  agreement = np.mean(choice[:, 0] == choice[:, 1])
  assert agreement == pytest.approx(1028 / 1936)
  check_accuracy('published', k, agreement)


def check_accuracy(pairs, k, agreement):
  tasks = episodes_of_test(pairs)
  per_user = accuracies(np_btl.exact(tasks, [k])[0], tasks)
  expected = 1 - 0.5 * (1 - agreement) * agreement**k
  assert abs(per_user.mean() - expected) < 4 * per_user.std() / np.sqrt(NUM_USERS)


def test_published_zero_shot_accuracy_is_that_of_its_test_split():
  tasks = episodes_of_test('published')
  accuracy = accuracies(np_btl.exact(tasks, [0])[0], tasks).mean()
  assert 100 * accuracy == pytest.approx(76.4, abs=0.3)  # as published


def test_exact_is_bayes_rule_enumerated():
  tasks = task.take(episodes_of_test('published'), jnp.arange(40))
  found = np.exp(np_btl.exact(tasks, (0, 1, 2)))
  for index, user in enumerate(zip(raw(tasks.support), tasks.support.choice, raw(tasks.query))):
    support, chosen, query = (np.asarray(part) for part in user)
    for k in (0, 1, 2):
      types = [each for each in (larger, nearer) if all(each(support[:k]) == chosen[:k])]
      expected = np.mean([prefer(query) for prefer in types], 0)
      np.testing.assert_allclose(found[k, index, :, 1], expected, atol=1e-6)


def larger(pair):
  return np.argmax(pair, -1)


def nearer(pair):
  return np.argmin(np.abs(pair - 0.5), -1)


def test_exact_shares_ties():
  seen = one_task([[0.6, 0.9]], [0], [[0.25, 0.25], [0.25, 0.75]])  # of the second type
  np.testing.assert_allclose(np.exp(np_btl.exact(seen, [1]))[0, 0], 0.5, atol=1e-5)


def test_exact_gives_a_masked_candidate_no_chance():
  seen = one_task([[0.6, 0.9]], [0], [[0.1, 0.2], [0.3, 0.4]])
  shown = seen.query.candidates
  hidden = jnp.asarray([[[True, False], [True, True]]])
  spoiled = shown._replace(
    features=jnp.where(hidden[..., None], shown.features, jnp.nan), mask=hidden
  )
  chance = np.exp(np_btl.exact(seen._replace(query=seen.query._replace(candidates=spoiled)), [0]))
  np.testing.assert_array_equal(chance[0, 0, 0], [1, 0])


def test_exact_learns_nothing_from_a_choice_that_neither_type_makes():
  query = [[0.6, 0.9], [0.1, 0.2]]
  impossible = one_task([[0.1, 0.2], [0.6, 0.9]], [0, 1], query)
  log_p = np_btl.exact(impossible, (0, 1, 2))
  assert np.isfinite(log_p).all()
  np.testing.assert_allclose(log_p[0], log_p[1], atol=1e-6)
  assert np.exp(log_p[2, 0, 0, 1]) > 0.999


@settings(deadline=None, max_examples=10)
@given(masked=st.lists(st.booleans(), min_size=10, max_size=10), k=st.integers(0, 10))
def test_exact_skips_masked_comparisons_whatever_stands_there(masked, k):
  mask = ~np.array(masked)
  tasks = task.take(episodes_of_test('fresh'), jnp.arange(4))
  support = tasks.support
  features = jnp.where(mask[None, :, None, None], support.candidates.features, jnp.nan)
  shown = Candidates(features, support.candidates.mask & mask[None, :, None])
  spoiled = tasks._replace(support=task.choices(shown, support.choice, support.mask & mask[None]))
  first = np.isin(np.arange(10), np.flatnonzero(mask)[:k])
  expected = np_btl.exact(
    tasks._replace(support=support._replace(mask=support.mask & first[None])), [10]
  )
  np.testing.assert_array_equal(np_btl.exact(spoiled, [k]), expected)


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
  assert population.histories(population.arrays).choice.shape == (size, 30)


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


def test_a_neural_process_comes_within_half_a_point_of_exact():
  population = np_btl.np_btl(num_held_out=NUM_USERS)
  learner = learners.make('cnp', num_features=1, hidden=64, width=16)
  trained = meta_training.meta_train(
    learner, population, optax.adam(optax.cosine_decay_schedule(3e-3, 300)),
    plan=loop.Plan(num_steps=300), name='cnp', progress=False,
  )  # fmt: skip
  tasks = task.take(episodes_of_test('fresh'), jnp.arange(1000))
  made = adaptation.evaluate(
    learner, trained.params, tasks, shots=SHOTS, chunk_size=256, key=jax.random.key(0)
  )
  for ours, best in zip(made.log_probs, np_btl.exact(tasks, SHOTS)):
    assert accuracies(best, tasks).mean() - accuracies(ours, tasks).mean() < 0.005
