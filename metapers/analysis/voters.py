"""Who votes on the responses of a store: Dirichlet users, and baselines that a paper may lack."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from metapers.analysis import diversity, slates
from metapers.analysis.slates import CONVENTIONS, Slates
from metapers.analysis.study_frame import Whose
from metapers.core.types import Bool, Float, Int

DIRICHLET = 'Dirichlet users'
ALONE = 'each user one reward model'  # the limit α → 0
SINGLE = 'all users one reward model'
POOLED = 'all users the mean reward'  # the limit α → ∞
UNIFORM = 'uniform choosers'
BASELINES = (ALONE, SINGLE, POOLED, UNIFORM)
NUM_DRAWS = 10  # of users: tell how much another draw would differ


class Voters(NamedTuple):
  """How often each response is the favourite. counts: [draws, P, R], which sum to U over R."""

  whose: Whose
  counts: Int[np.ndarray, 'draws P R']


def voters(
  given: Slates,
  concentrations: Sequence[float],
  *,
  num_users: int = diversity.NUM_USERS,
  num_draws: int = NUM_DRAWS,
  study: str = 'diversity',
  seed: int = 0,
) -> Iterator[Voters]:
  """Makes the votes of simulated users and baselines, under both conventions.

  Args:
    given: what they vote on.
    concentrations: α of the Dirichlet users.
    num_users: U of each draw.
    num_draws: of users.
    study: that the votes are for.
    seed: of all that is drawn.
  """
  size = {'num_draws': num_draws, 'num_users': num_users, 'num_models': len(given.reward_models)}
  for convention in CONVENTIONS:
    scores = given.scores[convention]
    for concentration in concentrations:
      weights = slates.draw_users(concentration, **size, seed=seed)
      whose = Whose(study, DIRICHLET, concentration, convention)
      yield Voters(whose, votes_of(scores, given.mask, weights))
    for name, weights in baseline_weights(**size, seed=seed).items():
      yield Voters(Whose(study, name, convention=convention), votes_of(scores, given.mask, weights))
  counts = uniform_votes(given.mask, num_draws=num_draws, num_users=num_users, seed=seed)
  yield Voters(Whose(study, UNIFORM), counts)


def baseline_weights(
  *, num_draws: int, num_users: int, num_models: int, seed: int = 0
) -> dict[str, Float[np.ndarray, '_ _U B']]:
  """Returns the weights of the baselines' users; of SINGLE, each reward model is one draw."""
  corners = np.eye(num_models)
  drawn = np.random.default_rng([seed, 1]).integers(num_models, size=(num_draws, num_users))
  return {
    ALONE: corners[drawn],
    SINGLE: corners[:, None],
    POOLED: np.full((1, 1, num_models), 1 / num_models),
  }


def votes_of(
  scores: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
  weights: Float[np.ndarray, 'draws U B'],
) -> Int[np.ndarray, 'draws P R']:
  """Returns the votes of each draw of users."""
  return np.stack(
    [diversity.votes(scores, mask, drawn, seed=number) for number, drawn in enumerate(weights)]
  )


def uniform_votes(
  mask: Bool[np.ndarray, 'P R'], *, num_draws: int, num_users: int, seed: int = 0
) -> Int[np.ndarray, 'draws P R']:
  """Returns the votes of users who choose any real response with equal chance."""
  rng = np.random.default_rng([seed, 2])
  chance = mask / mask.sum(1, keepdims=True)
  return rng.multinomial(num_users, chance, size=(num_draws, len(mask)))
