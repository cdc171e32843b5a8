"""Writes the episodes of a protocol for learners of any framework.

    python -m experiments.export_episodes --config=experiments/configs/lore.py --out=FOLDER

For every condition there are `FOLDER/CONDITION/test.npz`, without the query's
choices, and `FOLDER/CONDITION/validation.npz`, with them: other users, to choose a method by.
`manifest.json` says what each array holds. Adapt to the first k real support comparisons for each k
in `shots`, predict the query, and give the table to `experiments.score`.

`train.npz` holds the support and query, choices included, of users to learn from across users (with
`benchmark.retrain`, each condition has its own): fit on these as one likes, for instance predict
each query from a random number of the support's comparisons. `known_user` of a test user who was
trained on is the `user` of `train.npz`. Users of one `fold` are to be evaluated by what was learned
from train and validation users of the same fold alone: people who are evaluated in one fold are
among those to learn from in another, with their answers.

The folder `truth` holds the answers. Keep it apart; it guards against accidents only, for whoever
has this code can draw the same users again.
"""

import pathlib

from absl import flags

from experiments import build, commands, guide, overrides
from experiments.build import Config
from metapers.bench import episodes, freezing
from metapers.core import fields, files
from metapers.data import manifest

CONFIG = overrides.DEFINE_config('config', 'The protocol.')
OUT = flags.DEFINE_string('out', None, 'The folder to make.')
NUM_TRAIN_USERS = flags.DEFINE_integer(
  'num_train_users', 2000, 'Users to learn from; 0 leaves out train.npz.', 0, 100_000
)
COMPRESS = flags.DEFINE_bool('compress', False, 'Write smaller files, in more time.')
REFERENCES = flags.DEFINE_bool('references', True, 'Compute oracle and bayes, for the table.')
LICENCE = flags.DEFINE_string('licence', None, 'Of the data, where these do not say.')

NOT_STATED = 'not stated where the data lie'


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  config = commands.required(CONFIG)
  folder = freezing.export_episodes(
    build.plan(config),
    commands.required(OUT),
    licence=LICENCE.value or licence_of(config),
    num_train_users=NUM_TRAIN_USERS.value,
    is_compressed=COMPRESS.value,
    has_references=REFERENCES.value,
    log=commands.say,
  )
  commands.say(f'{folder}\nepisodes sha256: {episodes.fingerprint(folder)}')


def licence_of(config: Config) -> str:
  """Returns the licence of a population's data, as their folder says it, or NOT_STATED."""
  kwargs = config.population.kwargs
  folder = pathlib.Path(kwargs.get('path') or kwargs.get('store') or 'synthetic')
  if folder == pathlib.Path('synthetic') and not build.is_file(config.population.name):
    return 'Apache-2.0 (drawn by metapers)'
  for name in (manifest.MANIFEST, 'source.json'):  # of a feature store, of people
    if (folder / name).is_file() and (about := files.read_json(folder / name)).get('licence'):
      fields.check(folder / name, about, {'licence': str})
      return about['licence']
  return NOT_STATED


if __name__ == '__main__':
  commands.run(main, lambda: guide.of_runs('lore'))
