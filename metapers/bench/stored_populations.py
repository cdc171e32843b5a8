"""Populations from what is stored: users simulated on a feature store, people from their tables."""

import inspect
from collections.abc import Sequence
from typing import Any

from metapers.bench.plan import TextLengths
from metapers.core.population import Population
from metapers.data import comparisons, feature_store, synthetic
from metapers.populations import people as populations
from metapers.populations import reward_ensemble as ensemble


def reward_ensemble(
  *, store: str = 'synthetic', feature_r2: float | None = None, **kwargs: Any
) -> Population:
  """Returns PersonalLLM's users on the synthetic store, or on a feature store's folder.

  Args:
    store: 'synthetic', or the folder of a store.
    feature_r2: of the synthetic store's features, 0.5 if not given.
    **kwargs: of `populations.reward_ensemble`.

  Raises:
    ValueError: for a feature_r2 of a folder, whose features are what they are.
  """
  if store != 'synthetic' and feature_r2 is not None:
    raise ValueError(f'feature_r2={feature_r2} is of the synthetic store; leave it out of {store}')
  if store == 'synthetic':
    table = synthetic.synthetic_store(feature_r2=0.5 if feature_r2 is None else feature_r2)
  else:
    table = feature_store.open_store(store)
  return ensemble.reward_ensemble(table, **kwargs)


def text_lengths(store: str, responses: Sequence[int]) -> TextLengths | None:
  """Returns lengths and subsets of the texts of a store; None where it holds none."""
  found = None if store == 'synthetic' else feature_store.text_lengths(store, responses)
  return None if found is None else TextLengths(*found)


def people(*, path: str = '', **kwargs: Any) -> Population:
  """Returns a population of real people from a folder of tables.

  Args:
    path: the folder; there is no default data.
    **kwargs: of `data.load_comparisons` and of `populations.people`.

  Raises:
    ValueError: without a folder.
  """
  if not path:
    raise ValueError(
      'real people need a folder of tables: give path=FOLDER; in a command, '
      '--config.population.kwargs.path=FOLDER'
    )
  reads = inspect.signature(comparisons.load_comparisons).parameters
  loading, rest = (
    {name: value for name, value in kwargs.items() if (name in reads) == is_read}
    for is_read in (True, False)
  )
  return populations.people(comparisons.load_comparisons(path, **loading), **rest)
