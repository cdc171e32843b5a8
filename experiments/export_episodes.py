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

from absl import flags
from ml_collections import config_flags

from experiments import build, commands
from metapers.bench import episodes, freezing
from metapers.core.population import Population

CONFIG = config_flags.DEFINE_config_file('config', None, 'The protocol.', lock_config=True)
OUT = flags.DEFINE_string('out', None, 'The folder to make.')
NUM_TRAIN_USERS = flags.DEFINE_integer(
  'num_train_users', 2000, 'Users to learn from; 0 leaves out train.npz.', 0, 100_000
)
COMPRESS = flags.DEFINE_bool('compress', False, 'Write smaller files, in more time.')
REFERENCES = flags.DEFINE_bool('references', True, 'Compute oracle and bayes, for the table.')
LICENCE = flags.DEFINE_string('licence', None, 'Of the data, where these do not say.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  plan, out = build.plan(commands.required(CONFIG)), commands.required(OUT)
  folder = freezing.export_episodes(
    plan,
    out,
    licence=LICENCE.value or licence_of(plan.populations[0]()),
    num_train_users=NUM_TRAIN_USERS.value,
    is_compressed=COMPRESS.value,
    has_references=REFERENCES.value,
    log=commands.say,
  )
  commands.say(f'{folder}\nepisodes sha256: {episodes.fingerprint(folder)}')


def licence_of(population: Population) -> str:
  """Returns the licence of a population's data.

  Raises:
    ValueError: where nothing says it.
  """
  if not population.licence:
    raise ValueError(
      f'{population.source}: nothing says the licence of these data, as source.json beside tables '
      'of people does; give --licence=TEXT'
    )
  return population.licence


if __name__ == '__main__':
  commands.run(main)
