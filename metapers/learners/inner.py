"""The learner inside of another one: made by name, with the sizes that it asks for."""

import inspect
from collections.abc import Mapping

from metapers import learners
from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Any


def named(
  given: Mapping[str, Any], sizes: Mapping[str, Any], default: str | None = None
) -> MetaLearner:
  """Returns the learner of options with a `name` among them; raises ValueError as `made` does."""
  kwargs = dict(given)
  name = kwargs.pop('name', default)
  if name is None:
    raise ValueError(f"options of a learner need its 'name', got {dict(given)}")
  return made(name, kwargs, sizes)


def made(name: str, kwargs: Mapping[str, Any], sizes: Mapping[str, Any]) -> MetaLearner:
  """Returns a learner for use inside of another one.

  Args:
    name: of the learner.
    kwargs: its options.
    sizes: of the population, of which it is given those it asks for.

  Raises:
    ValueError: for an unknown learner or option, or one whose users are coupled.
  """
  asked = inspect.signature(learners.factory(name)).parameters
  own = {size: value for size, value in sizes.items() if size in asked}
  found = learners.make(name, **own, **kwargs)
  if found.batch_loss is not None:
    raise ValueError(f'{name} couples users in its loss, and a learner around it sees one user')
  return found
