"""The two-way bootstrap: intervals for new users AND new prompts.

Users and prompts are resampled apart; an observation counts (times its user was drawn) x (times
its prompt was drawn). Drawn once for an evaluation set and shared by all learners and metrics, so
that differences between learners are paired.

References:
  Owen 2007, arXiv:0712.1111 (the pigeonhole bootstrap: never too narrow; up to sqrt(3) too wide
  where neither users nor prompts differ and all is noise); Owen and Eckles 2012, arXiv:1106.2125.
"""

from typing import NamedTuple

import numpy as np

from metapers.core.types import Float, Int


class Draws(NamedTuple):
  """How often each user and each prompt is drawn.

  Row 0 is the sample itself (all ones), the others are resamples: J = 1 + their number.

  users: [J, T]. prompts: [J, P]. ids: [P] sorted, what the columns of `prompts` stand for.
  """

  users: Float[np.ndarray, 'J T']
  prompts: Float[np.ndarray, 'J P']
  ids: Int[np.ndarray, 'P']


def multiplicities(rng: np.random.Generator, size: int, num_resamples: int) -> np.ndarray:
  """Returns how often each of `size` things is drawn with replacement: [1 + num_resamples, size].

  Row 0 is the sample itself.
  """
  counts = rng.multinomial(size, np.full(size, 1 / size), num_resamples)
  return np.concatenate([np.ones((1, size)), counts]).astype(np.float32)


def draw(num_users: int, ids: np.ndarray | None, *, num_resamples: int, seed: int) -> Draws:
  """Returns resamples of users and of prompts.

  Args:
    num_users: T.
    ids: prompt ids of any shape, repeats allowed; None resamples users only (real people, whose
      comparisons have no prompts).
    num_resamples: of either.
    seed: the same seed gives the same draws.

  Raises:
    ValueError: for fewer than two users or fewer than two resamples.
  """
  if num_users < 2 or num_resamples < 2:
    raise ValueError(
      f'an interval needs at least 2 users and 2 resamples, got {num_users} and {num_resamples}'
    )
  rng = np.random.default_rng(seed)
  users = multiplicities(rng, num_users, num_resamples)
  if ids is None:
    return Draws(users, np.ones((num_resamples + 1, 1), np.float32), np.zeros(1, np.int64))
  distinct = np.unique(ids)
  return Draws(users, multiplicities(rng, distinct.size, num_resamples), distinct)


def nan_if_none(count: np.ndarray) -> np.ndarray:
  """Returns the counts with NaN for 0: the mean of nothing is not a number."""
  return np.where(count > 0, count, np.nan)


def weights(
  draws: Draws,
  denominator: Float[np.ndarray, 'T N'],
  prompts: Int[np.ndarray, 'T N'] | None,
  weight: Float[np.ndarray, 'T N'] | None = None,
) -> Float[np.ndarray, 'J T*N']:
  """Returns W such that W @ numerators is the mean over users of each user's own ratio.

      W_jun = c_ju g_jn w_un / (Σ_n g_jn w_un d_un) / (Σ_u c_ju)

  c and g are the times the user and the prompt were drawn, w the weight and d the denominator. A
  user none of whose prompts were drawn says nothing of that resample and is left out of it. A
  resample in which nobody is left (a handful of users, some with nothing to evaluate) is NaN
  throughout, and `interval` passes it over.

  Args:
    draws: resamples of users and prompts.
    denominator: d, [T, N].
    prompts: [T, N] ids among `draws.ids`; None resamples users only.
    weight: w, [T, N], how often each observation counts; by default once.
  """
  ids = np.full(denominator.shape, draws.ids[0]) if prompts is None else prompts
  drawn = np.take(draws.prompts, np.searchsorted(draws.ids, ids), axis=1)  # [J, T, N]
  if weight is not None:
    drawn *= weight.astype(np.float32)[None]
  totals = np.einsum('jtn,tn->jt', drawn, denominator.astype(np.float32))
  counts = np.where(totals > 0, draws.users, 0)
  scale = counts / np.where(totals > 0, totals, 1)
  drawn *= (scale / nan_if_none(counts.sum(-1, keepdims=True)))[..., None]
  return drawn.reshape(len(drawn), -1)


def lower_tail_mean(
  values: Float[np.ndarray, 'T'], counts: Float[np.ndarray, 'J T'], share: float
) -> Float[np.ndarray, 'J']:
  """Returns the mean of the lowest `share` of the users, each present `counts` times."""
  order = np.argsort(values, kind='stable')
  present = counts[:, order]
  before = np.cumsum(present, -1) - present
  quota = share * present.sum(-1, keepdims=True)
  taken = np.clip(quota - before, 0, present)
  return taken @ values[order] / nan_if_none(quota[:, 0])


def interval(samples: Float[np.ndarray, 'J L'], *, level: float = 0.95) -> np.ndarray:
  """Returns value, low and high by the percentile method: [3, L].

  Args:
    samples: row 0 the estimate, the others its resamples.
    level: of the interval.
  """
  tails = [(1 - level) / 2, (1 + level) / 2]
  return np.concatenate([samples[:1], np.nanquantile(samples[1:], tails, axis=0)])
