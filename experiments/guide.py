"""What `--help` of a command says beyond its flags: names that there are, and a config's fields."""

import ast
import inspect
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ml_collections import config_dict
from ml_collections.config_flags import config_flags

from experiments import build, kinds
from experiments.build import Config
from metapers.data import constructed_rewards, reward_models
from metapers.learners import LEARNERS
from metapers.training.objectives import OBJECTIVES
from metapers.training.optimizers import OPTIMIZERS

CONFIGS = pathlib.Path(__file__).parent / 'configs'
NO_CONFIGS = ('__init__', 'base')
ROOT = pathlib.Path(__file__).parents[1]
# Where what fields mean is written; of learners and populations, where their factories are.
DOCUMENTED = {
  'training': 'metapers/training/meta_training.py, Training',
  'evaluation': 'metapers/bench/plan.py, Evaluation',
  'source': 'metapers/data/sources.py, read_source',
  'options': 'metapers/data/reward_models.py, Options',
  'encoder': 'metapers/data/reward_models.py, RewardModel',
}


def of_runs(default: str) -> str:
  """Returns what may be trained and evaluated, by name.

  Args:
    default: name of the config whose fields are shown where the command line names none.
  """
  return joined(
    [
      'Configs, experiments/configs/NAME.py; at its top each says how long it takes, and what may',
      'follow the colon:',
      *(described(path) for path in sorted(CONFIGS.glob('*.py')) if path.stem not in NO_CONFIGS),
      *named('Learners', 'metapers/learners; which for which data: README.md', LEARNERS),
      *named('Populations', 'docs/data.md, metapers/populations', build.POPULATIONS),
      *named('Objectives', 'metapers/training/objectives.py', OBJECTIVES),
      *named('Optimisers', 'metapers/training/optimizers.py', OPTIMIZERS),
      '',
      'Of a table, --config.learners.NAME.kwargs.OPTION=VALUE is of one learner alone; so are',
      '.training and .population. --config=FILE.py:learner=NAME shows the options of that learner.',
      *fields_of(default),
    ]
  )


def of_extraction(default: str) -> str:
  """Returns what may be extracted, by name; `default` as in `of_runs`."""
  return joined(
    [
      *named(
        'Reward models',
        'metapers/data/reward_models.py',
        {model.name: model for model in reward_models.PERSONAL_LLM},
      ),
      *named(
        'Constructed rewards',
        'metapers/data/constructed_rewards.py',
        constructed_rewards.CONSTRUCTED,
      ),
      *fields_of(default),
    ]
  )


def joined(lines: Sequence[str]) -> str:
  """Returns lines as the end of a help text."""
  return '\n' + '\n'.join(lines) + '\n'


def described(path: pathlib.Path) -> str:
  """Returns a line on a config: its name and what its docstring begins with."""
  document = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
  return f'  {path.stem}: {document.partition(chr(10))[0]}'


def named(kind: str, where: str, table: Mapping[str, Any]) -> list[str]:
  """Returns lines with the names of a table."""
  return ['', f'{kind} ({where}):', f'  {", ".join(table)}']


def fields_of(default: str) -> list[str]:
  """Returns lines with the fields of the config that the command line names, and their values."""
  given = [word.partition('=')[2] for word in sys.argv if word.lstrip('-').startswith('config=')]
  path = given[-1] if given else f'experiments/configs/{default}.py'
  loaded = config_flags.ConfigFileFlagParser('config').parse(path)
  head = f'Fields of --config={path}; several values are divided by commas:'
  return ['', head, *lines_of(loaded, 'config')]


def lines_of(config: Config, path: str) -> Iterator[str]:
  """Yields a line for each field, under one for each part that says where it is documented."""
  for name, value in config.items():
    if isinstance(value, config_dict.ConfigDict):
      yield from part_lines(config, f'{path}.{name}', name, value)
    else:
      yield f'  --{path}.{name}={written(value, config.get_type(name))}'


def written(value: Any, kind: kinds.Kind) -> str:
  """Returns a value as a flag gives it; of an empty field, what it takes."""
  if value is None:
    return f'<{kinds.parser(kind).flag_type()}>'
  if isinstance(value, bool):
    return str(value).lower()
  if isinstance(value, tuple):
    return ','.join(written(each, type(each)) for each in value)
  return str(value)


def part_lines(config: Config, path: str, name: str, part: Config) -> Iterator[str]:
  """Yields the lines of one part of a config."""
  where = DOCUMENTED.get(name, '') if path.count('.') == 1 else ''
  if name == 'kwargs' and 'name' in config:
    where = where_of(config.name)
  if where:
    yield f'  {path} ({where}):'
  yield from lines_of(part, path)


def where_of(name: str) -> str:
  """Returns the file of what a config names, and its name there; '' where it names nothing."""
  tables: Sequence[Mapping[str, Any]] = (OBJECTIVES, OPTIMIZERS)
  found: Callable | None = next((table[name] for table in tables if name in table), None)
  if name in LEARNERS or (found is None and build.is_file(name)):
    found = build.learner_factory(name)
  if name in build.POPULATIONS:
    build_it, others = build.POPULATIONS[name]
    found = others[-1] if others else build_it
  if found is None:
    return ''
  file = pathlib.Path(inspect.getfile(found))
  short = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
  return f'{short}, {found.__name__}'
