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

from experiments import build, commands, guide, overrides
from metapers.bench import episodes, freezing

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
  plan, out = build.plan(commands.required(CONFIG)), commands.required(OUT)
  folder = freezing.export_episodes(
    plan,
    out,
    licence=LICENCE.value or plan.populations[0]().licence or NOT_STATED,
    num_train_users=NUM_TRAIN_USERS.value,
    is_compressed=COMPRESS.value,
    has_references=REFERENCES.value,
    log=commands.say,
  )
  commands.say(f'{folder}\nepisodes sha256: {episodes.fingerprint(folder)}')


if __name__ == '__main__':
  commands.run(main, lambda: guide.of_runs('lore'))
