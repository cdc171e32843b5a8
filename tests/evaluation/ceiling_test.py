import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from metapers.core import choice_model
from metapers.core.task import Candidates, Choices, Task, Truth
from metapers.evaluation import ceiling
from metapers.evaluation.evidence import Condition
from metapers.populations import choice_rules, dirichlet

RESPONSES, SLATES = 4, 2
RULES = [('random', 2), ('controversial', 2), ('extreme', 2), ('best_of_k', 3)]
NOISELESS, NOISY, FLIPPED = Condition(0.3), Condition(0.3, 0.4), Condition(0.3, 0.0, 0.15)


@functools.partial(jax.jit, static_argnames='rule')
def compare(key, rewards, weights, noise, *, rule):
  """Lets one user compare candidates of one slate [R, B]."""
  key_shown, key_choice = jax.random.split(key)
  utilities, mask = rewards @ weights, jnp.ones(RESPONSES, bool)
  options = {'pair_rule': rule[0], 'num_candidates': rule[1]}
  order, _ = choice_rules.draw_shown(key_shown, rewards, utilities, mask, **options)
  shown = order[: rule[1]]
  options = {'temperature': noise[0], 'flip_rate': noise[1]}
  return order, choice_rules.draw_choice(key_choice, utilities[shown], mask[shown], **options)


def simulate(condition, rule=('random', 2), *, num_users, num_support, num_query, num_models):
  """Draws users from the prior, and their episodes on independent Gaussian scores."""
  rng = np.random.default_rng(0)
  drawn = dirichlet.sample_log_weights(rng, num_users, condition.concentration, num_models)
  weights, num = jnp.exp(drawn), num_support + num_query
  scores = rng.normal(size=(num_users, num, RESPONSES, num_models)).astype(np.float32)
  each = jax.vmap(functools.partial(compare, rule=rule), (0, 0, None, None))
  noise = jnp.array([condition.temperature, condition.flip_rate])
  keys = jax.random.split(jax.random.key(0), (num_users, num))
  order, choice = jax.vmap(each, (0, 0, 0, None))(keys, scores, weights, noise)
  rewards = jnp.take_along_axis(scores, order[..., None], 2)
  shown = Candidates(rewards[:, :, : rule[1]], jnp.ones((num_users, num, rule[1]), bool))
  choices = Choices(shown, choice, jnp.ones((num_users, num), bool))
  support = jax.tree.map(lambda x: x[:, :num_support], (choices, rewards))
  query = jax.tree.map(lambda x: x[:, num_support:], (choices, rewards))
  slate = jnp.asarray(rng.normal(size=(num_users, SLATES, RESPONSES, num_models)), jnp.float32)
  everything = jnp.ones(slate.shape[:-1], bool)
  truth = Truth(
    weights,
    *(support[1], jnp.ones(support[1].shape[:-1], bool), support[0].choice),
    *(query[1], jnp.ones(query[1].shape[:-1], bool), query[0].choice),
    *(Candidates(slate, everything), slate),
    *(jnp.zeros((num_users, SLATES), int), jnp.zeros(slate.shape[:-1], int)),
  )
  return Task(support[0], query[0], jnp.zeros(num_users, int), jnp.zeros((num_users, 0))), truth


def grid(concentration, size=200):
  """Equally likely points of a Dirichlet over three models: quantiles of stick-breaking Betas."""
  v = (np.arange(size) + 0.5) / size
  first = stats.beta.ppf(v, concentration, 2 * concentration)[:, None]
  second = stats.beta.ppf(v, concentration, concentration)[None]
  points = np.broadcast_arrays(first, (1 - first) * second, (1 - first) * (1 - second))
  return jnp.asarray(np.stack(points, -1).reshape(-1, 3), jnp.float32)


@functools.partial(jax.jit, static_argnames='rule')
def evidence_of_grid(points, tasks, truth, noise, *, rule):
  """Returns, at every number of shots of every user, Σ_w P(choices, answer | w) and Σ_w w P."""

  def joint(rewards):
    utilities = jnp.einsum('neb,gb->gne', rewards, points)
    options = {'pair_rule': rule[0], 'num_candidates': rule[1]}
    options |= {'temperature': noise[0], 'flip_rate': noise[1]}
    return choice_rules.log_joint(utilities, jnp.ones(utilities.shape, bool), **options)

  def one(user):
    choice, rewards, query_rewards = user
    log_p = jnp.take_along_axis(joint(rewards), choice[None, :, None], -1)[..., 0]
    log_p = jnp.pad(jnp.cumsum(log_p, 1), ((0, 0), (1, 0)))
    likelihood = jnp.exp(log_p).T  # [L, G]
    return jnp.einsum('lg,gnk->lnk', likelihood, jnp.exp(joint(query_rewards))), likelihood @ points

  return jax.lax.map(one, (tasks.support.choice, truth.support_rewards, truth.query_rewards))


