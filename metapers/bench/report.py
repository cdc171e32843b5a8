"""From results to what people read: tables, figures, findings, the page."""

import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from metapers.analysis.costs import Costs
from metapers.bench import results, tables
from metapers.bench.plan import Plan
from metapers.bench.settings import Setting
from metapers.core.population import SEEN
from metapers.io import plots, versions, workdirs
from metapers.io import report as pages
from metapers.io.plots import Figure
from metapers.io.report import Drawing, Section, Table

EXPLAINED = {
  'accuracy': 'share of choices predicted right; a guess between equals counts in part',
  'accuracy_noiseless': 'the same against what the user truly prefers, without the noise of labels',
  'nll': 'mean negative log-likelihood of the choices; lower is better, a coin flip has .693',
  'ece': 'expected calibration error, freed of chance: mean gap of confidence and accuracy, by bin',
  'selective_accuracy_80': 'accuracy on the most confident 80 % of the predictions',
  'top1': "share of slates on which the pick is the user's best response",
  'pick_reward': "the user's reward of the picked response",
  'regret': 'reward lost by the pick, as a share of what the best gains over the mean response',
  'win_rate': "share of picks that the user prefers to the rival model's response",
  'win_rate_oracle': "share that the user's best responses would win: the most that picks can",
  'accuracy_worst_decile': (
    'accuracy of the tenth of the users who do worst on other queries; few queries rank users so '
    'noisily that it may exceed the mean'
  ),
  'turn_accuracy': 'accuracy on the turns since the number of turns in the column before',
  'cumulative_regret': 'reward lost by all picks so far',
}
# Of metrics that have no table of their own.
BESIDE = {
  'ece_by_chance': 'what calibrated predictions would get on so few queries, and `ece` is freed of',
  'brier_calibration': "calibration's part of the Brier score of the likeliest; 0 is calibrated",
  'confidence': 'mean probability that is given to the predicted choice',
  'selective_accuracy_50': 'accuracy on the most confident 50 % of the predictions',
}
LOWER_IS_BETTER = ('nll', 'ece', 'brier_calibration', 'regret', 'cumulative_regret')
# What of a population's record stands above its tables; all of it is in the summary below.
RECORDED = (
  'normalization', 'temperature', 'flip_rate', 'label_accuracy', 'evaluated_on', 'features',
  'num_people', 'num_dropped', 'num_comparisons', 'remarks',
)  # fmt: skip
FEW_PROMPTS = 10  # or items: below, intervals hold the truth in 87 to 96 % (docs/statistics.md)
BANDS = (
  'Bands: the 95 % interval of each curve alone. Whether two learners differ is said by the tables '
  'of paired differences, whose intervals may be narrower than the bands or wider.'
)


def headline(setting: Setting) -> str:
  """Returns the metric that a setting is read by first."""
  return 'turn_accuracy' if setting.stream else 'accuracy'


def of_setting(frame: pd.DataFrame, setting: Setting) -> pd.DataFrame:
  """Returns the rows of one setting."""
  return results.select(frame, **setting.labels)


def figure(own: pd.DataFrame, setting: Setting, metric: str, *, is_narrow: bool = False) -> Figure:
  """Returns the curves of one setting over shots, or over turns."""
  unit, label = tables.unit_of(metric), metric.replace('_', ' ')
  in_percent = unit in ('%', 'points')
  given = f'comparisons given of a {"known" if setting.split == SEEN else "new"} user'
  return plots.adaptation(
    tables.curves(own, metric=metric),
    title=setting.title,
    value_label=label if in_percent else f'{label} ({unit})',
    count_label='turns' if setting.stream else given,
    in_percent=in_percent,
    is_narrow=is_narrow,
  )


def drawing(draw: Callable[..., Figure]) -> Drawing:
  """Returns what `draw(is_narrow=)` draws, for wide screens and for narrow ones."""
  wide, narrow = (plots.inline_svg(draw(is_narrow=is_narrow)) for is_narrow in (False, True))
  return Drawing(wide, narrow, BANDS)


def explanation(metric: str) -> str:
  """Returns a line that says what a metric is."""
  base, _, reference = metric.partition('_minus_')
  if not reference:
    return (EXPLAINED | BESIDE).get(base, '')
  side = 'below' if base in LOWER_IS_BETTER else 'above'
  return f'{base} minus that of {reference}, on the same users and choices: {side} 0 is better'


def note_of(metric: str) -> str:
  """Returns the note of a table: what its metric is, and of how many pairs its intervals hold."""
  reference = metric.partition('_minus_')[2]
  of_pairs = bool(reference) and tables.role_of(reference) == 'learner'
  at_once = '; intervals that hold for all pairs of learners at once' if of_pairs else ''
  return explanation(metric) + at_once


def in_order(own: pd.DataFrame, metric: str) -> list[str]:
  """Returns metrics as their tables follow: what is gained, how good that is, how far from what."""
  others = [name for name in own['metric'].unique() if name.startswith(f'{metric}_minus_')]
  gain = f'{metric}_minus_{results.COMPARED_WITH[0]}'
  return list(dict.fromkeys([gain, metric, *others, *EXPLAINED]))


