"""Studies drawn again and again, kept as they are made, and what their intervals came to."""

import os
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from metapers.analysis import coverage, superpopulation
from metapers.analysis.superpopulation import APART, BASE, GAPS, STUDIES
from metapers.core import files
from metapers.io import plots, progress, workdirs
from metapers.io.plots import Figure
from metapers.io.report import Table

VERSION = 1  # to be raised with any change of an interval, an estimate or what is drawn
BLOCK = 20  # studies a file
LEVEL = 0.95  # of the intervals
FILE = 'coverage.csv'
GAINERS = (*GAPS, *(name + APART for name in GAPS))  # whose gap to BASE is to be seen
COLUMNS = ('study', 'learner', 'metric')
# Of metrics that are means, and of the others; `coverage.csv` has all learners.
LINEAR = ('accuracy', 'accuracy_noiseless', 'nll', 'win_rate', 'top1', 'pick_reward')
TARGETS = {True: (0.93, 0.97), False: (0.92, 0.98)}  # coverage, of linear metrics and of others


def run(
  workdir: str | os.PathLike,
  studies: Sequence[str],
  *,
  num_studies: int,
  num_resamples: int,
) -> pd.DataFrame:
  """Draws what is missing of each study, and returns how often its intervals held the truth.

  Args:
    workdir: keeps what was drawn, so that a restart goes on.
    studies: names of STUDIES.
    num_studies: how often each is drawn; rounded up to whole files.
    num_resamples: of each bootstrap.

  Returns:
    The columns of `coverage.summary` behind `study`; also written as coverage.csv.

  Raises:
    ValueError: for an unknown study, or a workdir of another VERSION or number of resamples, or of
      another study of the same name.
  """
  unknown = [name for name in studies if name not in STUDIES]
  if unknown or num_studies < 2:
    raise ValueError(
      f'expected two draws or more of studies among {", ".join(STUDIES)}; got {num_studies} of '
      f'{", ".join(studies)}'
    )
  learners = ', '.join(GAINERS)
  kept = {'version': VERSION, 'num_resamples': num_resamples, 'learners': learners}
  workdirs.claim(workdir, kept, workdirs.flat)
  for name in studies:  # each in its own folder, so that a workdir may grow by others
    workdirs.claim(pathlib.Path(workdir) / name, STUDIES[name]._asdict(), workdirs.flat)
  parts = []
  for name in studies:
    drawn = replications(pathlib.Path(workdir) / name, name, num_studies, num_resamples)
    parts.append(coverage.summary(drawn).assign(study=name))
  found = pd.concat(parts, ignore_index=True)
  found = found[[*COLUMNS, *(name for name in found.columns if name not in COLUMNS)]]
  text = found.to_csv(index=False, float_format='%.6g', lineterminator='\n')
  files.write_atomically(pathlib.Path(workdir) / FILE, text)
  return found


def replications(
  folder: pathlib.Path, name: str, num_studies: int, num_resamples: int
) -> pd.DataFrame:
  """Returns the rows of all draws of a study, those that are not in its folder made now."""
  whom = superpopulation.superpopulation(STUDIES[name])
  path = folder / 'truth.json'
  if not path.exists():
    progress.say(f'{name}: measuring true values')
    files.write_json(path, coverage.true_values(whom))
  truth: Mapping[str, Mapping[str, float]] = files.read_json(path)
  parts = []
  blocks = [folder / f'{start:05d}.csv' for start in range(0, num_studies, BLOCK)]
  for number, block in enumerate(progress.along(blocks, name, unit='file', label=lambda _: '')):
    if not block.exists():
      made = [
        coverage.replicate(whom, truth, seed=seed, num_resamples=num_resamples)
        for seed in range(number * BLOCK, (number + 1) * BLOCK)
      ]
      text = pd.concat(made).to_csv(index=False, float_format='%.8g', lineterminator='\n')
      files.write_atomically(block, text)
    parts.append(pd.read_csv(block))
  return pd.concat(parts, ignore_index=True)


