"""The posterior over a few types of users, in closed form."""

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
from metapers.evaluation.bayes import types
from metapers.populations import np_btl, toy
from metapers.training import meta_training

SHOTS = (0, 1, 3, 5, 10)
NUM_USERS = 4000
POPULATIONS = {
  'fresh': functools.partial(np_btl.np_btl, pairs='fresh', num_held_out=NUM_USERS),
  'published': functools.partial(np_btl.np_btl, pairs='published', num_held_out=NUM_USERS),
  'toy': functools.partial(toy.two_types, num_support=10, num_query=20, num_users=NUM_USERS),
}
# How often the two types agree. Of `toy` where |x_1 / 2| > |x_0|: Gaussian gaps point everywhere
# alike. Of the published pairs as they were counted.
AGREEMENT = {'fresh': 0.5, 'published': 1028 / 1936, 'toy': 1 - 2 / np.pi * np.arctan(2)}


@functools.cache
def users(name):
  return adaptation.episodes(POPULATIONS[name](), split='test', num_users=NUM_USERS)[0]


def predict(tasks, shots, choice_probabilities=np_btl.choice_probabilities):
  return types.predict(tasks, shots, choice_probabilities)


@functools.cache
def accuracies(name):
  """Returns the accuracy of every user after each of SHOTS."""
  simulation = POPULATIONS[name]().simulation
  log_p = predict(users(name), SHOTS, simulation.choice_probabilities)
  return [accuracy_of(row, users(name)) for row in log_p]


def accuracy_of(log_p, tasks):
  return np.asarray(choice_model.correct(log_p, tasks.query).mean(-1))


def raw(choices):
  return np.asarray(choices.candidates.features[..., 0]) / 4 + 0.5


def one_task(support_y, chosen, query_y):
  """One user of `np_btl` who was shown `support_y` [N, 2] and is to be predicted on `query_y`."""

  def choices(y, choice):
    features = (jnp.asarray(y, jnp.float32)[None, ..., None] - 0.5) * 4
    shown = Candidates(features, jnp.ones(features.shape[:-1], bool))
    return task.choices(shown, jnp.asarray(choice)[None])

  support, query = choices(support_y, chosen), choices(query_y, np.zeros(len(query_y), int))
  return Task(support, query, jnp.zeros(1, int), jnp.zeros((1, 0)))


@pytest.mark.parametrize('name', POPULATIONS)
def test_accuracy_is_the_closed_form(name):
  agreement = AGREEMENT[name]
  for k, accuracy in zip(SHOTS, accuracies(name)):
    expected = 1 - 0.5 * (1 - agreement) * agreement**k
    assert abs(accuracy.mean() - expected) <= 4 * accuracy.std() / np.sqrt(NUM_USERS) + 1e-5


def test_the_agreement_of_the_published_pairs_is_as_counted():
  choice = np.asarray(np_btl.published_pairs()['test'].choice)
  assert np.mean(choice[:, 0] == choice[:, 1]) == pytest.approx(AGREEMENT['published'])


def test_published_zero_shot_accuracy_is_that_of_its_test_split():
  assert 100 * accuracies('published')[0].mean() == pytest.approx(76.4, abs=0.3)  # as published


def larger(pair):
  return np.argmax(pair, -1)


def nearer(pair):
  return np.argmin(np.abs(pair - 0.5), -1)


def test_predictions_are_bayes_rule_enumerated():
  tasks = task.take(users('published'), jnp.arange(40))
  found = np.exp(predict(tasks, (0, 1, 2)))
  for index, user in enumerate(zip(raw(tasks.support), tasks.support.choice, raw(tasks.query))):
    support, chosen, query = (np.asarray(part) for part in user)
    for k in (0, 1, 2):
      possible = [each for each in (larger, nearer) if all(each(support[:k]) == chosen[:k])]
      expected = np.mean([prefer(query) for prefer in possible], 0)
      np.testing.assert_allclose(found[k, index, :, 1], expected, atol=1e-6)


