"""`bayes` as a learner, against the ceiling that it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from simulated_posteriors import SMALL, simulate

from metapers.core import choice_model, task
from metapers.core.population import Simulation, UserModel
from metapers.core.task import Candidates
from metapers.evaluation import adaptation, asking
from metapers.evaluation.bayes import ceiling, exact_learner

USER_MODELS = [UserModel(0.3), UserModel(0.3, 0.4), UserModel(0.3, 0.0, 0.15)]
NUM_PARTICLES = 2000
KEY = jax.random.key(5)


@functools.cache  # one object, so that it is compiled once
def exact(*user_models):
  return exact_learner.exact_learner(
    3, user_models, num_particles=NUM_PARTICLES, num_samples=500, capacity=8
  )


@functools.cache
def adapt(*user_models):
  return jax.jit(exact(*user_models).adapt)


@functools.cache
def update(*user_models):
  return jax.jit(exact(*user_models).update)


def evaluate(learner, tasks, truth, shots=(0, 2, 5)):
  params = learner.init(KEY)
  return adaptation.evaluate(learner, params, tasks, truth, shots=shots, chunk_size=1, key=KEY)


@pytest.mark.parametrize('user_model', USER_MODELS, ids=str)
def test_it_agrees_with_the_ceiling(user_model):
  tasks, truth = simulate(user_model, **SMALL)
  got = evaluate(exact(user_model), tasks, truth)
  want, _ = ceiling.bayes(
    tasks, truth, [user_model], pair_rule='random', shots=(0, 2, 5), num_particles=NUM_PARTICLES
  )
  np.testing.assert_allclose(jnp.exp(got.log_probs), jnp.exp(want.log_probs), atol=0.05)
  np.testing.assert_allclose(got.slate_scores, want.slate_scores, atol=0.08)


def one_user(user_model):
  tasks, truth = simulate(user_model, **SMALL)
  return task.take((tasks, truth), 0)


def test_an_update_is_having_adapted_to_everything():
  person, _ = one_user(USER_MODELS[0])
  params = exact(USER_MODELS[0]).init(KEY)
  state = adapt(USER_MODELS[0])(params, task.with_shots(person.support, 2), person.context, KEY)
  for n in range(2, 5):
    comparison = task.take(person.support, jnp.array([n]))
    state = update(USER_MODELS[0])(params, state, comparison, person.context, KEY)
  whole = adapt(USER_MODELS[0])(params, person.support, person.context, KEY)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), state, whole)


def test_what_is_masked_changes_nothing():
  person, _ = one_user(USER_MODELS[0])
  params = exact(USER_MODELS[0]).init(KEY)
  padded = task.pad_to(person.support, 8)
  spoiled = padded._replace(
    candidates=Candidates(
      padded.candidates.features.at[5:].set(jnp.nan), jnp.ones_like(padded.candidates.mask)
    )
  )
  states = [
    adapt(USER_MODELS[0])(params, support, person.context, KEY) for support in (padded, spoiled)
  ]
  jax.tree.map(np.testing.assert_array_equal, *states)
  assert states[0].count == 5
  assert states[0].particles.rung.tolist()[5:] == [0, 0, 0]
  comparison = task.take(spoiled, jnp.array([6]))
  same = update(USER_MODELS[0])(params, states[0], comparison, person.context, KEY)
  jax.tree.map(np.testing.assert_array_equal, same, states[0])


def test_weight_three_is_the_comparison_thrice_and_weight_zero_none():
  person, _ = one_user(USER_MODELS[1])
  learner = exact(USER_MODELS[1])
  params = learner.init(KEY)

  def predict(order, weight, num_real):
    support = task.with_shots(task.take(person.support, jnp.array(order)), num_real)
    support = support._replace(weight=jnp.array(weight, jnp.float32))
    state = adapt(USER_MODELS[1])(params, support, person.context, KEY)
    return jnp.exp(learner.predict(params, state, person.query.candidates))

  order, ones = (0, 1, 2, 2, 2), (1, 1, 1, 1, 1)
  thrice, once = predict(order, ones, 5), predict(order, ones, 3)
  np.testing.assert_allclose(predict(order, (1, 1, 3, 1, 1), 3), thrice, atol=0.05)
  np.testing.assert_array_equal(predict(order, (1, 1, 1, 0, 0), 5), once)
  assert jnp.abs(once - thrice).max() > 0.1


def test_more_than_the_capacity_is_refused_or_nan():
  person, _ = one_user(USER_MODELS[0])
  params = exact(USER_MODELS[0]).init(KEY)
  with pytest.raises(ValueError, match='capacity=8 holds no support of 9 comparisons'):
    exact(USER_MODELS[0]).adapt(params, task.pad_to(person.support, 9), person.context, KEY)
  state = adapt(USER_MODELS[0])(params, person.support, person.context, KEY)
  comparison = task.take(person.support, jnp.array([0]))
  for _ in range(4):
    before = state
    state = update(USER_MODELS[0])(params, state, comparison, person.context, KEY)
  predict = exact(USER_MODELS[0]).predict
  assert np.isfinite(predict(params, before, person.query.candidates)).all()
  assert np.isnan(predict(params, state, person.query.candidates)).all()


@pytest.mark.parametrize('user_model', USER_MODELS[:2], ids=str)
def test_draws_agree_with_predictions(user_model):
  person, truth = one_user(user_model)
  learner = exact(user_model)
  assert learner.has_posterior
  params = learner.init(KEY)
  state = adapt(user_model)(params, person.support, person.context, KEY)
  candidates = person.query.candidates
  drawn = learner.sample(params, state, candidates)
  assert drawn.shape == (500, *candidates.mask.shape)
  mean = jnp.exp(choice_model.mean_probability(drawn, candidates.mask))
  predicted = jnp.exp(learner.predict(params, state, candidates))
  np.testing.assert_allclose(mean, predicted, atol=0.06)
  temperature = max(user_model.temperature, exact_learner.SHARPEST)
  scores = learner.sample(params, state, truth.slate).mean(0) * temperature
  np.testing.assert_allclose(scores, learner.score(params, state, truth.slate), atol=0.12)


def test_it_asks_what_halves_its_particles():
  tasks, truth = simulate(USER_MODELS[0], **SMALL)
  learner = exact(USER_MODELS[0])
  params = learner.init(KEY)
  answers = asking.ask(
    learner, params, tasks, truth, rule='bald', num_questions=2, chunk_size=1, key=KEY
  )
  rewards = tasks.support.candidates.features
  points = jnp.exp(params).reshape(-1, 3)
  votes = jnp.mean(jnp.argmax(rewards @ points.T, 2) == 0, -1)  # [T, N] under the prior
  asked = jnp.take_along_axis(votes, answers.questions[0][:, None], 1)[:, 0]
  np.testing.assert_allclose(abs(asked - 0.5), abs(votes - 0.5).min(1), atol=0.06)


FACTS = Simulation(('a', 'b', 'c'), user_models=(UserModel(0.3),), has_score_features=True)


@pytest.mark.parametrize(
  'facts',
  [
    {'has_score_features': False},
    {'excluded_model': 'b'},
    {'pair_rules': ('random', 'extreme')},
    {'user_models': ()},
  ],
)
def test_users_whose_posterior_learners_cannot_know_are_refused(facts):
  with pytest.raises(ValueError, match='the exact learner needs score features'):
    exact_learner.of_simulation(FACTS._replace(**facts))


def test_of_a_simulation_it_has_the_simulations_user_models():
  learner = exact_learner.of_simulation(FACTS, num_particles=10)
  params = learner.init(KEY)
  assert params.shape[0] == 1
  assert params.shape[-1] == 3
