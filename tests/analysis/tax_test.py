import evaluation_sets
import jax.numpy as jnp
import numpy as np
import pytest
from evaluation_sets import B, R

from metapers.analysis import tax
from metapers.evaluation import estimates, intervals
from metapers.evaluation.predictions import Predictions

NAMES = ('gemma_2b', tax.SAFETY, 'gemma_7b')


@pytest.fixture(scope='module')
def evaluation():
  tasks, truth = evaluation_sets.users()
  return tasks, truth, evaluation_sets.evaluation_set(tasks, truth)


def picking(truth, rewards):
  """Predictions whose picks are the best by some scores [..., T, M, R]."""
  empty = jnp.zeros((1, *truth.query_rewards.shape[:2], 2))
  return Predictions(empty, jnp.asarray(rewards)[None])


def test_outcomes_are_the_columns_they_are_named_after(evaluation):
  _, truth, _ = evaluation
  lengths = np.arange(30.0 * R).reshape(30, R).astype(np.float32)
  found = tax.outcomes(truth, NAMES, lengths=lengths)
  assert set(found) == {'mean_reward', tax.SAFETY, 'length'}
  np.testing.assert_array_equal(found[tax.SAFETY], truth.slate_rewards[..., 1])
  np.testing.assert_allclose(found['mean_reward'], truth.slate_rewards.sum(-1) / B, rtol=1e-5)
  prompt = int(truth.slate_prompts[3, 2])
  np.testing.assert_array_equal(found['length'][3, 2], lengths[prompt])
  assert set(tax.outcomes(truth, ('a', 'b', 'c'))) == {'mean_reward'}


def test_names_and_lengths_that_do_not_fit_are_refused(evaluation):
  _, truth, _ = evaluation
  with pytest.raises(ValueError, match='2 names for 3 reward models'):
    tax.outcomes(truth, NAMES[:2])
  with pytest.raises(ValueError, match='lengths of 2 responses'):
    tax.outcomes(truth, NAMES, lengths=np.zeros((30, 2), np.float32))


def mean_picked(truth, scores, outcome, slates):
  """The mean over users of the mean over their slates, by a loop."""
  users = []
  for user in range(len(scores)):
    earned = []
    for m in range(scores.shape[1]):
      there = np.flatnonzero(np.asarray(truth.slate.mask[user, m]))
      if len(there) > 1 and slates[user, m]:
        earned.append(outcome[user, m, there[np.argmax(scores[user, m, there])]])
    users.append(np.mean(earned) if earned else np.nan)
  return np.nanmean(users)


@pytest.mark.parametrize('share', [1.0, 0.3])
def test_what_is_picked_equals_a_loop_on_all_slates_and_on_some(evaluation, share):
  _, truth, evaluated = evaluation
  rng = np.random.default_rng(0)
  slates = rng.random(truth.slate_prompts.shape) < share
  scores = rng.normal(size=truth.slate_rewards.shape[:3]).astype(np.float32)
  found = tax.outcomes(truth, NAMES)
  chosen = None if share == 1 else slates
  got = tax.estimate(evaluated, picking(truth, scores), found, slates=chosen)
  for name, outcome in found.items():
    expected = mean_picked(truth, scores, outcome, slates)
    np.testing.assert_allclose(got[f'pick_{name}'][0, 0], expected, rtol=1e-4, atol=1e-6)


def test_picking_the_most_dangerous_where_it_matters_is_found_on_those_prompts_alone(evaluation):
  _, truth, evaluated = evaluation
  safety = np.asarray(truth.slate_rewards[..., 1])
  subset = np.array(['chat', 'harmless'])[np.arange(30) % 2]
  parts = tax.subsets(truth, subset)
  assert set(parts) == {'chat', 'harmless'}
  safe = picking(truth, safety)
  careless = picking(truth, np.where(parts['harmless'][..., None], -safety, safety))
  found = tax.outcomes(truth, NAMES)
  differences = {}
  for name, slates in parts.items():
    learner, pooled = (
      tax.estimate(evaluated, made, found, slates=slates) for made in (careless, safe)
    )
    differences[name] = estimates.differences(learner, pooled, 'pooled')
  tax_of = {
    name: intervals.interval(found[f'pick_{tax.SAFETY}_minus_pooled'], 60)[:, 0]
    for name, found in differences.items()
  }
  assert tax_of['harmless'][2] < -1
  np.testing.assert_allclose(tax_of['chat'], 0, atol=1e-6)


def test_an_interval_for_a_subset_is_told_its_own_users_and_prompts(evaluation):
  _, truth, evaluated = evaluation
  slates = np.asarray(truth.slate_prompts) < 3
  there = slates & (np.asarray(truth.slate.mask).sum(-1) > 1)
  found = tax.of_slates(evaluated, slates)
  assert found.num_users == len({user for user, _ in zip(*np.nonzero(there))}) < 60
  assert found.num_prompts == 3
  assert found.num_items == evaluated.num_items


def test_subsets_that_are_small_or_without_a_name_are_left_out(evaluation):
  _, truth, _ = evaluation
  subset = np.array(['rare'] + [''] * 9 + ['common'] * 20)
  assert set(tax.subsets(truth, subset, least_slates=20)) == {'common'}


def test_scores_and_outcomes_of_masked_responses_change_nothing(evaluation):
  _, truth, evaluated = evaluation
  scores = np.asarray(truth.slate_rewards[..., 0])
  found = tax.outcomes(truth, NAMES)
  expected = tax.estimate(evaluated, picking(truth, scores), found)
  real = np.asarray(truth.slate.mask)
  spoiled = {name: np.where(real, value, np.nan) for name, value in found.items()}
  got = tax.estimate(evaluated, picking(truth, np.where(real, scores, np.nan)), spoiled)
  for name, value in expected.items():
    np.testing.assert_array_equal(got[name], value)


def test_scores_that_are_not_finite_are_refused(evaluation):
  tasks, truth, evaluated = evaluation
  broken = picking(truth, np.full(truth.slate.mask.shape, np.nan))
  with pytest.raises(ValueError, match='not finite'):
    tax.estimate(evaluated, broken, tax.outcomes(truth, NAMES))
  with pytest.raises(ValueError, match='regret not finite'):
    right = evaluation_sets.noisy(tasks, truth, 0.5)
    estimates.estimate(evaluated, right._replace(slate_scores=right.slate_scores * jnp.nan))


def test_picks_without_slates_are_refused(evaluation):
  tasks, truth, evaluated = evaluation
  people = estimates.evaluation_set(tasks, num_resamples=10)
  made, found = picking(truth, truth.slate_rewards[..., 0]), tax.outcomes(truth, NAMES)
  with pytest.raises(ValueError, match='num_slates >= 1'):
    tax.estimate(people, made, found)
  with pytest.raises(ValueError, match='no slate of these users'):
    tax.estimate(evaluated, made, found, slates=np.zeros(truth.slate_prompts.shape, bool))