def test_ties_are_shared():
  given = one_task([[0.6, 0.9]], [0], [[0.25, 0.25], [0.25, 0.75]])  # of the second type
  np.testing.assert_allclose(np.exp(predict(given, [1]))[0, 0], 0.5, atol=1e-5)


def test_a_masked_candidate_has_no_chance():
  given = one_task([[0.6, 0.9]], [0], [[0.1, 0.2], [0.3, 0.4]])
  shown = given.query.candidates
  hidden = jnp.asarray([[[True, False], [True, True]]])
  spoiled = shown._replace(
    features=jnp.where(hidden[..., None], shown.features, jnp.nan), mask=hidden
  )
  query = given.query._replace(candidates=spoiled)
  chance = np.exp(predict(given._replace(query=query), [0]))
  np.testing.assert_array_equal(chance[0, 0, 0], [1, 0])


def test_a_choice_that_no_type_makes_changes_nothing():
  query = [[0.6, 0.9], [0.1, 0.2]]
  impossible = one_task([[0.1, 0.2], [0.6, 0.9]], [0, 1], query)
  log_p = predict(impossible, (0, 1, 2))
  assert np.isfinite(log_p).all()
  np.testing.assert_allclose(log_p[0], log_p[1], atol=1e-6)
  assert np.exp(log_p[2, 0, 0, 1]) > 0.999


@settings(max_examples=10)
@given(masked=st.lists(st.booleans(), min_size=10, max_size=10), k=st.integers(0, 10))
def test_masked_comparisons_are_skipped_whatever_stands_there(masked, k):
  mask = ~np.array(masked)
  tasks = task.take(users('fresh'), jnp.arange(4))
  support = tasks.support
  features = jnp.where(mask[None, :, None, None], support.candidates.features, jnp.nan)
  shown = Candidates(features, support.candidates.mask & mask[None, :, None])
  spoiled = tasks._replace(support=task.choices(shown, support.choice, support.mask & mask[None]))
  first = np.isin(np.arange(10), np.flatnonzero(mask)[:k])
  expected = predict(
    tasks._replace(support=support._replace(mask=support.mask & first[None])), [10]
  )
  np.testing.assert_array_equal(predict(spoiled, [k]), expected)


def given_probabilities(candidates):
  """Types whose choice probabilities are the features."""
  return candidates.features


def test_weights_are_exponents_of_the_likelihood():
  first = np.random.default_rng(0).uniform(0.1, 0.9, (1, 5, 1, 2)).astype(np.float32)  # of 2 types
  shown = jnp.asarray(np.concatenate([first, 1 - first], 2))
  weight = np.array([[2.0, 0.0, 1.0, 0.5]], np.float32)
  candidates = Candidates(shown, jnp.ones(shown.shape[:3], bool))
  everything = task.choices(candidates, jnp.zeros((1, 5), int))
  support = jax.tree.map(lambda x: x[:, :4], everything)
  query = jax.tree.map(lambda x: x[:, 4:], everything)
  support = support._replace(weight=jnp.asarray(weight))
  tasks = Task(support, query, jnp.zeros(1, int), jnp.zeros((1, 0)))
  p = np.prod(first[0, :4, 0] ** weight[0, :, None], 0)
  expected = p / p.sum() @ np.concatenate([first, 1 - first], 2)[0, 4].T
  found = np.exp(predict(tasks, [4], given_probabilities))[0, 0, 0]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_neural_process_comes_within_half_a_point():
  population = POPULATIONS['fresh']()
  learner = learners.make('cnp', num_features=1, hidden=64, width=16)
  training = meta_training.Training(
    num_steps=300,
    optimizer=lambda rate, num_steps: optax.adam(optax.cosine_decay_schedule(rate, num_steps)),
  )
  trained = meta_training.meta_train(learner, population, training, name='cnp', progress=False)
  tasks = task.take(users('fresh'), jnp.arange(1000))
  made = adaptation.evaluate(
    learner, trained.params, tasks, shots=SHOTS, chunk_size=256, key=jax.random.key(0)
  )
  for ours, best in zip(made.log_probs, accuracies('fresh')):
    assert best[:1000].mean() - accuracy_of(ours, tasks).mean() < 0.005
