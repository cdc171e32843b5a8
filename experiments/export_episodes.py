"""Writes the episodes of a protocol for learners of any framework.

    python -m experiments.export_episodes --protocol=lore --out=FOLDER

`--protocol` names a config of experiments/configs, or its file, with what follows the colon:
`benchmark:quick`. For every condition there are `FOLDER/CONDITION/test.npz`, without the query's
choices, and `FOLDER/CONDITION/validation.npz`, with them: other users, to choose a method by.
`manifest.json` says what each array holds. Adapt to the first k real support comparisons for each k
in `shots`, predict the query, and give the table to `experiments.score`.

`train.npz` holds the support and query, choices included, of users to learn from across users (with
`benchmark.retrain`, each condition has its own): fit on these as one likes, for instance predict
each query from a random number of the support's comparisons. `known_user` of a test user who was
trained on is the `user` of `train.npz`. Users of one `fold` are to be judged by what was learned
from train and validation users of the same fold alone: people to be judged in one fold are among
those to learn from in another, with their answers.

The folder `truth` holds the answers. Keep it apart; it guards against accidents only, for whoever
has this code can draw the same users again.
"""

import pathlib

from absl import flags

from experiments import commands, freezing
from metapers.bench import frozen

PROTOCOL = flags.DEFINE_string('protocol', None, 'A config, such as lore or benchmark:quick.')
OUT = flags.DEFINE_string('out', None, 'The folder to make.')
NUM_TRAIN_USERS = flags.DEFINE_integer(
  'num_train_users', 2000, 'Users to learn from; 0 leaves out train.npz.', 0, 100_000
)
COMPRESS = flags.DEFINE_bool('compress', False, 'Write smaller files, in more time.')
REFERENCES = flags.DEFINE_bool('references', True, 'Compute oracle and bayes, for the table.')
LICENCE = flags.DEFINE_string('licence', None, 'Of the data, where these do not tell.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  config = freezing.config_of(commands.required(PROTOCOL))
  folder = freezing.export(
    config,
    pathlib.Path(commands.required(OUT)),
    num_train_users=NUM_TRAIN_USERS.value,
    is_compressed=COMPRESS.value,
    has_references=REFERENCES.value,
    licence=LICENCE.value,
  )
  commands.say(f'{folder}\nepisodes sha256: {frozen.fingerprint(folder)}')


if __name__ == '__main__':
  commands.run(main)
