"""How much a population disagrees on which of a prompt's responses is best.

Every user votes for the response of largest reward, scores weighted by the user's w_u.

Reference: Zollo et al. 2024, arXiv:2409.20296, section 2 ("persona diversity").
"""

from typing import NamedTuple

import numpy as np

from metapers.core.population import SPLITS
from metapers.core.tables import RewardTable
from metapers.core.types import Bool, Float, Int
from metapers.data import personal_llm_constants, reward_table
from metapers.populations import dirichlet

TOP_SHARES = (50, 75, 95)  # percent of the vote
WINNERS = ('<=2', '3', '4', '5', '>=6')
NUM_USERS = 1000  # in the published table
USERS_SEED = 0  # of the users who are compared with the published ones
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


def diversity(
  rewards_z: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
  weights: Float[np.ndarray, 'U B'],
  response_model: Int[np.ndarray, 'P R'],
  *,
  num_response_models: int,
) -> Diversity:
  """Returns the table of a population's disagreement.

  Args:
    rewards_z: z-scores [P, R, B]; anything where masked.
    mask: [P, R], True where the response is real; prompts without any are left out.
    weights: [U, B] of the users.
    response_model: [P, R], index of the model that wrote each response.
    num_response_models: G, how many there are.

  Raises:
    ValueError: without users, or without a prompt that has a real response.
  """
  kept = mask.any(1)
  if not (kept.any() and len(weights)):
    raise ValueError(f'need users and prompts, got {len(weights)} and {kept.sum()} with responses')
  counts = votes(rewards_z[kept], mask[kept], weights)  # [P, R]
  top = 100 * counts.max(1) / len(weights)
  distinct = np.clip((counts > 0).sum(1), 2, 6)
  wins = np.bincount(response_model[kept].ravel(), counts.ravel(), num_response_models)
  return Diversity(
    top_share=np.array([100 * np.mean(top <= share) for share in TOP_SHARES]),
    winners=100 * np.bincount(distinct, minlength=7)[2:] / len(distinct),
    wins=100 * wins / counts.sum(),
  )


def dirichlet_diversity(
  rng: np.random.Generator,
  concentration: float,
  rewards_z: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
  response_model: Int[np.ndarray, 'P R'],
  *,
  num_response_models: int,
) -> Diversity:
  """Returns the table of NUM_USERS users drawn from Dirichlet(α·1_B), α = `concentration`."""
  log_weights = dirichlet.sample_log_weights(rng, NUM_USERS, concentration, rewards_z.shape[-1])
  return diversity(
    rewards_z, mask, np.exp(log_weights), response_model, num_response_models=num_response_models
  )


class PaperComparison(NamedTuple):
  """The cells of one concentration's table, in percent.

  labels: of each cell. ours: of simulated users. paper: published, or None where the response
  models are others than the paper's.
  """

  labels: list[str]
  ours: Float[np.ndarray, 'cells']
  paper: Float[np.ndarray, 'cells'] | None


def compare_with_paper(table: RewardTable, concentration: float) -> PaperComparison:
  """Returns the diversity of simulated users on a store's test prompts, beside the published one.

  Args:
    table: of a store.
    concentration: α of the users, a key of PAPER.
  """
  test = table.prompt_split == SPLITS.index('test')
  scores_z = reward_table.z_scores(table.rewards, table.mask, table.mean, table.std)
  ours = dirichlet_diversity(
    np.random.default_rng([USERS_SEED, round(1000 * concentration)]),
    concentration,
    scores_z[test],
    table.mask[test],
    table.response_model[test],
    num_response_models=len(table.response_models),
  )
  labels = [f'top share <={share}%' for share in TOP_SHARES]
  labels += [f'{count} winners' for count in WINNERS]
  labels += [f'wins of {name}' for name in table.response_models]
  published = personal_llm_constants.RESPONSE_MODELS
  if set(table.response_models) != set(published):
    return PaperComparison(labels, np.concatenate(ours), None)
  order = [published.index(name) for name in table.response_models]
  paper = PAPER[concentration]
  paper = paper._replace(wins=paper.wins[order])
  return PaperComparison(labels, np.concatenate(ours), np.concatenate(paper))


def as_text(table: RewardTable) -> str:
  """Returns the tables of all published concentrations, in percent.

  Ours stand beside the paper's where the response models are the paper's, else alone.
  """
  lines = [f'source: {table.source}; {NUM_USERS} users for each concentration']
  differences = []
  for concentration in PAPER:
    labels, ours, paper = compare_with_paper(table, concentration)
    columns = {'ours': ours}
    if paper is not None:
      columns |= {'paper': paper, 'minus': ours - paper}
      differences.append(np.abs(ours - paper))
    header = ''.join(f'{name:>8}' for name in columns)
    lines.append(f'concentration {concentration:<31}{header}')
    for label, *cells in zip(labels, *columns.values(), strict=True):
      lines.append(f'  {label:43}' + ''.join(f'{cell:8.1f}' for cell in cells))
  if not differences:
    return '\n'.join([*lines, 'nothing is published for these response models'])
  size = np.concatenate(differences)
  lines.append(f'mean absolute difference {size.mean():.2f} points, largest {size.max():.2f}')
  return '\n'.join(lines)
