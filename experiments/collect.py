"""A page on which people say which texts they prefer, and a study of what they answered.

    python -m experiments.collect --study=FOLDER --items=FOLDER --model=EXPORT

Serves on 127.0.0.1 until Ctrl-C. The folder of the study holds all of it; the same command goes on.
Without --items texts that come with the package are compared; without --model questions are asked
under a standard normal prior of the items' features, with --model=none they are drawn.
docs/people.md tells of settings, tables and the HTTP interface.
"""

import contextlib
import pathlib
import sys
import tempfile
from collections.abc import Iterator

from absl import flags

from experiments import commands
from metapers.bench import simulated_checks
from metapers.collect import check, export, running, scripted, settings
from metapers.collect import study as studies
from metapers.collect.settings import Settings
from metapers.collect.study import Study

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
  'scripted', 2000, 'Scripted participants of --check, in 3 minutes; 0 for none.'
)
DRIFTED = flags.DEFINE_integer(
  'drifted', 500, 'Simulated people of --check whose preferences change; 0 for none.'
)
ABSTAINED = flags.DEFINE_integer(
  'abstained', 3000, 'Simulated people of --check with abstention, in 10 minutes; 0 for none.'
)
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
    for measured, flag in (
      (simulated_checks.stops, STOPPED),
      (simulated_checks.drifts, DRIFTED),
      (simulated_checks.abstains, ABSTAINED),
    ):
      for table in measured(flag.value) if flag.value else ():
        commands.say(table)
    return
  folder = pathlib.Path(commands.required(STUDY))
  with commands.holding(folder):
    if EXPORT.value:
      commands.say(exported(folder, EXPORT.value))
    else:
      serve(opened(folder), folder)


def exported(folder: pathlib.Path, where: str) -> str:
  """Writes the tables of a study; returns where, and how much they hold."""
  kept = studies.kept_in(folder)
  written = export.write_tables(kept, folder, where)
  given = [sum(q.answer is not None for q in history) for history in kept.histories().values()]
  return f'{written}: {sum(given)} answers of {sum(map(bool, given))} participants'


def claimed(num_people: int, place: pathlib.Path) -> Iterator[str]:
  """Yields what is claimed of scripted participants of the demo, and what is so."""
  asked = Settings(num_questions=15, control_share=0, repeat_share=0, attention_share=0)
  study = studies.open_study(
    place / 'scripted', items=running.DEMO, model=running.prior(running.DEMO), asked=asked
  )
  assert study.beliefs is not None
  with contextlib.closing(study.store):
    for strength in STRENGTHS:
      found = scripted.claims(study.plan, study.beliefs, num_people, strength=strength)
      yield f'\n{num_people} participants, {asked.num_questions} questions, s = {strength:g}'
      yield from scripted.lines(found)


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
  return given._replace(**{k: v for k, v in flagged.items() if v is not None})


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
