import evaluation_sets
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metapers.analysis import flips
from metapers.core import meta_learner
from metapers.evaluation import adaptation, intervals
from metapers.evaluation.predictions import Predictions


def evaluation(**kwargs):
  tasks, truth = evaluation_sets.users(**kwargs)
  return tasks, truth, evaluation_sets.evaluation_set(tasks, truth)


def votes():
  """A learner without parameters: the sum of chosen minus rejected features."""

  def adapt(params, support, context, key):
    del params, context, key
    features = support.candidates.features
    sign = jnp.where(support.mask, 1 - 2 * support.choice, 0)[:, None]
    return jnp.sum(sign * (features[:, 0] - features[:, 1]), 0)

  def score(params, user_state, candidates):
    del params
    return candidates.features @ user_state

  return meta_learner.from_adapt_score(lambda key: (), adapt, score)


def test_only_real_support_choices_are_flipped():
  tasks, _, _ = evaluation(num_users=5)
  flipped = flips.flipped(tasks)
  mask = np.asarray(tasks.support.mask)
  before, after = np.asarray(tasks.support.choice), np.asarray(flipped.support.choice)
  np.testing.assert_array_equal(after, np.where(mask, 1 - before, before))
  again = flips.flipped(flipped)
  assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), again, tasks))
  np.testing.assert_array_equal(flipped.query.choice, tasks.query.choice)


def test_three_candidates_have_no_opposite_choice():
  tasks, _, _ = evaluation(num_users=5)
  wide = jax.tree.map(lambda x: jnp.repeat(x, 2, 2), tasks.support.candidates)
  with pytest.raises(ValueError, match='got 4; use num_candidates=2'):
    flips.flipped(tasks._replace(support=tasks.support._replace(candidates=wide)))


def test_a_learner_of_votes_flips_entirely_and_not_at_all_without_shots():
  tasks, truth, evaluated = evaluation()
  before, after = (
    adaptation.evaluate(votes(), (), one, truth, shots=(0, 2, 8), key=jax.random.key(0))
    for one in (tasks, flips.flipped(tasks))
  )
  rate = flips.flip_rate(evaluated, before, after)
  np.testing.assert_allclose(rate[:, 0], 0, atol=1e-6)
  np.testing.assert_allclose(rate[:, 1:], 1, rtol=1e-5)


def test_the_rate_is_the_mean_over_users_of_their_share_of_changes():
  tasks, truth, evaluated = evaluation()
  before, after = (evaluation_sets.noisy(tasks, truth, 0.6, seed) for seed in (1, 2))
  rate = flips.flip_rate(evaluated, before, after)
  assert rate.shape == (101, 2)
  mask = np.asarray(tasks.query.mask)
  changed = np.asarray(before.log_probs.argmax(-1) != after.log_probs.argmax(-1)) & mask
  by_user = changed[:, 1:].sum(-1) / mask[1:].sum(-1)  # the first user has no query
  np.testing.assert_allclose(rate[0], by_user.mean(-1), rtol=1e-5)
  low, high = intervals.interval(rate, 60)[1:]
  assert (low < rate[0]).all() and (rate[0] < high).all()


def test_weighted_comparisons_count_as_often_as_they_weigh():
  tasks, truth, _ = evaluation()
  weight = np.random.default_rng(3).integers(0, 3, tasks.query.mask.shape).astype(np.float32)
  weighted = tasks._replace(query=tasks.query._replace(weight=jnp.asarray(weight)))
  evaluated = evaluation_sets.evaluation_set(weighted, truth)
  before, after = (evaluation_sets.noisy(tasks, truth, 0.6, seed) for seed in (1, 2))
  ignored = jnp.asarray(weight == 0)[None, ..., None]
  after = after._replace(log_probs=jnp.where(ignored, jnp.nan, after.log_probs))
  rate = flips.flip_rate(evaluated, before, after)
  weight *= np.asarray(tasks.query.mask)
  changed = np.asarray(before.log_probs.argmax(-1) != after.log_probs.argmax(-1)) * weight
  there = weight.sum(-1) > 0
  by_user = changed.sum(-1)[:, there] / weight.sum(-1)[there]
  np.testing.assert_allclose(rate[0], by_user.mean(-1), rtol=1e-5)


def test_a_tie_that_becomes_a_preference_is_half_a_change():
  tasks, truth, evaluated = evaluation()
  tied = jax.tree.map(jnp.zeros_like, evaluation_sets.noisy(tasks, truth, 0.6))
  sure = Predictions(tied.log_probs.at[..., 0].add(1), tied.slate_scores)
  np.testing.assert_allclose(flips.flip_rate(evaluated, tied, sure)[0], 0.5, rtol=1e-5)
  np.testing.assert_allclose(flips.flip_rate(evaluated, tied, tied)[0], 0, atol=1e-7)


def test_predictions_that_are_not_finite_are_refused():
  tasks, truth, evaluated = evaluation(num_users=5)
  made = evaluation_sets.noisy(tasks, truth, 0.5)
  diverged = made._replace(log_probs=jnp.full_like(made.log_probs, jnp.nan))
  with pytest.raises(ValueError, match='flip_rate not finite'):
    flips.flip_rate(evaluated, made, diverged)


def test_predictions_of_other_shots_are_refused():
  tasks, truth, evaluated = evaluation(num_users=5)
  two, three = (evaluation_sets.noisy(tasks, truth, 0.5, num_rows=rows) for rows in (2, 3))
  with pytest.raises(ValueError, match='same queries and shots'):
    flips.flip_rate(evaluated, two, three)
