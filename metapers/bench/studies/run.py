"""All studies of a store; one that cannot be made says why and stops no other."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from metapers.analysis import personal_llm_checks, slates, vote_table, voters
from metapers.analysis.slates import Slates
from metapers.bench.studies import agreement, checks, diversity, part
from metapers.bench.studies.part import Part
from metapers.core.tables import RewardTable

CONCENTRATIONS = (0.01, 0.05, 0.1)


class Options(NamedTuple):
  """What studies are made with.

  concentrations: α of the Dirichlet users. num_users: U of a draw. num_draws: of users. seed: of
  all that is drawn.
  """

  concentrations: tuple[float, ...] = CONCENTRATIONS
  num_users: int = 1000
  num_draws: int = voters.NUM_DRAWS
  seed: int = 0


class Inputs(NamedTuple):
  """What studies read. table: of the store. given: the slates of it that users vote on."""

  table: RewardTable
  given: Slates


class Study(NamedTuple):
  """A study by the title of its section. make: `() -> Part`, or a ValueError that says why not."""

  title: str
  make: Callable[[], Part]


def checked(options: Options) -> tuple[Options, list[str]]:
  """Returns options with every concentration once, and warnings of those given again.

  Raises:
    ValueError: for an option out of range.
  """
  wrong = [value for value in options.concentrations if not (np.isfinite(value) and value > 0)]
  if wrong or not options.concentrations:
    raise ValueError(
      f'concentrations must be positive and finite, got {options.concentrations}; try 0.05'
    )
  if options.num_users < 2 or options.num_draws < 2:
    raise ValueError(
      f'num_users and num_draws must be at least 2, got {options.num_users}, {options.num_draws}'
    )
  once, again = slates.different(options.concentrations)
  said = [f'{part.alpha(value)} was given more than once and is shown once' for value in again]
  return options._replace(concentrations=tuple(once)), said


def parts_of(studies: Sequence[Study], log: Callable[[str], None]) -> tuple[list[Part], list[str]]:
  """Returns the parts of the page, and a line for each study that was left out."""
  parts, warnings = [], []
  for study in studies:
    log(study.title)
    try:
      parts.append(study.make())
    except ValueError as error:
      parts.append(part.left_out(study.title, str(error)))
      warnings.append(f'{study.title}: left out, {error}')
  return parts, warnings


def studies_of(inputs: Inputs, options: Options) -> list[Study]:
  """Returns the studies of a store."""
  given = inputs.given
  sizes = options.num_users, options.num_draws, options.seed
  size = dict(zip(('num_users', 'num_draws', 'seed'), sizes))
  voted = list(voters.voters(given, options.concentrations, **size))

  def check() -> Part:
    fits = vote_table.fit(vote_table.study(given, voted))
    verdicts = [
      personal_llm_checks.check_loaded(inputs.table),
      *personal_llm_checks.check_diversity(fits),
    ]
    return checks.part_of(verdicts)

  made = [
    Study(diversity.TITLE, lambda: diversity.part_of(given, voted)),
    Study(
      agreement.TITLE,
      lambda: agreement.part_of(given, options.concentrations, **size),
    ),
  ]
  return [Study(checks.TITLE, check), *made] if given.is_personal_llm else made
