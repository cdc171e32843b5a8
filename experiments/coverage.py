"""Checks the bench's own intervals: how often do they hold the truth where it is known?

    python -m experiments.coverage --workdir=runs/coverage

Draws studies (users, prompts, choices, learners) anew from a known world, evaluates each as tables
are, and prints how often 95 % intervals held the true values, how wide they were, and how often a
gap of one point or three was seen, between learners that err alike and apart. Writes coverage.csv
and coverage.png; a restart goes on.

Time: some 33 minutes of one core for all sizes; --studies and --num make it shorter.
"""

import pathlib

from absl import flags

from experiments import commands
from metapers.analysis.superpopulation import STUDIES, in_words
from metapers.bench import coverage_runs, tables
from metapers.io import plots

WORKDIR = flags.DEFINE_string('workdir', None, 'Keeps what was drawn.')
NAMES = flags.DEFINE_list('studies', list(STUDIES), 'Which sizes.')
NUM = flags.DEFINE_integer('num', 400, 'How often each is drawn.', lower_bound=2)
RESAMPLES = flags.DEFINE_integer('resamples', 800, 'Of each bootstrap.', lower_bound=8)


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  workdir = pathlib.Path(commands.required(WORKDIR))
  with commands.holding(workdir):
    found = coverage_runs.run(
      workdir, NAMES.value, num_studies=NUM.value, num_resamples=RESAMPLES.value
    )
    path = plots.save(coverage_runs.figure(found), workdir / 'coverage.png')
  for name in NAMES.value:
    commands.say(f'{name}: {in_words(STUDIES[name])}')
  for shown in (coverage_runs.table(found), coverage_runs.power(found)):
    commands.say(f'\n{tables.as_text(shown)}')
  for sentence in coverage_runs.verdict(found):
    commands.say(sentence)
  commands.say(f'{workdir / coverage_runs.FILE}\n{path}')


if __name__ == '__main__':
  commands.run(main)
