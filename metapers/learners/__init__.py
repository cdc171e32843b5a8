"""Meta-learners: one file per family, and one table of their names."""

import inspect

from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Any
from metapers.learners import bayes_head, gradient, low_rank, neural_process, pooled

LEARNERS = {
  'pooled': pooled.pooled,
  'per_user': pooled.per_user,
  'maml': gradient.maml,
  'fomaml': gradient.fomaml,
  'anil': gradient.anil,
  'meta_sgd': gradient.meta_sgd,
  'reptile': gradient.reptile,
  'cnp': neural_process.cnp,
  'latent_np': neural_process.latent_np,
  'low_rank': low_rank.low_rank,
  'bayes_head': bayes_head.bayes_head,
}


def make(name: str, **kwargs: Any) -> MetaLearner:
  """Builds a learner by name.

  Args:
    name: a key of LEARNERS.
    **kwargs: arguments of its factory.

  Raises:
    ValueError: for an unknown name or argument; lists the known ones.
  """
  if name not in LEARNERS:
    raise ValueError(f'unknown learner {name!r}; known: {", ".join(LEARNERS)}')
  known = inspect.signature(LEARNERS[name]).parameters
  unknown = sorted(set(kwargs) - set(known))
  if unknown:
    raise ValueError(f'{name} takes no {", ".join(unknown)}; it takes {", ".join(known)}')
  return LEARNERS[name](**kwargs)
