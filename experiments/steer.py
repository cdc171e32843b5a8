"""Steers a frozen language model by the weights of preference prompts that explain users' choices.

    python -m experiments.steer --config=experiments/configs/steer_styles.py:quick --workdir=DIR

The model is trained once and kept in DIR/base. Writes DIR/results.csv: what steered answers are
worth and how far they are from the base, best of n beside the oracle, and how many questions find
the best of a few answers.
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags

from experiments import commands, overrides, styled_studies
from experiments.build import Config
from metapers import learners
from metapers.bench import results
from metapers.bench.language import steering, steering_results, styled_writer
from metapers.bench.language.steering import Study
from metapers.bench.language.steering_results import Options, Trained
from metapers.bench.language.styled_writer import Writer
from metapers.llm import steer, styled_users, styles, tastes
from metapers.training import meta_training
from metapers.training.meta_training import Training

CONFIG = overrides.DEFINE_config('config', 'The model, the users and the learners.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where the model and the results go.')
SHOWN = ('utility', 'kl', 'base_nats', 'length', 'accuracy@policy')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  config = commands.required(CONFIG)
  workdir = pathlib.Path(commands.required(WORKDIR))
  options = Options(**config.measured.to_dict())
  for kind in config.features:
    steer.check_kind(kind)
  with commands.holding(workdir):
    written = writer_of(config, workdir)
    users = tastes.tastes(**config.users, seed=config.data_seed)
    parts = []
    for number, kind in enumerate(config.features):
      study = steering.study(
        written, users, kind=kind, num_queried=config.num_queried,
        num_query=config.users.num_pairs - config.users.num_support, seed=config.data_seed,
      )  # fmt: skip
      if not number:  # of no features
        parts.append(steering_results.plain_rows(study, options))
      parts += [rows_of(config, study, kind, name, options) for name in config.learners]
    frame = results.join(parts)
    results.write_results(workdir / 'results.csv', frame)
  say(frame, options)
  commands.say(f'\n{workdir / "results.csv"}')


def writer_of(config: Config, workdir: pathlib.Path) -> Writer:
  """Returns the frozen model with the prompts that move it, and says which these are."""
  model, base = styled_studies.language_model(config, workdir / 'base')
  numbers = styled_users.prompts(config.data_seed).train
  made = styled_writer.writer(
    model, jax.tree.map(jnp.asarray, base), numbers,
    num_answers=config.audit.num_answers, seed=config.data_seed,
  )  # fmt: skip
  told = ', '.join(f'{styles.POLES[b]} {move:.2f}' for b, move in enumerate(made.moves))
  commands.say(f'prompts move answers by, in sd: {told}')
  kept = ', '.join(styles.POLES[b] for b in made.kept)
  commands.say(f'{len(made.kept)} of them by at least {steer.LEAST_MOVE}: {kept}')
  return made


def rows_of(config: Config, study: Study, kind: str, name: str, options: Options):
  """Returns the rows of a learner, of each seed."""
  own = config.learners[name]
  parts = []
  for seed in config.seeds:
    learner = learners.make(name, num_features=len(study.writer.kept), **own.kwargs)
    given: dict[str, Any] = {**config.training, **own.training}
    training = Training(**given, evaluate_every=0, steps_per_call=50)
    result = meta_training.meta_train(
      learner, study.population, training, seed=seed, name=name, progress=False
    )
    trained = Trained(learner, jax.tree.map(jnp.asarray, result.params))
    label = name if kind == config.features[0] else f'{name} {kind}'
    labels = {
      'seed': seed,
      'train_shots': config.users.num_pairs,
      'train_steps': training.num_steps,
    }
    frame, chosen = steering_results.learner_rows(study, label, trained, options, labels)
    commands.say(f'{label}: validation users chose 1/β = {chosen.strength:g}, c = {chosen.caution}')
    parts.append(frame)
  return results.join(parts)


def say(frame, options: Options) -> None:
  """Says what came of it."""
  num_users = int(frame['num_users'].iloc[0])
  commands.say(f'\n{num_users} new users, {options.shots} comparisons each:')
  for metrics in (
    SHOWN,
    [f'utility@best_of_{size}' for size in options.sizes],
    [f'{name}@best_arm' for name in steering.Ended._fields],
  ):
    rows = frame[frame['metric'].isin(metrics)]
    if len(rows):
      commands.say('\n' + '\n'.join(steering_results.in_words(rows, metrics)))


if __name__ == '__main__':
  commands.run(main)