def is_linear(metric: str) -> bool:
  """Tells whether a metric, or the metric that a difference is of, is a mean."""
  return metric.partition('_minus_')[0] in LINEAR


def verdict(found: pd.DataFrame) -> list[str]:
  """Returns in words how many intervals cover as they should, and which do not."""
  said = []
  for linear, name in ((True, 'means and their paired differences'), (False, 'other metrics')):
    own = found[found['metric'].map(is_linear) == linear].dropna(subset='width')
    low, high = TARGETS[linear]
    sure = 2 * np.sqrt(LEVEL * (1 - LEVEL) / own['num_studies'])
    far = own[(own['coverage'] < low - sure) | (own['coverage'] > high + sure)]
    said.append(
      f'{len(own) - len(far)} of {len(own)} intervals of {name} hold the truth in {low:.0%} to '
      f'{high:.0%} of the studies, to two standard errors; the lowest in '
      f'{own["coverage"].min():.1%}, the highest in {own["coverage"].max():.1%}.'
    )
    said += [
      f'  {row.study}: {row.learner} {row.metric} {row.coverage:.3f} ± {row.coverage_se:.3f}, '
      f'width {row.width:.2f}'
      for row in far.itertuples()
    ]
  return said


def table(found: pd.DataFrame) -> Table:
  """Returns coverage, and relative width, of the metrics of BASE and of what it gains."""
  studies = list(dict.fromkeys(found['study']))
  rows = {}
  for row in shown(found).itertuples():
    cell = f'{row.coverage:.3f} ({row.width:.2f})'
    rows.setdefault(row.metric, dict.fromkeys(studies, ''))[row.study] = cell
  size = found['num_studies'].min()
  return Table(
    f'coverage of 95 % intervals, and width by 1.96 true standard deviations; {size} studies each',
    ['metric', *studies],
    [[metric, *cells.values()] for metric, cells in rows.items()],
  )


def shown(found: pd.DataFrame) -> pd.DataFrame:
  """Returns the rows of BASE, and of its differences to the learner three points less accurate."""
  learner = list(GAPS)[-1]
  own = found[(found['learner'] == BASE) | (found['learner'] == learner)]
  is_wanted = (own['learner'] == BASE) | own['metric'].str.contains('_minus_')
  return own[is_wanted].dropna(subset='width')


def power(found: pd.DataFrame) -> Table:
  """Returns how often a gap in accuracy of one and of three points is seen.

  It depends on how often two learners disagree: those whose errors are the same differ on few
  choices, and a gap between them is seen sooner than one between learners that err apart.
  """
  own = found[found['metric'] == f'accuracy_minus_{BASE}']
  body = [
    [study, *(f'{own_power(own, study, learner):.2f}' for learner in GAINERS)]
    for study in dict.fromkeys(found['study'])
  ]
  points = [f'{100 * gap:g} points' for gap in GAPS.values()]
  header = ['study', *points, *(f'{gap}, errors apart' for gap in points)]
  return Table('share of studies that see a paired gap in accuracy', header, body)


def own_power(own: pd.DataFrame, study: str, learner: str) -> float:
  """Returns the power of a study for the gap of a learner."""
  return float(own[(own['study'] == study) & (own['learner'] == learner)]['power'].item())


def figure(found: pd.DataFrame) -> Figure:
  """Returns coverage by metric, a mark for each study."""
  own = shown(found)
  marks = {
    str(name): {
      metric: (float(value), float(error))
      for metric, value, error in zip(rows['metric'], rows['coverage'], rows['coverage_se'])
    }
    for name, rows in own.groupby('study', sort=False)
  }
  return plots.dots(
    marks,
    list(dict.fromkeys(own['metric'])),
    title='How often 95 % intervals hold the truth',
    value_label='share of studies (± its standard error); band: 93 to 97 %',
    target=LEVEL,
    band=TARGETS[True],
  )
