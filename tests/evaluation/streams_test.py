import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_store import small_population

from metapers.core import choice_model, meta_learner, task
from metapers.evaluation import adaptation, estimates, streams
from metapers.evaluation.bayes import ceiling

TURNS, USERS = 6, 5


@functools.cache  # one object, so that it is compiled once
def counting():
  """A learner that scores by the first feature, with a sign that each comparison turns."""

  def adapt(params, support, context, key):
    del params, context, key
    return jnp.sum(support.mask).astype(jnp.float32)

  def score(params, user_state, candidates):
    del params
    return candidates.features[..., 0] * (1 - 2 * (user_state % 2))

  return meta_learner.from_adapt_score(lambda key: {}, adapt, score)


@functools.cache
def stream(change_at=0):
  population = small_population(num_support=TURNS, num_slates=TURNS)
  tasks, truth = adaptation.episodes(population, split='test', num_users=USERS)
  return tasks, truth, *streams.as_stream(tasks, truth, change_at)


def predict(tasks, truth, window=0):
  made = adaptation.evaluate(
    counting(), {}, tasks, truth, shots=range(TURNS), window=window, key=jax.random.key(0)
  )
  return streams.by_turn(made, tasks.support.mask)


def test_each_turn_is_predicted_from_the_turns_before():
  tasks, truth, streamed, facts = stream()
  made = predict(streamed, facts)
  assert made.log_probs.shape == (1, USERS, TURNS, 2)
  sign = np.array([1, -1, 1, -1, 1, -1])[None, :, None]  # after 0, 1, 2, ... comparisons
  expected = choice_model.log_probs(
    jnp.asarray(tasks.support.candidates.features[..., 0] * sign), tasks.support.candidates.mask
  )
  np.testing.assert_allclose(made.log_probs[0], expected, rtol=1e-5)
  np.testing.assert_allclose(made.slate_scores[0], truth.slate.features[..., 0] * sign, rtol=1e-5)


def test_a_window_forgets_what_is_older():
  tasks, _, _, _ = stream()
  kept = task.latest(tasks.support, 5, 2)
  np.testing.assert_array_equal(kept.mask, np.tile([0, 0, 0, 1, 1, 0], (USERS, 1)).astype(bool))
  np.testing.assert_array_equal(
    task.latest(tasks.support, 4, 0).mask, task.with_shots(tasks.support, 4).mask
  )
  _, _, streamed, facts = stream()
  made = predict(streamed, facts, window=1)
  after_one = np.array([1, -1, -1, -1, -1, -1])[None, :, None]
  np.testing.assert_allclose(made.slate_scores[0], facts.slate.features[..., 0] * after_one)


def test_masked_turns_are_not_counted():
  """Turn 1 of everyone is masked: turn 2 comes after one comparison."""
  _, _, streamed, facts = stream()
  real = jnp.ones((USERS, TURNS), bool).at[:, 1].set(False)
  streamed = streamed._replace(support=streamed.support._replace(mask=real))
  made = predict(streamed, facts)
  sign = np.array([1, -1, -1, 1, -1, 1])[None, :, None]  # after 0, 1, 1, 2, 3, 4
  np.testing.assert_allclose(made.slate_scores[0], facts.slate.features[..., 0] * sign, rtol=1e-5)


def test_changed_preferences_are_the_next_users():
  tasks, truth, streamed, facts = stream(change_at=4)
  utilities = np.einsum('tneb,tb->tne', facts.query_rewards, facts.weights)
  np.testing.assert_array_equal(utilities[..., :2].argmax(-1), streamed.query.choice)
  other = np.roll(np.arange(USERS), -1)
  np.testing.assert_array_equal(
    streamed.support.candidates.features[:, 4:], tasks.support.candidates.features[other, 4:]
  )
  np.testing.assert_array_equal(facts.slate_prompts[:, :4], truth.slate_prompts[:, :4])
  slates = np.einsum('tmrb,tb->tmr', facts.slate_rewards, facts.weights)
  own = np.einsum('tmrb,tb->tmr', truth.slate_rewards, truth.weights)
  np.testing.assert_allclose(slates[:, :4], own[:, :4], rtol=1e-5)
  np.testing.assert_allclose(slates[:, 4:], own[other, 4:], rtol=1e-5)


def drifted(extent, change_at=(0, 2, 3, 5, 6)):
  population = small_population(num_support=TURNS, num_slates=TURNS)
  tasks, truth = adaptation.episodes(population, split='test', num_users=USERS)
  users = task.take(population.simulation.users(population.arrays, 'test'), jnp.arange(USERS))
  return tasks.support, truth, streams.drifted(
    tasks.support, truth, users, change_at=jnp.asarray(change_at), extent=extent,
    key=jax.random.key(0),
  )  # fmt: skip


