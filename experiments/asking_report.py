"""What came of asking: rows, curves, tables, and how many questions a rule saves."""

import pathlib
from collections.abc import Mapping, Sequence

from experiments import commands, publish
from experiments.build import Config
from experiments.settings import Setting
from metapers.bench import results, tables
from metapers.bench.results import Row
from metapers.evaluation import asking, estimates
from metapers.evaluation.estimates import Estimates
from metapers.io import plots, report

Found = dict[str, Estimates]  # rule -> what it came to
LEAD = 'questions_ahead_of_random'
SHOWN = ('accuracy', 'regret', 'nll', 'accuracy_minus_random', 'regret_minus_random')
AXIS = 'questions asked of a new user'


def write(
  config: Config,
  workdir: pathlib.Path,
  users: Setting,
  judged: Mapping[str, Found],
  chosen: Mapping[str, str],
) -> None:
  """Writes the results and prints what was found.

  Args:
    config: of the command.
    workdir: where to.
    users: who were asked.
    judged: learner -> rule -> estimates.
    chosen: learner -> its best rule, named on other users.
  """
  made = [row for name, found in judged.items() for row in rows_of(users, name, found, config)]
  stated = [statement(made, name, rule, config) for name, rule in chosen.items()]
  sections = [
    report.Section('What a good question saves', text=stated, tables=[leads(made, config)]),
    *(section(made, name, chosen, users, config) for name in judged),
  ]
  first = config.benchmark.learners[0]
  commands.say('\n'.join(['', title(users, config), *stated, '']))
  paths = [
    results.write(workdir / 'results.csv', made),
    plots.save(figure(made, first, chosen, users, config), workdir / 'asking.png'),
    publish.page(sections, [users], config, workdir / 'report.html'),
  ]
  commands.say('\n'.join(map(str, paths)))


def rows_of(users: Setting, name: str, found: Found, config: Config) -> list[Row]:
  """Labels what one learner came to by every rule, and how far each is ahead of random."""
  after, random = config.asking.compared_after, found['random']
  made: list[Row] = []
  for rule, own in found.items():
    label = f'{name} {rule}'
    made += publish.rows(users, label, str(config.seed), own)
    if rule != 'random':
      paired = estimates.differences(own, random, 'random')
      made += publish.rows(users, label, str(config.seed), paired)
      ahead = asking.questions_ahead(own['accuracy'], random['accuracy'], after)[:, None]
      labels = {**users.labels, 'learner': label, 'seed': str(config.seed)}
      made += results.rows({LEAD: ahead}, (after,), labels, num_users=users.evaluated.num_users)
  return made


def statement(made: Sequence[Row], name: str, rule: str, config: Config) -> str:
  """Says by how many questions a learner's best rule beats random questions."""
  (row,) = results.select(made, learner=f'{name} {rule}', metric=LEAD)
  after, most = config.asking.compared_after, config.asking.num_questions
  is_open = row.value >= most - after
  return (
    f'{name}: {rule}, the best rule on validation users, reaches after {after} questions what '
    f'random questions reach after {"at least " if is_open else ""}{after + row.value:.1f}. '
    f'That saves {lead_text(row, most - after)} questions (95 % interval), '
    + ('which is significant.' if row.ci_low > 0 else 'which is not significant.')
  )


def lead_text(row: Row, most: int) -> str:
  """Writes a lead with its interval; what random questions did not reach is at least as much."""
  numbers = (f'{"≥ " if x >= most else ""}{x:.1f}' for x in (row.value, row.ci_low, row.ci_high))
  return '{} ({} to {})'.format(*numbers)


def leads(made: Sequence[Row], config: Config) -> report.Table:
  """Makes the table of all leads: learners down, rules across."""
  after, most = config.asking.compared_after, config.asking.num_questions
  found: dict[str, dict[str, str]] = {}
  for row in results.select(made, metric=LEAD):
    name, rule = row.learner.split()
    found.setdefault(name, {})[rule] = lead_text(row, most - after)
  rules = list(next(iter(found.values())))
  return report.Table(
    f'questions that random ones need more, for what each rule reaches after {after}; '
    f'{most} were asked',
    ['learner', *rules],
    [[name, *(by_rule[rule] for rule in rules)] for name, by_rule in found.items()],
  )


def title(users: Setting, config: Config) -> str:
  """Describes who was asked."""
  return f'{users.title}, pools of {config.asking.pool_size}'


def figure(
  made: Sequence[Row],
  name: str,
  chosen: Mapping[str, str],
  users: Setting,
  config: Config,
  metric: str = 'accuracy',
) -> plots.figure.Figure:
  """Draws one learner by every rule, beside `bayes` asked by its best rule and at random."""
  beside = {f'bayes {rule}' for rule in (chosen['bayes'], 'random')} if name != 'bayes' else set()
  curves = []
  for curve in tables.curves(shown(made, config), metric=metric):
    if curve.name in beside:
      curves.append(curve._replace(role='reference'))
    elif curve.name.startswith(f'{name} '):
      rule = curve.name.removeprefix(f'{name} ')
      curves.append(curve._replace(name=rule, role='baseline' if rule == 'random' else 'learner'))
  told = f'{name}: {title(users, config)}'
  return plots.adaptation(curves, title=told, value_label=metric, count_label=AXIS)


def shown(made: Sequence[Row], config: Config) -> list[Row]:
  """Keeps the rows of the numbers of questions that tables and figures show."""
  counts = {str(count) for count in config.evaluation.shots}
  return [row for row in made if row.shots in counts]


def section(
  made: Sequence[Row], name: str, chosen: Mapping[str, str], users: Setting, config: Config
) -> report.Section:
  """Writes what one learner came to: curves of accuracy and regret, and tables."""
  figures = [
    plots.inline_svg(figure(made, name, chosen, users, config, metric))
    for metric in ('accuracy', 'regret')
  ]
  own = [row for row in shown(made, config) if row.learner.startswith(f'{name} ')]
  return report.Section(
    f'{name} asks {title(users, config)}',
    figures=figures,
    tables=[tables.table(own, metric=metric) for metric in SHOWN],
  )
