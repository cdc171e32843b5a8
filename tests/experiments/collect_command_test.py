"""A study as a user of the command meets it: its tables, and what is refused."""

import json
import re

import numpy as np
import pytest
from forks import command

from metapers.collect import running, study
from metapers.collect.settings import Settings
from metapers.collect.store import Answer

NUM_PEOPLE = 24
SHORT = (
  '--config.training.num_steps=0', '--config.training.evaluate_every=0',
  '--config.evaluation.num_resamples=20',
)  # fmt: skip


def people_who_differ(folder):
  """A study of people who like one feature or another, all of whose questions are drawn."""
  asked = Settings(
    rule='random', num_questions=12, batch_size=12, repeat_share=0.1, attention_share=0.1
  )
  opened = study.open_study(folder, items=running.DEMO, asked=asked)
  features = opened.items.features / opened.items.features.std(0)
  utility = dict(zip(opened.items.ids, features))
  rng = np.random.default_rng(0)
  for _ in range(NUM_PEOPLE):
    user = opened.store.participant(opened.store.enrol(100))
    weights = rng.normal(size=features.shape[1])
    while (question := opened.progress(user).open) is not None:
      choice = 0
      if question.kind != 'attention':
        choice = int(np.argmax([utility[name] @ weights for name in question.items]))
      opened.answer(user, question.id, Answer('choice', f'key {question.id}', choice))
  opened.store.close()


@pytest.mark.slow
def test_the_tables_of_a_study_train_a_learner_as_those_of_any_people_do(tmp_path):
  people_who_differ(tmp_path / 'study')
  out = tmp_path / 'people'
  done = command('collect', f'--study={tmp_path}/study', f'--export={out}')
  assert done.returncode == 0, done.stderr
  asked = re.fullmatch(rf'{out}: (\d+) answers of {NUM_PEOPLE} participants', done.stdout.strip())
  assert asked and int(asked[1]) > NUM_PEOPLE
  done = command(
    'train', '--config=experiments/configs/people.py:quick,learner=gaussian_prior',
    f'--config.population.kwargs.path={out}', *SHORT, f'--workdir={tmp_path}/run',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  # What it learned asks in the next study.
  done = command(
    'collect', f'--study={tmp_path}/next', f'--items={out}', f'--model={tmp_path}/run',
    '--host=0.0.0.0',
  )  # fmt: skip
  assert done.returncode == 2 and '--open says that this is meant' in done.stderr


def test_the_export_of_a_study_without_answers_says_so(tmp_path):
  study.open_study(tmp_path / 'study', items=running.DEMO).store.close()
  done = command('collect', f'--study={tmp_path}/study', f'--export={tmp_path}/people')
  assert done.stdout.strip() == f'{tmp_path}/people: 0 answers of 0 participants'


@pytest.mark.parametrize(
  ('words', 'message'),
  [
    ((), '--study is needed'),
    (('--study={0}/s', '--items={0}/nothing'), 'items'),
    (('--study={0}/s', '--model={0}/nothing'), 'nothing'),
    (('--study={0}/s', '--settings={0}/settings.json'), "no setting is called 'rul'"),
    (('--study={0}/s', '--rule=best'), 'rule'),
    (('--study={0}/s', '--questions=0'), 'num_questions must lie in 1..1000'),
  ],
)
def test_mistakes_are_one_line(tmp_path, words, message):
  (tmp_path / 'settings.json').write_text(json.dumps({'rul': 'random'}))
  done = command('collect', *(word.format(tmp_path) for word in words))
  assert done.returncode == 2
  assert done.stderr.splitlines()[-1].startswith('error: ') and message in done.stderr
  assert not (tmp_path / 's' / 'study.sqlite').exists()
