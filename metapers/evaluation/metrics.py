"""Metrics of predictions, as per-observation numerators over per-observation denominators.

A metric is a ratio of two means over users of the user's own mean,

    Σ_u (Σ_n w_un numerator_un / W_u) / Σ_u (Σ_n w_un denominator_un / W_u),

w the weights of the comparisons (1 for slates) and W_u their sum over those of the user that count,
so that a person with many comparisons counts as much as one with few. Where the denominator is 1
this is the mean over users. Denominators and weights depend on the episodes alone, never on a
learner: one matrix serves all learners (`bootstrap`).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metapers.core import choice_model, masked
from metapers.core.task import Choices, Task, Truth
from metapers.core.types import Array, Bool, Float, Int
from metapers.evaluation.predictions import Predictions

Numerators = dict[str, dict[str, Array]]


class Denominator(NamedTuple):
  """What a group of metrics is divided by, and how its observations weigh.

  value: [T, N] (or [T, M]); 0 where an observation does not count.
  prompts: [T, N] (or [T, M]) ids, None for real people.
  weight: [T, N] (or [T, M]) of the comparisons; 1 for slates.
  """

  value: Float[Array, 'T N']
  prompts: Int[Array, 'T N'] | None
  weight: Float[Array, 'T N']


class Slates(NamedTuple):
  """Slates with the users' true utilities.

  utilities: [T, M, R] true rewards, anything where masked. mask: [T, M, R] of real responses.
  best: [T, M] the largest utility. real: [T, M] slates with a choice: two or more responses.
  """

  utilities: Float[Array, 'T M R']
  mask: Bool[Array, 'T M R']
  best: Float[Array, 'T M']
  real: Bool[Array, 'T M']


class Rival(NamedTuple):
  """One response model's response. utility: [T, M]. real: [T, M], True where there is one."""

  utility: Float[Array, 'T M']
  real: Bool[Array, 'T M']


def utilities(rewards: Float[Array, 'T N E B'], weights: Float[Array, 'T B']) -> Array:
  """Returns the users' true rewards w·z: [T, N, E]."""
  return jnp.einsum('tneb,tb->tne', rewards, weights)


def counted(query: Choices) -> Choices:
  """Returns the comparisons with those of weight 0 masked, which count for nothing."""
  return query._replace(mask=query.mask & (query.weight > 0))


def noiseless(query: Choices, truth: Truth) -> Choices:
  """Returns the comparisons with the argmax of the true reward of what was shown as the choice."""
  size = query.candidates.mask.shape[-1]
  shown = utilities(truth.query_rewards[..., :size, :], truth.weights)
  return query._replace(choice=masked.argmax(shown, query.candidates.mask))


def query_numerators(
  log_probs: Float[Array, 'L T N K'], query: Choices, truth: Truth | None
) -> dict[str, Array]:
  """Returns accuracy, nll (nats), confidence and, given the truth, accuracy_noiseless: [L, T, N].

  All are as they were observed, without weights. `accuracy` is against the labels, noise included;
  `accuracy_noiseless` against the argmax of the true reward. Ties of a prediction are broken at
  random, in expectation.
  """

  def observe(log_p):
    largest = masked.largest(log_p, query.candidates.mask)
    observed = {
      'accuracy': choice_model.correct(log_p, query),
      'nll': -choice_model.chosen_log_probs(log_p, query),
      'confidence': masked.fill(jnp.exp(largest), query.mask),
    }
    if truth is not None:
      observed['accuracy_noiseless'] = choice_model.correct(log_p, noiseless(query, truth))
    return observed

  return jax.vmap(observe)(log_probs)


def slates_of(truth: Truth) -> Slates:
  """Returns the true utilities of every slate, and which slates count."""
  mask = truth.slate.mask
  reward = utilities(truth.slate_rewards, truth.weights)
  real = mask.sum(-1) >= 2
  return Slates(reward, mask, masked.fill(masked.largest(reward, mask), real), real)


def rival_of(truth: Truth, slates: Slates, rival: int) -> Rival:
  """Returns the response of the response model of index `rival` in every slate."""
  theirs = slates.mask & (truth.slate_models == rival)
  first = masked.argmax(jnp.ones_like(slates.utilities), theirs)
  utility = jnp.take_along_axis(slates.utilities, first[..., None], -1)[..., 0]
  return Rival(utility, slates.real & theirs.any(-1))


def picks(scores: Float[Array, 'T M R'], mask: Bool[Array, 'T M R']) -> Float[Array, 'T M R']:
  """Returns how often each response is picked: the best-scored one, ties shared equally.

  NaN for a slate in which a real response's score is NaN.
  """
  best = mask & (scores >= masked.largest(scores, mask)[..., None])
  shares = best / jnp.maximum(masked.count(best, -1, keepdims=True), 1)
  return jnp.where(jnp.any(mask & jnp.isnan(scores), -1, keepdims=True), jnp.nan, shares)


