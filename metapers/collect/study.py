"""A study at work: who is asked what, what they answered, and how far they are."""

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from metapers.collect import assignment, settings, store
from metapers.collect import items as texts
from metapers.collect.assignment import ATTENTION, Plan
from metapers.collect.beliefs import Beliefs
from metapers.collect.items import Items
from metapers.collect.settings import Settings
from metapers.collect.store import Answer, Question, Store
from metapers.serving import exports
from metapers.serving.exports import Export
from metapers.serving.personalizer import CAPACITY, Personalizer

DATABASE, ITEMS = 'study.sqlite', 'items'
CHECK = {
  ATTENTION[0]: 'This question checks that texts are read. Please choose this one.',
  ATTENTION[1]: 'This question checks that texts are read. Please do not choose this one.',
}


class Progress(NamedTuple):
  """Where a participant stands: questions so far, the open one (None at the end), and how many
  there will be at most."""

  history: list[Question]
  open: Question | None
  total: int

  @property
  def answered(self) -> list[Question]:
    """The questions with an answer, in order."""
    return [question for question in self.history if question.answer]


class Study:
  """A study in a folder; `open_study` opens it.

  Args:
    kept: its file.
    found: its items.
    plan: of the questions.
    beliefs: of the model that asks, or None: then questions are drawn.
  """

  def __init__(self, kept: Store, found: Items, plan: Plan, beliefs: Beliefs | None):
    self.store, self.items, self.plan, self.beliefs = kept, found, plan, beliefs
    self.settings = plan.settings
    self._texts = dict(zip(found.ids, found.texts)) | CHECK

  def text(self, item: str) -> str:
    """Returns the text of an item, or of a check of attention."""
    return self._texts[item]

  def progress(self, participant: int) -> Progress:
    """Returns where a participant stands, and makes the next questions where none is open."""
    for _ in range(3):  # add them and read them; once another tab may come between
      history = self.store.history(participant)
      unanswered = [question for question in history if question.answer is None]
      batch = [] if unanswered else assignment.next_batch(self.plan, participant, history)
      if not batch:
        return Progress(history, (unanswered or [None])[0], self.settings.num_questions)
      self.store.add(participant, batch, history)
    raise store.Conflict('another tab is faster than this one; load the page anew')

  def answer(self, participant: int, question: int, given: Answer) -> bool:
    """Keeps an answer; False where it is kept already. Raises Conflict as `Store.answer` does."""
    return self.store.answer(participant, question, given)

  def undo(self, participant: int, answer: int) -> bool:
    """Takes the last answer back. Raises Conflict as `Store.undo` does."""
    return self.store.undo(participant, answer, self.settings.batch_size)

  def warm_up(self) -> None:
    """Compiles what participants will wait for."""
    if self.beliefs is None:
      return
    size = min(self.settings.batch_size, len(self.plan.pool), self.settings.pool_size)
    offered = self.plan.pool[: self.settings.pool_size]
    self.beliefs.rank((), offered, size)
    count = 1
    while count < 2 * self.settings.batch_size:
      self.beliefs.predict((), self.plan.pool[:count])
      count *= 2
    self.beliefs.directions(())
    self.beliefs.standing(())


def open_study(
  folder: str | pathlib.Path,
  *,
  items: str | pathlib.Path | None = None,
  model: Export | str | pathlib.Path | None = None,
  asked: Settings | None = None,
) -> Study:
  """Returns the study in a folder; begins it where there is none.

  Args:
    folder: of the study; it holds its file and a copy of the items.
    items: folder of the items of a new study; of one that has begun, the same ones or None.
    model: export of the one that asks, or its folder; a study goes on with the model it began with.
    asked: settings of a new study; of one that has begun, the same ones or None.

  Raises:
    ValueError: for a new study without items, or one that began with others, other settings or
      another model.
  """
  folder = pathlib.Path(folder)
  has_begun = (folder / ITEMS).is_dir()
  if not has_begun and items is None:
    raise ValueError(f'{folder} holds no study: give the folder of its items to begin one')
  found = texts.read(folder / ITEMS if has_begun else items or '')
  if has_begun and items is not None and texts.read(items).digest != found.digest:
    raise ValueError(f'the study in {folder} began with other items; give another folder')
  kept = Store(folder / DATABASE) if has_begun else None
  try:
    chosen = _settings(kept, asked, folder)
    served, mark = _model(kept, model, chosen, folder)
    target = texts.target(found, chosen.target)
    beliefs = None if served is None else Beliefs(served, found, target)
    pool = texts.pool(found, chosen.num_candidates, chosen.seed)
    if kept is None:  # now that nothing is wrong with it
      texts.keep(items or '', folder / ITEMS)
      kept = Store(folder / DATABASE)
    kept.say('settings', chosen._asdict())
    kept.say('model', mark)
    return Study(kept, found, Plan(chosen, found.ids, pool, beliefs), beliefs)
  except ValueError:
    if kept is not None:
      kept.close()
    raise


def kept_in(folder: str | pathlib.Path) -> Store:
  """Returns the file of the study in a folder.

  Raises:
    ValueError: if there is none.
  """
  path = pathlib.Path(folder, DATABASE)
  if not path.is_file():
    raise ValueError(f'{folder} holds no study')
  return Store(path)


def settings_in(folder: str | pathlib.Path) -> Settings:
  """Returns the settings of the study in a folder; the defaults where there is none."""
  path = pathlib.Path(folder, DATABASE)
  if not path.is_file():
    return Settings()
  kept = Store(path)
  try:
    return _settings(kept, None, path.parent)
  finally:
    kept.close()


def _settings(kept: Store | None, asked: Settings | None, folder: pathlib.Path) -> Settings:
  stored = kept.about('settings') if kept else None
  if stored is None:
    return settings.checked(asked or Settings())
  chosen = settings.of_json(stored, folder)
  if asked is not None and asked != chosen:
    changed = [name for name, value in asked._asdict().items() if value != stored.get(name)]
    raise ValueError(f'the study in {folder} began with another {changed[0]}; give another folder')
  return chosen


def _model(
  kept: Store | None,
  given: Export | str | pathlib.Path | None,
  asked: Settings,
  folder: pathlib.Path,
) -> tuple[Personalizer | None, str]:
  """Returns the model and its fingerprint, '' without one."""
  capacity, model = max(CAPACITY, asked.num_questions), None
  if isinstance(given, Export):
    model = Personalizer(given, capacity=capacity)
  elif given is not None:
    model = Personalizer.from_checkpoint(given, capacity=capacity)
  if model is not None and asked.num_candidates > model.export.num_candidates:
    raise ValueError(
      f'num_candidates={asked.num_candidates}, and the model was trained on choices among up to '
      f'{model.export.num_candidates}'
    )
  mark = '' if model is None else exports.fingerprint(model.export)
  if kept is not None and kept.about('model', mark) != mark:
    raise ValueError(f'the study in {folder} began with another model; give that, or a new folder')
  return model, mark


def correct_check(question: Question) -> bool:
  """Returns whether a check of attention was answered as it says."""
  return question.answer is not None and question.answer.choice == 0


def agreement(history: Sequence[Question]) -> list[bool]:
  """Returns for each repeated question with two choices whether both were the same."""
  first = {
    question.pool: question.answer.choice
    for question in history
    if question.kind in ('asked', 'control') and question.answer
  }
  return [
    first[question.pool] == question.answer.choice
    for question in history
    if question.kind == 'repeat' and question.answer and question.answer.choice is not None
  ]
