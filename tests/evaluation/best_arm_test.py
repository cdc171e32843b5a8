"""Best of n and the best of a few arms, against enumeration."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers import learners
from metapers.core import task
from metapers.core.task import Candidates, Task
from metapers.evaluation import acquisition, best_arm, best_of
from metapers.evaluation.acquisition import Pool
from metapers.evaluation.stopping import Standing

KEY = jax.random.key(0)
DRAWS, ARMS = 40, 4
SCALE = 12  # of weights: answers are nearly certain
UTILITIES = np.random.default_rng(0).normal(size=(DRAWS, ARMS)) * 2 + [0, 0.5, 1, -3]
PAIRS = best_arm.pairs_of(ARMS)


def pool():
  utilities = jnp.asarray(UTILITIES[:, PAIRS], jnp.float32)
  mask = jnp.ones((len(PAIRS), 2), bool)
  arms = jnp.asarray(UTILITIES[:, None], jnp.float32)
  return Pool(utilities, mask, arms, jnp.ones((1, ARMS), bool), KEY)


def test_pairs_are_all_of_them():
  assert {tuple(pair) for pair in PAIRS} == set(itertools.combinations(range(ARMS), 2))


def test_the_top_two_are_compared():
  found = np.asarray(best_arm.top_two(pool()))
  chance = np.bincount(UTILITIES.argmax(-1), minlength=ARMS) / DRAWS
  np.testing.assert_allclose(found, chance[PAIRS].sum(-1), atol=1e-6)
  assert set(PAIRS[found.argmax()]) == set(np.argsort(chance)[-2:])


@pytest.mark.parametrize('scale', [1, 1e4])
def test_the_best_arm_is_among_the_two_whatever_the_rounding(scale):
  """Pairs and arms are scored by two programs, which round the same utility differently."""
  size, num_arms = 16, 8
  pairs = best_arm.pairs_of(num_arms)
  learner = learners.make('gaussian_prior', num_features=size, num_samples=128)
  features = jax.random.normal(jax.random.key(1), (num_arms, size))
  shown = Candidates(features[pairs], jnp.ones((len(pairs), 2), bool))
  comparisons = task.choices(shown, jnp.zeros(len(pairs), jnp.int32))
  arms = Candidates(features[None], jnp.ones((1, num_arms), bool))

  @jax.jit
  def ask(params):
    state = learner.adapt(params, task.with_shots(comparisons, 0), jnp.zeros(0), KEY)
    given = best_arm.pool_of(learner, params, state, comparisons, arms, KEY)
    return given, best_arm.top_two(given)

  params = learner.init(KEY)
  given, found = ask({**params, 'root': scale * params['root']})
  chance = np.bincount(np.asarray(given.targets)[:, 0].argmax(-1), minlength=num_arms) / 128
  assert found.sum() == pytest.approx(num_arms - 1, abs=1e-4)  # each arm is in so many pairs
  np.testing.assert_allclose(found, chance[pairs].sum(-1), atol=1e-6)


def test_comparisons_may_be_fewer_and_in_any_order():
  given = pool()
  some = np.array([4, 1, 3])
  few = given._replace(utilities=given.utilities[:, some, ::-1], mask=given.mask[some])
  np.testing.assert_array_equal(best_arm.top_two(few), best_arm.top_two(given)[some])


def test_the_knowledge_gradient_is_the_gain_of_the_pick():
  found = np.asarray(best_arm.knowledge_gradient(pool()))
  for (i, j), value in zip(PAIRS, found):
    p = 1 / (1 + np.exp(UTILITIES[:, j] - UTILITIES[:, i]))  # of i
    after = 0.0
    for weight in (p, 1 - p):
      means = (weight[:, None] * UTILITIES).sum(0) / weight.sum()
      after += weight.mean() * means.max()
    assert value == pytest.approx(after - UTILITIES.mean(0).max(), abs=1e-5)
  assert (found > -1e-6).all() and found.max() > 0.01


def test_masked_arms_are_never_the_best():
  given = pool()
  hidden = given._replace(target_mask=jnp.asarray([[True, True, True, False]]))
  targets = given.targets.at[..., 3].set(jnp.nan)
  for rule in (best_arm.top_two, best_arm.knowledge_gradient):
    np.testing.assert_array_equal(rule(hidden._replace(targets=targets)), rule(hidden))


def people(num=24, seed=0):
  """Users with N(0, I) weights of two features, whose arms have the features of a circle."""
  rng = np.random.default_rng(seed)
  weights = SCALE * rng.normal(size=(num, 2))
  angles = 2 * np.pi * np.arange(5) / 5
  arms = np.broadcast_to(np.stack([np.cos(angles), np.sin(angles)], -1), (num, 5, 2))
  pairs = best_arm.pairs_of(5)
  worth = np.einsum('tjd,td->tj', arms, weights)
  choice = (worth[:, pairs[:, 1]] > worth[:, pairs[:, 0]]).astype(np.int32)
  shown = Candidates(jnp.asarray(arms[:, pairs], jnp.float32), jnp.ones((num, 10, 2), bool))
  query = task.choices(shown, jnp.asarray(choice))
  support = task.with_shots(jax.tree.map(lambda x: x[:, :1], query), 0)
  context = jnp.zeros((num, 0))
  tasks = Task(support, query, jnp.full(num, num, jnp.int32), context)
  slate = Candidates(jnp.asarray(arms[:, None], jnp.float32), jnp.ones((num, 1, 5), bool))
  return tasks, slate, worth


LEARNER = learners.make('gaussian_prior', num_features=2, num_samples=128)


def asked(rule, num_questions=6):
  tasks, slate, worth = people()
  params = LEARNER.init(KEY)
  params = {**params, 'root': SCALE * params['root']}
  found = best_arm.ask(
    LEARNER, params, tasks, slate, rule=rule, num_questions=num_questions, key=KEY
  )
  return found, worth


@pytest.fixture(scope='module')
def by_rule():
  return {rule: asked(rule) for rule in ('random', 'top_two', 'knowledge_gradient')}


def test_questions_find_the_best_arm_and_stop(by_rule):
  for rule, (found, worth) in by_rule.items():
    stops = found.stops(0.9)
    picks = np.asarray(found.standing.best)[np.arange(len(stops)), stops]
    regret = worth.max(-1) - np.take_along_axis(worth, picks[:, None], -1)[:, 0]
    first = np.asarray(found.standing.best)[:, 0]
    before = worth.max(-1) - np.take_along_axis(worth, first[:, None], -1)[:, 0]
    assert regret.mean() < 0.3 * before.mean(), rule
    questions = np.asarray(found.questions)
    assert all(len(set(row)) == len(row) for row in questions)


def test_rules_that_ask_for_the_best_need_fewer_questions(by_rule):
  stops = {rule: found.stops(0.8).mean() for rule, (found, _) in by_rule.items()}
  assert min(stops['top_two'], stops['knowledge_gradient']) < stops['random']


def test_a_stop_is_the_first_time_that_the_level_is_reached():
  probability = np.array([[0.2, 0.95, 0.5], [0.1, 0.2, 0.3], [1, 0, 0]])
  found = best_arm.Found(Standing(probability, probability, probability), None)
  np.testing.assert_array_equal(found.stops(0.9), [1, 2, 0])


def test_what_cannot_be_asked_is_refused():
  tasks, slate, _ = people(2)
  options = {'rule': 'top_two', 'num_questions': 3, 'key': KEY}
  with pytest.raises(ValueError, match='does not have'):
    best_arm.ask(learners.make('pooled', num_features=2), {}, tasks, slate, **options)
  with pytest.raises(ValueError, match='known: random'):
    best_arm.ask(LEARNER, {}, tasks, slate, **options | {'rule': 'best'})
  with pytest.raises(ValueError, match=r'0\.\.10'):
    best_arm.ask(LEARNER, {}, tasks, slate, **options | {'num_questions': 11})


def test_picks_are_the_largest_of_the_first_few():
  values = np.array([[0.1, 0.5, 0.3, 0.9], [2, 1, 3, 0.0]])
  np.testing.assert_array_equal(best_of.picks(values, (1, 2, 4)), [[0, 0], [1, 0], [3, 2]])
  for sizes in ((), (0,), (5,)):
    with pytest.raises(ValueError, match=r'1\.\.4'):
      best_of.picks(values, sizes)


def test_caution_prefers_what_is_known():
  drawn = np.array([[1.0, 5.0], [1.2, -2.0], [1.1, 2.0]])
  assert float(best_of.cautious(drawn, 0.0)[1]) > float(best_of.cautious(drawn, 0.0)[0])
  cautious = best_of.cautious(drawn, 1.0)
  np.testing.assert_allclose(cautious, np.mean(drawn, 0) - np.std(drawn, 0), rtol=1e-5)
  assert cautious[0] > cautious[1]


def test_the_divergence_of_best_of_n_is_that_of_an_enumeration():
  """Of n draws out of many equally likely candidates the best by rank is taken."""
  many, size = 4000, 5
  rank = np.arange(1, many + 1) / many
  chance = rank**size - (rank - 1 / many) ** size
  expected = np.sum(chance * np.log(chance * many))
  assert best_of.divergence(size) == pytest.approx(expected, abs=1e-3)
  assert best_of.divergence(1) == 0


def test_rules_are_acquisition_functions():
  for rule in best_arm.RULES.values():
    assert rule(pool()).shape == (len(PAIRS),)
  assert not {'top_two', 'knowledge_gradient'} & set(acquisition.RULES)
