"""Evaluates a trained run, on its own population or with other options and numbers of shots.

    python -m experiments.evaluate --workdir=DIR --shots=0,4,16 --set=concentration=0.1

Prints the table, and adds its rows to results.csv in the workdir.
"""

import ast
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import config_dict

from experiments import commands, publish, references, runs, settings
from metapers.evaluation import results, tables

WORKDIR = flags.DEFINE_string('workdir', None, 'A run of experiments.train.')
SHOTS = flags.DEFINE_list('shots', None, 'Numbers of comparisons, such as 0,4,16.')
SET = flags.DEFINE_multi_string('set', [], 'Option of the test population: name=value.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  commands.required(workdir=WORKDIR.value)
  workdir = pathlib.Path(WORKDIR.value)
  config, run = runs.restored(workdir)
  if SHOTS.value:
    config.evaluation.shots = numbers(SHOTS.value)
  report(config, run, workdir, dict(map(change, SET.value)))


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


def report(
  config: config_dict.ConfigDict,
  run: runs.Run,
  workdir: pathlib.Path,
  changes: Mapping[str, Any] | None = None,
) -> list[results.Row]:
  """Evaluates a run beside the references, prints the table and adds to results.csv."""
  setting = settings.make(config, changes or {})
  predictions = {
    name: {'': make(setting)} for name, make in references.table(config, setting).items()
  }
  made = settings.predict(config, setting, [run])
  predictions[config.learner.name] = {str(config.seed): made}
  rows = publish.rows_of(setting, predictions)
  path = results.append(workdir / 'results.csv', rows)
  commands.say(f'{setting.title}\ndata: {setting.populations[0].record["source"]}')
  commands.say(tables.as_text(tables.table(rows)))
  commands.say(f'\n{path}')
  return rows


if __name__ == '__main__':
  commands.run(main)
