"""An array of reward models' scores, made anywhere, as the table of a feature store."""

from collections.abc import Sequence

import numpy as np

from metapers.core.population import SPLITS
from metapers.core.tables import RewardTable
from metapers.core.types import Float
from metapers.data import reward_table
from metapers.data.texts import Texts

FEWEST_RESPONSES = 2  # to a prompt


def from_scores(
  scores: np.ndarray,
  reward_models: Sequence[str] = (),
  *,
  texts: Texts | None = None,
  prompts: Sequence[str] | np.ndarray = (),
  features: np.ndarray | None = None,
  source: str = 'scores of an array',
) -> RewardTable:
  """Returns the table of an array of raw scores, for `feature_store.write_store`.

  Prompts are split by chance, as those of texts are (`reward_table.draw_splits`).

  Args:
    scores: [P, R, B], of R responses to P prompts by B reward models; one that is not finite is
      missing, and its response is never shown.
    reward_models: their B names; by default model_1, model_2, ...
    texts: prompts, responses and who wrote them, in the order of the scores.
    prompts: [P] texts of the prompts alone, equal ones of which share a split.
    features: [P, R, D] of each response.
    source: one line shown with every result.

  Raises:
    ValueError: for what is no array of numbers [P, R, B], another number of names, texts or
      features, or a reward model whose scores are all the same.
  """
  shown = checked(scores)
  num_prompts, num_responses, num_models = shown.shape
  names = tuple(reward_models) or tuple(f'model_{n + 1}' for n in range(num_models))
  if len(names) != num_models or len(set(names)) != num_models:
    raise ValueError(
      f'scores are of {num_models} reward models, along the last axis; give as many different '
      f'names, got {len(names)}: {", ".join(names)[:200]}'
    )
  if texts is None:
    written = np.array(list(prompts) or [''] * num_prompts, object)
    check_shape('prompts', written.shape, (num_prompts,))
    split = reward_table.draw_splits(written)
    response_model = np.tile(np.arange(num_responses, dtype=np.int32), (num_prompts, 1))
    response_models = tuple(f'response {n + 1}' for n in range(num_responses))
  else:
    check_shape('texts', texts.responses.shape, (num_prompts, num_responses))
    split, response_model = texts.prompt_split, texts.response_model
    response_models = texts.response_models
  if features is not None:
    check_shape('features', features.shape[:2], (num_prompts, num_responses))
  mask = reward_table.usable_responses(shown, None if texts is None else texts.responses)
  mean, std = reward_table.statistics(shown, mask, split, names)
  return RewardTable(
    rewards=shown,
    features=features,
    mask=mask,
    reward_models=names,
    response_model=response_model,
    response_models=response_models,
    mean=mean,
    std=std,
    prompt_split=split,
    source=source,
    manifest_hash='',
  )


def checked(scores: np.ndarray) -> Float[np.ndarray, 'P R B']:
  """Returns scores as float32, NaN where they are not finite.

  Raises:
    ValueError: for what is no array of numbers [P, R, B].
  """
  if scores.ndim != 3 or scores.dtype.kind not in 'iuf' or scores.shape[1] < FEWEST_RESPONSES:
    raise ValueError(
      'scores must be numbers [prompts, responses, reward models], of two responses or more to a '
      f'prompt, NaN where a response has none; got {scores.dtype} {list(scores.shape)}'
    )
  if scores.shape[0] < len(SPLITS) or not scores.shape[2]:
    raise ValueError(
      f'scores of {scores.shape[0]} prompts by {scores.shape[2]} reward models make no store; give '
      f'{len(SPLITS)} prompts (train, validation, test) and one reward model at least'
    )
  with np.errstate(over='ignore'):
    shown = scores.astype(np.float32)
  return np.where(np.isfinite(shown), shown, np.float32('nan'))


def check_shape(name: str, given: Sequence[int], expected: Sequence[int]) -> None:
  """Refuses what does not stand beside the scores, row by row.

  Raises:
    ValueError: naming both shapes.
  """
  if tuple(given) != tuple(expected):
    raise ValueError(f'{name} are of shape {list(given)}, and scores start with {list(expected)}')
