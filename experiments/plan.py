"""Says how many users to ask, and how many comparisons of each, for a budget of labels.

    python -m experiments.benchmark --config=experiments/configs/budget.py --workdir=DIR
    python -m experiments.plan --workdir=DIR --budget=5000

It reads the results of the first command, what each learner came to with m users of n labels, and
draws them: DIR/budget.png.
"""

import pathlib

from absl import flags

from experiments import commands
from metapers.bench import planning, results, tables
from metapers.io import plots

WORKDIR = flags.DEFINE_string('workdir', None, 'Of a table of experiments/configs/budget.py.')
BUDGET = flags.DEFINE_integer('budget', None, 'Labels in all: users times labels each.')
SHOTS = flags.DEFINE_integer('shots', 8, 'Comparisons that will be given of a new user.')
LEARNERS = flags.DEFINE_list('learners', [], 'Rows of the table; by default all learners.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  path = pathlib.Path(commands.required(WORKDIR)) / 'results.csv'
  labels = commands.required(BUDGET)
  frame = results.read_results(path)
  if not len(frame):
    raise ValueError(f'{path} holds no results: make the table of budgets first, see --help')
  rows = LEARNERS.value or planning.learners_of(frame)
  planned = [planning.plan(frame, row, SHOTS.value, labels) for row in rows]
  shown = planning.table_of(planned, labels, SHOTS.value)
  commands.say(f'{tables.as_text(shown)}\n\n{shown.note}')
  made = planning.figure(frame, rows, SHOTS.value)
  commands.say(str(plots.save(made, path.with_name('budget.png'))))


if __name__ == '__main__':
  commands.run(main)
