"""A Gaussian process for each person alone: what one would use without any other users."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from metapers.core import meta_learner
from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Array, Callable, Float, Params
from metapers.learners import linear_head, options

KERNELS = ('rbf', 'linear')
Factors = Callable[[Params, Array], Array]  # (params, x [..., D]) -> φ(x) [..., H]


def pairwise_gp(
  num_features: int,
  *,
  kernel: str = 'rbf',
  width: int = 128,
  length_scale: float = 1.0,
  output_scale: float = 1.0,
  learn_scales: bool = True,
  seed: int = 0,
  inner_steps: int = 8,
  num_samples: int = 16,
) -> MetaLearner:
  """Returns u ~ GP(0, k) of each person alone, given their comparisons, by Laplace's method.

  The kernels are, in features that are standardised, with ℓ and τ the two scales,

    rbf:    k(x, x') = τ² exp(-‖x - x'‖² / (2 ℓ² D)),    linear:  k(x, x') = τ² x · x' / D.

  Both are u(x) = v · φ(x), v ~ N(0, I): for 'linear' exactly, of H = D, and for 'rbf' with the
  random features φ(x) = τ √(2/H) [cos Ωx/ℓ, sin Ωx/ℓ], Ω_ij ~ N(0, 1/D), whose products are k to
  about 1/√H. So a person's state has one size for any number of comparisons; it is the Gaussian
  [H], [H, H] at the mode, and predictions are those of `bayes_head`. Other users give ℓ and τ
  alone, by the likelihood of their query given their support.

  Args:
    num_features: D.
    kernel: 'rbf' or 'linear'.
    width: H of the random features, even; no matter for 'linear', as ℓ and the seed are.
    length_scale: ℓ, in units of √D; the start if learned.
    output_scale: τ, in logits; the start if learned.
    learn_scales: whether ℓ and τ are trained; else nothing is, and 0 steps are enough.
    seed: of Ω.
    inner_steps: Newton steps with line search.
    num_samples: S, for K > 2 and for questions.

  Raises:
    ValueError: for an option out of range.

  Reference:
    Chu and Ghahramani 2005 (ICML), preference learning with Gaussian processes; Rahimi and Recht
    2007 (NeurIPS), random features; Rasmussen and Williams 2006, section 5.4.2, scales by
    predictive likelihood. Unlike the first, choices are logistic and not probit, the kernel of
    'rbf' is that of H random features, and scales are not each person's own.
  """
  options.at_least_one(width=width, inner_steps=inner_steps, num_samples=num_samples)
  options.positive(length_scale=length_scale, output_scale=output_scale)
  if kernel not in KERNELS:
    raise ValueError(f'kernel must be one of {", ".join(KERNELS)}, got {kernel!r}')
  if kernel == 'rbf' and width % 2:
    raise ValueError(f'width must be even, for a cosine and a sine of each frequency, got {width}')
  start = {'log_output_scale': output_scale}
  start |= {'log_length_scale': length_scale} if kernel == 'rbf' else {}
  phi = linear_factors if kernel == 'linear' else random_factors(num_features, width, seed)
  laplace = functools.partial(linear_head.laplace, num_steps=inner_steps, num_samples=num_samples)

  def init(key):
    del key
    return {name: jnp.log(jnp.float32(scale)) for name, scale in start.items()}

  def parts(params, candidates):
    scales = params if learn_scales else jax.lax.stop_gradient(params)
    factors = phi(scales, candidates.features)
    return jnp.zeros(factors.shape[:-1], factors.dtype), factors

  def adapt(params, support, context, key):
    del context
    return laplace(*parts(params, support.candidates), support, key)

  def score(params, user_state, candidates):
    return parts(params, candidates)[1] @ user_state.mean

  def predict(params, user_state, candidates):
    return linear_head.predictive(*parts(params, candidates), user_state, candidates)

  def sample(params, user_state, candidates):
    return linear_head.draws(*parts(params, candidates), user_state)

  return meta_learner.from_adapt_score(init, adapt, score, predict=predict, sample=sample)


def linear_factors(params: Params, x: Float[Array, '*batch D']) -> Float[Array, '*batch D']:
  """Returns φ(x) = τ x / √D, whose products are the linear kernel."""
  return jnp.exp(params['log_output_scale']) * x / jnp.sqrt(x.shape[-1])


def random_factors(num_features: int, width: int, seed: int) -> Factors:
  """Returns φ of `width` random Fourier features, the frequencies being those of the seed."""
  size = (num_features, width // 2)
  frequencies = np.random.default_rng(seed).normal(size=size) / np.sqrt(num_features)
  frequencies = frequencies.astype(np.float32)  # [D, H / 2]

  def factors(params, x):
    phases = x @ frequencies * jnp.exp(-params['log_length_scale'])
    waves = jnp.concatenate([jnp.cos(phases), jnp.sin(phases)], -1)
    return jnp.exp(params['log_output_scale']) * (2 / width) ** 0.5 * waves

  return factors
