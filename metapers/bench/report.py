"""From results to what people read: tables, figures, findings, the page."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import pandas as pd

from metapers.analysis.costs import Costs
from metapers.bench import results, tables
from metapers.bench.plan import Plan
from metapers.bench.settings import Setting
from metapers.io import plots, workdirs
from metapers.io import report as pages
from metapers.io.plots import Figure
from metapers.io.report import Section, Table

REFERRED = {'pooled': 'pooled, which does not personalise', 'bayes': 'the exact answer'}
EXPLAINED = {
  'accuracy': 'share of choices predicted right; a guess between equals counts in part',
  'accuracy_noiseless': 'the same against what the user truly prefers, without the noise of labels',
  'nll': 'mean negative log-likelihood of the choices; lower is better, a coin flip has .693',
  'ece': 'expected calibration error: mean gap between stated confidence and accuracy',
  'selective_accuracy_80': 'accuracy on the most confident 80 % of the predictions',
  'top1': "share of slates on which the pick is the user's best response",
  'pick_reward': "the user's reward of the picked response",
  'regret': 'reward lost by the pick, as a share of what the best gains over the mean response',
  'win_rate': "share of picks that the user prefers to the rival model's response",
  'win_rate_oracle': "the same of the user's best response: the most that a pick can win",
  'accuracy_worst_decile': 'mean accuracy of the tenth of the users with the lowest one',
  'turn_accuracy': 'accuracy on the turns since the number of turns in the column before',
  'cumulative_regret': 'reward lost by all picks so far',
}
# What of a population's record stands above its tables; all of it is in the summary below.
RECORDED = (
  'normalization', 'temperature', 'flip_rate', 'label_accuracy', 'evaluated_on', 'features',
  'num_people', 'num_dropped', 'num_comparisons',
)  # fmt: skip
DIFFERENCES = tuple(
  f'{metric}_minus_{name}'
  for metric in ('accuracy', 'turn_accuracy')
  for name in results.COMPARED_WITH
)


def headline(setting: Setting) -> str:
  """Returns the metric that a setting is read by first."""
  return 'turn_accuracy' if setting.stream else 'accuracy'


def of_setting(frame: pd.DataFrame, setting: Setting) -> pd.DataFrame:
  """Returns the rows of one setting."""
  return results.select(frame, **setting.labels)


def figure(own: pd.DataFrame, setting: Setting, metric: str) -> Figure:
  """Returns the curves of one setting over shots, or over turns."""
  return plots.adaptation(
    tables.curves(own, metric=metric), title=setting.title, value_label=metric.replace('_', ' ')
  )


def explanation(metric: str) -> str:
  """Returns a line that says what a metric is."""
  base, _, reference = metric.partition('_minus_')
  known = EXPLAINED.get(base, '')
  return f'difference to {reference}, paired: {known}' if reference else known


def section(own: pd.DataFrame, setting: Setting) -> Section:
  """Returns one setting's part of the page: its curves and its tables, with intervals."""
  record = setting.populations[0].record
  shown = tables.measured_among((*EXPLAINED, *DIFFERENCES), own)
  return Section(
    setting.title,
    text=[
      ' · '.join(f'{name} {value}' for name, value in record.items() if name in RECORDED),
      *filter(None, [setting.note]),
    ],
    figures=[plots.inline_svg(figure(own, setting, headline(setting)))],
    tables=[tables.table(own, metric=metric, note=explanation(metric)) for metric in shown],
  )


def costs_table(measured: Mapping[str, Costs]) -> Table:
  """Returns the table of what learners cost; times differ from run to run, so it has no rows."""
  body = [
    [name, f'{one.num_parameters:,}', f'{one.state_bytes:,}', f'{one.microseconds:.3g}']
    for name, one in measured.items()
  ]
  one = next(iter(measured.values()))
  caption = (
    f'costs; time to adapt to {one.num_comparisons} comparisons, of {one.batch_size} users at once '
    f'on {one.device}, compiled'
  )
  return Table(caption, ['learner', 'parameters', 'bytes of a user', 'µs to adapt a user'], body)


def findings(frame: pd.DataFrame, setting: Setting) -> list[str]:
  """Returns in words which learner is best after the most comparisons, and by how much."""
  metric, last = headline(setting), str(max(setting.shots))
  own = tables.over_seeds(results.select(of_setting(frame, setting), shots=last))
  accuracy = results.select(own, metric=metric)
  learners = accuracy[~accuracy['learner'].isin((*tables.REFERENCES, *tables.BASELINES))]
  if not len(learners):
    return []
  best = learners.sort_values('value').iloc[-1]
  unit = 'turns' if setting.stream else 'comparisons'
  said = [f'After {last} {unit} the best learner is {best.learner}: {metric} {tables.cell(best)} %']
  for other, meaning in REFERRED.items():
    for row in results.select(own, metric=f'{metric}_minus_{other}', learner=best.learner).iloc:
      gap = tables.cell(row).lstrip('+-')
      far = 'more than' if row.value > 0 else 'less than'
      is_clear = row.ci_low > 0 or row.ci_high < 0
      said.append(
        f'{gap} points {far} {meaning}' if is_clear else f'no clear difference to {meaning}'
      )
  return [', '.join(said) + f' ({setting.title}).']


def summary(frame: pd.DataFrame, setting: Setting) -> str:
  """Returns the headline table of one setting as text, under what it is of."""
  shown = tables.table(of_setting(frame, setting), metric=headline(setting))
  data = f'data: {setting.populations[0].source}'
  return '\n'.join([setting.title, data, *filter(None, [setting.note]), tables.as_text(shown)])


def write_page(
  path: str | os.PathLike,
  sections: Sequence[Section],
  setting: Setting,
  plan: Plan,
  *,
  lead: Sequence[str] = (),
) -> pathlib.Path:
  """Writes a page with findings on top, results, and how they were made; returns its path.

  Args:
    path: of the page.
    sections: in their order.
    setting: the first one, whose population is described.
    plan: of the table.
    lead: findings in words.
  """
  population = setting.populations[0]
  title = 'metapers' if plan.protocol == 'metapers' else f'metapers: {plan.protocol}'
  summary = workdirs.flat({'config': plan.identity, 'population': dict(population.record)})
  page = pages.render(title, sections, source=population.source, summary=summary, lead=lead)
  return pages.save(path, page)
