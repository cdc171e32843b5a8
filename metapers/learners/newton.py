"""Newton's method for a linear head under a standard normal prior: argmin NLL(v) + ½‖v‖²."""

import jax
import jax.numpy as jnp

from metapers.core import choice_model, masked
from metapers.core.task import Choices
from metapers.core.types import Array, Callable, Float, Scalar
from metapers.learners.utility import negative_log_likelihood

STEP_SIZES = (1.0, 0.5, 0.25, 0.0625)  # of the line search: Newton alone can overshoot
TINY = 1e-12


def objective(
  v: Float[Array, 'H'],
  offset: Float[Array, 'N K'],
  factors: Float[Array, 'N K H'],
  support: Choices,
) -> Scalar:
  """Returns -log P(support | v) - log N(v; 0, I), up to a constant, in nats."""
  return negative_log_likelihood(offset + factors @ v, support) + 0.5 * v @ v


def weighted_contrasts(
  v: Float[Array, 'H'],
  offset: Float[Array, 'N K'],
  factors: Float[Array, 'N K H'],
  support: Choices,
) -> Float[Array, 'NK H']:
  """Returns A with Hessian I + AᵀA of `objective`: rows √(weight_n p_nk) (φ_nk - Σ_j p_nj φ_nj)."""
  mask = support.candidates.mask & support.mask[:, None]
  p = jnp.exp(choice_model.log_probs(offset + factors @ v, mask))
  centred = factors - jnp.einsum('nk,nkh->nh', p, factors)[:, None]
  weighted = p * support.weight[:, None]
  root = masked.fill(jnp.sqrt(jnp.maximum(weighted, TINY)), mask)  # √ has no derivative at 0
  return (root[..., None] * centred).reshape(-1, v.size)


def solve(contrasts: Float[Array, 'NK H'], b: Float[Array, 'H *batch']) -> Float[Array, 'H *batch']:
  """Returns (I + AᵀA)⁻¹ b, by whichever of the two Gram matrices is smaller (Woodbury)."""
  # The inverse of a small, well-conditioned matrix: its gradient is two products, where that of a
  # Cholesky solve with many right-hand sides takes a hundred times as long on a CPU (measured).
  rows, width = contrasts.shape
  if rows < width:
    inverse = jnp.linalg.inv(jnp.eye(rows, dtype=b.dtype) + contrasts @ contrasts.T)
    return b - contrasts.T @ (inverse @ (contrasts @ b))
  return jnp.linalg.inv(jnp.eye(width, dtype=b.dtype) + contrasts.T @ contrasts) @ b


def inverse(contrasts: Float[Array, 'NK H']) -> Float[Array, 'H H']:
  """Returns (I + AᵀA)⁻¹, as `solve` would of I, without the products with it."""
  rows, width = contrasts.shape
  unit = jnp.eye(min(rows, width), dtype=contrasts.dtype)
  if rows < width:
    inner = jnp.linalg.inv(unit + contrasts @ contrasts.T)
    return jnp.eye(width, dtype=contrasts.dtype) - contrasts.T @ (inner @ contrasts)
  return jnp.linalg.inv(unit + contrasts.T @ contrasts)


def direction(
  v: Float[Array, 'H'],
  offset: Float[Array, 'N K'],
  factors: Float[Array, 'N K H'],
  support: Choices,
) -> Float[Array, 'H']:
  """Returns the direction [H] of a full Newton step from v."""
  gradient = jax.grad(objective)(v, offset, factors, support)
  return -solve(weighted_contrasts(v, offset, factors, support), gradient)


def line_search(
  energy: Callable[[Float[Array, 'H']], Scalar], v: Float[Array, 'H'], towards: Float[Array, 'H']
) -> Float[Array, 'H']:
  """Returns v after the step of least energy [H]; v itself where all others raise it or are NaN."""
  sizes = jnp.asarray(STEP_SIZES, v.dtype)
  proposals = jnp.concatenate([v[None] + sizes[:, None] * towards[None], v[None]])
  values = jax.vmap(energy)(proposals)
  # Near the mode steps improve v by what the energy rounds away; they are not to be held up by it.
  rounding = 8 * jnp.finfo(v.dtype).eps * jnp.abs(values[-1])
  return proposals[jnp.nanargmin(values.at[-1].add(rounding))]


def mode(
  offset: Float[Array, 'N K'], factors: Float[Array, 'N K H'], support: Choices, *, num_steps: int
) -> Float[Array, 'H']:
  """Returns argmin_v NLL(v) + ½‖v‖² [H] of u(x) = offset(x) + v·φ(x); no gradient passes.

  Args:
    offset: utility of each candidate without the head, [N, K].
    factors: φ(x), [N, K, H].
    support: one user's comparisons; nothing non-finite may stand in masked entries.
    num_steps: Newton steps, each with a line search.
  """
  offset, factors = jax.lax.stop_gradient((offset, factors))

  def step(v, _):
    towards = direction(v, offset, factors, support)
    return line_search(lambda v: objective(v, offset, factors, support), v, towards), None

  v, _ = jax.lax.scan(step, jnp.zeros(factors.shape[-1], factors.dtype), length=num_steps)
  return jax.lax.stop_gradient(v)