def check_against_grid(tasks, truth, conditions, rule):
  settings = {'pair_rule': rule[0], **SETTINGS}
  predictions, diagnostics = ceiling.bayes(tasks, truth, conditions, **settings)
  assert np.all(diagnostics.num_unexplained == 0)
  answers, weights = jnp.zeros(()), jnp.zeros(())
  for one in conditions:
    noise = jnp.array([one.temperature, one.flip_rate])
    added = evidence_of_grid(grid(one.concentration), tasks, truth, noise, rule=rule)
    answers, weights = answers + added[0], weights + added[1]
  p = jnp.swapaxes(answers / answers.sum(-1, keepdims=True), 0, 1)
  scores = jnp.einsum(
    'tmrb,tlb->ltmr', truth.slate_rewards, weights / weights.sum(-1, keepdims=True)
  )
  shots = jnp.array(SETTINGS['shots'])
  np.testing.assert_allclose(jnp.exp(predictions.log_probs), p[shots], atol=0.03)
  np.testing.assert_allclose(predictions.slate_scores, scores[shots], atol=0.05)


SETTINGS = {'shots': (0, 2, 5), 'num_particles': 3000}
SMALL = {'num_users': 3, 'num_support': 5, 'num_query': 6, 'num_models': 3}


@pytest.mark.parametrize('rule', RULES, ids=str)
def test_bayes_agrees_with_a_fine_grid(rule):
  for condition in (NOISELESS, NOISY, FLIPPED):  # of one compiled program
    tasks, truth = simulate(condition, rule, **SMALL)
    check_against_grid(tasks, truth, [condition], rule)


def test_a_mixture_agrees_with_a_fine_grid():
  conditions = [Condition(0.2), Condition(3.0, 0.5, 0.1)]
  tasks, truth = simulate(conditions[0], **SMALL)
  check_against_grid(tasks, truth, conditions, ('random', 2))


LARGE = {'num_users': 80, 'num_support': 8, 'num_query': 32, 'num_models': 10}


@pytest.mark.parametrize(
  'condition', [Condition(0.05), Condition(1.0), Condition(0.1, 0.3), Condition(0.05, 0.0, 0.1)]
)
def test_bayes_knows_how_often_it_is_right(condition):
  tasks, truth = simulate(condition, **LARGE)
  predictions, diagnostics = ceiling.bayes(
    tasks, truth, [condition], pair_rule='random', shots=(0, 3, 8), num_particles=500
  )
  p = jnp.exp(predictions.log_probs)
  accuracy, nll = jax.vmap(ceiling.judge, (0, None))(predictions.log_probs, tasks.query)
  for surplus in (
    p.max(-1).mean(-1) - accuracy,
    -(p * predictions.log_probs).sum(-1).mean(-1) - nll,
  ):
    error = surplus.std(-1) / surplus.shape[-1] ** 0.5
    assert np.all(np.abs(surplus.mean(-1)) < 4 * error + 0.003)
  assert np.all(np.diff(nll.mean(-1)) < 0)
  assert np.all(diagnostics.accuracy_error < 0.01)
  assert np.all(np.abs(diagnostics.accuracy_gap) < 8 * diagnostics.accuracy_error + 0.005)
  assert np.all(np.abs(diagnostics.nll_gap) < 8 * diagnostics.nll_error + 0.005)


def test_who_believes_otherwise_is_not_above_it():
  tasks, truth = simulate(Condition(0.05), **LARGE)
  options = {'pair_rule': 'random', 'shots': (0, 3, 8), 'num_particles': 500}

  def judged(condition):
    predictions, _ = ceiling.bayes(tasks, truth, [condition], **options)
    return jax.vmap(ceiling.judge, (0, None))(predictions.log_probs, tasks.query)

  accuracy, nll = judged(Condition(0.05))
  for other in (Condition(1.0), Condition(0.05, 0.5), Condition(0.05, 0.0, 0.2)):
    other_accuracy, other_nll = judged(other)
    for gain in (other_accuracy - accuracy, nll - other_nll):
      error = gain.std(-1) / gain.shape[-1] ** 0.5
      assert np.all(gain.mean(-1) <= 2 * error + 0.001)
    assert other_nll[-1].mean() > nll[-1].mean() + 0.01


def test_sharp_priors_and_many_noiseless_choices_kill_no_user():
  condition = Condition(0.01)
  tasks, truth = simulate(condition, **{**LARGE, 'num_users': 12, 'num_support': 64})
  predictions, diagnostics = ceiling.bayes(
    tasks, truth, [condition], pair_rule='random', shots=(16, 64), num_particles=500
  )
  assert np.all(diagnostics.num_unexplained == 0)
  assert np.all(diagnostics.effective_size > 100)
  _, nll = jax.vmap(ceiling.judge, (0, None))(predictions.log_probs, tasks.query)
  assert np.all(np.isfinite(predictions.log_probs))
  assert nll[1].mean() < 0.08
  assert nll[1].max() < 0.6


