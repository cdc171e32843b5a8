"""Evaluates a trained run, on its own population or with other options and numbers of shots.

    python -m experiments.evaluate --workdir=DIR --shots=0,4,16 --set=concentration=0.1

Prints the table, and adds its rows to results.csv in the workdir. Data that moved since training
are named by --set=path=FOLDER (people) or --set=store=FOLDER.
"""

import ast
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from experiments import commands, publish, runs, settings
from metapers.io import workdirs

WORKDIR = flags.DEFINE_string('workdir', None, 'A run of experiments.train.')
SHOTS = flags.DEFINE_list('shots', None, 'Numbers of comparisons, such as 0,4,16.')
SET = flags.DEFINE_multi_string('set', [], 'Option of the test population: name=value.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  workdir = pathlib.Path(commands.required(WORKDIR))
  changes = dict(map(change, SET.value))
  moved = {name: changes.pop(name) for name in list(changes) if name in workdirs.UNCOMPARED}
  config, run = runs.restored(workdir, moved)
  if SHOTS.value:
    config.evaluation.shots = numbers(SHOTS.value)
  setting = settings.make(config, changes)
  publish.run(config, run, setting, workdir)


def numbers(texts: Sequence[str]) -> tuple[int, ...]:
  """Reads numbers of shots.

  Raises:
    ValueError: for something that is not a whole number.
  """
  wrong = [text for text in texts if not text.strip().isdigit()]
  if wrong:
    raise ValueError(f'--shots takes whole numbers such as 0,4,16; got {", ".join(wrong)}')
  return tuple(map(int, texts))


def change(text: str) -> tuple[str, Any]:
  """Reads `name=value`; the value as Python writes it, else as text.

  Raises:
    ValueError: without an equals sign.
  """
  name, equals, value = text.partition('=')
  if not equals:
    raise ValueError(f'--set takes name=value, got {text!r}')
  try:
    return name, ast.literal_eval(value)
  except (ValueError, SyntaxError):
    return name, value


if __name__ == '__main__':
  commands.run(main)
