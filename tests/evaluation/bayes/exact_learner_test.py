"""`bayes` as a learner, against the ceiling that it is."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from simulated_posteriors import SMALL, simulate

from metapers.core import choice_model, task
from metapers.core.population import UserModel
from metapers.core.task import Candidates
from metapers.evaluation import adaptation, asking
from metapers.evaluation.bayes import ceiling, exact_learner

CONDITIONS = [UserModel(0.3), UserModel(0.3, 0.4), UserModel(0.3, 0.0, 0.15)]
NUM_PARTICLES = 2000
KEY = jax.random.key(5)


@functools.cache  # one object, so that it is compiled once
def exact(*conditions):
  return exact_learner.exact_learner(3, conditions, num_particles=NUM_PARTICLES, num_samples=500)


def evaluate(learner, tasks, truth, shots=(0, 2, 5)):
  params = learner.init(KEY)
  return adaptation.evaluate(learner, params, tasks, truth, shots=shots, chunk_size=1, key=KEY)


@pytest.mark.parametrize('condition', CONDITIONS, ids=str)
def test_it_agrees_with_the_ceiling(condition):
  tasks, truth = simulate(condition, **SMALL)
  got = evaluate(exact(condition).learner, tasks, truth)
  want, _ = ceiling.bayes(
    tasks, truth, [condition], pair_rule='random', shots=(0, 2, 5), num_particles=NUM_PARTICLES
  )
  np.testing.assert_allclose(jnp.exp(got.log_probs), jnp.exp(want.log_probs), atol=0.05)
  np.testing.assert_allclose(got.slate_scores, want.slate_scores, atol=0.08)


def one_user(condition):
  tasks, truth = simulate(condition, **SMALL)
  return task.take((tasks, truth), 0)


def test_going_on_is_having_adapted_to_everything():
  seen, _ = one_user(CONDITIONS[0])
  it = exact(CONDITIONS[0])
  params = it.learner.init(KEY)
  adapt, update = jax.jit(it.learner.adapt), jax.jit(it.update)
  state = adapt(params, task.with_shots(seen.support, 2), seen.context, KEY)
  for shots in (2, 3, 5):
    state = update(params, state, task.with_shots(seen.support, shots), seen.context, KEY)
  whole = adapt(params, seen.support, seen.context, KEY)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), state, whole)


def test_what_is_masked_is_not_seen():
  seen, _ = one_user(CONDITIONS[0])
  it = exact(CONDITIONS[0])
  params, adapt = it.learner.init(KEY), jax.jit(it.learner.adapt)
  padded = task.pad_to(seen.support, 8)
  spoiled = padded._replace(
    candidates=Candidates(
      padded.candidates.features.at[5:].set(jnp.nan), jnp.ones_like(padded.candidates.mask)
    )
  )
  states = [adapt(params, support, seen.context, KEY) for support in (padded, spoiled)]
  jax.tree.map(np.testing.assert_array_equal, *states)
  assert states[0].rung.tolist()[5:] == [0, 0, 0]
  start = adapt(params, task.with_shots(padded, 0), seen.context, KEY)
  gone_on = jax.jit(it.update)(params, start, spoiled, seen.context, KEY)
  np.testing.assert_allclose(gone_on.log_weights, states[0].log_weights, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('condition', CONDITIONS[:2], ids=str)
def test_draws_are_of_one_mind_with_predictions(condition):
  seen, truth = one_user(condition)
  learner = exact(condition).learner
  params = learner.init(KEY)
  state = jax.jit(learner.adapt)(params, seen.support, seen.context, KEY)
  candidates = seen.query.candidates
  drawn = learner.sample(params, state, candidates)
  assert drawn.shape == (500, *candidates.mask.shape)
  mean = jnp.exp(choice_model.mean_probability(drawn, candidates.mask))
  predicted = jnp.exp(learner.predict(params, state, candidates))
  np.testing.assert_allclose(mean, predicted, atol=0.06)
  temperature = max(condition.temperature, exact_learner.SHARPEST)
  scores = learner.sample(params, state, truth.slate).mean(0) * temperature
  np.testing.assert_allclose(scores, learner.score(params, state, truth.slate), atol=0.12)


def test_it_asks_what_halves_its_particles():
  tasks, truth = simulate(CONDITIONS[0], **SMALL)
  it = exact(CONDITIONS[0])
  answers = asking.ask(
    it.learner,
    it.learner.init(KEY),
    tasks,
    truth,
    rule='bald',
    num_questions=2,
    update=it.update,
    chunk_size=1,
    key=KEY,
  )
  rewards = tasks.support.candidates.features
  points = jnp.exp(it.learner.init(KEY)).reshape(-1, 3)
  votes = jnp.mean(jnp.argmax(rewards @ points.T, 2) == 0, -1)  # [T, N] under the prior
  asked = jnp.take_along_axis(votes, answers.questions[0][:, None], 1)[:, 0]
  np.testing.assert_allclose(abs(asked - 0.5), abs(votes - 0.5).min(1), atol=0.06)
