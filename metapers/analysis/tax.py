"""Personalisation tax: what picking for a user costs in things the user was not asked about.

The best of R responses by a learner's score is compared with the best by one score for everyone:
how much safer, better in the mean or longer is it?

Reference:
  Dong et al. 2025, "When Personalization Meets Reality": safety falls by up to 20 % under
  personalisation.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.task import Truth
from metapers.core.types import Array, Bool, Float
from metapers.evaluation import bootstrap, estimates, metrics
from metapers.evaluation.estimates import Estimates, EvaluationSet
from metapers.evaluation.predictions import Predictions

SAFETY = 'beaver_7b'  # PersonalLLM's safety-like reward model: minus the cost of harm

Outcomes = dict[str, Float[np.ndarray, 'T M R']]


def outcomes(
  truth: Truth,
  reward_models: Sequence[str],
  *,
  lengths: Float[np.ndarray, 'P R'] | None = None,
) -> Outcomes:
  """Returns what is known of every response of the slates besides the user's own reward.

  Args:
    truth: of T users.
    reward_models: the B names, in the order of the rewards.
    lengths: of every response of the store, in words, in the order of its R responses.

  Returns:
    `mean_reward` over the reward models, SAFETY where it is one of them, and `length` in words
    where `lengths` are given: [T, M, R] each.

  Raises:
    ValueError: where names or lengths do not fit the slates.
  """
  rewards = np.asarray(truth.slate_rewards)
  if len(reward_models) != rewards.shape[-1]:
    raise ValueError(
      f'{len(reward_models)} names for {rewards.shape[-1]} reward models; give one for each'
    )
  found = {'mean_reward': rewards.mean(-1)}
  if SAFETY in reward_models:
    found[SAFETY] = rewards[..., reward_models.index(SAFETY)]
  if lengths is not None:
    if lengths.shape[1] != rewards.shape[2]:
      raise ValueError(
        f'lengths of {lengths.shape[1]} responses a prompt, but slates of {rewards.shape[2]}'
      )
    found['length'] = lengths[np.asarray(truth.slate_prompts)]
  return found


def estimate(
  evaluated: EvaluationSet,
  predictions: Predictions,
  measured: Outcomes,
  *,
  slates: Bool[np.ndarray, 'T M'] | None = None,
) -> Estimates:
  """Returns the mean outcome of a learner's picks, as `pick_{outcome}`: [J, L].

  The tax is its difference to the pooled learner's: `estimates.differences(..., 'pooled')`, paired.

  Args:
    evaluated: of T simulated users.
    predictions: of one learner.
    measured: outcome -> [T, M, R].
    slates: [T, M] the slates that count, of those with a choice; None for all.

  Returns:
    Mean over users of the mean over their slates; users without such a slate do not count.

  Raises:
    ValueError: without slates, or with none that count.
  """
  truth = evaluated.truth
  if truth is None or 'slate' not in evaluated.weights:
    raise ValueError('picks need slates of simulated users; use num_slates >= 1')
  real = has_choice(truth)
  weights = evaluated.weights['slate']
  if slates is not None:
    real = real & slates
    if not real.any():
      raise ValueError('no slate of these users is of that subset; leave it out')
    weights = bootstrap.weights(
      evaluated.draws, real.astype(np.float32), np.asarray(truth.slate_prompts)
    )
  names = [f'pick_{name}' for name in measured]
  filled = [np.where(truth.slate.mask, value, 0).astype(np.float32) for value in measured.values()]
  earned = _earned(predictions.slate_scores, truth.slate.mask, np.stack(filled))
  earned = np.where(real, np.asarray(earned), 0)  # [C, L, T, M]
  return dict(zip(names, estimates.weigh(weights, earned, names), strict=True))


def of_slates(evaluated: EvaluationSet, slates: Bool[np.ndarray, 'T M']) -> EvaluationSet:
  """Returns the set with the numbers of users and prompts of some slates, for their intervals.

  Args:
    evaluated: of T simulated users.
    slates: [T, M] the slates that count, of those with a choice.

  Raises:
    ValueError: for users without slates.
  """
  truth = evaluated.truth
  if truth is None:
    raise ValueError('real people have no slates; give an evaluation set with truth')
  real = has_choice(truth) & slates
  return evaluated._replace(
    num_users=int(real.any(-1).sum()),
    num_prompts=np.unique(np.asarray(truth.slate_prompts)[real]).size,
  )


def has_choice(truth: Truth) -> Bool[np.ndarray, 'T M']:
  """Returns which slates have two responses or more."""
  return np.asarray(truth.slate.mask.sum(-1) >= 2)


@jax.jit
def _earned(
  scores: Float[Array, 'L T M R'], mask: Bool[Array, 'T M R'], measured: Float[Array, 'C T M R']
) -> Float[Array, 'C L T M']:
  picked = jax.vmap(functools.partial(metrics.picks, mask=mask))(scores)
  return jnp.einsum('ltmr,ctmr->cltm', picked, measured)


def subsets(
  truth: Truth, subset_of_prompt: Sequence[str] | np.ndarray, *, least_slates: int = 50
) -> dict[str, Bool[np.ndarray, 'T M']]:
  """Returns the slates of each subset that prompts are from.

  Args:
    truth: of T users.
    subset_of_prompt: [P] names, of all prompts of the store; '' where none is known.
    least_slates: subsets with fewer are left out, as too few to estimate anything on.
  """
  subset = np.asarray(subset_of_prompt)[np.asarray(truth.slate_prompts)]  # [T, M]
  found = {str(name): subset == name for name in np.unique(subset)}
  return {name: slates for name, slates in found.items() if name and slates.sum() >= least_slates}
