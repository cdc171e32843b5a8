"""Is the population like people? Studies of the simulated users of a store, as a page.

    python -m experiments.analyze --store=STORE --workdir=DIR

Writes a self-contained report.html that opens with findings, all numbers as analysis.csv, and each
figure as PNG and SVG. A study that cannot be made says why, and stops no other.
`--store=synthetic` is the store that needs no download.
"""

import functools
import pathlib
from collections.abc import Sequence

from absl import flags

from experiments import build, commands, works
from metapers.analysis import persona_users, simulation_calibration, slates
from metapers.analysis.word_entropy import Words
from metapers.bench import runs
from metapers.bench.studies import (
  lookup_learners,
  page,
  people,
  persona_readers,
  personas,
  run,
)
from metapers.core import files
from metapers.core.tables import RewardTable
from metapers.data import (
  comparisons,
  feature_store,
  people_tables,
  synthetic,
  text_classifiers,
)
from metapers.io import workdirs

STORE = flags.DEFINE_string('store', 'synthetic', 'Folder of a store, or `synthetic`.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where the report goes.')
CONCENTRATIONS = flags.DEFINE_list(
  'concentrations', [f'{value:g}' for value in run.CONCENTRATIONS], 'α of simulated users.'
)
NUM_USERS = flags.DEFINE_integer('num_users', 1000, 'Simulated users of a draw.')
NUM_DRAWS = flags.DEFINE_integer('num_draws', 10, 'Draws of users.')
SPLIT = flags.DEFINE_string('split', 'test', 'Prompts: train, validation, test or all.')
WORDS = flags.DEFINE_list('words', list(Words().anywhere), 'Words to look for in prompts.')
OPENINGS = flags.DEFINE_list('openings', list(Words().opening), 'Words that prompts begin with.')
CLASSIFIERS = flags.DEFINE_list(
  'classifiers', [], f'Text classifiers for semantic features: {text_classifiers.FORM}.'
)
PEOPLE = flags.DEFINE_list('people', [], 'Folders of real people to stand beside.')
OPINIONS = flags.DEFINE_string('opinions', '', 'Folder human_resp of OpinionQA.')
OPINION_SCORES = flags.DEFINE_string(
  'opinion_scores', '', 'Table of scores of its options: wave, key, option, reward models.'
)
RUNS = flags.DEFINE_list('runs', [], 'Workdirs of trained runs, whose posteriors are checked.')
CALIBRATED_USERS = flags.DEFINE_integer(
  'calibrated_users', simulation_calibration.NUM_USERS, 'Users whose posteriors are checked.'
)
EXACT = flags.DEFINE_bool('exact', True, 'Whether the exact posterior is checked beside a run.')
LEARNERS = flags.DEFINE_list(
  'learners', list(lookup_learners.LEARNERS), 'Learners trained beside the lookups; may be empty.'
)
PERSONAS = flags.DEFINE_list('personas', [], f'Models that read personas: {persona_readers.FORM}.')
PERSONA_TEXTS = flags.DEFINE_string(
  'persona_texts', '', 'File of personas, one a line; our own twenty by default.'
)
PERSONA_PROMPTS = flags.DEFINE_integer(
  'persona_prompts', 40, 'Prompts that personas are asked, at most.', lower_bound=1
)
PERSONA_CHARS = flags.DEFINE_integer(
  'persona_chars', 600, 'Longest response that they are asked about.', lower_bound=1
)
SEED = flags.DEFINE_integer('seed', 0, 'Of all that is drawn.')

