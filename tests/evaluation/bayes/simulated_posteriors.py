"""Users drawn from a prior over three reward models or more, and their posterior on a fine grid."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from comparison_likelihood import log_joint
from scipy import stats

from metapers.core import task
from metapers.core.task import Candidates, Task, Truth
from metapers.evaluation.bayes import ceiling
from metapers.populations import choice_rules, dirichlet

RESPONSES, SLATES = 4, 2
SETTINGS = {'shots': (0, 2, 5), 'num_particles': 3000}
SMALL = {'num_users': 3, 'num_support': 5, 'num_query': 6, 'num_models': 3}


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


def independent(rng, shape):
  """Draws scores [..., R, B] of slates."""
  return rng.normal(size=shape)


def simulate(
  user_model,
  rule=('random', 2),
  *,
  num_users,
  num_support,
  num_query,
  num_models,
  floor=(),
  draw=independent,
):
  """Draws users from the prior, and their episodes on Gaussian scores."""
  rng = np.random.default_rng(0)
  drawn = dirichlet.sample_above(rng, num_users, user_model.concentration, num_models, floor)
  weights, num = jnp.exp(drawn), num_support + num_query
  scores = draw(rng, (num_users, num, RESPONSES, num_models)).astype(np.float32)
  each = jax.vmap(functools.partial(compare, rule=rule), (0, 0, None, None))
  noise = jnp.array([user_model.temperature, user_model.flip_rate])
  keys = jax.random.split(jax.random.key(0), (num_users, num))
  order, choice = jax.vmap(each, (0, 0, 0, None))(keys, scores, weights, noise)
  rewards = jnp.take_along_axis(scores, order[..., None], 2)
  shown = Candidates(rewards[:, :, : rule[1]], jnp.ones((num_users, num, rule[1]), bool))
  choices = task.choices(shown, choice, jnp.ones((num_users, num), bool))
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
  """Returns, at every number of shots of every user, Σ_w P(choices, answer | w) and Σ_w w P.

  P holds each choice of the support as often as its weight says.
  """

  def joint(rewards):
    utilities = jnp.einsum('neb,gb->gne', rewards, points)
    options = {'pair_rule': rule[0], 'num_candidates': rule[1]}
    options |= {'temperature': noise[0], 'flip_rate': noise[1]}
    return log_joint(utilities, jnp.ones(utilities.shape, bool), **options)

  def one(user):
    choice, weight, rewards, query_rewards = user
    log_p = jnp.take_along_axis(joint(rewards), choice[None, :, None], -1)[..., 0]
    log_p = jnp.where(weight[None] > 0, weight[None] * log_p, 0)
    log_p = jnp.pad(jnp.cumsum(log_p, 1), ((0, 0), (1, 0)))
    likelihood = jnp.exp(log_p).T  # [L, G]
    return jnp.einsum('lg,gnk->lnk', likelihood, jnp.exp(joint(query_rewards))), likelihood @ points

  support = tasks.support
  given = support.choice, support.weight, truth.support_rewards, truth.query_rewards
  return jax.lax.map(one, given)


def check_against_grid(tasks, truth, user_models, rule, floor=()):
  settings = {'pair_rule': rule[0], 'floor': floor, **SETTINGS}
  predictions, diagnostics = ceiling.bayes(tasks, truth, user_models, **settings)
  assert np.all(diagnostics.num_unexplained == 0)
  answers, weights = jnp.zeros(()), jnp.zeros(())
  for one in user_models:
    noise = jnp.array([one.temperature, one.flip_rate])
    points = grid(one.concentration)
    points = points[(points >= jnp.asarray([floor or (0.0, 0.0, 0.0)])).all(-1)]
    added = evidence_of_grid(points, tasks, truth, noise, rule=rule)
    answers, weights = answers + added[0], weights + added[1]
  p = jnp.swapaxes(answers / answers.sum(-1, keepdims=True), 0, 1)
  scores = jnp.einsum(
    'tmrb,tlb->ltmr', truth.slate_rewards, weights / weights.sum(-1, keepdims=True)
  )
  shots = jnp.array(SETTINGS['shots'])
  np.testing.assert_allclose(jnp.exp(predictions.log_probs), p[shots], atol=0.03)
  np.testing.assert_allclose(predictions.slate_scores, scores[shots], atol=0.05)
