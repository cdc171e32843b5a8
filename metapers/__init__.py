"""metapers: learn across users to infer one user's preferences from a handful of comparisons."""

import importlib
import typing

if typing.TYPE_CHECKING:
  from metapers import bench
  from metapers.core.meta_learner import MetaLearner, from_adapt_score
  from metapers.core.population import Population
  from metapers.core.task import Choices, Task
  from metapers.data.synthetic import synthetic_store
  from metapers.data.text_features import features_of
  from metapers.learners import make
  from metapers.populations.reward_ensemble import reward_ensemble
  from metapers.serving import personalizer
  from metapers.serving.personalizer import Personalizer, pairs
  from metapers.testing import contract

__version__ = '0.1.0'

__all__ = [
  'Choices', 'MetaLearner', 'Personalizer', 'Population', 'Task', 'bench', 'contract',
  'features_of', 'from_adapt_score', 'make', 'pairs', 'personalizer', 'reward_ensemble',
  'synthetic_store',
]  # fmt: skip

# Imported when first asked for, for jax and all that comes with it take a second or two.
_HOMES = {
  'Choices': 'metapers.core.task',
  'MetaLearner': 'metapers.core.meta_learner',
  'Personalizer': 'metapers.serving.personalizer',
  'Population': 'metapers.core.population',
  'Task': 'metapers.core.task',
  'features_of': 'metapers.data.text_features',
  'from_adapt_score': 'metapers.core.meta_learner',
  'make': 'metapers.learners',
  'pairs': 'metapers.serving.personalizer',
  'reward_ensemble': 'metapers.populations.reward_ensemble',
  'synthetic_store': 'metapers.data.synthetic',
}
_MODULES = {
  'bench': 'metapers.bench',
  'contract': 'metapers.testing.contract',
  'personalizer': 'metapers.serving.personalizer',
}


def __getattr__(name: str) -> typing.Any:
  if name in _MODULES:
    return importlib.import_module(_MODULES[name])
  if name in _HOMES:
    return getattr(importlib.import_module(_HOMES[name]), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
