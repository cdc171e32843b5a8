"""Meta-learners: one file per family, and one table of their names."""

import inspect

from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Any
from metapers.learners.bayes_head import bayes_head
from metapers.learners.gradient import anil, fomaml, maml, meta_sgd, reptile
from metapers.learners.low_rank import low_rank
from metapers.learners.neural_process import cnp, latent_np
from metapers.learners.pooled import per_user, pooled

LEARNERS = {
  'pooled': pooled,
  'per_user': per_user,
  'maml': maml,
  'fomaml': fomaml,
  'anil': anil,
  'meta_sgd': meta_sgd,
  'reptile': reptile,
  'cnp': cnp,
  'latent_np': latent_np,
  'low_rank': low_rank,
  'bayes_head': bayes_head,
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
