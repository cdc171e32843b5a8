import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import meta_learner, population, task
from metapers.core.population import Population, Spec
from metapers.core.task import Candidates, Task, Truth
from metapers.evaluation import adaptation

NUM_SUPPORT, NUM_QUERY, NUM_SLATES, NUM_FEATURES = 6, 4, 3, 5
SHOTS = (0, 1, 4, 6)


def mean_difference(noise=0.0, count=None):
  """Scores by the mean of chosen minus rejected features of the support, plus noise."""

  def adapt(params, support, context, key):
    if count is not None:
      count.append(1)
    shown = support.candidates.features
    chosen = jnp.take_along_axis(shown, support.choice[:, None, None], 1)[:, 0]
    difference = jnp.where(support.mask[:, None], 2 * chosen - shown.sum(1), 0.0)
    total = difference.sum(0) / jnp.maximum(support.mask.sum(), 1)
    return params + total + noise * jax.random.normal(key, total.shape)

  def score(params, state, candidates):
    return candidates.features @ state

  return meta_learner.from_adapt_score(lambda key: jnp.zeros(NUM_FEATURES), adapt, score)


LEARNER = mean_difference()  # one object, so that it is compiled once


def draw_users(num_users):
  """Episodes of users as a stored table: exact to index, cheap to compile."""
  rng = np.random.default_rng(0)

  def choices(size):
    features = rng.normal(size=(num_users, size, 2, NUM_FEATURES)).astype(np.float32)
    shown = np.ones((num_users, size, 2), bool)
    mask = rng.random((num_users, size)) < 0.8
    return task.choices(Candidates(features, shown), np.argmax(features[..., 0], -1), mask)

  def rewards(of):
    prompts = rng.integers(0, 50, of.choice.shape)
    return of.candidates.features[..., :1], of.candidates.mask, prompts

  support, query = choices(NUM_SUPPORT), choices(NUM_QUERY)
  slate = rng.normal(size=(num_users, NUM_SLATES, 4, NUM_FEATURES)).astype(np.float32)
  models = rng.integers(0, 9, slate.shape[:3])
  truth = Truth(
    np.ones((num_users, 1), np.float32),
    *rewards(support),
    *rewards(query),
    Candidates(slate, np.ones(slate.shape[:3], bool)),
    *(slate[..., :1], models[..., 0], models),
  )
  return Task(support, query, np.arange(num_users), np.zeros((num_users, 0))), truth


def toy_population():
  spec = Spec(NUM_FEATURES, 2, NUM_SUPPORT, NUM_QUERY, 0, 0, {'validation': 3, 'test': 11})
  return Population(
    arrays=jax.tree.map(jnp.asarray, {'test': draw_users(11)}),
    sample_episode=lambda *_: None,
    episode_of=lambda arrays, user, split: task.take(arrays[split], user),
    histories=lambda _: None,
    spec=spec,
    record={},
    scaling=population.unscaled(NUM_FEATURES),
  )


@pytest.fixture(scope='module')
def test_users():
  return adaptation.episodes(toy_population(), split='test', num_users=11, chunk_size=4)


def predict(test_users, learner=LEARNER, **kwargs):
  kwargs = {'shots': SHOTS, 'key': jax.random.key(1), 'chunk_size': 8} | kwargs
  return adaptation.evaluate(learner, jnp.ones(5) / 9, *test_users, **kwargs)


def test_episodes_are_those_of_each_user_in_turn(test_users):
  jax.tree.map(np.testing.assert_array_equal, test_users, toy_population().arrays['test'])


@pytest.mark.parametrize(('split', 'num_users'), [('test', 12), ('test', 0), ('train', 1)])
def test_episodes_refuses_users_that_are_not_there(split, num_users):
  with pytest.raises(ValueError, match=r'train 0, validation 3, test 11'):
    adaptation.episodes(toy_population(), split=split, num_users=num_users)


@pytest.mark.parametrize('noise', [0.0, 1.0])
def test_evaluate_equals_a_loop_over_users_and_shots(test_users, noise):
  learner, params, key = mean_difference(noise), jnp.ones(5) / 9, jax.random.key(1)
  got = predict(test_users, learner)
  assert got.log_probs.shape == (4, 11, NUM_QUERY, 2)
  for row, count in enumerate(SHOTS):
    for user in range(11):
      seen, truth = task.take(test_users, user)
      support = task.with_shots(seen.support, count)
      state = learner.adapt(params, support, seen.context, jax.random.fold_in(key, user))
      expected = learner.predict(params, state, seen.query.candidates)
      np.testing.assert_allclose(got.log_probs[row, user], expected, atol=1e-5)
      scores = learner.score(params, state, truth.slate)
      np.testing.assert_allclose(got.slate_scores[row, user], scores, atol=1e-5)


@pytest.mark.parametrize('chunk_size', [1, 7, 1000])
def test_the_size_of_chunks_changes_nothing(test_users, chunk_size):
  expected, got = predict(test_users), predict(test_users, chunk_size=chunk_size)
  np.testing.assert_allclose(got.log_probs, expected.log_probs, atol=1e-6)


def test_permuting_users_permutes_predictions(test_users):
  order = jnp.array([3, 1, 4, 10, 5, 9, 2, 6, 8, 7, 0])
  expected, got = predict(test_users), predict(task.take(test_users, order))
  np.testing.assert_allclose(got.log_probs, expected.log_probs[:, order], atol=1e-6)
  np.testing.assert_allclose(got.slate_scores, expected.slate_scores[:, order], atol=1e-6)


def test_other_shots_and_parameters_compile_nothing_anew(test_users):
  count = []
  learner = mean_difference(count=count)
  predict(test_users, learner)
  traced = len(count)
  predict(test_users, learner, shots=(1, 2, 3, 5), key=jax.random.key(7))
  assert 1 <= traced == len(count)


def test_zero_shot_ignores_the_support(test_users):
  tasks, truth = test_users
  other = tasks._replace(support=jax.tree.map(lambda x: x[::-1], tasks.support))
  expected, got = predict(test_users), predict((other, truth))
  np.testing.assert_array_equal(got.log_probs[0], expected.log_probs[0])
  assert not np.allclose(got.log_probs[1], expected.log_probs[1])


def test_people_without_truth_have_no_slates(test_users):
  got = predict((test_users[0], None))
  assert got.slate_scores.shape == (4, 11, 0, 0)
  np.testing.assert_array_equal(got.log_probs, predict(test_users).log_probs)


@pytest.mark.parametrize('shots', [(0, 7), (-1,), ()])
def test_more_shots_than_the_support_holds_are_refused(test_users, shots):
  with pytest.raises(ValueError, match=r'0\.\.6'):
    predict(test_users, shots=shots)
