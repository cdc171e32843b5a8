"""From predictions to numbers that people read: rows, table, picture, page."""

import pathlib
from collections.abc import Iterable, Mapping, Sequence

from experiments import commands, references, runs, settings
from experiments.build import Config
from experiments.settings import Setting
from metapers.bench import results, tables
from metapers.bench.results import Row
from metapers.evaluation import estimates, streams
from metapers.evaluation.estimates import Estimates
from metapers.evaluation.predictions import Predictions
from metapers.io import plots, report

Judged = Mapping[str, Mapping[str, Estimates]]  # learner -> seed -> its estimates
COMPARED_WITH = ('pooled', 'bayes', 'bayes_scores')
SHOWN = (
  'accuracy', 'accuracy_noiseless', 'nll', 'ece', 'selective_accuracy_80', 'top1', 'pick_reward',
  'regret', 'win_rate', 'win_rate_oracle', 'accuracy_worst_decile', 'turn_accuracy',
  'cumulative_regret',
)  # fmt: skip
# What of a population's record stands above its tables; all of it is in the summary below.
TOLD = (
  'normalization', 'temperature', 'flip_rate', 'label_accuracy', 'judged_on', 'features',
  'num_people', 'num_dropped', 'num_comparisons',
)  # fmt: skip
SHOWN_DIFFERENCES = tuple(
  f'{metric}_minus_{name}' for metric in ('accuracy', 'turn_accuracy') for name in COMPARED_WITH
)


def judge_all(
  setting: Setting, predictions: Mapping[str, Mapping[str, Predictions]]
) -> dict[str, dict[str, Estimates]]:
  """Judges every learner and reference of a setting.

  Args:
    setting: the users, and how they are judged.
    predictions: learner -> seed -> its predictions; the seed of a reference is ''.

  Returns:
    learner -> seed -> its estimates.

  Raises:
    ValueError: naming whose predictions cannot be judged, and on whom.
  """
  return {
    name: {seed: judge(setting, f'{name} {seed}'.strip(), made) for seed, made in by_seed.items()}
    for name, by_seed in predictions.items()
  }


def over_seeds(judged: Judged) -> dict[str, Estimates]:
  """Averages every learner's seeds."""
  return {name: estimates.average(list(by_seed.values())) for name, by_seed in judged.items()}


def rows_of(setting: Setting, judged: Judged) -> list[Row]:
  """Lists what learners and references were judged to be, and what they have more than others.

  Args:
    setting: the users.
    judged: learner -> seed -> its estimates.
  """
  overall = over_seeds(judged)
  made: list[Row] = []
  for name, by_seed in judged.items():
    if len(by_seed) > 1:
      for seed, found in by_seed.items():
        made += rows(setting, name, seed, found)
    seed = results.ALL_SEEDS if len(by_seed) > 1 else next(iter(by_seed))
    made += rows(setting, name, seed, overall[name])
    for other in COMPARED_WITH:
      if other in overall and other != name:
        made += rows(
          setting, name, seed, estimates.differences(overall[name], overall[other], other)
        )
  return made


def judge(setting: Setting, who: str, made: Predictions) -> Estimates:
  """Judges predictions of a setting; those of a stream turn by turn.

  Raises:
    ValueError: for predictions that cannot be judged, naming whose they are.
  """
  try:
    if setting.stream:
      return streams.estimate(setting.evaluated, made, setting.shots)
    return estimates.estimate(setting.evaluated, made)
  except ValueError as error:
    raise ValueError(f'{who} on {setting.title}: {error}') from error


def headline(setting: Setting) -> str:
  """Returns the metric that a setting is first of all judged by."""
  return 'turn_accuracy' if setting.stream else 'accuracy'


def rows(setting: Setting, learner: str, seed: str, found: Estimates) -> list[Row]:
  """Labels one learner's estimates."""
  labels = {**setting.labels, 'learner': learner, 'seed': seed}
  if learner in tables.REFERENCES:
    labels['train_shots'] = ''
  return results.rows(found, setting.shots, labels, num_users=setting.evaluated.num_users)


def of_setting(made: Iterable[Row], setting: Setting) -> list[Row]:
  """Selects the rows of one setting."""
  fixed = {name: value for name, value in setting.labels.items() if name != 'train_shots'}
  return results.select(made, **fixed)


def picture(made: Sequence[Row], setting: Setting, path: pathlib.Path) -> pathlib.Path:
  """Draws the adaptation curves of a setting."""
  return plots.save(figure(of_setting(made, setting), setting), path)


def figure(own: Sequence[Row], setting: Setting) -> plots.figure.Figure:
  """Draws the headline metric of one setting over shots, or over turns."""
  metric = headline(setting)
  return plots.adaptation(
    tables.curves(own, metric=metric), title=setting.title, value_label=metric.replace('_', ' ')
  )


def section(made: Sequence[Row], setting: Setting) -> report.Section:
  """Writes one setting: its curves and its tables, with intervals."""
  own = of_setting(made, setting)
  measured = {row.metric for row in own}
  shown = [metric for metric in (*SHOWN, *SHOWN_DIFFERENCES) if metric in measured]
  record = setting.populations[0].record
  return report.Section(
    setting.title,
    text=[' · '.join(f'{name} {value}' for name, value in record.items() if name in TOLD)],
    figures=[plots.inline_svg(figure(own, setting))],
    tables=[tables.table(own, metric=metric) for metric in shown],
  )


def page(
  sections: Sequence[report.Section],
  settings: Sequence[Setting],
  config: Config,
  path: pathlib.Path,
) -> pathlib.Path:
  """Writes report.html: sections under where the data come from, above how they were made."""
  source = str(settings[0].populations[0].record['source'])
  summary = flat({'config': config.to_dict(), 'population': settings[0].populations[0].record})
  title = f'metapers: {config.protocol}' if config.protocol != 'metapers' else 'metapers'
  return report.save(path, report.render(title, sections, source=source, summary=summary))


def flat(tree: Mapping, prefix: str = '') -> dict[str, object]:
  """Joins nested names with dots."""
  found: dict[str, object] = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      found |= flat(value, f'{prefix}{name}.')
    else:
      found[f'{prefix}{name}'] = value
  return found


def run(
  config: Config,
  trained: runs.Run,
  setting: Setting,
  workdir: pathlib.Path,
) -> list[results.Row]:
  """Evaluates a run beside the references, prints the table and adds to results.csv."""
  predictions = {
    name: {'': make(setting)} for name, make in references.table(config, setting).items()
  }
  predicted = settings.predict(config, setting, [trained])
  predictions[config.learner.name] = {str(config.seed): predicted}
  made = rows_of(setting, judge_all(setting, predictions))
  path = results.append(workdir / 'results.csv', made)
  commands.say(f'{setting.title}\ndata: {setting.populations[0].record["source"]}')
  commands.say(tables.as_text(tables.table(made, metric=headline(setting))))
  commands.say(f'\n{path}')
  return made
