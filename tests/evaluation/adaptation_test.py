import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.core import meta_learner, population, task
from metapers.core.population import SPLITS, Population, Scaling, Spec
from metapers.core.task import Candidates, Task, Truth
from metapers.evaluation import adaptation

NUM_SUPPORT, NUM_QUERY, NUM_SLATES, NUM_FEATURES = 6, 4, 3, 5
SHOTS = (0, 1, 4, 6)


def flat(features):
  """Features as one vector; of a dict, its leaves side by side."""
  if not isinstance(features, dict):
    return features
  assert features['tokens'].dtype == jnp.int32  # through masks, vmap and loops
  tokens = features['tokens'].astype(jnp.float32)
  return jnp.concatenate([features['embedding'], tokens], -1)


def added(support):
  """Returns the sum of chosen minus rejected features."""
  shown = flat(support.candidates.features)
  chosen = jnp.take_along_axis(shown, support.choice[:, None, None], 1)[:, 0]
  return jnp.where(support.mask[:, None], 2 * chosen - shown.sum(1), 0.0).sum(0)


def mean_difference(noise=0.0, count=None, *, has_update=False):
  """Scores by the mean of chosen minus rejected features of the support, plus noise."""

  def adapt(params, support, context, key):
    if count is not None:
      count.append(support.choice.size)
    offset = noise * jax.random.normal(key, params.shape)
    return params + offset, added(support), support.mask.sum()

  def update(params, state, comparison, context, key):
    start, total, size = state
    return start, total + added(comparison), size + 1

  def score(params, state, candidates):
    start, total, size = state
    return flat(candidates.features) @ (start + total / jnp.maximum(size, 1))

  return meta_learner.from_adapt_score(
    lambda key: jnp.zeros(NUM_FEATURES), adapt, score, update=update if has_update else None
  )


LEARNER = mean_difference()  # one object, so that it is compiled once


def draw_users(num_users):
  """Episodes of users as a stored table: exact to index, cheap to compile."""
  rng = np.random.default_rng(0)

  def choices(size):
    features = rng.normal(size=(num_users, size, 2, NUM_FEATURES)).astype(np.float32)
    shown = np.ones((num_users, size, 2), bool)
    mask = rng.random((num_users, size)) < 0.8
    given = Candidates(features, shown), np.argmax(features[..., 0], -1), mask
    return task.choices(*jax.tree.map(jnp.asarray, given))

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


NO_CONTEXT = population.vector(0)


def stored_population(arrays, context=NO_CONTEXT):
  """A population of episodes that are stored, split -> (Task, Truth)."""

  def episode_of(arrays, user, split):
    return task.take(arrays[split], user)

  sizes = {name: len(arrays[name][0].user) if name in arrays else 0 for name in SPLITS}
  shown = next(iter(arrays.values()))[0].support.candidates.features
  return Population(
    arrays=jax.tree.map(jnp.asarray, arrays),
    sample_episode=lambda *_: None,
    episode_of=episode_of,
    histories=population.histories_of(episode_of, sizes['train']),
    spec=Spec(
      features=jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[3:], x.dtype), shown),
      num_candidates=2,
      num_support=NUM_SUPPORT,
      num_query=NUM_QUERY,
      num_users=sizes['train'],
      num_held_out={name: sizes[name] for name in SPLITS[1:]},
      num_histories=sizes['train'],
      history_length=NUM_SUPPORT + NUM_QUERY,
      context=context,
    ),
    scaling=Scaling(np.zeros(NUM_FEATURES), np.ones(NUM_FEATURES)),
    source='stored',
  )


@functools.cache
def toy_population():
  return stored_population({'validation': draw_users(3), 'test': draw_users(11)})


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


@pytest.mark.parametrize('has_update', [False, True])
@pytest.mark.parametrize('noise', [0.0, 1.0])
def test_evaluate_equals_a_loop_over_users_and_shots(test_users, noise, has_update):
  learner, params = mean_difference(noise, has_update=has_update), jnp.ones(5) / 9
  shots = SHOTS[::-1] if has_update else SHOTS
  got = predict(test_users, learner, shots=shots)
  assert got.log_probs.shape == (4, 11, NUM_QUERY, 2)
  for row, count in enumerate(shots):
    for user in range(11):
      person, truth = task.take(test_users, user)
      support = task.with_shots(person.support, count)
      key = jax.random.fold_in(jax.random.key(1), user)
      state = learner.adapt(params, support, person.context, key)
      expected = learner.predict(params, state, person.query.candidates)
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


