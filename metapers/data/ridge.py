"""Ridge regression of scores on features, inside prompts."""

import numpy as np

from metapers.core.types import Bool, Float


def center(
  x: Float[np.ndarray, 'P R D'], mask: Bool[np.ndarray, 'P R']
) -> Float[np.ndarray, 'P R D']:
  """Returns values minus each prompt's mean over its real responses; 0 where masked."""
  real = np.where(mask[..., None], x, 0).astype(np.float32)
  mean = real.sum(1, keepdims=True) / np.maximum(mask.sum(1), 1)[:, None, None]
  return np.where(mask[..., None], real - mean, 0)


def within_prompt_ridge(
  features: Float[np.ndarray, 'P R D'],
  scores: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
  train_prompts: Bool[np.ndarray, 'P'],
  *,
  penalty: float = 1.0,
) -> Float[np.ndarray, 'D B']:
  """Returns the coefficients of scores on features, both centred inside each prompt.

  A = (XᵀX + λV)⁻¹ XᵀY with X, Y the centred features and scores of the train prompts, V the
  diagonal of feature variances and λ = `penalty`: rescaling a feature changes no prediction.

  Args:
    features: [P, R, D].
    scores: [P, R, B], z-scored.
    mask: [P, R], True where the response is real.
    train_prompts: [P], True for the prompts to fit on.
    penalty: in responses' worth of shrinkage, >= 0.

  Returns:
    [D, B], for `predict`.

  Raises:
    ValueError: for a negative penalty or no train prompts.
  """
  if penalty < 0:
    raise ValueError(f'penalty must be >= 0, got {penalty}')
  if not np.any(mask[train_prompts]):
    raise ValueError('no real response to a train prompt to regress on')
  real = mask[train_prompts]
  x = center(features[train_prompts], real)[real].astype(np.float64)  # [n, D]
  y = center(scores[train_prompts], real)[real].astype(np.float64)  # [n, B]
  variance = np.maximum(np.square(x).mean(0), np.finfo(np.float32).tiny)
  gram = x.T @ x + penalty * np.diag(variance)
  return np.linalg.solve(gram, x.T @ y).astype(np.float32)


def predict(
  features: Float[np.ndarray, 'P R D'],
  mask: Bool[np.ndarray, 'P R'],
  coefficients: Float[np.ndarray, 'D B'],
) -> Float[np.ndarray, 'P R B']:
  """Returns predicted scores [P, R, B] relative to each prompt's mean; 0 where masked."""
  return center(features, mask) @ coefficients


def within_prompt_r2(
  predicted: Float[np.ndarray, 'P R B'],
  scores: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
) -> Float[np.ndarray, 'B']:
  """Returns 1 - Σ(y - ŷ)²/Σy² of centred scores for each reward model, [B]; 1 is perfect."""
  y = center(scores, mask)
  residual = np.where(mask[..., None], y - predicted, 0)
  total = np.square(y).sum((0, 1), dtype=np.float64)
  return 1 - np.square(residual).sum((0, 1), dtype=np.float64) / total


def held_out_r2(
  features: Float[np.ndarray, 'P R D'],
  scores: Float[np.ndarray, 'P R B'],
  mask: Bool[np.ndarray, 'P R'],
  held_out: Bool[np.ndarray, 'P'],
) -> Float[np.ndarray, 'B']:
  """Returns `within_prompt_r2` on the held-out prompts of a regression on all others, [B]."""
  fit = within_prompt_ridge(features, scores, mask, ~held_out)
  predicted = predict(features[held_out], mask[held_out], fit)
  return within_prompt_r2(predicted, scores[held_out], mask[held_out])
