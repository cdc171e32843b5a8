"""Small studies for tests."""

import pathlib

import jax
import numpy as np
import pandas as pd

from metapers import learners
from metapers.collect import study as studies
from metapers.collect.assignment import Plan, next_batch
from metapers.collect.settings import Settings
from metapers.collect.store import Answer
from metapers.core import outcomes, population
from metapers.core.population import Scaling
from metapers.io import leaves
from metapers.serving.exports import Export

NUM_ITEMS = 12
NAMES = ('f0', 'f1', 'f2')  # of the features of items
FEW = Settings(num_questions=8, control_share=0.4, repeat_share=0.2, attention_share=0.1)


def write_items(folder: pathlib.Path, texts=None) -> pathlib.Path:
  """Writes twelve texts of two contexts with three features."""
  rng = np.random.default_rng(0)
  table = {
    'item_id': [f'i{number}' for number in range(NUM_ITEMS)],
    'context': [f'prompt {number % 2}' for number in range(NUM_ITEMS)],
    'text': texts or [f'text number {number}' for number in range(NUM_ITEMS)],
    **{name: rng.normal(size=NUM_ITEMS) for name in NAMES},
  }
  folder.mkdir(exist_ok=True)
  pd.DataFrame(table).to_csv(folder / 'items.csv', index=False)
  return folder


def trained(kinds):
  """Returns an export of a learner that reads answers of some kinds."""
  width = len(NAMES) + len(kinds)
  made = learners.make('gaussian_prior', num_features=width)
  scaling = population.widened(Scaling(np.zeros(3), np.ones(3)), len(kinds))
  return Export(
    'gaussian_prior', {'num_features': width}, leaves.named(made.init(jax.random.key(0))),
    len(outcomes.outcomes_of(kinds)), scaling, (*NAMES, *kinds), outcomes=kinds,
  )  # fmt: skip


def open_study(folder, asked=FEW, model=None, texts=None):
  """Returns a new study in a folder."""
  return studies.open_study(
    folder / 'study', items=write_items(folder / 'items', texts), model=model, asked=asked
  )


class Guide:
  """Ranks questions by a number that depends on the choices so far; predicts by it, too."""

  def rank(self, history, questions, count):
    total = sum(q.answer.choice or 0 for q in history if q.answer)
    return np.argsort((questions.sum(1) * 7 + total) % 11, kind='stable')[:count].tolist()

  def predict(self, history, questions):
    chance = (questions[:, 0] % 5 + 1) / 7
    return np.stack([chance, 1 - chance], -1)


def plan_of(asked, num_items=9):
  """Returns a plan over all pairs of items, with a guide that is no model."""
  pool = np.stack(np.triu_indices(num_items, 1), -1)
  return Plan(asked, [f'i{number}' for number in range(num_items)], pool, Guide())


def simulate(plan, participant, choose):
  """Returns the history of a participant whose n-th answer is `choose(n)`."""
  history = []
  while batch := next_batch(plan, participant, history):
    answered = [
      question._replace(
        id=question.position + 1,
        answer=Answer('choice', str(question.position), choose(question.position)),
      )
      for question in batch
    ]
    history += answered
  return history


def answer(study, participant, what='choice', choice=0, key=None):
  """Answers the open question; returns it."""
  question = study.progress(participant).open
  chosen = choice if what == 'choice' else None
  key = (
    key
    or f'key of {question.id} {question.position} {len(study.store.rows("SELECT id FROM answers"))}'
  )
  study.answer(participant, question.id, Answer(what, key, chosen))
  return question


def enrol(study):
  """Returns the token and the number of a new participant."""
  token = study.store.enrol(100)
  return token, study.store.participant(token)
