"""`compare`: learners × conditions × seeds, trained, evaluated and laid out.

result = bench.compare({'mine': learner, 'cnp': make('cnp', num_features=10)}, population)
result.table(), result.plot(), result.report('report.html')
"""

import functools
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from metapers.analysis.costs import Costs
from metapers.bench import (
  cells,
  fingerprints,
  known_leaks,
  poisoned_tables,
  readings,
  references,
  report,
  results,
  runs,
  tables,
  verdicts,
)
from metapers.bench import plan as plans
from metapers.bench.cells import BySeed
from metapers.bench.known_leaks import Known
from metapers.bench.plan import Condition, Entry, Evaluation, Log, Plan
from metapers.bench.runs import Run
from metapers.bench.settings import Setting, make_setting
from metapers.core.meta_learner import MetaLearner
from metapers.core.population import Population
from metapers.evaluation import leaks
from metapers.evaluation.predictions import Predictions
from metapers.io import plots, processes, progress, workdirs
from metapers.io.plots import Figure
from metapers.io.report import Section
from metapers.training.meta_training import Training


class Result(NamedTuple):
  """What a table came to.

  frame: one row for each number, with the columns of results.csv.
  settings: whom learners were evaluated on, one for each condition.
  sections: of the report, one or two for each condition.
  plan: of the table.
  warnings: what is to be known of its populations before its numbers are read.
  across: sections that compare conditions with each other.
  """

  frame: pd.DataFrame
  settings: tuple[Setting, ...]
  sections: tuple[Section, ...]
  plan: Plan
  warnings: tuple[str, ...] = ()
  across: tuple[Section, ...] = ()

  def table(self, metric: str = '', *, condition: int = 0) -> pd.DataFrame:
    """Returns learners × shots of one condition, each cell value ± half a 95 % interval.

    Args:
      metric: as in the column of `frame`; by default the accuracy.
      condition: its number.
    """
    setting = self.settings[condition]
    own = report.of_setting(self.frame, setting)
    shown = tables.table(own, metric=metric or report.headline(setting))
    return pd.DataFrame(shown.body, columns=list(shown.header)).set_index('learner')

  def plot(self, metric: str = '', *, condition: int = 0) -> Figure:
    """Returns the adaptation curves of one condition; arguments as of `table`."""
    setting = self.settings[condition]
    own = report.of_setting(self.frame, setting)
    return report.figure(own, setting, metric or report.headline(setting))

  def verdict(self) -> list[str]:
    """Returns in sentences which learner is ahead, what it gains over `pooled`, and for whom."""
    return verdicts.of_table(self.frame, self.settings)[0]

  def report(self, path: str | os.PathLike, *, name: str = '') -> pathlib.Path:
    """Writes a self-contained page with all tables and figures, and returns its path.

    Args:
      path: of the page.
      name: of what was run, for the title; by default that of the protocol.
    """
    lead, others = verdicts.of_table(self.frame, self.settings)
    return report.write_page(
      path,
      [*others, *self.across, *self.sections],
      self.settings[0],
      self.plan,
      name=name,
      lead=lead,
      warnings=self.warnings,
    )


def compare(
  learners: Mapping[str, MetaLearner | Entry],
  population: Population | Sequence[Condition],
  *,
  shots: Sequence[int] | None = None,
  seeds: Sequence[int] = (0,),
  training: Training = Training(),
  evaluation: Evaluation = Evaluation(),
  workdir: str | os.PathLike | None = None,
  log: Log = print,
) -> Result:
  """Returns a table of learners beside the oracle and the exact answer of a population.

  Args:
    learners: name -> a learner built for the population's sizes, or an `Entry` with its own
      training. One named `pooled` is what others are compared with.
    population: on whose train users all are trained, and test users evaluated; or conditions.
    shots: numbers of comparisons given of a test user; by default those of `evaluation`.
    seeds: of training.
    training: of learners that are no entries.
    evaluation: how many users, resamples and particles.
    workdir: keeps runs and predictions, so that an interrupted table goes on where it stood, and
      one that grew makes only what is new; it refuses another population.
    log: is given lines of progress.

  Raises:
    ValueError: for options that do not fit each other, leaks, or a workdir of another table.
  """
  conditions = plans.as_conditions(population)
  entries = plans.as_entries(learners, training)
  evaluation = evaluation._replace(shots=tuple(evaluation.shots if shots is None else shots))
  plan = Plan(
    entries=entries,
    conditions=conditions,
    populations=conditions[0].populations,
    seeds=tuple(map(int, seeds)),
    evaluation=evaluation,
  )
  return run(plan, workdir, log=log)