@pytest.mark.parametrize('extent', [0.5, 1.0])
def test_preferences_drift_by_their_extent_at_each_users_own_turn(extent):
  support, truth, found = drifted(extent)
  after = (1 - extent) * truth.weights + extent * jnp.roll(truth.weights, -1, 0)
  changed = np.arange(TURNS) >= np.array([0, 2, 3, 5, 6])[:, None]
  weights = np.where(changed[..., None], after[:, None], truth.weights[:, None])
  utilities = np.einsum('tnkb,tnb->tnk', truth.support_rewards[:, :, :2], weights)
  np.testing.assert_array_equal(found.choice, utilities.argmax(-1))
  assert (found.choice != support.choice).any()
  np.testing.assert_array_equal(found.candidates.features, support.candidates.features)


def test_preferences_that_do_not_change_are_answered_as_before():
  support, _, found = drifted(0.0)
  jax.tree.map(np.testing.assert_array_equal, found, support)


def test_the_oracle_has_no_regret_and_numbers_are_of_the_turns_listed():
  _, _, streamed, facts = stream(change_at=3)
  evaluated = estimates.evaluation_set(streamed, facts, num_resamples=10)
  perfect = ceiling.oracle(streamed, facts, num_rows=1)
  found = streams.estimate(evaluated, perfect, (2, 6))
  assert found['turn_accuracy'].shape == (13, 2)
  np.testing.assert_allclose(found['turn_accuracy'], 1)
  np.testing.assert_allclose(found['cumulative_regret'], 0, atol=1e-5)

  made = predict(streamed, facts)
  found = streams.estimate(evaluated, made, (2, 6))
  hits = np.asarray(choice_model.correct(made.log_probs[0], streamed.query))
  expected = [hits[:, :2].mean(), hits[:, 2:].mean()]
  np.testing.assert_allclose(found['turn_accuracy'][0], expected, rtol=1e-5)
  slates = np.einsum('tmrb,tb->tmr', facts.slate_rewards, facts.weights)
  slates = np.where(facts.slate.mask, slates, -np.inf)
  scores = np.where(facts.slate.mask, made.slate_scores[0], -np.inf)
  picked = np.take_along_axis(slates, scores.argmax(-1)[..., None], -1)[..., 0]
  lost = (slates.max(-1) - picked).sum(1).mean()
  np.testing.assert_allclose(found['cumulative_regret'][0, 1], lost, rtol=1e-5)


def test_turns_are_resampled_with_the_user_who_answered_them():
  _, _, streamed, facts = stream(change_at=2)
  owners = streams.owners(USERS, TURNS, 2)
  np.testing.assert_array_equal(owners[:, 1], np.arange(USERS))
  np.testing.assert_array_equal(owners[:, 2], [1, 2, 3, 4, 0])
  np.testing.assert_array_equal(streams.owners(USERS, TURNS, 0)[:, -1], np.arange(USERS))
  evaluated = estimates.evaluation_set(streamed, facts, owners=owners, num_resamples=40)
  drawn, slates = evaluated.draws.users, evaluated.weights['slate'].reshape(-1, USERS, TURNS)
  without = np.flatnonzero(drawn[: len(slates), 1] == 0)
  assert without.size
  assert not slates[without][:, 1, :2].any() and not slates[without][:, 0, 2:].any()


def test_turns_count_by_weight():
  _, _, streamed, facts = stream()
  real = jnp.ones((USERS, TURNS), bool).at[:, 1].set(False)
  made = predict(streamed, facts)
  found = []
  for changes in ({'weight': real.astype(jnp.float32)}, {'mask': real}):
    tasks = streamed._replace(query=streamed.query._replace(**changes))
    evaluated = estimates.evaluation_set(tasks, facts, num_resamples=10)
    found.append(streams.estimate(evaluated, made, (2, 6))['turn_accuracy'])
  np.testing.assert_allclose(*found, rtol=1e-6)
  evaluated = estimates.evaluation_set(streamed, facts, num_resamples=10)
  assert not np.allclose(found[0], streams.estimate(evaluated, made, (2, 6))['turn_accuracy'])


def test_a_learner_that_diverged_is_refused():
  _, _, streamed, facts = stream()
  evaluated = estimates.evaluation_set(streamed, facts, num_resamples=10)
  made = predict(streamed, facts)
  for broken in (made._replace(log_probs=made.log_probs * jnp.nan),
                 made._replace(slate_scores=made.slate_scores * jnp.nan)):  # fmt: skip
    with pytest.raises(ValueError, match='not finite'):
      streams.estimate(evaluated, broken, (2, 6))


@pytest.mark.parametrize('turns', [(0, 2), (2, 2), (4, 2), (2, TURNS + 1)])
def test_turns_rise_from_one(turns):
  _, _, streamed, facts = stream()
  evaluated = estimates.evaluation_set(streamed, facts, num_resamples=10)
  with pytest.raises(ValueError, match='must rise from 1 to 6'):
    streams.estimate(evaluated, predict(streamed, facts), turns)


@pytest.mark.parametrize(('slates', 'change_at'), [(4, 0), (TURNS, TURNS), (TURNS, -1)])
def test_streams_that_cannot_be_are_refused(slates, change_at):
  tasks, truth, _, _ = stream()
  truth = truth._replace(slate_prompts=truth.slate_prompts[:, :slates])
  with pytest.raises(ValueError, match='change_at'):
    streams.as_stream(tasks, truth, change_at)
