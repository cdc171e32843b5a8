"""What active querying came to in words, tables and figures: how many questions a rule saves."""

import functools
import os
import pathlib
from typing import Any

import pandas as pd

from metapers.bench import report, results, tables
from metapers.bench.asking import EXACT, LEAD, RANDOM, QueryingResult, row_name, rule_of
from metapers.evaluation.acquisition import RULES
from metapers.io import plots
from metapers.io.plots import Figure
from metapers.io.report import Section, Table

SHOWN = ('accuracy_minus_random', 'regret_minus_random', 'accuracy', 'regret', 'nll')
DRAWN = ('accuracy', 'regret')
AXIS = 'questions asked of a new user'


def write_result(result: QueryingResult, workdir: str | os.PathLike) -> list[pathlib.Path]:
  """Writes results.csv, asking.png and report.html into a folder, and returns their paths."""
  folder, first = pathlib.Path(workdir), next(iter(result.plan.entries))
  sections = [
    Section('What a good question saves', text=[spoken_for(result)], tables=[leads(result)]),
    *(section(result, name) for name in result.best_rules),
  ]
  return [
    results.write_results(folder / 'results.csv', result.frame),
    plots.save(figure(result, first), folder / 'asking.png'),
    report.write_page(
      folder / 'report.html',
      sections,
      result.users,
      result.plan,
      lead=[verdict(result), *statements(result)],
    ),
  ]


def summary(result: QueryingResult) -> str:
  """Returns in words who was asked, and what the best rule of each learner saves."""
  return '\n'.join([title(result), spoken_for(result), *statements(result)])


def spoken_for(result: QueryingResult) -> str:
  """Returns for whom, and for which models, the intervals are."""
  return report.spoken_for(result.frame, result.users)


def title(result: QueryingResult) -> str:
  """Returns a line that describes who was asked."""
  return f'{result.users.title}, pools of {result.users.tasks.support.mask.shape[1]}'


def statements(result: QueryingResult) -> list[str]:
  """Returns a sentence for each learner on its best rule."""
  return [statement(result, name, rule) for name, rule in result.best_rules.items()]


def verdict(result: QueryingResult) -> str:
  """Returns with how many learners, and with which most, the best rule saves questions."""
  rows: dict[str, Any] = {
    name: next(results.select(result.frame, learner=row_name(name, rule), metric=LEAD).itertuples())
    for name, rule in result.best_rules.items()
  }
  most = max(rows, key=lambda name: rows[name].value)
  clear = sum(row.ci_low > 0 for row in rows.values())
  return (
    f'Choosing questions saves some, beyond the interval, with {clear} of {len(rows)} learners (a '
    f'count that is not adjusted for so many); most with {most} by {result.best_rules[most]}: '
    f'{lead_text(rows[most], most_lead(result))}.'
  )


def statement(result: QueryingResult, name: str, rule: str) -> str:
  """Returns by how many questions a learner's best rule beats random questions, in words."""
  own = results.select(result.frame, learner=row_name(name, rule), metric=LEAD)
  row: Any = next(own.itertuples())
  after, most = result.questioning.compared_after, most_lead(result)
  saved = f'saves {lead_text(row, most)}'
  if row.ci_high < 0:
    saved = f'costs {-row.value:.1f} ({-row.ci_high:.1f} to {-row.ci_low:.1f})'
  return (
    f'{name}: {rule}, the best rule on validation users, reaches after {after} questions the '
    'accuracy that random questions reach after '
    f'{"at least " if row.value >= most else ""}{after + row.value:.1f}. '
    f'It {saved} questions (95 % interval), '
    f'which is {"" if row.ci_low > 0 or row.ci_high < 0 else "not "}significant.'
  )


def most_lead(result: QueryingResult) -> int:
  """Returns the longest lead that can be measured: random questions end there."""
  return result.questioning.num_questions - result.questioning.compared_after


def lead_text(row: Any, most: int) -> str:
  """Returns a lead with its interval; what random questions did not reach is at least as much."""
  numbers = (f'{"≥ " if x >= most else ""}{x:.1f}' for x in (row.value, row.ci_low, row.ci_high))
  return '{} ({} to {})'.format(*numbers)


def leads(result: QueryingResult) -> Table:
  """Returns the table of all leads: learners down, rules across."""
  made = results.select(result.frame, metric=LEAD)
  cells = {str(row.learner): lead_text(row, most_lead(result)) for row in made.itertuples()}
  rules = list(dict.fromkeys(map(rule_of, cells)))
  return Table(
    'questions that random ones need more, for the accuracy of each rule after '
    f'{result.questioning.compared_after}; {result.questioning.num_questions} were asked',
    ['learner', *rules],
    [[name, *(cells[row_name(name, rule)] for rule in rules)] for name in result.best_rules],
    note='how many questions a rule saves, with a 95 % interval; below 0 it costs some',
  )


def shown(result: QueryingResult) -> pd.DataFrame:
  """Returns the rows of the numbers of questions that tables and figures show."""
  counts = [str(count) for count in result.plan.evaluation.shots]
  return result.frame.loc[result.frame['shots'].isin(counts)]


def figure(
  result: QueryingResult, name: str, metric: str = 'accuracy', *, is_narrow: bool = False
) -> Figure:
  """Returns one learner's curves by every rule, beside `bayes` by its best rule and at random."""
  own = {row_name(name, rule): rule for rule in RULES}
  beside: set[str] = set()
  if name != EXACT and EXACT in result.best_rules:
    beside = {row_name(EXACT, rule) for rule in (result.best_rules[EXACT], RANDOM)}
  curves = []
  for curve in tables.curves(shown(result), metric=metric):
    if curve.name in beside:
      curves.append(curve._replace(role='reference'))
    elif rule := own.get(curve.name):
      curves.append(curve._replace(name=rule, role='baseline' if rule == RANDOM else 'learner'))
  heading = f'{name}: {title(result)}'
  return plots.adaptation(
    curves, title=heading, value_label=metric, count_label=AXIS, is_narrow=is_narrow
  )


def section(result: QueryingResult, name: str) -> Section:
  """Returns one learner's part of the page: its curves and its tables."""
  own = shown(result)
  own = own.loc[own['learner'].isin([row_name(name, rule) for rule in RULES])]
  return Section(
    f'{name} asks {title(result)}',
    text=[spoken_for(result)],
    figures=[
      report.drawing(functools.partial(figure, result, name, metric))
      for metric in tables.measured_among(DRAWN, own)
    ],
    tables=[
      tables.table(own, metric=metric, note=report.explanation(metric))
      for metric in tables.measured_among(SHOWN, own)
    ],
  )
