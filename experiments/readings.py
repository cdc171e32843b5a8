"""How results are read beyond a table of accuracies: for whom, how surely, and at what price."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from experiments import price_readings, reading_tables, user_readings
from experiments.price_readings import Texts
from experiments.reading_tables import FLOOR, BySeed, Part, Subject
from experiments.settings import Setting
from metapers.analysis import flips
from metapers.analysis.costs import Costs
from metapers.bench import tables
from metapers.bench.results import Row
from metapers.core.population import Population
from metapers.evaluation import estimates
from metapers.evaluation.estimates import Estimates
from metapers.io.report import Section, Table

SURENESS = (
  'accuracy', 'nll', 'confidence', 'ece', 'selective_accuracy_80', 'selective_accuracy_50',
  'accuracy_worst_decile',
)  # fmt: skip


class Extras(NamedTuple):
  """What a reading may be given besides predictions; what is missing is left out.

  flipped: learner -> seed -> predictions after adapting to flipped labels. costs: learner -> its
  costs. texts: of the store. trained_on: the population whose users learners have seen; by default
  the setting's own.
  """

  flipped: BySeed | None = None
  costs: Mapping[str, Costs] | None = None
  texts: Texts | None = None
  trained_on: Population | None = None


NOTHING = Extras()


class Reading(NamedTuple):
  """A section of the report, and the rows of results.csv behind it."""

  section: Section
  rows: list[Row]


def read(
  setting: Setting,
  predictions: BySeed,
  judged: Mapping[str, Estimates],
  *,
  extras: Extras = NOTHING,
  shots: int | None = None,
) -> Reading:
  """Reads one setting.

  Args:
    setting: the users.
    predictions: learner -> seed -> its predictions; the seed of a reference is ''.
    judged: learner -> its estimates, averaged over seeds.
    extras: what else is known.
    shots: at which tables stand that do not run over shots; the most evaluated by default.

  Raises:
    ValueError: for a number of shots that was not evaluated, or predictions at other ones.
  """
  check_rows(setting, predictions)
  at = setting.shots.index(max(setting.shots) if shots is None else checked(shots, setting))
  subject = Subject(setting, predictions, judged, at)
  parts = [sureness(subject), share_of_room(subject), flip_rates(subject, extras.flipped)]
  if setting.truth is None:
    parts.append(Part(('Of these users nobody knows the weights: no groups and no tax.',)))
  else:
    parts += [
      user_readings.read(subject, setting.truth, extras.trained_on or setting.populations[0]),
      price_readings.taxes(subject, setting.truth, extras.texts),
    ]
  parts.append(price_readings.costs(extras.costs))
  section = Section(
    f'{setting.title}: for whom, how surely, at what price',
    text=[line for part in parts for line in part.text],
    tables=[table for part in parts for table in part.tables],
  )
  return Reading(section, [row for part in parts for row in part.rows])


def check_rows(setting: Setting, predictions: BySeed) -> None:
  """Refuses predictions that are not one for each number of shots, such as those of a stream.

  Raises:
    ValueError: naming the learner.
  """
  for name, by_seed in predictions.items():
    rows = {len(made.log_probs) for made in by_seed.values()}
    if rows != {len(setting.shots)}:
      raise ValueError(
        f'{name} predicts at {sorted(rows)} numbers of shots, {setting.title} has '
        f'{len(setting.shots)}; streams are read by turn, not here'
      )


def checked(shots: int, setting: Setting) -> int:
  """Returns the number of shots if it was evaluated.

  Raises:
    ValueError: if not.
  """
  if shots not in setting.shots:
    known = ', '.join(map(str, setting.shots))
    raise ValueError(f'shots={shots} was not evaluated; choose among {known}')
  return shots


def sureness(subject: Subject) -> Part:
  """Lays out how sure learners are, rightly or not; these rows are in the results already."""
  made = [
    row
    for name, found in subject.judged.items()
    for row in reading_tables.rows(
      subject,
      name,
      reading_tables.at_shots(reading_tables.keep(found, SURENESS), subject),
      [subject.shots],
    )
  ]
  units = {metric: f'{metric} ({tables.unit_of(metric)})' for metric in SURENESS}
  columns = {(metric, subject.shots): header for metric, header in units.items()}
  caption = (
    f'calibration after {subject.shots} shots: selective accuracy is that on the most confident '
    '80 % and 50 % of the predictions'
  )
  return Part(tables=(reading_tables.pivot(caption, made, columns),))


def over_shots(subject: Subject, caption: str, made: Sequence[Row], metric: str) -> tuple[Table]:
  """Lays one metric out with numbers of shots across."""
  columns = {(metric, count): str(count) for count in subject.setting.shots}
  return (reading_tables.pivot(caption, made, columns),)


def share_of_room(subject: Subject) -> Part:
  """Reads which share of (ceiling - pooled) learners take, wherever that is wide enough."""
  judged, ceiling = subject.judged, subject.ceiling
  if not ceiling or FLOOR not in judged:
    return Part()
  metric = f'accuracy_share_of_{ceiling}'
  made = [
    row
    for name, own in judged.items()
    if name not in (FLOOR, *tables.REFERENCES)
    for row in reading_tables.rows(
      subject,
      name,
      {metric: estimates.recovered(own, judged[FLOOR], judged[ceiling])},
      subject.setting.shots,
    )
  ]
  points = round(100 * estimates.LEAST_ROOM)
  if not made:
    return Part((f'{ceiling} is less than {points} points above {FLOOR} everywhere.',))
  caption = f'share (%) of {ceiling} − {FLOOR} in accuracy, where it is {points} points or more'
  return Part(tables=over_shots(subject, caption, made, metric), rows=tuple(made))


def flip_rates(subject: Subject, after: BySeed | None) -> Part:
  """Reads how many predictions change when all labels of the support are flipped."""
  if not after:
    return Part()

  def measure(name, seed, made):
    before = subject.predictions[name][seed]
    return {'flip_rate': flips.flip_rate(subject.setting.evaluated, before, made)}

  made = [
    row
    for name, found in reading_tables.averaged(after, measure).items()
    for row in reading_tables.rows(subject, name, found, subject.setting.shots)
  ]
  caption = 'flip rate: predictions (%) that change when all labels of the support are flipped'
  return Part(tables=over_shots(subject, caption, made, 'flip_rate'), rows=tuple(made))
