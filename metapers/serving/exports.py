"""A trained learner as a small folder that needs nothing else: `learner.json` and `params.npz`."""

import contextlib
import inspect
import json
import os
import pathlib
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import pydantic
from pydantic import Field

from metapers import learners
from metapers.core import array_files, fields, files, outcomes
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population, Scaling, Spec, vector
from metapers.core.types import Params
from metapers.io import leaves
from metapers.learners import Factory

FORMAT, VERSION = 'metapers-learner', 2  # 2: with the width of the context
HEADER, PARAMETERS = 'learner.json', 'params.npz'
LARGEST_OPTION = 10**6  # of a learner, where no stored array is as long
FOLDER = 'export'  # of a training run's workdir
SHAPES = ('features', 'context')  # arguments of a factory that are trees of shapes


class Options(pydantic.BaseModel):
  """Sizes among the kwargs of a factory, where it takes them."""

  num_features: fields.Size = 0
  num_context: fields.Size = 0


FIELDS = {
  'learner': str, 'kwargs': Options, 'num_candidates': Annotated[fields.Size, Field(ge=2)],
  'num_context': fields.Size, 'feature_names': list[str], 'about': str, 'trained_on': dict,
  'mean': list[fields.Number], 'scale': list[fields.Number], 'sha256': str,
}  # fmt: skip


class Export(NamedTuple):
  """A trained learner.

  learner: its name; a label only, nothing is imported by it that is not in `learners.LEARNERS`.
  kwargs: of its factory, JSON values; sizes that come from the population included.
  params: arrays by the path to each in the learner's parameters, see `leaves.named`.
  num_candidates: K, the most candidates that a comparison had in training.
  scaling: of raw features.
  feature_names: D names in order; () where they have none.
  trained_on: what the population says of itself, for display.
  about: one line for people.
  num_context: C, the width of the context that the learner reads besides the comparisons.
  outcomes: kinds of answers beside the plain choice, of `core.outcomes`, whose flags are the last
    of the D features; what is served has the others.
  """

  learner: str
  kwargs: Mapping[str, Any]
  params: Mapping[str, np.ndarray]
  num_candidates: int
  scaling: Scaling
  feature_names: tuple[str, ...] = ()
  trained_on: Mapping[str, str | float] = types.MappingProxyType({})
  about: str = ''
  num_context: int = 0
  outcomes: tuple[str, ...] = ()

  @property
  def item_names(self) -> tuple[str, ...]:
    """Names of the features of what is served, in order; () where they have none."""
    return self.feature_names[: len(self.feature_names) - len(self.outcomes)]


def export_of(
  learner: str, kwargs: Mapping[str, Any], params: Params, population: Population, *, about: str
) -> Export:
  """Returns the export of a learner that was trained on a population.

  Args:
    learner: name of its factory.
    kwargs: that the factory was called with; shapes among them are those of the vectors served.
    params: the best of the run, prepared.
    population: what they were trained on.
    about: one line for people.

  Raises:
    ValueError: for features or a context of several arrays.
  """
  spec = population.spec
  if not is_servable(spec):
    raise ValueError(
      'this learner reads features or a context of several arrays; serving reads one vector of '
      f'each: concatenate them and train on that; got {spec.features} and {spec.context}'
    )
  data: dict[str, str | float] = {}
  if population.content_hash:
    data['data'] = population.content_hash
  if 'num_people' in population.record:  # of whom some are unseen, or choose the parameters
    data['num_trained_on'] = spec.num_users
  return Export(
    learner=learner,
    kwargs={name: value for name, value in kwargs.items() if name not in SHAPES},
    params=leaves.named(params),
    num_candidates=spec.num_candidates,
    scaling=population.scaling,
    feature_names=spec.feature_names,
    trained_on={'source': population.source, **data, **population.record},
    about=about,
    num_context=spec.num_context,
    outcomes=spec.outcomes,
  )


def trained_in_words(export: Export) -> str:
  """Returns what an export was trained on, and on how many of its people, where it says so."""
  about = export.trained_on
  known = about.get('num_people')
  used = about.get('num_trained_on', known)
  people = f'{known} people' if used == known else f'{used} of its {known} people'
  return f'{about.get("source", "unknown data")}' + (f', {people}' if known else '')


def is_servable(spec: Spec) -> bool:
  """Returns whether the features of a candidate and the context of a user are one vector each."""
  return all(len(getattr(shapes, 'shape', ())) == 1 for shapes in (spec.features, spec.context))


def write_export(folder: str | os.PathLike, export: Export) -> pathlib.Path:
  """Writes an export and returns its folder; a kill at any moment leaves no half of one.

  Args:
    folder: made if missing; an older export there is replaced.
    export: what to write.

  Raises:
    ValueError: for a folder that holds something else, or parts that do not fit each other.
  """
  folder = pathlib.Path(folder)
  files.check_replaceable(folder, (HEADER, PARAMETERS))
  check_export(folder, export)
  arrays = array_files.packed(export.params)
  values = {
    **export._asdict(),
    'trained_on': dict(export.trained_on),
    **_listed(export.scaling),
    'sha256': files.sha256(arrays),
  }
  header = {'format': FORMAT, 'version': VERSION, **{name: values[name] for name in FIELDS}}
  if export.outcomes:
    header['outcomes'] = export.outcomes
  with files.writing_folder(folder) as place:
    (place / PARAMETERS).write_bytes(arrays)
    files.write_json(place / HEADER, header)
  return folder


