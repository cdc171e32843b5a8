"""Meta-learners: one file per family, and the one table of their names.

The table is literal and its modules are imported when they are asked for. Learners from elsewhere
are given as factories, functions of sizes and options that return a `MetaLearner`; `from_file`
loads one.
"""

import hashlib
import importlib
import importlib.util
import inspect
import os
import pathlib
import sys
import types
from collections.abc import Mapping

from metapers.core.meta_learner import MetaLearner
from metapers.core.types import Any, Callable

Factory = Callable[..., MetaLearner]

LEARNERS = {
  'pooled': 'metapers.learners.pooled:pooled',
  'per_user': 'metapers.learners.pooled:per_user',
  'maml': 'metapers.learners.gradient:maml',
  'fomaml': 'metapers.learners.gradient:fomaml',
  'anil': 'metapers.learners.gradient:anil',
  'mrm': 'metapers.learners.gradient:mrm',
  'meta_sgd': 'metapers.learners.gradient:meta_sgd',
  'reptile': 'metapers.learners.gradient:reptile',
  'cnp': 'metapers.learners.neural_process:cnp',
  'latent_np': 'metapers.learners.neural_process:latent_np',
  'transformer_np': 'metapers.learners.transformer_np:transformer_np',
  'np_btl': 'metapers.learners.variational:np_btl',
  'vpl': 'metapers.learners.variational:vpl',
  'spl': 'metapers.learners.variational:spl',
  'low_rank': 'metapers.learners.low_rank:low_rank',
  'lore': 'metapers.learners.low_rank:lore',
  'rfm': 'metapers.learners.low_rank:rfm',
  'pref': 'metapers.learners.low_rank:pref',
  'vrf': 'metapers.learners.vrf:vrf',
  'bayes_head': 'metapers.learners.bayes_head:bayes_head',
  'gaussian_prior': 'metapers.learners.gaussian_prior:gaussian_prior',
  'empirical_bayes': 'metapers.learners.empirical_bayes:empirical_bayes',
  'lookup': 'metapers.learners.lookup:lookup',
  'p_rm': 'metapers.learners.p_rm:p_rm',
  'pal': 'metapers.learners.pal:pal',
  'copl': 'metapers.learners.copl:copl',
  'item_neighbors': 'metapers.learners.item_neighbors:item_neighbors',
  'p_ttt': 'metapers.learners.p_ttt:p_ttt',
  'pairwise_gp': 'metapers.learners.pairwise_gp:pairwise_gp',
  'particle': 'metapers.learners.particle:particle',
  'pfn': 'metapers.learners.pfn:pfn',
  'dirichlet_mixture': 'metapers.learners.dirichlet_mixture:dirichlet_mixture',
  'hedge': 'metapers.learners.hedge:hedge',
  'as_pairs': 'metapers.learners.as_pairs:as_pairs',
  'resetting': 'metapers.learners.resetting:resetting',
}


def factory(name: str) -> Factory:
  """Returns the factory of a learner of the package.

  Args:
    name: a key of LEARNERS.

  Raises:
    ValueError: for an unknown name, listing the known ones; for PATH.py:NAME, for what is given by
      name, as in an export, must not run code that it names.
  """
  if ':' in name:
    raise ValueError(
      f'{name!r} names a learner in a file, and no file is imported for its name alone: load it '
      'yourself with metapers.learners.from_file and pass the factory'
    )
  if name not in LEARNERS:
    raise ValueError(f'unknown learner {name!r}; known: {", ".join(LEARNERS)}')
  module, _, attribute = LEARNERS[name].partition(':')
  return getattr(importlib.import_module(module), attribute)


def from_file(location: str | os.PathLike) -> Callable[..., Any]:
  """Returns a factory, of learners or of populations, from a file; this RUNS the file.

  The same contents at the same place give the same function, so that what is compiled is shared.

  Args:
    location: PATH.py:NAME, such as 'path/to/file.py:factory'.

  Raises:
    ValueError: for another form, a file that is missing, or a name that the file does not define as
      something to call.
  """
  path, _, attribute = os.fspath(location).rpartition(':')
  if not path.endswith('.py') or not attribute.isidentifier():
    raise ValueError(f'expected PATH.py:NAME, such as file.py:factory, got {str(location)!r}')
  if not pathlib.Path(path).is_file():
    raise ValueError(f'{str(location)!r}: there is no file {pathlib.Path(path).resolve()}')
  module = _imported(pathlib.Path(path).resolve())
  if not callable(getattr(module, attribute, None)):
    known = [name for name, value in vars(module).items() if inspect.isfunction(value)]
    raise ValueError(f'{path} defines no function {attribute!r}; it defines {", ".join(known)}')
  return getattr(module, attribute)


def make(learner: str | Factory, /, **kwargs: Any) -> MetaLearner:
  """Returns a learner, built by name or by its factory.

  Args:
    learner: a key of LEARNERS, or a factory.
    **kwargs: arguments of the factory.

  Raises:
    ValueError: for an unknown name or argument, listing the known ones, or a missing argument.
  """
  build = factory(learner) if isinstance(learner, str) else learner
  name = learner if isinstance(learner, str) else getattr(learner, '__name__', repr(learner))
  known = inspect.signature(build).parameters
  unknown = sorted(set(kwargs) - set(known))
  if unknown:
    raise ValueError(f'{name} takes no {", ".join(unknown)}; it takes {", ".join(known)}')
  missing = [each for each, parameter in known.items() if _is_missing(parameter, kwargs)]
  if missing:
    raise ValueError(f'{name} needs {", ".join(missing)}; given are {", ".join(kwargs) or "none"}')
  return build(**kwargs)


def _is_missing(parameter: inspect.Parameter, kwargs: Mapping[str, Any]) -> bool:
  has_name = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
  return has_name and parameter.default is parameter.empty and parameter.name not in kwargs


def _imported(path: pathlib.Path) -> types.ModuleType:
  digest = hashlib.sha256(str(path).encode() + b'\0' + path.read_bytes()).hexdigest()
  name = f'{path.stem}_{digest[:16]}'
  if name in sys.modules:
    return sys.modules[name]
  spec = importlib.util.spec_from_file_location(name, path)
  assert spec is not None and spec.loader is not None  # a path that ends in .py has both
  module = importlib.util.module_from_spec(spec)
  sys.modules[name] = module  # before it runs: dataclasses look their module up
  try:
    spec.loader.exec_module(module)
  except BaseException:
    del sys.modules[name]  # a half module must not be found the next time
    raise
  return module
