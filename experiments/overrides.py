"""Configs of commands, and the flags that override their fields: `--config.training.num_steps=5`.

Several values are divided by commas. An option of a learner that its row of a table does not name
is overridden like one that it does: `--config.learners.cnp.kwargs.width=64`.
"""

import pathlib
import re
import sys
import types
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_dict
from ml_collections.config_flags import config_flags

from experiments import build, kinds
from experiments.build import Config

flags.disclaim_key_flags()  # of the command that calls `DEFINE_config`
DEPTH = 4  # of an option of a row: learners.ROW.kwargs.NAME


class Parser(config_flags.ConfigFileFlagParser):
  """Loads a config, and prepares it for the overrides of the command line."""

  def parse(self, path: str) -> Config:
    """Returns the config of a file.

    Raises:
      flags.Error: for an override of a field that it does not have; lists those it has.
    """
    config = super().parse(path)
    if isinstance(config, config_dict.ConfigDict):
      for name in overridden(sys.argv, self.name):
        prepare(config, name)
    return config


def DEFINE_config(name: str, description: str) -> flags.FlagHolder:
  """Defines a flag that names a config file, and those of its fields."""
  held = config_flags.DEFINE_config_file(name, None, description, lock_config=True)
  flags.FLAGS[name].parser = Parser(name, lock_config=True)
  return held


def name_of(path: str) -> str:
  """Returns the name of a config file and what follows its colon, such as `people:quick`."""
  return pathlib.PurePath(path).name.replace('.py', '', 1)


def overridden(words: Sequence[str], flag: str) -> list[str]:
  """Returns the fields that a command line overrides, such as `training.num_steps`."""
  form = re.compile(rf'--?(?:no)?{flag}\.([^=]+)')
  return [found[1] for found in map(form.match, words) if found]


def prepare(config: Config, name: str) -> None:
  """Makes a field of a config ready for a flag.

  Raises:
    flags.Error: where there is no such field; lists those beside it.
    ValueError: for an option of a row that is no learner.
  """
  path = name.split('.')
  if path[0] == 'learners' and len(path) >= DEPTH and 'learners' in config:
    with config.unlocked():
      write_option(config, path[1:])
  *above, last = path
  node = config
  for part in above:
    node = inside(node, part, name)
  inside(node, last, name)
  kind = node.get_type(last)
  if kind is tuple or isinstance(kind, types.UnionType):
    config_flags.register_flag_parser_for_type(kind, kinds.parser(kind))


def inside(node: Any, part: str, name: str) -> Any:
  """Returns one part of a node of a config, which an override names in full.

  Raises:
    flags.Error: where it has no such part; lists those it has.
  """
  if not isinstance(node, config_dict.ConfigDict):
    raise flags.Error(f'config.{name}: {node!r} has no fields')
  if part not in node:
    beside = ', '.join(node) or 'nothing'
    raise flags.Error(f'unknown field config.{name}; known beside it: {beside}')
  return node[part]


def write_option(config: Config, path: Sequence[str]) -> None:
  """Writes an option that a row of a table leaves as it is into the row, for a flag to change.

  Args:
    config: of a table.
    path: the row, which part of it, and the option: cnp, kwargs, width.

  Raises:
    flags.Error: for an option that there is not; lists the known ones.
    ValueError: for a row that is no learner.
  """
  row, part, *_ = path
  known: Config = config_dict.ConfigDict(
    {
      'kwargs': build.learner_config(build.name_of(config, row)).kwargs,
      'training': config.training,
      'population': config.population.kwargs,
    }
  )
  inside(known, part, f'learners.{row}.{part}')
  if row not in config.learners:
    config.learners[row] = {}
  own = config.learners[row]
  *above, option = path[1:]
  for each in above:
    known = inside(known, each, f'learners.{".".join(path)}')
    if each not in own:
      own[each] = {}
    own = own[each]
  value = own.get(option, inside(known, option, f'learners.{".".join(path)}'))
  if option in own:
    del own[option]
  own[option] = kinds.with_kind(value, known.get_type(option))
