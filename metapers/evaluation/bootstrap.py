"""The two-way bootstrap: resamples of users AND of prompts, and of the models that were trained.

Users, prompts and cells (what one user says of one prompt) are resampled apart, a quarter of the
rows each, and the variance of an estimate is what is left when what the first two both hold, the
cells, is counted once. The last quarter is of the seeds that a learner was trained with, which
differ from everything else:

    V = V_users + V_prompts - V_cells + V_seeds,   the first three at least as large as each of
                                                   V_users and V_prompts.

People who compare items, each of which is in many comparisons, have items in the place of prompts:
a comparison of K items weighs as the sum of what is drawn of them, or of its K cells, less K - 1.
Its noise is K times in the rows of items and in those of cells, so that V_items - (K-1)/K V_cells
and V_cells / K stand in the formula.

Rows are drawn once for an evaluation set and shared by all learners and metrics, so that
differences between learners are paired.

References:
  Cameron, Gelbach and Miller 2011 (JBES 29: the variance of two-way clusters); Owen 2007,
  arXiv:0712.1111 (users and prompts drawn at once triple the noise of single cells); Owen and
  Eckles 2012, arXiv:1106.2125 (cells drawn twice or never).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metapers.core.types import Float, Int

NUM_KINDS = 4  # of what differs: users, prompts, cells, seeds


class Draws(NamedTuple):
  """How often each user, each prompt and each cell is drawn.

  Row 0 is the sample itself (all ones). Of the others the first quarter draws users, the second one
  prompts and the third one cells; each has the rest once. Those of the last have everything once:
  `over_seeds` tells them apart.

  users: [J, T]. prompts: [J, P], or of items. ids: [P] sorted, what the columns of `prompts` stand
    for.
  seed: of the cells, whose number is that of the metrics.
  """

  users: Float[np.ndarray, 'J T']
  prompts: Float[np.ndarray, 'J P']
  ids: Int[np.ndarray, 'P']
  seed: int


class Kinds(NamedTuple):
  """Which of J rows draw what."""

  users: slice
  prompts: slice
  cells: slice
  seeds: slice


def kinds(num_rows: int) -> Kinds:
  """Returns which rows draw what, of J rows with the sample's."""
  size = (num_rows - 1) // NUM_KINDS
  return Kinds(*(slice(1 + kind * size, 1 + (kind + 1) * size) for kind in range(NUM_KINDS)))


def multiplicities(rng: np.random.Generator, size: int, num_rows: int, own: slice) -> np.ndarray:
  """Returns how often each of `size` things is drawn: with replacement in its own rows, else once.

  Args:
    rng: draws.
    size: number of things.
    num_rows: J.
    own: rows.

  Returns:
    [J, size].
  """
  counts = np.ones((num_rows, size), np.float32)
  counts[own] = rng.multinomial(size, np.full(size, 1 / size), own.stop - own.start)
  return counts


