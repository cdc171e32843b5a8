"""No user of one split is a user of another: copied weights of simulated users."""

import itertools
from collections.abc import Mapping

import numpy as np

from metapers.core.types import Bool, Float, Int
from metapers.evaluation.leaks import matching
from metapers.evaluation.leaks.matching import HostArray, Leak

LEAST = 1e-30  # weights below carry no information: float32 ends at 1e-38, where draws meet at 0
RESOLUTION = 1e-5  # of log-weights; rounding in float32 stays far below
FEWEST_FREE = 2  # weights besides the largest: two draws agree in both once in 1e10 pairs
RARE = 1e-9


def codes(weights: Float[HostArray, 'U B']) -> Int[np.ndarray, 'U B']:
  """Rounds log-weights, so that a copy that was stored or normalised again is still a copy.

  Logarithms, since users at small concentrations are corners of the simplex up to 1e-20: what
  distinguishes them is how small their small weights are.
  """
  return np.round(np.log(np.maximum(weights, LEAST)) / RESOLUTION).astype(np.int32)


def is_distinctive(weights: Float[HostArray, 'U B']) -> Bool[np.ndarray, 'U']:
  """Marks the users whom chance does not repeat: those with at least three weights above LEAST.

  The others, 2 % at α = 0.01 and B = 10, are numerically corners or edges, as are true others.
  """
  return np.sum(weights > LEAST, -1) > FEWEST_FREE


def shared_users(weights: Mapping[str, Float[HostArray, '_ B']]) -> list[Leak]:
  """Finds users that stand in two splits.

  A copy has the weights of another user, in a place of its own or, where the weights alone are
  common, in the same place: the same seed draws the same users in the same order.

  Args:
    weights: name of a split -> [U, B] weights of its users.
  """
  found = []
  for first, second in itertools.combinations(weights, 2):
    one, other = weights[first], weights[second]
    if one.shape[1] != other.shape[1] or not one.size:
      continue  # weights of other reward models, or of nobody
    in_first, in_second = (matching.keys(codes(part)) for part in (one, other))
    copied = int(np.sum(is_distinctive(other) & np.isin(in_second, in_first)))
    if copied:
      found.append(f'{copied} of {len(other)} {second} users have the weights of a {first} user')
    elif run := num_aligned(in_first, in_second):
      found.append(f'the first {run} {second} users are the first {first} users, in their order')
  return [Leak('users', f'{message}: give every split a seed of its own') for message in found]


def num_aligned(first: np.ndarray, second: np.ndarray) -> int:
  """Counts the leading rows that are alike, row by row; 0 where chance could make them so."""
  size = min(len(first), len(second))
  differs = np.flatnonzero(first[:size] != second[:size])
  run = int(differs[0]) if differs.size else size
  if not run:
    return 0
  values, shares = np.unique(first, return_counts=True)
  others, other_shares = np.unique(second, return_counts=True)
  _, at, at_other = np.intersect1d(values, others, return_indices=True)
  chance = float(np.dot(shares[at] / len(first), other_shares[at_other] / len(second)))
  return run if run * np.log(chance) < np.log(RARE) else 0
