"""A page on which people say which texts they prefer, and a study of what they answered.

    python -m experiments.collect --study=FOLDER --items=FOLDER --model=EXPORT

Serves on 127.0.0.1 until Ctrl-C. The folder of the study holds all of it; the same command goes on.
Without --items texts that come with the package are compared; without --model questions are asked
under a standard normal prior of the items' features, with --model=none they are drawn.
docs/people.md tells of settings, tables and the HTTP interface.
"""

import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import jax
from absl import flags

from experiments import commands
from metapers.bench import drift, stopping, stored_populations
from metapers.bench.stopping import Sure
from metapers.collect import check, export, running, scripted, settings
from metapers.collect import study as studies
from metapers.collect.settings import Settings
from metapers.collect.study import Study
from metapers.evaluation.bayes import exact_learner
from metapers.learners import dirichlet_mixture
from metapers.learners.particle_bank import Bank
from metapers.serving import exports, pretrained

STUDY = flags.DEFINE_string('study', None, 'Folder of the study; made where there is none.')
ITEMS = flags.DEFINE_string('items', None, 'Folder of items with texts, of a new study.')
MODEL = flags.DEFINE_string('model', '', 'Folder of the export that asks; `none` for no model.')
SETTINGS = flags.DEFINE_string('settings', None, 'JSON file with the settings of a new study.')
RULE = flags.DEFINE_enum('rule', None, settings.RULES, 'Which questions are asked, of a new study.')
QUESTIONS = flags.DEFINE_integer('questions', None, 'How many questions, of a new study.')
BELIEFS = flags.DEFINE_bool('beliefs', None, 'Show what the model believes, of a new study.')
HOST = flags.DEFINE_string('host', '127.0.0.1', 'Where to listen; another needs --open.')
PORT = flags.DEFINE_integer('port', 8017, 'Where to listen; 0 takes a free port.')
OPEN = flags.DEFINE_bool('open', False, 'Listen where other machines reach the study.')
NEW_TOKEN = flags.DEFINE_bool('new_token', False, "Print a new administrator's token.")
EXPORT = flags.DEFINE_string('export', None, 'Write the tables into this folder, and end.')
CHECK = flags.DEFINE_bool('check', False, 'Measure a server with simulated people, and end.')
PEOPLE = flags.DEFINE_integer('people', 50, 'Simulated people of --check; 0 for none.')
STOPPED = flags.DEFINE_integer(
  'stopped', 2000, 'Simulated people of --check whom rules stop, in 10 minutes; 0 for none.'
)
SCRIPTED = flags.DEFINE_integer(
  'scripted', 2000, 'Scripted participants of --check of 15 questions, in half an hour; 0 for none.'
)
DRIFTED = flags.DEFINE_integer(
  'drifted', 500, 'Simulated people of --check whose preferences change; 0 for none.'
)
SIMULATED: dict[str, dict[str, Any]] = {
  'α .05, no noise': {'concentration': 0.05},
  'α 1, no noise': {'concentration': 1.0},
  'α .05, 75 % of answers right': {'concentration': 0.05, 'label_accuracy': 0.75},
}
NUM_QUESTIONS = 32
STRENGTHS = (1.0, 3.0)  # of scripted tastes: as the prior expects, and more decided


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  if CHECK.value:
    with tempfile.TemporaryDirectory() as place:
      command = [sys.executable, '-m', 'experiments.collect']
      for line in check.figures(command, pathlib.Path(place), PEOPLE.value) if PEOPLE.value else ():
        commands.say(line)
      for line in claimed(SCRIPTED.value, pathlib.Path(place)) if SCRIPTED.value else ():
        commands.say(line)
    for measured, number in ((stops, STOPPED.value), (drifts, DRIFTED.value)):
      for table in measured(number) if number else ():
        commands.say(table)
    return
  folder = pathlib.Path(commands.required(STUDY))
  with commands.holding(folder):
    if EXPORT.value:
      commands.say(str(export.write_tables(studies.kept_in(folder), folder, EXPORT.value)))
    else:
      serve(opened(folder), folder)


