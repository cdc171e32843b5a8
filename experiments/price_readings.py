"""At what price: what personal picks cost others and what learners cost the machine."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pyarrow import parquet

from experiments import reading_tables
from experiments.reading_tables import FLOOR, Part, Subject
from metapers.analysis import tax
from metapers.analysis.costs import Costs
from metapers.bench import tables
from metapers.bench.results import Row
from metapers.core.task import Truth
from metapers.core.types import Float
from metapers.data import manifest
from metapers.io.report import Table


class Texts(NamedTuple):
  """What a store's texts say. lengths: [P, R] in words. subset: [P], where each prompt is from."""

  lengths: Float[np.ndarray, 'P R']
  subset: np.ndarray


def read_texts(store: str, responses: Sequence[int] = ()) -> Texts | None:
  """Reads lengths and subsets of a store; None for one without texts, the synthetic one included.

  Args:
    store: its folder.
    responses: numbers (from 1) of those that the population shows; none for all.
  """
  path = manifest.file_of(pathlib.Path(store), manifest.TEXTS)
  if not path.is_file():
    return None
  there = {'subset', 'responses'} & set(parquet.read_schema(path).names)
  rows = parquet.read_table(path, columns=sorted(there)).to_pydict()
  lengths = [[len((text or '').split()) for text in row] for row in rows['responses']]
  shown = [number - 1 for number in responses] or slice(None)
  subset = [name or '' for name in rows.get('subset', [''] * len(lengths))]
  return Texts(np.array(lengths, np.float32)[:, shown], np.array(subset, str))


def taxes(subject: Subject, truth: Truth, texts: Texts | None) -> Part:
  """Reads what personal picks cost in safety, in the mean reward and in length, by subset."""
  names = [name for name in str(model_names(subject)).split(', ') if name]
  if (
    FLOOR not in subject.predictions
    or 'slate' not in subject.setting.evaluated.weights
    or not names
  ):
    return Part(('No tax: it needs the pooled learner, slates and names of reward models.',))
  measured = tax.outcomes(truth, names, lengths=texts and texts.lengths)
  missing = [name for name in (tax.SAFETY, 'length') if name not in measured]
  text = (f'Tax: nothing is known of {" and ".join(missing)} here.',) if missing else ()
  whole = np.ones(truth.slate_prompts.shape, bool)
  parts = {'': whole}
  if texts is not None:
    parts |= tax.subsets(truth, texts.subset)
  made = [
    row
    for subset, slates in parts.items()
    for row in tax_rows(subject, measured, slates, f'@{subset}' if subset else '')
  ]
  shown = [tax_table(subject, made, outcome, list(parts)) for outcome in measured]
  return Part(text, tuple(shown), tuple(made))


def tax_rows(
  subject: Subject, measured: tax.Outcomes, slates: np.ndarray, behind: str
) -> list[Row]:
  """Estimates the tax on some of the slates, and writes `behind` after the metrics' names."""
  evaluated = subject.setting.judge

  def measure(name, seed, made):
    del name, seed
    return reading_tables.at_shots(tax.estimate(evaluated, made, measured, slates=slates), subject)

  found = reading_tables.averaged(subject.predictions, measure)
  names = [f'pick_{outcome}_minus_{FLOOR}' for outcome in measured]
  return [
    row
    for name, own in reading_tables.minus(found, FLOOR).items()
    for row in reading_tables.rows(
      subject, name, reading_tables.keep(own, names, behind=behind), [subject.shots]
    )
  ]


def tax_table(subject: Subject, made: list[Row], outcome: str, subsets: Sequence[str]) -> Table:
  """Lays the tax on one outcome out, by subset of the prompts."""
  metric = f'pick_{outcome}_minus_{FLOOR}'
  columns = {
    (f'{metric}@{subset}' if subset else metric, subject.shots): subset or 'all prompts'
    for subset in subsets
  }
  caption = (
    f'tax: {outcome} ({tables.unit_of(metric)}) of best-of-R picks after {subject.shots} shots, '
    f'minus that of {FLOOR}'
  )
  return reading_tables.pivot(caption, made, columns)


def model_names(subject: Subject) -> str | float:
  """Returns the reward models' names, in order, joined by ', '; '' where they are not told."""
  return subject.setting.populations[0].record.get('reward_models', '')


def costs(measured: Mapping[str, Costs] | None) -> Part:
  """Lays out what learners cost. No rows: times differ from run to run."""
  if not measured:
    return Part()
  body = [
    [name, f'{one.num_parameters:,}', f'{one.state_bytes:,}', f'{one.microseconds:.3g}']
    for name, one in measured.items()
  ]
  one = next(iter(measured.values()))
  caption = (
    f'costs; time to adapt to {one.num_comparisons} comparisons, of {one.batch_size} users at once '
    f'on {one.device}, compiled'
  )
  header = ['learner', 'parameters', 'bytes of a user', 'µs to adapt a user']
  return Part(tables=(Table(caption, header, body),))
