"""The other responses of a slate of which only the user's best and worst are shown, as resampled.

Under `extreme` a pair tells of the user that all other responses lie between the two. Who does not
see these integrates them out, given the pair's scores z_1, z_2:

  P(pair, choice | w) ∝ P(choice | w) Σ_ij p(i, j | z_1, z_2) P(others between | i, j, z_1, z_2, w)

over the positions i, j that the pair may have in its slate. Scores are μ_r, the mean of position r,
plus what a prompt's responses share (covariance S) plus what is a response's own (covariance O).
Other responses are those of a random train prompt, moved by what the pair tells of its prompt:

    z_o = z'_o + G (z̄ - z̄'_ij),   G = S (S + O/2)⁻¹,   z̄ = (z_1 + z_2) / 2

This is exact where the residuals of that regression do not depend on the pair, as with Gaussian
scores; that the pair's positions are told apart by Gaussian densities is the other assumption.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core.population import Responses
from metapers.core.types import Array, Bool, Float, Int


class Others(NamedTuple):
  """M resampled sets of O = R - 2 other responses, the same for all comparisons.

  directions: [M, O, B] z'_o - G z̄'_ij. mask: [M, O], True where there is one.
  kind: [M], which pair of positions i < j was left out.
  """

  directions: Float[Array, '*H M O B']
  mask: Bool[Array, '*H M O']
  kind: Int[Array, '*H M']


class Slates(NamedTuple):
  """Moments of the scores of a slate.

  pairs: [J, 2] positions i < j. means: [R, B] μ. shared: [B, B] S. total: [B, B] S + O.
  """

  pairs: Int[np.ndarray, 'J 2']
  means: Float[np.ndarray, 'R B']
  shared: Float[np.ndarray, 'B B']
  total: Float[np.ndarray, 'B B']

  @property
  def regression(self) -> Float[np.ndarray, 'B B']:
    """Gᵀ: what z̄ is to be multiplied by from the right."""
    return np.linalg.lstsq((self.total + self.shared) / 2, self.shared, rcond=1e-6)[0]


def slates_of(responses: Responses) -> Slates:
  """Returns the moments of the scores of the responses to P prompts."""
  mask = np.asarray(responses.mask)
  scores = np.where(mask[..., None], np.asarray(responses.rewards), 0).astype(np.float64)
  means = scores.sum(0) / np.maximum(mask.sum(0), 1)[:, None]
  own = np.where(mask[..., None], scores - means, 0)  # [P, R, B]
  size = mask.sum(1)
  squares = np.einsum('prb,prc->bc', own, own, optimize=True)
  products = np.einsum('pb,pc->bc', own.sum(1), own.sum(1)) - squares
  shared = products / np.maximum((size * (size - 1)).sum(), 1)
  pairs = np.stack(np.triu_indices(mask.shape[1], 1), -1)
  return Slates(pairs, means, shared, squares / np.maximum(size.sum(), 1))


def resample(responses: Responses, slates: Slates, count: int, *, seed: int) -> Others:
  """Returns M = `count` sets of other responses, equally often of each pair of positions.

  The prompts of each pair of positions are drawn on their own, without replacement while they last.

  Args:
    responses: to P prompts, of which sets are drawn.
    slates: their moments.
    count: M.
    seed: of the draw.

  Raises:
    ValueError: where no prompt has two responses, or a slate no more than two.
  """
  mask, scores = np.asarray(responses.mask), np.asarray(responses.rewards, np.float64)
  rng = np.random.default_rng(seed)
  shape = len(slates.pairs), len(mask)
  order = rng.permuted(np.broadcast_to(np.arange(shape[1]), shape), axis=1)  # of each pair its own
  kind, row = np.nonzero(mask[order[..., None], slates.pairs[:, None]].all(-1))  # [J, P] by pairs
  if not kind.size or mask.shape[1] < 3:
    raise ValueError(
      f'other responses need prompts with at least 3 responses, got {mask.shape[1]} for each'
    )
  drawn = ((np.arange(count) + rng.random()) * kind.size / count).astype(int) % kind.size
  kind, prompt = kind[drawn], order[kind[drawn], row[drawn]]
  every = np.arange(mask.shape[1])
  others = np.stack([np.setdiff1d(every, pair) for pair in slates.pairs])[kind]  # [M, O]
  shown = scores[prompt[:, None], slates.pairs[kind]].mean(1) @ slates.regression
  directions = scores[prompt[:, None], others] - shown[:, None]
  real = mask[prompt[:, None], others]
  directions = np.where(real[..., None], directions, 0)
  return Others(jnp.asarray(directions, jnp.float32), jnp.asarray(real), jnp.asarray(kind))


def pair_odds(slates: Slates, shown: Float[Array, '*N 2 B']) -> Float[Array, '*N J']:
  """Returns log p(z_1, z_2 | positions i, j or j, i) of two responses, up to a constant.

  Args:
    slates: moments of the scores.
    shown: [N, 2, B] scores of the pair.
  """
  first, second = np.moveaxis(slates.means[slates.pairs], 1, 0)  # [J, B]
  of_sum = whitening(slates.total + slates.shared)
  of_difference = whitening(slates.total - slates.shared)

  def white(x, rows):
    return jnp.asarray(x / 2**0.5 @ rows.T, jnp.float32)

  def square(x, means):
    means = means.reshape((1,) * (x.ndim - 1) + means.shape)
    return jnp.square(jnp.expand_dims(x, -2) - means).sum(-1)

  z_1, z_2 = shown[..., 0, :], shown[..., 1, :]
  apart = square(white(z_1 + z_2, of_sum), white(first + second, of_sum))
  difference = white(z_1 - z_2, of_difference)
  means = white(first - second, of_difference)
  either = jnp.logaddexp(-square(difference, means) / 2, -square(-difference, means) / 2)
  return either - apart / 2


def whitening(covariance: Float[np.ndarray, 'B B']) -> Float[np.ndarray, 'B B']:
  """Returns rows W with W Σ Wᵀ = 1, directions of nearly no variance left out."""
  variance, axes = np.linalg.eigh(covariance)
  scale = np.where(variance > 1e-6 * variance[-1], 1 / np.sqrt(np.maximum(variance, 1e-30)), 0)
  return scale[:, None] * axes.T


def between(
  own: Float[Array, '2 N S'],
  utilities: Float[Array, 'M O S'],
  others: Others,
  odds: Float[Array, 'N J'],
) -> Float[Array, 'N S']:
  """Returns P(all other responses between the two shown | z_1, z_2, w), by M resampled sets.

  Σ_m ω_m 1(u_low <= u_o <= u_high for all o of m), with ω_m ∝ p(z_1, z_2 | positions of m). Half a
  set more, of Σ_m ω_m² / 2, is between: what no set shows may still be.

  Args:
    own: [2, N, S] utility of the chosen one minus that of the other, and minus w·G z̄.
    utilities: [M, O, S] w·(z'_o - G z̄'_ij).
    others: resampled sets.
    odds: [N, J], see `pair_odds`.
  """
  gap, chosen = own
  high, low = chosen - jnp.minimum(gap, 0), chosen - jnp.maximum(gap, 0)  # [N, S]
  real = others.mask[..., None]
  least = jnp.where(real, utilities, jnp.inf).min(1)  # [M, S]
  most = jnp.where(real, utilities, -jnp.inf).max(1)
  share = jax.nn.softmax(odds[:, others.kind], -1)  # [N, M]

  # One set after another: what is added up of all particles stays in the cache.
  def add(held, of_set):
    least, most, share = of_set
    is_between = (least[None] >= low) & (most[None] <= high)  # [N, S]
    return held + jnp.where(is_between, share[:, None], 0), None

  held, _ = jax.lax.scan(add, jnp.zeros_like(low), (least, most, share.T))
  half = jnp.square(share).sum(-1, keepdims=True) / 2
  return (held + half) / (1 + half)
