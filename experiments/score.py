"""Scores predictions that any framework made for episodes in files.

    python -m experiments.score --episodes=FOLDER predictions.parquet [more.parquet]

A table of choices has the columns condition, user, shots, query, candidate, and probability (or
log_probability, in nats): a row for each real candidate of each real query comparison. A table of
picks, if any, has condition, user, shots, slate, response, score; without it, what is measured of
picks is left out. Prints the table of each condition, by the code that evaluates our own learners,
with the references beside it; `--workdir` of an `experiments.benchmark` on the same protocol adds
its learners, and differences to its `pooled`.
"""

import pathlib

from absl import flags

from experiments import commands
from metapers.bench import episodes, results, scoring

EPISODES = flags.DEFINE_string('episodes', None, 'A folder of experiments.export_episodes.')
TRUTH = flags.DEFINE_string('truth', None, 'The folder `truth` of it, where it is kept apart.')
NAME = flags.DEFINE_string('name', None, "Of the method; by default the first file's.")
OUT = flags.DEFINE_string('out', None, 'A results.csv to add the rows to.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Of a benchmark whose learners to show beside.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  _, *paths = argv
  if not paths:
    raise ValueError('give the parquet files of predictions, behind the flags')
  if OUT.value and not NAME.value:
    raise ValueError('--out needs --name: rows of two methods of one name would replace each other')
  folder = commands.required(EPISODES)
  frame = scoring.score(
    folder,
    paths,
    name=NAME.value or pathlib.Path(paths[0]).stem,
    truth=TRUTH.value,
    workdir=WORKDIR.value,
    log=commands.say,
  )
  commands.say(f'\nepisodes sha256: {episodes.fingerprint(folder)}')
  if OUT.value:
    commands.say(str(results.append_results(OUT.value, frame)))


if __name__ == '__main__':
  commands.run(main)
