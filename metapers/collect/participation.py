"""The pages of a participant: the questions, what the model believes, and what is kept."""

import secrets
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import logging
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from metapers.collect import summary, web
from metapers.collect.store import ANSWERS, NOT_OPEN, Answer, Conflict, Question
from metapers.collect.study import Progress, Study
from metapers.collect.web import Pages

LONGEST = 24 * 3600.0  # seconds that an answer may have taken
WORDS = {'same': 'about the same', 'both_bad': 'both bad', 'skip': 'skipped'}
NAMES = 'ABCDEF'
ARROWS = (('arrowleft', '←'), ('arrowright', '→'))
WHY = {
  'asked': 'It was asked because its answer was to tell the model most.',
  'control': 'It was drawn at random, so that the accuracy of the model can be measured.',
  'repeat': 'It was asked before, to see how steady such answers are.',
  'attention': 'It only checked that texts are read.',
}


class Candidate(NamedTuple):
  """A text on the page. number: among the items of the question. shortcuts: keys of the keyboard
  that choose it, of which `key` is shown."""

  name: str
  number: int
  text: str
  shortcuts: str
  key: str


class Believed(NamedTuple):
  """What a page shows of the beliefs about a participant."""

  directions: Sequence[Any]
  standing: Any
  num_target: int
  is_done: bool
  surprise: float | None


def routes() -> list[BaseRoute]:
  """Returns where the pages are."""
  return [
    Route('/', welcome),
    Route('/begin', begin, methods=['POST']),
    Route('/p/{token}', question),
    Route('/p/{token}/answer', question),
    Route('/p/{token}/answer', answer, methods=['POST']),
    Route('/p/{token}/undo', undo, methods=['POST']),
    Route('/p/{token}/data', data),
    Route('/p/{token}/delete', delete, methods=['POST']),
  ]


async def welcome(request: Request) -> Response:
  """The first page."""
  pages = web.pages_of(request)
  asked = pages.study.settings
  return pages.show(
    'welcome', welcome=asked.welcome, open_enrolment=asked.open_enrolment,
    num_questions=asked.num_questions,
  )  # fmt: skip


async def begin(request: Request) -> Response:
  """Takes in a participant and leads to the page that is theirs."""
  study = web.pages_of(request).study
  if not study.settings.open_enrolment:
    raise HTTPException(403, 'This study takes in those alone who have a link.')
  token = await run_in_threadpool(study.store.enrol, study.settings.max_participants)
  return web.to(f'/p/{token}')


async def question(request: Request) -> Response:
  """The open question, or the last page."""
  return await run_in_threadpool(_question, web.pages_of(request), request.path_params['token'])


async def answer(request: Request) -> Response:
  """Keeps an answer and leads to the next question."""
  fields, token = await web.form(request), request.path_params['token']
  pages = web.pages_of(request)
  try:
    await run_in_threadpool(_keep, pages.study, token, fields)
  except sqlite3.Error as error:
    return not_stored(pages, error, fields)
  return web.to(f'/p/{token}')


async def undo(request: Request) -> Response:
  """Takes the last answer back."""
  fields, token = await web.form(request), request.path_params['token']
  study = web.pages_of(request).study
  user = await run_in_threadpool(_user, study, token)
  await run_in_threadpool(study.undo, user, web.number(fields.get('answer')))
  return web.to(f'/p/{token}')


async def data(request: Request) -> Response:
  """What is kept of a participant."""
  return await run_in_threadpool(_data, web.pages_of(request), request.path_params['token'])


async def delete(request: Request) -> Response:
  """Deletes a participant."""
  pages = web.pages_of(request)
  user = await run_in_threadpool(_user, pages.study, request.path_params['token'])
  await run_in_threadpool(pages.study.store.delete, user)
  return pages.say(200, 'Deleted', 'Your answers are deleted. You may close this page.')


def not_stored(pages: Pages, error: Exception, fields: dict[str, str] | None = None) -> Response:
  """Returns the page for a disk without space, or a file that another process holds.

  Args:
    pages: of the study.
    error: of SQLite.
    fields: of the form, to be sent again with the same key.
  """
  logging.error('the study cannot be written: %s', error)
  words = 'The study cannot be written at the moment. What was confirmed before is kept.'
  return pages.say(503, 'Not kept yet', words, again=list(fields.items()) if fields else None)


def _keep(study: Study, token: str, fields: dict[str, str]) -> None:
  user = _user(study, token)
  given = fields.get('answer', '')
  kind, _, choice = given.partition(':')
  key = fields.get('key', '')
  asked = web.number(fields.get('question'))
  if kind not in ANSWERS or (kind == 'choice') != bool(choice) or not 8 <= len(key) <= 64:
    raise HTTPException(400, web.NO_FORM)
  picked = web.number(choice) if choice else None
  mine = [q for q in study.store.history(user) if q.id == asked]
  if not mine:
    raise Conflict(NOT_OPEN)
  if picked is not None and picked >= len(mine[0].items):
    raise HTTPException(400, web.NO_FORM)
  strength = fields.get('strength') if study.settings.ask_strength and choice else None
  level = web.number(strength) if strength else None
  if level not in (None, 1, 2, 3):
    raise HTTPException(400, web.NO_FORM)
  study.answer(user, asked, Answer(kind, key, picked, level, _seconds(fields.get('duration'))))


