"""All studies of a store; one that cannot be made says why and stops no other."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypedDict

import numpy as np

from metapers.analysis import (
  personal_llm_checks,
  simulation_calibration,
  slates,
  study_frame,
  vote_table,
  voters,
)
from metapers.analysis.personal_llm_checks import Verdict
from metapers.analysis.slates import Slates
from metapers.analysis.voters import Voters
from metapers.analysis.word_entropy import Words
from metapers.bench.runs import Run
from metapers.bench.studies import (
  agreement,
  checks,
  diversity,
  drivers,
  features,
  lookup,
  lookup_learners,
  opinions,
  part,
  priors,
  words,
)
from metapers.bench.studies import people as of_people
from metapers.bench.studies import personas as of_personas
from metapers.bench.studies.part import Part
from metapers.bench.studies.people import Folder
from metapers.core.tables import RewardTable
from metapers.data.reward_models import RewardModel

CONCENTRATIONS = (0.01, 0.05, 0.1)


class Options(NamedTuple):
  """What studies are made with.

  concentrations: α of the Dirichlet users. num_users: U of a draw. num_draws: of users. seed: of
  all that is drawn. words: whose prompts are looked at. learners: of `lookup_learners`, beside the
  lookups. num_calibrated: users whose posteriors are checked. with_exact: whether the exact
  posterior is, too, which takes most of the time.
  """

  concentrations: tuple[float, ...] = CONCENTRATIONS
  num_users: int = 1000
  num_draws: int = voters.NUM_DRAWS
  seed: int = 0
  words: Words = Words()
  learners: tuple[str, ...] = tuple(lookup_learners.LEARNERS)
  num_calibrated: int = simulation_calibration.NUM_USERS
  with_exact: bool = True


NOBODY: Mapping[str, Callable[[], Folder]] = {}
TrainedRun = tuple[Run, str]
NO_RUNS: Mapping[str, Callable[[], TrainedRun]] = {}


class Inputs(NamedTuple):
  """What studies read.

  table: of the store. given: the slates of it that users vote on. responses: `() -> [P, R]` texts
  of all its responses, or a ValueError that says why there are none. classifiers: of these texts.
  people: folder -> what reads its people, or a ValueError that says why it cannot be read.
  opinions: folder of OpinionQA, and a table of scores of its options; '' for none. runs: name ->
  what reads a trained run and the name of its learner. personas: who reads which personas.
  """

  table: RewardTable
  given: Slates
  responses: Callable[[], np.ndarray]
  classifiers: tuple[RewardModel, ...] = ()
  people: Mapping[str, Callable[[], Folder]] = NOBODY
  opinions: tuple[str, str] = ('', '')
  runs: Mapping[str, Callable[[], TrainedRun]] = NO_RUNS
  personas: of_personas.Options = of_personas.Options()


class Study(NamedTuple):
  """A study by the title of its section.

  make: `() -> Part`, or a ValueError or OSError that says why not.
  """

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
  if options.num_calibrated < 2:
    raise ValueError(f'num_calibrated must be at least 2, got {options.num_calibrated}')
  lookup_learners.check(options.learners)
  return options._replace(concentrations=tuple(once)), said


def parts_of(studies: Sequence[Study], log: Callable[[str], None]) -> list[Part]:
  """Returns the parts of the page; of a study that cannot be made, why."""
  parts = []
  for study in studies:
    log(study.title)
    try:
      parts.append(study.make())
    except (ValueError, OSError) as error:
      parts.append(part.left_out(study.title, str(error)))
  return parts


def studies_of(inputs: Inputs, options: Options) -> list[Study]:
  """Returns the studies of a store, in the order of the page."""
  given = inputs.given
  voted = list(voters.voters(given, options.concentrations, **draws_of(options)))
  prompts = inputs.table.prompt_texts

  def check() -> Part:
    return checks.part_of(verdicts_of(inputs, voted))

  made = [
    Study(diversity.TITLE, lambda: diversity.part_of(given, voted)),
    Study(
      agreement.TITLE, lambda: agreement.part_of(given, options.concentrations, **draws_of(options))
    ),
    Study(
      drivers.TITLE,
      lambda: drivers.part_of(
        given, *features.families_of(inputs.responses, given, inputs.classifiers),
        options.concentrations,
        num_users=options.num_users, seed=options.seed,
      ),
    ),
    Study(lookup.TITLE, lambda: lookup_of(inputs, options)),
    Study(words.TITLE, lambda: words.part_of(given, prompts, voted, options.words)),
    Study(of_personas.TITLE, lambda: personas_of(inputs, options)),
    *people_studies(inputs, options),
    *opinion_studies(inputs, options),
    *prior_studies(inputs, options),
  ]  # fmt: skip
  return [Study(checks.TITLE, check), *made] if given.is_personal_llm else made


def lookup_of(inputs: Inputs, options: Options) -> Part:
  """Returns the study of lookup, whose histories are of train prompts."""
  train, test = (slates.slates_of(inputs.table, split=split) for split in ('train', 'test'))
  own = {'seed': options.seed, 'learners': options.learners}
  return lookup.part_of(train, test, options.concentrations, **own)


def personas_of(inputs: Inputs, options: Options) -> Part:
  """Returns the study of personas; texts are read only where there is who reads them."""
  texts = inputs.responses() if inputs.personas.readers else np.zeros((0, 0), object)
  return of_personas.part_of(
    inputs.given, (inputs.table.prompt_texts, texts), inputs.personas, options.concentrations,
    num_draws=options.num_draws, seed=options.seed,
  )  # fmt: skip


def people_studies(inputs: Inputs, options: Options) -> list[Study]:
  """Returns a study of each folder of people."""

  def study(name: str, read: Callable[[], Folder]) -> Study:
    def make() -> Part:
      return of_people.part_of(inputs.given, read(), seed=options.seed)

    return Study(f'{of_people.TITLE}: {name}', make)

  return [study(name, read) for name, read in inputs.people.items()]


def opinion_studies(inputs: Inputs, options: Options) -> list[Study]:
  """Returns the study of opinions, if it was asked for."""

  def make() -> Part:
    own = {'num_users': options.num_users, 'seed': options.seed}
    return opinions.part_of(*inputs.opinions, options.concentrations, **own)

  return [Study(opinions.TITLE, make)] if inputs.opinions[0] else []


def prior_studies(inputs: Inputs, options: Options) -> list[Study]:
  """Returns a study of each trained run."""

  def study(name: str, read: Callable[[], TrainedRun]) -> Study:
    own = {'num_users': options.num_calibrated, 'with_exact': options.with_exact}
    return Study(
      f'{priors.TITLE}: {name}', lambda: priors.part_of(name, *read(), **own, seed=options.seed)
    )

  return [study(name, read) for name, read in inputs.runs.items()]


class Draws(TypedDict):
  """How users are drawn; see `Options`."""

  num_users: int
  num_draws: int
  seed: int


def draws_of(options: Options) -> Draws:
  """Returns how users are drawn."""
  return Draws(num_users=options.num_users, num_draws=options.num_draws, seed=options.seed)


def verdicts_of(inputs: Inputs, voted: list[Voters]) -> list[Verdict]:
  """Returns the checks of a store that is PersonalLLM."""
  given, prompts = inputs.given, inputs.table.prompt_texts
  fits = vote_table.fit(vote_table.study(given, voted))
  found = study_frame.joined([])
  if prompts is not None:
    found = words.frame_of(given, prompts, voted, Words())
  return [
    personal_llm_checks.check_loaded(inputs.table),
    *personal_llm_checks.check_diversity(fits),
    *personal_llm_checks.check_entropies(found),
  ]