MAX_COMPARISONS = 200  # of a person


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  workdir = pathlib.Path(commands.required(WORKDIR))
  options, warnings = run.checked(options_of())
  classifiers = tuple(map(text_classifiers.classifier, CLASSIFIERS.value))
  told = personas_of(workdir)
  for flag, paths in (('--runs', RUNS.value), ('--people', PEOPLE.value)):
    require_distinct(flag, paths)
  table = open_table()
  with commands.holding(workdir):
    inputs = run.Inputs(
      table,
      slates.slates_of(table, split=SPLIT.value),
      lambda: feature_store.response_texts(STORE.value),
      classifiers,
      {path: functools.partial(read_people, path) for path in PEOPLE.value},
      (OPINIONS.value, OPINION_SCORES.value),
      {pathlib.Path(path).name: functools.partial(read_run, path) for path in RUNS.value},
      told,
    )
    parts = run.parts_of(run.studies_of(inputs, options), commands.say)
    warnings += [warning for part in parts for warning in part.warnings]
    paths = page.write(
      workdir,
      parts,
      source=table.source,
      summary={'store': STORE.value, 'split': SPLIT.value, **options._asdict()},
      warnings=warnings,
    )
  for line in warnings:
    commands.say(f'warning: {line}')
  for sentence in (sentence for part in parts for sentence in part.findings):
    commands.say(sentence)
  commands.say('\n'.join(map(str, paths)))


def require_distinct(flag: str, paths: Sequence[str]) -> None:
  """Refuses folders of one name, by which figures and findings are told apart.

  Raises:
    ValueError: naming them.
  """
  names = [pathlib.Path(path).name for path in paths]
  if repeated := sorted({name for name in names if names.count(name) > 1}):
    raise ValueError(
      f'{flag}: several folders are called {", ".join(repeated)}; rename all but one'
    )


def options_of() -> run.Options:
  """Returns what the flags ask for.

  Raises:
    ValueError: for a concentration that is no number.
  """
  try:
    concentrations = tuple(map(float, CONCENTRATIONS.value))
  except ValueError as error:
    raise ValueError(
      f'--concentrations takes numbers such as 0.01,0.05; got {",".join(CONCENTRATIONS.value)}'
    ) from error
  words = Words(tuple(WORDS.value), tuple(OPENINGS.value))
  return run.Options(
    concentrations, NUM_USERS.value, NUM_DRAWS.value, SEED.value, words, tuple(LEARNERS.value),
    CALIBRATED_USERS.value, EXACT.value,
  )  # fmt: skip


def personas_of(workdir: pathlib.Path) -> personas.Options:
  """Returns who reads which personas.

  Raises:
    ValueError: for a reader of another form, or a file that cannot be read.
  """
  texts = persona_users.PERSONAS
  if PERSONA_TEXTS.value:
    content = files.read_bytes(PERSONA_TEXTS.value).decode('utf-8', 'replace')
    texts = persona_users.checked_personas(content.splitlines())
  readers = dict(map(persona_readers.reader, PERSONAS.value))
  return personas.Options(
    readers, texts, PERSONA_CHARS.value, PERSONA_PROMPTS.value, workdir / 'personas'
  )


def read_people(path: str) -> people.Folder:
  """Returns the people of a folder, at most MAX_COMPARISONS of each."""
  histories = comparisons.load_comparisons(path, max_comparisons=MAX_COMPARISONS)
  kind, _ = people_tables.read_preferences(pathlib.Path(path))
  return people.Folder(pathlib.Path(path).name, histories, kind == 'ratings')


def read_run(path: str) -> run.TrainedRun:
  """Returns a trained run, whose learner draws as many samples as a check of ranks picks from."""
  workdirs.require_run(path)
  config = works.stored_run(workdirs.read_config(path))
  plan = build.plan(config)
  population = plan.populations[0]()
  ((_, entry),) = plan.entries.items()
  identity = {**plan.identity, 'data': population.content_hash}
  if 'num_samples' in entry.kwargs:
    samples = {'num_samples': simulation_calibration.NUM_SAMPLES}
    entry = entry._replace(kwargs={**entry.kwargs, **samples})
  restored = runs.restored(entry, population, path, seed=config.seed, identity=identity)
  return restored, str(config.learner.name)


def open_table() -> RewardTable:
  """Returns the table of the store that the flag names."""
  if STORE.value == 'synthetic':
    return synthetic.synthetic_store()
  return feature_store.open_store(STORE.value)


if __name__ == '__main__':
  commands.run(main)
