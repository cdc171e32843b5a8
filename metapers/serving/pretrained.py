"""The models that come with the package, and what they are for other reward models."""

import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from metapers.core import population
from metapers.core.population import Scaling
from metapers.core.types import Float
from metapers.io import leaves
from metapers.serving import exports
from metapers.serving.exports import Export

FOLDER = pathlib.Path(__file__).parents[1] / 'pretrained'


def read(name: str) -> Export:
  """Returns the export of a model.

  Raises:
    ValueError: for an unknown name; lists the known ones.
  """
  known = sorted(entry.name for entry in FOLDER.iterdir() if exports.is_export(entry))
  if name not in known:
    raise ValueError(f'unknown pretrained model {name!r}; known: {", ".join(known)}')
  return exports.read_export(FOLDER / name)


def for_scores(
  export: Export, scores: Float[np.ndarray, 'M D'], names: Sequence[str] | None = None
) -> Export:
  """Returns the export that serves other reward models, by a learner that treats all alike.

  Args:
    export: of a learner whose parameters do not depend on the number of its features.
    scores: raw ones of typical replies, for the scaling.
    names: of the D reward models, in order.

  Raises:
    ValueError: for scores that are not a finite table whose columns vary, or a number of reward
      models that the parameters do not serve.
  """
  if scores.ndim != 2 or scores.shape[1] < 2 or not np.isfinite(scores).all():
    raise ValueError(
      'scores must be a finite table [M, D], a row for each reply and a column for each of 2 or '
      f'more reward models; got shape {list(scores.shape)}'
      + ('' if np.isfinite(scores).all() else ' with NaN or infinity in it')
    )
  scaling = Scaling(scores.mean(0), scores.std(0))
  if constant := np.flatnonzero(~population.varies(scores)).tolist():
    raise ValueError(f'columns {constant} of scores are constant: they say nothing of any reply')
  num_features = scores.shape[1]
  other = export._replace(
    kwargs={**export.kwargs, 'num_features': num_features},
    scaling=scaling,
    feature_names=tuple(names or (f'score_{index}' for index in range(num_features))),
  )
  shapes = leaves.by_path(jax.eval_shape(exports.learner_of(other, None).init, jax.random.key(0)))
  if any(shapes[name].shape != array.shape for name, array in export.params.items()):
    raise ValueError(
      f'this {export.learner} does not serve {num_features} reward models; it was trained on '
      f'{export.scaling.mean.size}: train one on yours'
    )
  return other
