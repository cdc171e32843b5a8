"""What a finished run leaves for use: its learner as an export, which `Personalizer` loads."""

import inspect
import os
import pathlib

from experiments import build
from experiments.build import Config
from metapers import learners
from metapers.core.population import Population
from metapers.core.types import Params
from metapers.io import leaves
from metapers.serving import exports


def write(
  workdir: str | os.PathLike, config: Config, population: Population, params: Params
) -> pathlib.Path:
  """Writes the learner of a run into its workdir, where `Personalizer.from_checkpoint` finds it.

  Args:
    workdir: of the run.
    config: of the run.
    population: that it was trained on.
    params: the best, prepared.

  Returns:
    The folder of the export.
  """
  record, part = population.record, config.training
  synthetic = 'synthetic ' if str(record['source']).startswith('synthetic') else ''
  names = str(record.get('reward_models', '')) if record.get('track') == 'scores' else ''
  export = exports.Export(
    learner=config.learner.name,
    kwargs={**sizes(config.learner.name, population), **config.learner.kwargs.to_dict()},
    params=leaves.named(params),
    num_candidates=population.spec.num_candidates,
    scaling=population.scaling,
    feature_names=tuple(filter(None, names.split(', '))),
    trained_on=record,
    about=(
      f'{config.learner.name} trained on {synthetic}users for {part.num_steps} steps of '
      f'{part.batch_size}; {record["source"]}'
    ),
  )
  return exports.write(pathlib.Path(workdir) / exports.FOLDER, export)


def sizes(learner: str, population: Population) -> dict[str, int]:
  """Returns the arguments of a learner that come from the population."""
  known = inspect.signature(learners.LEARNERS[learner]).parameters
  spec = {'num_features': population.spec.num_features, 'num_users': population.spec.num_users}
  return {name: spec[name] for name in build.FROM_SPEC if name in known}
