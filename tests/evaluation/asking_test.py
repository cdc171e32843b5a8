"""Active querying on a circle of preferences: a posterior on a grid, drawn from by a key."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metapers.core import choice_model, masked, meta_learner, task
from metapers.core.task import Candidates, Task, Truth
from metapers.evaluation import acquisition, adaptation, asking

T, POOL, QUERY, SLATES, Q = 40, 12, 30, 3, 6
ANGLES = jnp.linspace(0, 2 * jnp.pi, 64, endpoint=False)
GRID = jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], -1)  # [G, 2] weights of two features
KEY = jax.random.key(3)


def circle(num_draws=32, *, has_update=False):
  """Knows that weights lie on the circle, and that one label in twenty is flipped."""

  def total(params, support):
    scores = jnp.einsum('nkd,gd->gnk', support.candidates.features, params)
    sharp = jax.vmap(choice_model.log_probs, (0, None))(30 * scores, support.candidates.mask)
    log_p = jax.vmap(choice_model.chosen_log_probs, (0, None))(sharp, support)
    log_p = jnp.log(0.05 + 0.9 * jnp.exp(log_p))
    return masked.total(log_p, jnp.broadcast_to(support.mask[None], log_p.shape), -1)

  def with_draws(params, logits, key):
    return logits, params[jax.random.categorical(key, logits, shape=(num_draws,))]

  def adapt(params, support, context, key):
    return with_draws(params, total(params, support), key)

  def update(params, state, comparison, context, key):
    return with_draws(params, state[0] + total(params, comparison), key)

  def score(params, state, candidates):
    return candidates.features @ (jax.nn.softmax(state[0]) @ params)

  def sample(params, state, candidates):
    return 30 * jnp.einsum('nkd,sd->snk', candidates.features, state[1])

  return meta_learner.from_adapt_score(
    lambda key: GRID, adapt, score, sample=sample, update=update if has_update else None
  )


LEARNER = circle()  # one object, so that it is compiled once


def users():
  rng = np.random.default_rng(0)
  angles = rng.uniform(0, 2 * np.pi, T)
  weights = np.stack([np.cos(angles), np.sin(angles)], -1).astype(np.float32)

  def choices(size):
    features = rng.normal(size=(T, size, 2, 2)).astype(np.float32)
    choice = np.einsum('tnkd,td->tnk', features, weights).argmax(-1)
    shown = Candidates(jnp.asarray(features), jnp.ones((T, size, 2), bool))
    return task.choices(shown, jnp.asarray(choice))

  support, query = choices(POOL), choices(QUERY)
  slate = Candidates(*choices(SLATES).candidates)
  none = (None,) * 6
  truth = Truth(weights, *none, slate, slate.features, None, None)
  return jax.tree.map(
    jnp.asarray, (Task(support, query, np.arange(T), np.zeros((T, 0), np.float32)), truth)
  )


TASKS, TRUTH = users()


def ask(tasks=TASKS, truth=TRUTH, learner=LEARNER, **options):
  options = {'rule': 'bald', 'num_questions': Q, 'chunk_size': 16, 'key': KEY} | options
  return asking.ask(learner, GRID, tasks, truth, **options)


@pytest.fixture(scope='module')
def by_bald():
  return ask()


def test_the_simulation_is_that_of_a_loop(by_bald):
  adapt, predict, sample = map(jax.jit, (LEARNER.adapt, LEARNER.predict, LEARNER.sample))
  for user in range(2):
    person, truth = task.take((TASKS, TRUTH), user)
    key, _ = jax.random.split(jax.random.fold_in(KEY, user))
    is_asked, asked = np.zeros(POOL, bool), []
    for turn in range(Q + 1):
      state = adapt(GRID, person.support._replace(mask=jnp.array(is_asked)), person.context, key)
      log_probs = predict(GRID, state, person.query.candidates)
      np.testing.assert_allclose(by_bald.predictions.log_probs[turn, user], log_probs, atol=1e-3)
      scores = LEARNER.score(GRID, state, truth.slate)
      np.testing.assert_allclose(by_bald.predictions.slate_scores[turn, user], scores, atol=1e-4)
      drawn = sample(GRID, state, person.support.candidates)
      mask = person.support.candidates.mask
      value = acquisition.bald(acquisition.Pool(drawn, mask, drawn, mask, KEY))
      asked.append(int(np.where(is_asked, -1, value).argmax()))
      is_asked[asked[-1]] = True
    assert by_bald.questions[:, user].tolist() == asked[:Q]


def test_how_sure_it_is_of_the_best_of_a_slate_is_that_of_its_draws_after_every_answer():
  answers = ask(with_standing=True)
  state = LEARNER.adapt(GRID, asking.answered(
    task.take(TASKS.support, 0), answers.questions[:, 0]), TASKS.context[0], KEY)  # fmt: skip
  drawn = GRID @ TRUTH.slate.features[0].swapaxes(-1, -2)  # [M, G, R], all of the grid
  best = drawn.argmax(-1)
  posterior = jax.nn.softmax(state[0])
  chosen = answers.standing.best[-1, 0]
  exact = (best == chosen[:, None]) @ posterior
  assert answers.standing.probability.shape == (Q + 1, T, SLATES)
  np.testing.assert_allclose(answers.standing.probability[-1, 0], exact, atol=0.3)  # of 32 draws
  picks = answers.predictions.slate_scores.argmax(-1)
  np.testing.assert_array_equal(answers.standing.best, picks)


def test_without_slates_nothing_stands():
  with pytest.raises(ValueError, match='these users have none'):
    asking.ask(LEARNER, GRID, TASKS, rule='bald', num_questions=1, with_standing=True, key=KEY)


def test_answers_that_were_not_asked_for_change_nothing(by_bald):
  is_asked = np.zeros((T, POOL), bool)
  is_asked[np.arange(T), np.asarray(by_bald.questions)] = True
  choice = jnp.where(is_asked, TASKS.support.choice, 1 - TASKS.support.choice)
  other = ask(TASKS._replace(support=TASKS.support._replace(choice=choice)))
  jax.tree.map(np.testing.assert_array_equal, other, by_bald)


@pytest.mark.parametrize('rule', acquisition.RULES)
def test_the_whole_pool_is_asked_once_and_then_predicted_from_as_without_a_rule(rule):
  answers = ask(rule=rule, num_questions=POOL)
  assert np.array_equal(np.sort(answers.questions, 0), np.tile(np.arange(POOL)[:, None], T))
  known = adaptation.evaluate(LEARNER, GRID, TASKS, TRUTH, shots=(0, POOL), key=KEY)
  ends = jax.tree.map(lambda x: x[jnp.array([0, -1])], answers.predictions)
  np.testing.assert_allclose(ends.log_probs, known.log_probs, atol=1e-3)


def test_a_pool_that_is_exhausted_changes_nothing_more():
  mask = jnp.broadcast_to(jnp.arange(POOL) % 4 == 1, (T, POOL))
  features = jnp.where(mask[..., None, None], TASKS.support.candidates.features, jnp.nan)
  candidates = TASKS.support.candidates._replace(features=features)
  support = TASKS.support._replace(mask=mask, candidates=candidates)
  answers = ask(TASKS._replace(support=support))
  assert np.array_equal(np.sort(answers.questions[:3], 0), np.tile([[1], [5], [9]], T))
  assert np.all(answers.questions[3:] == asking.NONE_LEFT)
  log_probs = answers.predictions.log_probs
  assert np.all(np.isfinite(log_probs))
  np.testing.assert_array_equal(log_probs[4:], np.broadcast_to(log_probs[3], log_probs[4:].shape))


def test_masked_comparisons_are_neither_asked_nor_targets():
  real = jnp.arange(1, POOL, 2)
  mask = jnp.broadcast_to(jnp.isin(jnp.arange(POOL), real), (T, POOL))
  few = jax.tree.map(lambda x: x[:, real], TASKS.support)
  options = {'rule': 'epig', 'num_questions': 3}
  answers = ask(TASKS._replace(support=TASKS.support._replace(mask=mask)), **options)
  expected = ask(TASKS._replace(support=few), **options)
  np.testing.assert_array_equal(answers.questions, real[expected.questions])


def test_active_querying_is_more_accurate_than_random_questions(by_bald):
  def accuracy(answers):
    correct = jax.vmap(choice_model.correct, (0, None))
    return correct(answers.predictions.log_probs, TASKS.query).mean((1, 2))

  assert accuracy(by_bald)[Q] > accuracy(ask(rule='random'))[Q] + 0.02


def test_chunks_and_updates_in_place_of_adapting_anew_change_nothing(by_bald):
  sizes = []
  learner = circle(has_update=True)
  traced = learner._replace(
    adapt=lambda *given: sizes.append(given[1].choice.size) or learner.adapt(*given)
  )
  for options in ({'chunk_size': 1}, {'learner': traced}):
    answers = ask(**options)
    np.testing.assert_array_equal(answers.questions, by_bald.questions)
    np.testing.assert_allclose(
      answers.predictions.log_probs, by_bald.predictions.log_probs, atol=1e-4
    )
  assert set(sizes) == {1}  # adapted to nothing, once, and updated since


def test_all_rules_share_one_compiled_program():
  count = []
  traced = LEARNER._replace(score=lambda *given: count.append(1) or LEARNER.score(*given))
  ask(learner=traced)
  once = len(count)
  ask(learner=traced, rule='epig')
  assert 1 <= once == len(count)


def test_people_without_truth_have_no_slates(by_bald):
  answers = ask(truth=None)
  assert answers.predictions.slate_scores.shape == (Q + 1, T, 0, 0)
  np.testing.assert_array_equal(answers.questions, by_bald.questions)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'rule': 'best'}, 'unknown rule .best.; known: random, entropy, d_optimal, bald, epig'),
    ({'num_questions': POOL + 1}, r'must lie in 0\.\.12'),
    ({'num_questions': -1}, r'must lie in 0\.\.12'),
  ],
)
def test_bad_options_are_refused_by_name(options, message):
  with pytest.raises(ValueError, match=message):
    ask(**options)


def test_questions_needed_are_read_off_between_whole_numbers():
  curve = np.tile([0.5, 0.7, 0.6, 0.6, 0.9], (6, 1))
  level = np.array([0.4, 0.5, 0.6, 0.7, 0.8, 0.95])
  np.testing.assert_allclose(
    asking.questions_needed(curve, level), [0, 0, 0.5, 1, 3.5, 4], atol=1e-9
  )


def test_questions_ahead_are_those_a_rival_needs_more():
  own, rival = np.array([[0.5, 0.7, 0.9]]), np.array([[0.5, 0.6, 0.7]])
  np.testing.assert_allclose(asking.questions_ahead(own, rival, 1), [1])
  np.testing.assert_allclose(asking.questions_ahead(rival, own, 2), [-1])


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=9), st.data())
def test_a_curve_reaches_its_own_levels_in_time(values, data):
  curve = np.array([values], np.float64)
  after = data.draw(st.integers(0, len(values) - 1))
  needed = asking.questions_needed(curve, curve[:, after])[0]
  assert 0 <= needed <= after
