"""Evaluates a trained run, on its own population or with other options and numbers of shots.

    python -m experiments.evaluate --workdir=DIR --shots=0,4,16 --set=concentration=0.1

Prints the table, and adds its rows to results.csv in the workdir: those of the same condition,
shots and metrics are replaced, whatever their `num_users`, and all others stay. Data that moved
since training are named by --set=path=FOLDER (people) or --set=store=FOLDER. A run of a learner
from a file is evaluated with --learner=path/to/file.py:factory, and one on a population from a
file with --population=path/to/file.py:factory: no code is run that a workdir names.
"""

import ast
import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from experiments import build, commands, works
from metapers.bench import report, results, runner, runs
from metapers.io import workdirs

WORKDIR = flags.DEFINE_string('workdir', None, 'A run of experiments.train.')
SHOTS = flags.DEFINE_list('shots', None, 'Numbers of comparisons, such as 0,4,16.')
SET = flags.DEFINE_multi_string('set', [], 'Option of the test population: name=value.')
LEARNER = flags.DEFINE_string('learner', '', 'Of a run of a learner from a file: FILE.py:factory.')
POPULATION = flags.DEFINE_string('population', '', 'The same of a population from a file.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  workdir = pathlib.Path(commands.required(WORKDIR))
  with commands.holding(workdir):
    changes = dict(map(change, SET.value))
    workdirs.require_run(workdir)
    config = works.stored_run(
      workdirs.read_config(workdir), learner=LEARNER.value, population=POPULATION.value
    )
    moved = {
      name: changes.pop(name)
      for name in list(changes)
      if f'population.kwargs.{name}' in workdirs.PATHS
    }
    build.update('population', config.population.kwargs, moved)
    plan = build.plan(config)
    population = plan.populations[0]()
    ((_, entry),) = plan.entries.items()
    identity = {**plan.identity, 'data': population.content_hash}
    run = runs.restored(entry, population, workdir, seed=config.seed, identity=identity)
    if SHOTS.value:
      config.evaluation.shots = numbers(SHOTS.value)
    plan = build.plan(config)._replace(conditions=(build.condition(config, changes),))
    (setting,) = runner.prepare(plan)
    frame = runner.evaluate_run(plan, setting, run, log=commands.say)
    commands.say(report.summary(frame, setting))
    path = results.append_results(workdir / 'results.csv', frame)
    commands.say(f'\n{path}: {len(frame)} rows added, in the place of those of the same cells')


def numbers(texts: Sequence[str]) -> tuple[int, ...]:
  """Returns numbers of shots.

  Raises:
    ValueError: for something that is not a whole number.
  """
  wrong = [text for text in texts if not text.strip().isdigit()]
  if wrong:
    raise ValueError(f'--shots takes whole numbers such as 0,4,16; got {", ".join(wrong)}')
  return tuple(map(int, texts))


def change(text: str) -> tuple[str, Any]:
  """Returns name and value of `name=value`; the value as Python writes it, else as text.

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
