"""Outputs of text classifiers as features of texts, by the extractor that runs reward models."""

from collections.abc import Sequence

import numpy as np

from metapers.core.types import Float
from metapers.data import extras
from metapers.data.reward_models import Options, RewardModel

FORM = (
  'NAME=MODEL or NAME=MODEL#LABEL, such as formality=s-nlp/roberta-base-formality-ranker#formal'
)
MAX_LENGTH = 512  # tokens, the most that encoders of this kind read


def classifier(text: str) -> RewardModel:
  """Returns the classifier that `NAME=MODEL#LABEL` names; without a label, its only output.

  Raises:
    ValueError: for a text of another form.
  """
  name, equals, rest = text.partition('=')
  model, _, label = rest.partition('#')
  if not (name and equals and model):
    raise ValueError(f'a classifier is given as {FORM}; got {text!r}')
  return RewardModel(name, model, template='plain', label=label)


def features(
  classifiers: Sequence[RewardModel], texts: Sequence[str], *, batch_size: int = 16
) -> Float[np.ndarray, 'N F']:
  """Returns the outputs (logits) of F classifiers on N texts.

  Args:
    classifiers: such as `classifier` returns.
    texts: that they read.
    batch_size: texts at once.

  Raises:
    ValueError: for a model that cannot be read or has no such label, or packages that are missing.
  """
  extras.require('extract', extras.MODELS)
  # torch is needed here alone.
  from metapers.data.reward_scorer import Scorer

  columns = []
  for model in classifiers:
    scorer = Scorer(model, Options(batch_size=batch_size, max_length=MAX_LENGTH))
    scores = scorer([''] * len(texts), list(texts)).scores
    assert scores is not None  # of pooling 'score'
    columns.append(scores)
  return np.stack(columns, 1).astype(np.float64)