def wins(picked: Float[Array, 'T M R'], slates: Slates, rival: Rival) -> Float[Array, 'T M']:
  """Returns the chance that the pick beats the rival's response, plus half that they tie."""
  theirs = rival.utility[..., None]
  won = (slates.utilities > theirs) + 0.5 * (slates.utilities == theirs)
  return masked.fill((picked * won).sum(-1), rival.real)


def slate_numerators(
  scores: Float[Array, 'L T M R'], truth: Truth, rival: int | None
) -> Numerators:
  """Returns what the best-of-R picks earn, by group: [L, T, M].

  slate: `top1` (the pick is the user's best) and `pick_reward`. regret: max - pick, over
  max - mean of the slate. rival: `win_rate` and `win_rate_oracle`, what the best pick would win.
  """
  slates = slates_of(truth)
  other = None if rival is None else rival_of(truth, slates, rival)
  ideal = picks(slates.utilities, slates.mask)

  def observe(scores):
    picked = picks(scores, slates.mask)
    reward = masked.total(slates.utilities * picked, slates.mask, -1)
    is_best = slates.utilities == slates.best[..., None]
    observed = {
      'slate': {
        'top1': masked.fill((picked * is_best).sum(-1), slates.real),
        'pick_reward': masked.fill(reward, slates.real),
      },
      'regret': {'regret': masked.fill(slates.best - reward, slates.real)},
    }
    if other is not None:
      best = {'win_rate_oracle': wins(ideal, slates, other)}
      observed['rival'] = {'win_rate': wins(picked, slates, other), **best}
    return observed

  return jax.vmap(observe)(scores)


@functools.partial(jax.jit, static_argnames='rival')
def numerators(
  predictions: Predictions, tasks: Task, truth: Truth | None = None, *, rival: int | None = None
) -> Numerators:
  """Returns what each metric is measured by, of one learner: group -> metric -> [L, T, N or M].

  0 where an observation does not count, comparisons of weight 0 included.

  Args:
    predictions: [L, T, ...].
    tasks: the episodes predicted.
    truth: of simulated users; None leaves out the metrics that need it.
    rival: index of a response model into `truth.slate_models`, to win against.
  """
  query = counted(tasks.query)
  observed: Numerators = {'query': query_numerators(predictions.log_probs, query, truth)}
  if truth is not None:
    observed |= slate_numerators(predictions.slate_scores, truth, rival)
  return observed


@functools.partial(jax.jit, static_argnames='rival')
def denominators(
  tasks: Task, truth: Truth | None = None, *, rival: int | None = None
) -> dict[str, Denominator]:
  """Returns what each group of `numerators` is divided by; the same for every learner."""
  query = counted(tasks.query)
  real, weight = query.mask.astype(jnp.float32), masked.fill(query.weight, query.mask)
  if truth is None:
    return {'query': Denominator(real, None, weight)}
  slates = slates_of(truth)
  spread = slates.best - masked.mean(slates.utilities, slates.mask, -1)
  of_slates = truth.slate_prompts, jnp.ones(slates.real.shape, jnp.float32)
  divided = {
    'query': Denominator(real, truth.query_prompts, weight),
    'slate': Denominator(slates.real.astype(jnp.float32), *of_slates),
    'regret': Denominator(masked.fill(spread, slates.real), *of_slates),
  }
  if rival is not None:
    has_rival = rival_of(truth, slates, rival).real.astype(jnp.float32)
    divided['rival'] = Denominator(has_rival, *of_slates)
  return divided


def per_user(numerator: Float[Array, 'L T N'], denominator: Denominator) -> Float[Array, 'L T']:
  """Returns each user's own ratio [L, T]; NaN for a user with nothing to count."""
  total = (denominator.weight * denominator.value).sum(-1)[None]
  weighted = (numerator * denominator.weight[None]).sum(-1)
  return jnp.where(total > 0, weighted / jnp.where(total > 0, total, 1), jnp.nan)


def user_means(
  predictions: Predictions, tasks: Task, truth: Truth | None = None, *, rival: int | None = None
) -> dict[str, Float[Array, 'L']]:
  """Returns every metric, without intervals, [L]: see the module's formula."""
  divided = denominators(tasks, truth, rival=rival)
  observed = numerators(predictions, tasks, truth, rival=rival)

  def mean(values, divided):
    counts = divided._replace(value=(divided.value > 0).astype(jnp.float32))
    return jnp.nanmean(per_user(values, counts), -1)

  return {
    name: mean(value, divided[group]) / mean(divided[group].value[None], divided[group])
    for group, values in observed.items()
    for name, value in values.items()
  }
