"""Draws from a Dirichlet in log space, so that small concentrations stay exact."""

import numpy as np

from metapers.core.types import Float


def sample_log_weights(
  rng: np.random.Generator, num_users: int, concentration: float, num_reward_models: int
) -> Float[np.ndarray, 'U B']:
  """Draws log w_u with w_u ~ Dirichlet(α·1_B), α = `concentration`.

  log Gamma(α) variates are log Gamma(α + 1) + log(uniform)/α (Marsaglia and Tsang 2000, ACM TOMS
  26(3)), normalised by log-softmax: nothing underflows, where the quotient of float32 gammas
  is NaN for 2e-4 of the rows at α = 0.01 and for 42 % of them at 0.001.

  Args:
    rng: NumPy generator.
    num_users: U.
    concentration: α > 0.
    num_reward_models: B.

  Returns:
    Finite log-weights [U, B], float32; exp of each row sums to 1.

  Raises:
    ValueError: for α that is not positive and finite, or no users.
  """
  if not (np.isfinite(concentration) and concentration > 0):
    raise ValueError(f'concentration must be positive and finite, got {concentration}; try 0.05')
  if num_users < 1:
    raise ValueError(f'num_users must be at least 1, got {num_users}')
  shape = (num_users, num_reward_models)
  log_gamma = np.log(rng.standard_gamma(concentration + 1, shape))
  log_gamma += np.log1p(-rng.random(shape)) / concentration
  shifted = log_gamma - log_gamma.max(-1, keepdims=True)
  log_weights = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
  return log_weights.astype(np.float32)