def is_export(folder: str | os.PathLike) -> bool:
  """Returns whether a folder holds an export, whole or not."""
  return (pathlib.Path(folder) / HEADER).is_file()


def read_export(folder: str | os.PathLike) -> Export:
  """Returns the export in a folder; nothing that does not fit is believed.

  Raises:
    ValueError: for a folder without one, another format or version, a missing field, parameters
      whose sha256 is another one, or widths that do not agree.
  """
  folder = pathlib.Path(folder)
  header, _ = files.read_manifest(folder / HEADER, FORMAT, VERSION, FIELDS)
  path = folder / PARAMETERS
  content = path.read_bytes() if path.is_file() else b''
  found = files.sha256(content)
  if found != header['sha256']:
    raise ValueError(
      f'{path} is missing or not the file that {HEADER} describes (sha256 {found[:12]}, expected '
      f'{header["sha256"][:12]}); copy the whole folder anew'
    )
  scaling = Scaling(*(np.array(header[name], np.float64) for name in Scaling._fields))
  header |= {'scaling': scaling, 'params': array_files.unpacked(path, content)}
  header['feature_names'] = tuple(header['feature_names'])
  kinds = {'outcomes': header.get('outcomes', [])}  # which most exports do not have
  fields.check(folder / HEADER, kinds, {'outcomes': list[str]})
  header['outcomes'] = outcomes.of_names(kinds['outcomes'])
  return check_export(folder, Export(**{name: header[name] for name in Export._fields}))


def check_export(source: str | os.PathLike, export: Export) -> Export:
  """Returns an export whose widths agree.

  Raises:
    ValueError: naming what does not fit.
  """
  mean, scale = export.scaling
  width = export.kwargs.get('num_features', mean.size)
  names = len(export.feature_names) or width
  if not mean.shape == scale.shape == (width,) or names != width:
    raise ValueError(
      f'{source}: num_features is {width}, but there are {mean.size} means, {scale.size} scales '
      f'and {len(export.feature_names)} feature names; export the run anew'
    )
  if len(set(export.feature_names)) < len(export.feature_names):
    raise ValueError(f'{source}: two features have one name among {export.feature_names!r:.80}')
  given = export.kwargs.get('num_context', export.num_context)
  if given != export.num_context or given < 0:
    raise ValueError(
      f'{source}: num_context is {export.num_context}, but the learner was made with {given}; '
      'export the run anew'
    )
  numbers = (mean, scale, *export.params.values())
  if not all(np.isfinite(array).all() for array in numbers) or not np.all(scale > 0):
    raise ValueError(f'{source}: parameters and scaling must be finite, and scales above 0')
  return export


def check_options(build: Callable[..., Any], export: Export) -> None:
  """Refuses kwargs that are not of the types of a factory's signature, or sizes beyond reason.

  Raises:
    ValueError: naming the option.
  """
  try:
    known = inspect.signature(build, eval_str=True).parameters
  except NameError:  # of an annotation that is there for type checkers only
    known = {}
  for name in sorted(set(export.kwargs) & set(known)):
    kind = known[name].annotation
    with contextlib.suppress(pydantic.PydanticSchemaGenerationError):  # of no JSON value
      if kind is not inspect.Parameter.empty:
        fields.check(f'kwargs of {export.learner}', export.kwargs, {name: kind})
  most = max(LARGEST_OPTION, *(max(array.shape, default=0) for array in export.params.values()), 0)
  for path, number in jax.tree.leaves_with_path(dict(export.kwargs)):
    is_size = jax.tree_util.keystr(path[-1:], simple=True) != 'seed'
    if is_size and isinstance(number, int | float) and not abs(number) <= most:
      raise ValueError(f'kwargs of {export.learner} hold {number!r:.80}; expected at most {most}')


def learner_of(export: Export, factory: Factory | None) -> MetaLearner:
  """Returns the learner that an export is of, without its parameters.

  Args:
    export: a checked one.
    factory: of a learner that is not in `learners.LEARNERS`; None for one that is.

  Raises:
    ValueError: for an unknown learner whose factory is not given, or options that are not its own.
  """
  if factory is None and export.learner not in learners.LEARNERS:
    raise ValueError(
      f'unknown learner {export.learner!r}: an export never imports what it names; give its '
      'factory (learners.from_file loads one): Personalizer(export, learner=factory) or '
      'Personalizer.from_checkpoint(path, learner=factory). Known without: '
      f'{", ".join(learners.LEARNERS)}'
    )
  build = factory or learners.factory(export.learner)
  widths = {'features': export.scaling.mean.size, 'context': export.num_context}
  check_options(build, export)
  known = inspect.signature(build).parameters
  shapes = {name: vector(width) for name, width in widths.items() if name in known}
  return learners.make(build, **export.kwargs, **shapes)


def fingerprint(export: Export) -> str:
  """Returns the sha256 of all that a prediction depends on; wording and file format are not."""
  content = {
    'learner': export.learner,
    'kwargs': export.kwargs,
    'num_context': export.num_context,
    **_listed(export.scaling),
    'params': leaves.checksums(export.params),
  }
  return files.sha256(json.dumps(content, sort_keys=True).encode())


def _listed(scaling: Scaling) -> dict[str, list[float]]:
  return {name: part.tolist() for name, part in scaling._asdict().items()}
