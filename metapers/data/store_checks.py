"""Whether the parts of a feature store fit each other."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from metapers.core.population import SPLITS
from metapers.core.types import Bool, Float

TOLERANCE = 1e-3  # of a reward model's sd, for the mean and the sd


def check_shapes(
  label: str,
  content: Mapping[str, Any],
  arrays: Mapping[str, np.ndarray],
  texts: np.ndarray | None,
) -> None:
  """Compares arrays with each other and with the names and splits of the manifest.

  Args:
    label: what is checked, for messages.
    content: fields of the manifest.
    arrays: by name, of the right rank each.
    texts: [P, R] or None.

  Raises:
    ValueError: naming both values.
  """
  num_prompts, num_responses, num_models = arrays['rewards'].shape
  if not arrays['rewards'].size:
    raise ValueError(f'{label}: rewards are empty, of shape {arrays["rewards"].shape}')
  shapes = {name: array.shape for name, array in arrays.items()}
  if texts is not None:
    shapes['texts'] = texts.shape
  for name, shape in shapes.items():
    expected = (num_prompts,) if name == 'prompt_features' else (num_prompts, num_responses)
    if shape[: len(expected)] != expected:
      raise ValueError(f'{label}: {name} has shape {shape}, rewards start with {expected}')
  _check_names(f'{label}: reward_models', content['reward_models'], num_models)
  _check_names(f'{label}: response_models', content['response_models'], None)
  models = arrays['response_model']
  if models.min() < 0 or models.max() >= len(content['response_models']):
    raise ValueError(
      f'{label}: response_model holds {models.min()}..{models.max()}, '
      f'{len(content["response_models"])} response_models are named'
    )
  _check_splits(label, content, num_prompts)


def check_finite(features: Float[np.ndarray, 'P R D'], mask: Bool[np.ndarray, 'P R']) -> None:
  """Checks that the features of the responses that may be shown are finite.

  Raises:
    ValueError: naming the first prompt and response that are not.
  """
  for prompt, (row, real) in enumerate(zip(features, mask, strict=True)):  # may not fit in memory
    bad = np.flatnonzero(real & ~np.isfinite(row).all(-1))
    if bad.size:
      raise ValueError(
        f'features of response {bad[0]} of prompt {prompt} are not finite; set its scores to NaN '
        'to mask it'
      )


def check_statistics(
  path: pathlib.Path,
  content: Mapping[str, Any],
  mean: Float[np.ndarray, 'B'],
  std: Float[np.ndarray, 'B'],
) -> None:
  """Compares the manifest's statistics, given by name, with those of the scores, given by position.

  A manifest whose reward models are in another order than its scores fails here.

  Raises:
    ValueError: naming the reward model and both values.
  """
  names = content['reward_models']
  for field, values in (('train_mean', mean), ('train_std', std)):
    given = content[field]
    if set(given) != set(names):
      raise ValueError(f'{path}: {field} names {sorted(given)}, reward_models {sorted(names)}')
    for name, value, scale in zip(names, values.tolist(), std.tolist(), strict=True):
      number = isinstance(given[name], int | float)
      if not (number and abs(given[name] - value) <= TOLERANCE * scale):
        raise ValueError(
          f'{path}: {field} of {name!r} is {given[name]}, of its scores {value:.6g}; '
          'are reward_models in the order of rewards.npy?'
        )


def _check_names(label: str, names: list, expected: int | None) -> None:
  if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
    raise ValueError(f'{label} must be different strings, got {names!r:.200}')
  if expected is not None and len(names) != expected:
    raise ValueError(f'{label} names {len(names)}, rewards have {expected} along the last axis')


def _check_splits(label: str, content: Mapping[str, Any], num_prompts: int) -> None:
  if content['splits'] != list(SPLITS):
    raise ValueError(f'{label}: splits must be {list(SPLITS)}, got {content["splits"]}')
  split = content['prompt_split']
  if len(split) != num_prompts:
    raise ValueError(f'{label}: prompt_split has {len(split)} entries, rewards {num_prompts} rows')
  wrong = [entry for entry in split if entry not in range(len(SPLITS))]
  if wrong:
    raise ValueError(f'{label}: prompt_split must hold 0, 1 and 2 only, got {wrong[0]!r:.80}')