def test_masked_comparisons_are_skipped():
  tasks, truth = simulate(NOISELESS, **SMALL)
  mask = tasks.support.mask.at[:, 1].set(False).at[0, 2:].set(False)
  rewards = jnp.where(mask[..., None, None], truth.support_rewards, jnp.nan)
  choice = jnp.where(mask, tasks.support.choice, -7)
  holed = tasks._replace(support=tasks.support._replace(mask=mask, choice=choice))
  holed_truth = truth._replace(support_rewards=rewards)

  def close(x):
    return jnp.stack([row[order] for row, order in zip(x, jnp.argsort(~mask, -1, stable=True))])

  dense = holed._replace(support=jax.tree.map(close, tasks.support)._replace(mask=close(mask)))
  dense_truth = truth._replace(support_rewards=close(truth.support_rewards))
  options = {'pair_rule': 'random', **SETTINGS}
  got, _ = ceiling.bayes(holed, holed_truth, [NOISELESS], **options)
  want, _ = ceiling.bayes(dense, dense_truth, [NOISELESS], **options)
  assert np.array_equal(got.log_probs, want.log_probs)
  assert np.array_equal(got.log_probs[1, 0], got.log_probs[2, 0])  # there is only one


def test_shots_come_back_in_the_order_asked():
  tasks, truth = simulate(NOISELESS, **SMALL)
  options = {'pair_rule': 'random', **SETTINGS}
  straight, _ = ceiling.bayes(tasks, truth, [NOISELESS], **options)
  turned, _ = ceiling.bayes(tasks, truth, [NOISELESS], **{**options, 'shots': (5, 0, 2)})
  assert np.array_equal(turned.log_probs, straight.log_probs[jnp.array([2, 0, 1])])


def test_oracle_is_never_wrong_without_noise_and_as_often_as_the_noise_with_it():
  tasks, truth = simulate(NOISELESS, **LARGE)
  predictions = ceiling.oracle(tasks, truth, num_rows=2)
  assert predictions.log_probs.shape == (2, *tasks.query.candidates.mask.shape)
  assert choice_model.correct(predictions.log_probs[1], tasks.query).min() == 1
  tasks, truth = simulate(FLIPPED, **LARGE)
  predictions = ceiling.oracle(tasks, truth, num_rows=1, flip_rate=FLIPPED.flip_rate)
  accuracy, nll = ceiling.judge(predictions.log_probs[0], tasks.query)
  entropy = stats.bernoulli(FLIPPED.flip_rate).entropy()
  np.testing.assert_allclose(accuracy.mean(), 1 - FLIPPED.flip_rate, atol=0.04)
  np.testing.assert_allclose(nll.mean(), entropy, atol=0.07)
  best = truth.slate_rewards @ truth.weights[:, None, :, None]
  np.testing.assert_allclose(predictions.slate_scores[0], best[..., 0], rtol=1e-5, atol=1e-6)


def test_oracle_splits_ties_and_leaves_masked_candidates_nothing():
  tasks, truth = simulate(NOISELESS, ('best_of_k', 3), **SMALL)
  mask = tasks.query.candidates.mask.at[..., 2].set(False)
  query = tasks.query._replace(candidates=tasks.query.candidates._replace(mask=mask))
  tied = jnp.ones_like(truth.query_rewards)
  predictions = ceiling.oracle(
    tasks._replace(query=query), truth._replace(query_rewards=tied), num_rows=1
  )
  expected = np.broadcast_to([0.5, 0.5, 0.0], mask.shape)
  np.testing.assert_allclose(jnp.exp(predictions.log_probs[0]), expected, atol=1e-6)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'pair_rule': 'best'}, 'unknown pair_rule'),
    ({'shots': (0, 9)}, 'shots must lie in 0..5'),
    ({'shots': ()}, 'shots must lie in 0..5'),
    ({'conditions': []}, 'conditions, got 0'),
    ({'conditions': [Condition(0.0)]}, 'concentration > 0'),
    ({'conditions': [Condition(0.1, 0.0, 1.0)]}, 'flip_rate in'),
  ],
)
def test_bad_options_are_refused_by_name(options, message):
  tasks, truth = simulate(NOISELESS, **SMALL)
  given = {'conditions': [NOISELESS], 'pair_rule': 'random', 'shots': (0,)} | options
  with pytest.raises(ValueError, match=message):
    ceiling.bayes(tasks, truth, given.pop('conditions'), **given)