def run(plan: Plan, workdir: str | os.PathLike | None = None, *, log: Log = print) -> Result:
  """Trains what is missing of a table, evaluates everything and returns the result.

  Args:
    plan: of the table.
    workdir: keeps runs and predictions.
    log: is given lines of progress.

  Raises:
    ValueError: for options that do not fit each other, leaks, or a workdir of another table or that
      another process is writing.
    SystemExit: in all of several processes but the first, once everything is trained.
  """
  with workdirs.holding(workdir):
    return _run(plan, workdir, log)


def _run(plan: Plan, workdir: str | os.PathLike | None, log: Log) -> Result:
  made = prepare(plan)
  if workdir is not None:
    plan = fingerprints.identified(plan)
  identity = plans.table_identity(plan, 'table')
  if workdir is not None:
    workdirs.check_claim(workdir, identity, workdirs.of_table)
  known = leaks_of(plan, workdir, log)
  learned = cells.learned(plan, workdir, log)
  if workdir is not None:  # only now: what is refused leaves nothing behind
    workdirs.claim(workdir, identity, workdirs.of_table)
    keep_leaks(workdir, known)
  cells.train_together(learned)
  predicted = reference_cells(plan, made, workdir, log)
  flipped: list[BySeed] = [{} for _ in made]
  costs: dict[str, Costs] = {}
  for row in progress.along(plan.entries, 'learners', unit='learner'):
    for seed in plan.seeds:
      trained = learned[row, seed]
      cells_of_row = list(zip(trained, made, predicted, flipped, strict=True))
      for one, setting, own, other in progress.along(
        cells_of_row, 'evaluation', unit='condition', label=lambda cell: cell[1].name
      ):
        cell = cells.keep_predictions(workdir, setting, one.name, one.made_by, one.predict)
        own.setdefault(row, {})[str(seed)] = cell
        if plan.evaluation.flips:
          name = f'{one.name}-flipped'
          cell = cells.keep_predictions(workdir, setting, name, one.made_by, one.predict_flipped)
          other.setdefault(row, {})[str(seed)] = cell
      if row not in costs and made[0].stream is None:
        size = plan.evaluation.chunk_size
        costs[row] = cells.keep_costs(workdir, trained[0], made[0], chunk_size=size)
  if workdir is not None:
    cells.keep_index(workdir, made, learned)
  warnings = [f'{name}: {line}' for name, own in known.items() for line in own.lines]
  return lay_out(plan, made, predicted, flipped, costs)._replace(warnings=tuple(warnings))


def prepare(plan: Plan) -> list[Setting]:
  """Returns the users of each condition, once nothing is left that could be refused later.

  Raises:
    ValueError: for options that do not fit each other, or people who are trained on.
  """
  check(plan)
  made = [make_setting(plan, condition) for condition in plan.conditions]
  if plan.evaluation.flips and not all(map(is_flippable, made)):
    raise ValueError('evaluation.flips needs pairs, evaluated after fixed numbers of shots')
  for condition, setting in zip(plan.conditions, made, strict=True):
    makers_of(plan, condition, setting, log=print)  # which refuses, and computes nothing yet
  return made


def check(plan: Plan) -> None:
  """Refuses what cannot be a table before users are drawn: names, shots and training of each row.

  Raises:
    ValueError: naming what was given and what there may be.
  """
  plans.check_conditions(plan)
  taken = sorted(set(plan.entries) & set(tables.REFERENCES))
  if taken:
    raise ValueError(f'{", ".join(taken)}: references have these names; give the learners others')
  names = [*plan.entries, *(condition.name for condition in plan.conditions)]
  if nested := [name for name in names if '/' in name or '\\' in name]:
    raise ValueError(f'{", ".join(nested)}: files have these names; give them without slashes')
  shots = plan.evaluation.shots
  if len(set(shots)) < len(shots):
    raise ValueError(f'shots must differ from each other, got {shots}')
  if 0 in shots and any(condition.stream for condition in plan.conditions):
    raise ValueError(f'shots of a stream are its turns, from 1 on, got {shots}')
  for condition in (None, *plan.conditions):
    for row, entry in plans.entries_of(plan, condition).items():
      runs.check_training(entry, entry.populations[0](), row, plan.placement)


def is_flippable(setting: Setting) -> bool:
  """Tells whether the labels of a setting have opposites."""
  return setting.stream is None and setting.tasks.support.candidates.mask.shape[-1] == 2


def leaks_of(plan: Plan, workdir: str | os.PathLike | None, log: Log) -> dict[str, Known]:
  """Returns what is to be known of every population, before anything is trained or evaluated on it.

  Raises:
    ValueError: listing what leaks, unless `evaluation.leaks` is 'warn'.
  """
  found = {}
  for name, make in plans.populations_of(plan).items():
    population = make()
    begins = functools.partial(log, f'{name}: looking for leaks')
    known = found[name] = known_leaks.find(population, workdir, begins)
    for kind, why in leaks.not_run(population, known.found).items():
      log(f'{name}: leaks of {kind} were not looked for: {why}')
    if plan.evaluation.leaks == 'error':
      leaks.require_no_leaks(known.found)
    for line in known.lines:
      log(line)
  return found