def spoken_for(own: pd.DataFrame, setting: Setting) -> str:
  """Returns for whom, and for which models, the intervals of a setting's rows are."""
  whom = f'{"other known" if setting.split == SEEN else "new"} users and new prompts'
  if setting.resampled.kind:
    whom = f'new people and new {setting.resampled.kind}'
  elif setting.truth is None:
    whom = 'new people who compare the same items, not for new items'
  said = f'95 % intervals are for {whom}, and for {models_of(own)}.'
  size = setting.evaluated.num_prompts
  if 1 < size < FEW_PROMPTS:
    few = setting.resampled.kind.partition(' of ')[0] or 'prompts'
    said += f' They are rough: there are only {size} {few}.'
  return said


def models_of(own: pd.DataFrame) -> str:
  """Returns for which models intervals are: those of one seed are for that trained model alone."""
  trained = own[own['learner'].map(tables.role_of) != 'reference']
  single = trained[(trained['seed'] != results.ALL_SEEDS) & (trained['learner'] != '')]
  counts = single.groupby('learner', sort=False)['seed'].nunique()
  several, alone = counts[counts > 1], list(counts[counts == 1].index)
  if several.empty:
    return 'these trained models (one seed)'
  sizes = ' to '.join(str(size) for size in sorted({several.min(), several.max()}))
  anew = f'models trained anew ({sizes} seeds)'
  return f'{anew}; of {", ".join(alone)} for one trained model (one seed)' if alone else anew


def section(own: pd.DataFrame, setting: Setting) -> Section:
  """Returns one setting's part of the page: its curves and its tables, with intervals."""
  record = setting.populations[0].record
  shown, lines = condensed(own, tables.measured_among(in_order(own, headline(setting)), own))
  return Section(
    setting.title,
    text=[
      ' · '.join(f'{name} {value}' for name, value in record.items() if name in RECORDED),
      *filter(None, [setting.note]),
      spoken_for(own, setting),
      *lines,
    ],
    figures=[drawing(functools.partial(figure, own, setting, headline(setting)))],
    tables=shown,
  )


def condensed(own: pd.DataFrame, metrics: Sequence[str]) -> tuple[list[Table], list[str]]:
  """Returns tables of metrics, and a line for each in which all cells would be the same.

  `accuracy_noiseless` is left out where it is `accuracy`, of users without noise.
  """
  made = {metric: tables.table(own, metric=metric, note=note_of(metric)) for metric in metrics}
  noisy, noiseless = (made.get(metric) for metric in ('accuracy', 'accuracy_noiseless'))
  if noisy and noiseless and noisy.body == noiseless.body:
    del made['accuracy_noiseless']
  shown, lines = [], []
  for metric, table in made.items():
    cells = {cell for row in table.body for cell in row[1:]}
    if len(cells) > 1 or len(table.body) == 1:
      shown.append(table)
    else:
      unit, note = tables.unit_of(metric), explanation(metric)
      lines.append(f'{metric} is {cells.pop()} {unit} in every row, after any number: {note}.')
  return shown, lines


def costs_table(measured: Mapping[str, Costs]) -> Table:
  """Returns the table of what learners cost; times differ from run to run, so it has no rows."""
  body = [
    [
      *(name, f'{one.num_parameters:,}', f'{one.state_bytes:,}', f'{one.microseconds:.3g}'),
      '' if one.active_units is None else f'{one.active_units:.2f}',
    ]
    for name, one in measured.items()
  ]
  one = next(iter(measured.values()))
  caption = (
    f'costs; time to adapt to {one.num_comparisons} comparisons, of {one.batch_size} users at once '
    f'on {one.device}, compiled'
  )
  note = (
    'bytes of a user: what is kept of each one; times are of the machine that measured them; '
    'active units: the share of dimensions of what is kept whose posterior means differ between '
    'users, 0 where it collapsed'
  )
  header = ['learner', 'parameters', 'bytes of a user', 'µs to adapt a user', 'active units']
  return Table(caption, header, body, note)


def data_in_words(source: str, record: Mapping[str, Any]) -> str:
  """Returns where the data are from, and what of them was left out or counts again."""
  return '; '.join(filter(None, [source, record.get('remarks')]))


def summary(frame: pd.DataFrame, setting: Setting) -> str:
  """Returns the headline table of one setting as text, under what it is of."""
  own = of_setting(frame, setting)
  shown = tables.table(own, metric=headline(setting))
  population = setting.populations[0]
  data = f'data: {data_in_words(population.source, population.record)}'
  notes = [*filter(None, [setting.note]), spoken_for(own, setting)]
  return '\n'.join([setting.title, data, *notes, tables.as_text(shown)])


def write_page(
  path: str | os.PathLike,
  sections: Sequence[Section],
  setting: Setting,
  plan: Plan,
  *,
  name: str = '',
  lead: Sequence[str] = (),
  warnings: Sequence[str] = (),
) -> pathlib.Path:
  """Writes a page with findings on top, results, and how they were made; returns its path.

  Args:
    path: of the page.
    sections: in their order.
    setting: the first one, whose population is described.
    plan: of the table.
    name: of what was run, for the title; by default that of the protocol.
    lead: findings in words.
    warnings: what is to be known before them.
  """
  population = setting.populations[0]
  name = name or plan.protocol
  title = 'metapers' if name == 'metapers' else f'metapers: {name}'
  summary = workdirs.flat(
    {
      'config': plan.identity,
      'population': dict(population.record),
      'made with': versions.versions(),
    }
  )
  page = pages.render(
    title, sections, source=population.source, summary=summary, lead=lead, warnings=warnings
  )
  return pages.save(path, page)
