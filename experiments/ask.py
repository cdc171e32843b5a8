"""Active querying: which rule picks the questions that a learner gains most by, and how much.

    python -m experiments.ask --config=experiments/configs/asking.py --workdir=DIR

Every learner, and `bayes`, asks unseen users by every rule of `evaluation.acquisition`. Which rule
is best is read off validation users; what it saves is measured on test users. Finished parts are
skipped on a restart. Writes results.csv, asking.png and report.html into the workdir.
"""

from absl import flags
from ml_collections import config_flags

from experiments import build, commands
from experiments.build import Config
from metapers.bench import asking, asking_report
from metapers.bench.asking import Questioning

CONFIG = config_flags.DEFINE_config_file('config', None, 'What to ask whom.', lock_config=True)
WORKDIR = flags.DEFINE_string('workdir', None, 'Where runs, predictions and results go.')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  config, workdir = commands.required(CONFIG), commands.required(WORKDIR)
  if 'asking' not in config or 'benchmark' not in config:
    raise ValueError('this config asks nobody; give one such as experiments/configs/asking.py')
  result = asking.run(build.plan(config), questioning(config), workdir, log=commands.say)
  commands.say('\n' + asking_report.summary(result))
  commands.say('\n' + '\n'.join(map(str, asking_report.write_result(result, workdir))))


def questioning(config: Config) -> Questioning:
  """Returns `config.asking` as an object, with the users of its pools."""
  part = config.asking
  sizes = {'num_support': part.pool_size, 'num_query': part.num_queries}
  (population,) = build.condition(config, sizes).populations
  return Questioning(
    population=population,
    num_questions=part.num_questions,
    compared_after=part.compared_after,
    num_samples=part.num_samples.to_dict(),
    exact=part.exact,
  )


if __name__ == '__main__':
  commands.run(main)