def keep_leaks(workdir: str | os.PathLike, known: Mapping[str, Known]) -> None:
  """Keeps what `leaks_of` returned in a workdir, so that it looks once."""
  for name, own in known.items() if processes.is_first() else ():
    known_leaks.keep(workdir, name, own)


def makers_of(
  plan: Plan, condition: Condition, setting: Setting, log: Log
) -> dict[str, references.Make]:
  """Returns what makes each reference of a condition."""
  trained_on = plans.trained_on(plan, condition)[0]
  return references.makers(setting, plan.evaluation, trained_on, log=log)


def reference_cells(
  plan: Plan, made: Sequence[Setting], workdir: str | os.PathLike | None, log: Log
) -> list[BySeed]:
  """Returns what the references of each condition predict.

  Conditions that differ in what is learned from have the same users: of these it is made once.
  """
  shared: dict[tuple[str, str, str, tuple[int, ...]], Predictions] = {}

  def kept(condition: Condition, setting: Setting, name: str, make: references.Make) -> Predictions:
    trained_on = plans.trained_on(plan, condition)[0]
    identity = references.identity(name, setting, plan.evaluation, trained_on)
    made_by = workdirs.digest(identity)

    def make_once(setting: Setting) -> Predictions:
      key = name, made_by, setting.fingerprint, setting.shots
      if key not in shared or identity.get('data') == '':  # of data that nobody can tell apart
        shared[key] = make(setting)
      return shared[key]

    return cells.keep_predictions(workdir, setting, name, made_by, make_once)

  def of(condition: Condition, setting: Setting) -> BySeed:
    makers = makers_of(plan, condition, setting, log)
    names = progress.along(makers, 'references', unit='reference')
    return {name: {'': kept(condition, setting, name, makers[name])} for name in names}

  return [of(*one) for one in zip(plan.conditions, made, strict=True)]


def lay_out(
  plan: Plan,
  made: Sequence[Setting],
  predicted: Sequence[BySeed],
  flipped: Sequence[BySeed],
  costs: Mapping[str, Costs],
) -> Result:
  """Evaluates all predictions: rows of results, and sections of the report."""
  frames, sections, overall = [], [], []
  for condition, setting, own, other in zip(plan.conditions, made, predicted, flipped, strict=True):
    evaluated = results.evaluate_all(setting, own)
    overall.append(results.over_seeds(evaluated))
    frame = results.rows_of(setting, evaluated)
    sections.append(report.section(frame, setting))
    frames.append(frame)
    if setting.stream is None:
      extras = readings.Extras(
        flipped=other or None,
        costs=costs if setting is made[0] else None,
        texts=plan.texts,
        trained_on=None if condition.entries else plan.populations[0](),
      )
      reading = readings.read_setting(setting, own, overall[-1], extras=extras)
      sections.append(reading.section)
      frames.append(reading.frame)
  num_seeds = results.fewest_seeds(predicted[0])
  across = poisoned_tables.sections(plan.conditions, made, overall, num_seeds)
  return Result(results.join(frames), tuple(made), tuple(sections), plan, across=tuple(across))


def write_result(
  result: Result, workdir: str | os.PathLike, *, name: str = ''
) -> list[pathlib.Path]:
  """Writes results.csv, adaptation.png and report.html into a folder, and returns their paths.

  Args:
    result: of a table.
    workdir: the folder.
    name: of what was run, for the title of the page.
  """
  folder = pathlib.Path(workdir)
  return [
    results.write_results(folder / 'results.csv', result.frame),
    plots.save(result.plot(), folder / 'adaptation.png'),
    result.report(folder / 'report.html', name=name),
  ]


def evaluate_run(plan: Plan, setting: Setting, run: Run, *, log: Log = print) -> pd.DataFrame:
  """Returns the results of one trained run beside the references.

  Args:
    plan: of one learner and one seed.
    setting: whom it is evaluated on.
    run: of the learner.
    log: is given lines of progress.
  """
  (row,), (seed,) = plan.entries, plan.seeds
  (predicted,) = reference_cells(plan, [setting], None, log)
  with progress.compiling(f'{row}, {setting.name}'):
    made = cells.predict(setting, [run], chunk_size=plan.evaluation.chunk_size)
  predicted[row] = {str(seed): made}
  return results.rows_of(setting, results.evaluate_all(setting, predicted))