def claimed(num_people: int, place: pathlib.Path) -> Iterator[str]:
  """Yields what is claimed of scripted participants of the demo, and what is so."""
  asked = Settings(num_questions=15, control_share=0, repeat_share=0, attention_share=0)
  study = studies.open_study(
    place / 'scripted', items=running.DEMO, model=running.prior(running.DEMO), asked=asked
  )
  assert study.beliefs is not None
  for strength in STRENGTHS:
    found = scripted.claims(study.plan, study.beliefs, num_people, strength=strength)
    yield f'\n{num_people} scripted participants, {asked.num_questions} questions, s = {strength:g}'
    yield from scripted.lines(found)


def stops(num_people: int) -> Iterator[str]:
  """Yields what stopping rules of the shipped model cost and give, beside the exact posterior's."""
  shipped = pretrained.read('personal_llm_scores')
  learner = exports.learner_of(shipped, None)
  shapes = jax.eval_shape(learner.init, jax.random.key(0))
  for name, options in SIMULATED.items():
    people = stored_populations.reward_ensemble(num_support=64, num_held_out=num_people, **options)
    assert people.simulation is not None
    exact = exact_learner.of_simulation(
      people.simulation, num_particles=512, capacity=NUM_QUESTIONS
    )
    rows = {
      'shipped': Sure(learner, exports.rebuild(shipped.params, shapes)),
      'bayes': Sure(exact, exact.init(jax.random.key(0)), chunk_size=1),
    }
    table = stopping.table(
      rows, people, num_people=num_people, num_questions=NUM_QUESTIONS, key=jax.random.key(1)
    )
    shown = table.to_string(index=False, float_format='{:.3f}'.format)
    yield f'\n{num_people} people, {name}\n{shown}'


def drifts(num_people: int) -> Iterator[str]:
  """Yields what the shipped model makes of changes, and of noisy choices the exact posterior."""
  shipped = pretrained.read('personal_llm_scores')
  learner = exports.learner_of(shipped, None)
  params = exports.rebuild(shipped.params, jax.eval_shape(learner.init, jax.random.key(0)))
  sizes = (shipped.kwargs[name] for name in ('num_outside', 'num_particles', 'outside_prior'))
  heads = dirichlet_mixture.heads_of(params['bank'], shipped.kwargs['num_features'])
  bank = Bank(heads, dirichlet_mixture.grouped(*sizes))
  for name, options in SIMULATED.items():
    people = stored_populations.reward_ensemble(
      num_support=64, support_prompts='held_out', num_held_out=num_people, **options
    )
    assert people.simulation is not None
    rows, (users,) = {'shipped': drift.of_bank(bank)}, people.simulation.user_models
    if users.temperature:
      rows['bayes'] = drift.of_users(users, people.spec.num_features)
    table = drift.table(rows, people, num_people=num_people, key=jax.random.key(1))
    shown = table.to_string(index=False, float_format='{:.4f}'.format)
    yield f'\n{num_people} people who may change, {name}\n{shown}'


def opened(folder: pathlib.Path) -> Study:
  """Returns the study that the flags name, begun where it is new."""
  is_new = not (folder / studies.ITEMS).is_dir()
  items = ITEMS.value or (str(running.DEMO) if is_new else None)
  asked = asked_for(folder)
  model = MODEL.value or running.prior(items or folder / studies.ITEMS)
  if MODEL.value == 'none':
    model = None
  return studies.open_study(folder, items=items, model=model, asked=asked)


def asked_for(folder: pathlib.Path) -> Settings:
  """Returns the settings that flags say, else the file, else the study, else the defaults."""
  given = settings.read(SETTINGS.value) if SETTINGS.value else studies.settings_in(folder)
  flagged = {
    'rule': RULE.value, 'num_questions': QUESTIONS.value, 'show_beliefs': BELIEFS.value,
  }  # fmt: skip
  return settings.checked(given._replace(**{k: v for k, v in flagged.items() if v is not None}))


def serve(study: Study, folder: pathlib.Path) -> None:
  """Serves a study; prints where, and the administrator's token once."""
  if not running.is_loopback(HOST.value):
    if not OPEN.value:
      raise ValueError(f'{running.OPENED.format(host=HOST.value)}; --open says that this is meant')
    commands.say(running.OPENED.format(host=HOST.value))
  if NEW_TOKEN.value or study.store.about('admin') is None:
    commands.say(f"administrator's token, printed this once: {study.store.new_token()}")
  study.warm_up()
  running.serve(
    study,
    folder,
    host=HOST.value,
    port=PORT.value,
    ready=lambda address: commands.say(f'{address} (administration: {address}/admin)'),
  )


if __name__ == '__main__':
  commands.run(main)
