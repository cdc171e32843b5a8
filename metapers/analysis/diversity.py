"""Votes on which of a prompt's responses is best, and the published table of how they differ.

Every user votes for the response of largest reward, scores weighted by the user's w_u.

Reference: Zollo et al. 2024, arXiv:2409.20296, section 2 ("persona diversity").
"""

from typing import NamedTuple

import numpy as np

from metapers.core.types import Bool, Float, Int

TOP_SHARES = (50, 75, 95)  # percent of the vote
WINNERS = ('<=2', '3', '4', '5', '>=6')
NUM_USERS = 1000  # in the published table
ENTROPY = 1.180  # nats, published as the mean over all prompts
ENTROPY_CONCENTRATION = 0.05  # which the paper uses where it names none
BLOCK = 64  # prompts at once: their rewards for 1,000 users stay in the cache


class Diversity(NamedTuple):
  """The three rows of the table, all in percent.

  top_share: [3] of prompts whose most popular response gets at most TOP_SHARES of the vote.
  winners: [5] of prompts by the number of responses with at least one vote, binned as WINNERS.
  wins: share of all votes that goes to each response model.
  """

  top_share: Float[np.ndarray, '3']
  winners: Float[np.ndarray, '5']
  wins: Float[np.ndarray, 'G']


# The published table, by concentration α: test prompts, NUM_USERS users each. Read off figures, to
# about ±0.2 points; `wins` in the order of `personal_llm_constants.RESPONSE_MODELS`.
PAPER = {
  0.01: Diversity(
    np.array([49.5, 93.6, 99.7]),
    np.array([5.8, 18.6, 28.3, 28.9, 18.2]),
    np.array([10.9, 16.5, 24.9, 10.1, 10.0, 11.7, 12.5, 3.6]),
  ),
  0.05: Diversity(
    np.array([42.6, 89.5, 99.7]),
    np.array([5.3, 16.7, 27.7, 28.7, 21.4]),
    np.array([10.8, 16.6, 26.2, 9.7, 9.9, 11.5, 12.3, 3.0]),
  ),
  0.1: Diversity(
    np.array([33.9, 82.9, 99.6]),
    np.array([6.6, 17.3, 27.5, 29.2, 19.2]),
    np.array([10.6, 17.1, 27.8, 9.4, 9.7, 10.7, 12.2, 2.6]),
  ),
}

# Of the baseline beside them: 500 personas of PersonaHub, read by the reward model llama3_sfairx.
PERSONA_PROMPTING = Diversity(
  np.array([14.1, 55.6, 85.0]),
  np.array([35.3, 33.0, 20.5, 5.7, 3.6]),
  np.array([5.3, 18.8, 21.9, 5.4, 4.8, 19.9, 22.1, 1.8]),
)


def votes(
  rewards_z: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
  weights: Float[np.ndarray, 'U B'],
  *,
  seed: int = 0,
) -> Int[np.ndarray, 'P R']:
  """Returns how many users' favourite each response is; of tied ones each user draws one.

  Args:
    rewards_z: z-scores [P, R, B]; anything where masked.
    mask: [P, R], True where the response is real; every prompt needs one.
    weights: [U, B] of the users.
    seed: of the draws.

  Returns:
    Counts [P, R] that sum to U over R.
  """
  scores = np.where(mask[..., None], rewards_z, 0).astype(np.float32)
  never = np.where(mask, 0, -np.inf).astype(np.float32)
  by_model = np.ascontiguousarray(weights.T, np.float32)
  blocks, rng = range(0, len(mask), BLOCK), np.random.default_rng(seed)
  return np.concatenate(
    [_count(scores[i : i + BLOCK], never[i : i + BLOCK], by_model, rng) for i in blocks]
  )


def _count(
  scores: np.ndarray, never: np.ndarray, by_model: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  best = np.full((len(scores), by_model.shape[1]), -np.inf, np.float32)
  winner, num_tied = np.zeros(best.shape, np.int8), np.ones(best.shape, np.int8)
  for response in range(scores.shape[1]):
    reward = scores[:, response] @ by_model + never[:, response, None]
    above, tied = reward > best, (reward == best) & np.isfinite(reward)
    if tied.any():  # the k-th of tied ones takes the place with chance 1/k
      num_tied += tied
      above |= tied & (rng.random(tied.shape) * num_tied < 1)
    np.copyto(num_tied, 1, where=reward > best)
    np.copyto(winner, response, where=above)
    np.maximum(best, reward, out=best)
  return np.stack([(winner == response).sum(1) for response in range(scores.shape[1])], 1)