def draw(num_users: int, ids: np.ndarray | None, *, num_resamples: int, seed: int) -> Draws:
  """Returns resamples of users and of prompts.

  Args:
    num_users: T.
    ids: of prompts or items, any shape, repeats allowed; None resamples users only (people who
      always compare these items).
    num_resamples: of users, prompts, cells and seeds together, in equal parts.
    seed: the same seed gives the same draws.

  Raises:
    ValueError: for fewer than two users or fewer than two resamples.
  """
  if num_users < 2 or num_resamples < 2:
    raise ValueError(
      f'an interval needs at least 2 users and 2 resamples, got {num_users} and {num_resamples}'
    )
  size = max(2, -(-num_resamples // NUM_KINDS))
  num_rows = 1 + NUM_KINDS * size
  rng, rows = np.random.default_rng(seed), kinds(num_rows)
  users = multiplicities(rng, num_users, num_rows, rows.users)
  if ids is None:
    return Draws(users, np.ones((num_rows, 1), np.float32), np.zeros(1, np.int64), seed)
  distinct = np.unique(ids)
  return Draws(users, multiplicities(rng, distinct.size, num_rows, rows.prompts), distinct, seed)


def nan_if_none(count: np.ndarray) -> np.ndarray:
  """Returns the counts with NaN for 0: the mean of nothing is not a number."""
  return np.where(count > 0, count, np.nan)


def weights(
  draws: Draws,
  denominator: Float[np.ndarray, 'T N'],
  prompts: Int[np.ndarray, 'T N *K'] | None,
  weight: Float[np.ndarray, 'T N'] | None = None,
  owners: Int[np.ndarray, 'T N'] | None = None,
) -> Float[np.ndarray, 'Q T*N']:
  """Returns W such that W @ numerators is the metric in the sample and in every resample.

  Rows of seeds are left out: `with_seeds` adds them to the product.

      W_jun = m_jun a_un / Σ_un m_jun a_un d_un,   a_un = w_un / Σ_n w_un [d_un > 0]

  m is how often the observation is drawn: times its user, its prompt and its cell. a lets every
  user count alike, w is the weight and d the denominator: where d is 1, the metric is the mean over
  users of the user's own mean; else it is the ratio of two such means. A resample in which nothing
  is left is NaN throughout, and `interval` passes it over. With items m may be negative, and the
  sum of few of them near 0: there W is its own expansion around m = 1, see `expanded`.

  Args:
    draws: resamples of users and prompts.
    denominator: d, [T, N]; 0 where an observation does not count.
    prompts: [T, N] ids among `draws.ids`, or [T, N, K] of the items; None resamples users only.
    weight: w, [T, N], how often each observation counts; by default once.
    owners: [T, N] of T, which user each observation is of; by default those of row u are of user u.
  """
  ids = np.full(denominator.shape, draws.ids[0]) if prompts is None else prompts
  share, rows = user_shares(denominator, weight), kinds(len(draws.users))
  index, start = np.searchsorted(draws.ids, ids), rows.cells.start
  drawn = np.empty((rows.seeds.start, *index.shape), np.float32)
  np.take(draws.prompts[:start], index, axis=1, out=drawn[:start], mode='clip')  # no buffer
  drawn[start:] = 1 if prompts is None else cells(index, len(drawn) - start, draws.seed)
  if ids.ndim > denominator.ndim:
    drawn = drawn.sum(-1) - (drawn.shape[-1] - 1)  # [Q, T, N]
  users = draws.users[: len(drawn)]
  drawn *= (users[..., None] if owners is None else users[:, owners]) * share
  drawn = drawn.reshape(len(drawn), -1)
  total = drawn @ denominator.astype(np.float32).reshape(-1)
  if ids.ndim > denominator.ndim:
    return expanded(drawn, total)
  drawn /= nan_if_none(total)[:, None]
  return drawn


def cells(index: Int[np.ndarray, 'T N *K'], num_rows: int, seed: int) -> np.ndarray:
  """Returns how often each user's cell of a prompt is drawn: [R, T, N, *K], 0 or 2.

  Twice or never have the mean and the variance of drawing with replacement, from single bits.

  Args:
    index: of the prompts.
    num_rows: R.
    seed: of the draws.
  """
  users = np.arange(len(index)).reshape(-1, *(1,) * (index.ndim - 1))
  distinct, cell = np.unique(users * (index.max() + 1) + index, return_inverse=True)
  rng, size = np.random.default_rng([seed, 1]), -(-distinct.size // 8)
  bits = np.unpackbits(rng.integers(0, 256, (num_rows, size), np.uint8), axis=1)
  bits *= 2
  return np.take(bits, cell.reshape(index.shape), axis=1, mode='clip')


def expanded(drawn: Float[np.ndarray, 'Q O'], total: Float[np.ndarray, 'Q']) -> np.ndarray:
  """Returns drawn / total to first order around row 0, the sample: never divided by a resample.

      (drawn_j - (D_j / D_0 - 1) drawn_0) / D_0,   D = total

  Args:
    drawn: m a, of O observations.
    total: Σ m a d.
  """
  return (drawn - np.outer(total / total[0] - 1, drawn[0])) / total[0]


def with_seeds(samples: Float[np.ndarray, 'Q C']) -> Float[np.ndarray, 'J C']:
  """Returns samples by `weights` followed by the rows of seeds, which are the sample's own."""
  size = (len(samples) - 1) // (NUM_KINDS - 1)
  return np.concatenate([samples, np.repeat(samples[:1], size, 0)])


def user_shares(
  denominator: Float[np.ndarray, 'T N'], weight: Float[np.ndarray, 'T N'] | None = None
) -> Float[np.ndarray, 'T N']:
  """Returns the share that each observation has of its user; those of one user add up to 1 or 0."""
  counted = np.where(denominator > 0, 1.0 if weight is None else weight, 0).astype(np.float32)
  total = counted.sum(-1, keepdims=True)
  return counted / np.where(total > 0, total, 1)


def lower_tail(
  values: Float[np.ndarray, 'T'], counts: Float[np.ndarray, 'J T'], share: float
) -> Float[np.ndarray, 'J T']:
  """Returns how much of each user is among the lowest `share` of the users: [J, T].

  Equal values (to 1e-6) are among them in equal parts.

  Args:
    values: of the users.
    counts: how often each is present; 0 for who is not.
    share: of the users who are present.
  """
  rounded = np.round(values, 6)
  order = np.argsort(rounded, kind='stable')
  rising = rounded[order]
  present = np.concatenate([np.zeros((len(counts), 1)), np.cumsum(counts[:, order], -1)], 1)
  low = present[:, np.searchsorted(rising, rising, side='left')]
  high = present[:, np.searchsorted(rising, rising, side='right')]
  quota = share * present[:, -1:]
  part = np.clip((quota - low) / np.where(high > low, high - low, 1), 0, 1)
  taken = np.empty(counts.shape)
  taken[:, order] = part * counts[:, order]
  return taken


def over_seeds(seeds: Sequence[Float[np.ndarray, 'J L']], rng: np.random.Generator) -> np.ndarray:
  """Returns the mean over S seeds in every row; rows of seeds vary by the variance of that mean.

  Around the mean x̄ of the seeds' values x_s a row of seeds is Σ_s g_s (x_s - x̄) / √(S (S - 1)),
  g standard normal, whose variance is that of the x_s by S. One seed says nothing of the next.

  Args:
    seeds: S estimates.
    rng: draws; the same for all metrics of a learner, another for each learner.
  """
  averaged = np.mean(seeds, 0)
  if len(seeds) == 1:
    return averaged
  own = kinds(len(averaged)).seeds
  away = np.stack([each[0] for each in seeds]) - averaged[0]
  g = rng.standard_normal((own.stop - own.start, len(seeds)))
  averaged[own] = averaged[0] + g @ away / np.sqrt(len(seeds) * (len(seeds) - 1))
  return averaged