def _question(pages: Pages, token: str) -> Response:
  study = pages.study
  user = _user(study, token)
  progress = study.progress(user)
  answered = progress.answered
  last = answered[-1] if answered else None
  believed = _believed(study, answered)
  shown = {
    'token': token,
    'undo': last.answer.id if last and last.answer else None,
    'beliefs': believed,
    'last': _explained(last) if last else '',
    'guess': '',
  }
  asked = progress.open
  if asked is None:
    row = believed.standing.best if believed else None
    favourite = '' if row is None else study.items.texts[row]
    context = '' if row is None else study.items.context[row]
    return pages.show(
      'finished', number=len(answered), favourite=favourite, context=context, **shown
    )
  shown['guess'] = _guess(asked)
  return pages.show('question', **_asked(study, progress, asked), **shown)


def _asked(study: Study, progress: Progress, asked: Question) -> dict[str, Any]:
  is_pair = len(asked.shown) == 2
  candidates = [
    Candidate(
      name=NAMES[place],
      number=number,
      text=study.text(asked.items[number]),
      shortcuts=f'{place + 1} {ARROWS[place][0] if is_pair else ""}'.strip(),
      key=ARROWS[place][1] if is_pair else str(place + 1),
    )
    for place, number in enumerate(asked.shown)
  ]
  row = study.items.ids.index(asked.items[0]) if asked.kind != 'attention' else None
  return {
    'heading': study.settings.title,
    'context': '' if row is None else study.items.context[row],
    'candidates': candidates,
    'question': asked.id,
    'key': secrets.token_urlsafe(12),
    'number': asked.position + 1,
    'total': progress.total,
    'ask_strength': study.settings.ask_strength,
  }


def _believed(study: Study, answered: list[Question]) -> Believed | None:
  beliefs = study.beliefs
  if beliefs is None or not study.settings.show_beliefs or not answered:
    return None
  standing = beliefs.standing(answered)
  return Believed(
    beliefs.directions(answered), standing, len(beliefs.target),
    standing.probability >= study.settings.stop_probability, beliefs.surprise(answered),
  )  # fmt: skip


def _explained(last: Question) -> str:
  why = WHY['control' if last.rule == 'random' and last.kind == 'asked' else last.kind]
  if last.answer is None or last.answer.choice is None or not last.predicted:
    return why
  chance = 100 * last.predicted[last.answer.choice]
  return f'The model had given your last answer {chance:.0f} %. {why}'


def _guess(asked: Question) -> str:
  if not asked.predicted:
    return ''
  chances = [(asked.predicted[index], NAMES[place]) for place, index in enumerate(asked.shown)]
  chance, name = max(chances)
  return f'{name}, with {100 * chance:.0f} %.'


def _data(pages: Pages, token: str) -> Response:
  study, user = pages.study, _user(pages.study, token)
  kept = study.store.kept(user)
  still_open = {question.id for question in study.store.history(user) if not question.answer}
  answers = [
    _told(study, question, undone, question.id in still_open)
    for question, undone in kept
    if question.answer
  ]
  return pages.show(
    'data', token=token, participant=user, answers=answers, unanswered=len(kept) - len(answers),
    has_model=study.beliefs is not None,
  )  # fmt: skip


def _told(study: Study, question: Question, undone: float | None, is_open: bool) -> dict[str, Any]:
  """Returns what the page tells of an answer; of an open question no prediction, which may lead."""
  answer = question.answer
  assert answer is not None
  texts = [_shortened(study.text(item)) for item in question.items]
  chances = [f'{100 * chance:.0f}\xa0%' for chance in question.predicted or ()]
  if is_open or not chances:
    chances = [''] * len(texts)
  return {
    'number': question.position + 1,
    'texts': [(texts[place], chances[place]) for place in question.shown],
    'words': WORDS.get(answer.answer) or texts[answer.choice or 0],
    'strength': answer.strength or '',
    'seconds': '' if answer.duration is None else f'{answer.duration:.1f}',
    'time': summary.when(answer.time),
    'undone': summary.when(undone) if undone else '',
  }


def _shortened(text: str) -> str:
  return text if len(text) <= 60 else f'{text[:57]}…'


def _user(study: Study, token: str) -> int:
  user = study.store.participant(token)
  if user is None:
    raise HTTPException(404)
  return user


def _seconds(text: str | None) -> float | None:
  try:
    found = float(text or 'nan')
  except ValueError:
    return None
  return found if 0 <= found <= LONGEST else None
