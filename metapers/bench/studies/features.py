"""Features of the responses' texts, of each kind that can be had."""

from collections.abc import Callable, Sequence

import numpy as np

from metapers.analysis.slates import Slates
from metapers.bench.studies.drivers import Family
from metapers.data import syntax, text_classifiers
from metapers.data.reward_models import RewardModel

NO_CLASSIFIER = (
  f'Semantic features left out: no text classifier was given. Give {text_classifiers.FORM}.'
)


def families_of(
  responses: Callable[[], np.ndarray], given: Slates, classifiers: Sequence[RewardModel]
) -> tuple[list[Family], list[str]]:
  """Returns syntactic features, and semantic ones where classifiers can be run, and what is not.

  Args:
    responses: `() -> [P, R]` texts of all responses of the store.
    given: the slates of it.
    classifiers: of texts.

  Raises:
    ValueError: without texts, or where no features can be had.
  """
  texts = responses()[given.rows]
  found = syntax.features(list(texts.ravel()))
  families = [Family('syntactic', found.reshape(*texts.shape, -1), syntax.NAMES)]
  if not classifiers:
    return families, [NO_CLASSIFIER]
  try:
    made = text_classifiers.features(classifiers, list(texts.ravel()))
  except ValueError as error:
    return families, [f'Semantic features left out: {error}']
  names = tuple(model.name for model in classifiers)
  return [*families, Family('semantic', made.reshape(*texts.shape, -1), names)], []