@pytest.mark.parametrize('has_update', [False, True])
def test_other_shots_and_parameters_compile_nothing_anew(test_users, has_update):
  count = []
  learner = mean_difference(count=count, has_update=has_update)
  predict(test_users, learner)
  traced = len(count)
  predict(test_users, learner, shots=(1, 2, 3, 5), key=jax.random.key(7))
  assert 1 <= traced == len(count)
  assert set(count) == {1 if has_update else NUM_SUPPORT}  # a support is never read whole


def test_a_window_makes_a_learner_with_update_adapt_anew(test_users):
  expected = predict(test_users, window=2)
  got = predict(test_users, mean_difference(has_update=True), window=2)
  np.testing.assert_allclose(got.log_probs, expected.log_probs, atol=1e-6)
  assert not np.allclose(expected.log_probs, predict(test_users).log_probs)


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


def as_dict(candidates):
  """Shows the last two features as integer tokens."""
  shown = candidates.features
  tokens = jnp.round(10 * shown[..., 3:]).astype(jnp.int32)
  return candidates._replace(features={'embedding': shown[..., :3], 'tokens': tokens})


def with_candidates(pair, function):
  tasks, truth = pair
  support, query = (
    part._replace(candidates=function(part.candidates)) for part in (tasks.support, tasks.query)
  )
  return tasks._replace(support=support, query=query), truth._replace(slate=function(truth.slate))


def rounded(candidates):
  return candidates._replace(features=flat(as_dict(candidates).features))


@pytest.mark.parametrize('has_update', [False, True])
def test_features_may_be_dicts(has_update):
  train = draw_users(11)
  made = stored_population({'test': with_candidates(train, as_dict)})
  assert made.spec.features['tokens'].dtype == jnp.int32
  users = adaptation.episodes(made, split='test', num_users=11, chunk_size=4)
  learner = mean_difference(has_update=has_update)
  got = predict(users, learner)
  expected = predict(with_candidates(train, rounded))
  jax.tree.map(
    lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5), got, expected
  )
  without = predict((users[0], None), learner)
  assert without.slate_scores.shape == (4, 11, 0, 0)


def by_context():
  """Scores by the first feature times the sum of the context."""

  def adapt(params, support, context, key):
    return sum(jnp.sum(x) for x in jax.tree.leaves(context))

  def score(params, state, candidates):
    return candidates.features[..., 0] * state

  return meta_learner.from_adapt_score(lambda key: {}, adapt, score)


def contexts(of_dict):
  vector = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
  return (
    {'setting': vector[:, :2], 'level': vector[:, 2:].round().astype(int)} if of_dict else vector
  )


@pytest.mark.parametrize('of_dict', [False, True])
def test_context_reaches_episodes_histories_and_the_learner(of_dict):
  context = contexts(of_dict)
  tasks, truth = draw_users(7)
  given = tasks._replace(context=context), truth
  shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), context)
  made = stored_population({'train': given, 'test': given}, shapes)
  users = adaptation.episodes(made, split='test', num_users=7)
  jax.tree.map(np.testing.assert_array_equal, users[0].context, context)
  histories = jax.jit(made.histories)(made.arrays)
  jax.tree.map(np.testing.assert_array_equal, histories.context, context)
  assert histories.support.choice.shape == (7, NUM_SUPPORT + NUM_QUERY)
  assert histories.query.candidates.features.shape == (7, 0, 2, NUM_FEATURES)
  got = adaptation.evaluate(by_context(), {}, *users, shots=(0,), key=jax.random.key(0))
  sums = sum(x.sum(-1) for x in jax.tree.leaves(context))
  expected = users[1].slate.features[..., 0] * sums[:, None, None]
  np.testing.assert_allclose(got.slate_scores[0], expected, rtol=1e-5)
