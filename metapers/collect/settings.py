"""What a study asks of its participants, as one JSON object."""

import pathlib
from typing import NamedTuple

from metapers.core import fields, files

RULES = ('information', 'random')
LARGEST_BATCH, MOST_CANDIDATES, MOST_QUESTIONS = 16, 6, 1000


class Settings(NamedTuple):
  """The settings of a study, fixed when it begins.

  title, welcome: what participants read first.
  num_questions: asked of each participant, controls, repeats and checks among them.
  rule: which question is asked: 'information' takes that whose answer tells the model most
    (`Personalizer.ask`), 'random' draws it.
  batch_size: questions chosen together, before any of them is answered.
  control_share: chance that a question is drawn at random instead; accuracy is of these alone.
  repeat_share: chance that an earlier question is asked again, its positions exchanged.
  attention_share: chance of a question that says which answer to give.
  num_candidates: K, texts side by side.
  pool_size: questions among which the rule chooses, drawn anew for each batch.
  seed: of all that is drawn.
  show_beliefs: let participants see what the model believes of them, which may change what they
    answer.
  ask_strength: let them say how clear a preference is, from 1 to 3.
  open_enrolment: anybody who sees the first page may take part; else the admin page makes links.
  max_participants: no more are let in.
  target: context of the items of which the best one is to be found; '' for that with most items.
  stop_probability: of knowing the best one; from it on a page says that more would change little.
  """

  title: str = 'Which text do you prefer?'
  welcome: str = (
    'You will see texts side by side. Choose the one that you like better. There are no right '
    'answers, and you may stop at any time.'
  )
  num_questions: int = 20
  rule: str = 'information'
  batch_size: int = 1
  control_share: float = 0.2
  repeat_share: float = 0.1
  attention_share: float = 0.05
  num_candidates: int = 2
  pool_size: int = 64
  seed: int = 0
  show_beliefs: bool = False
  ask_strength: bool = True
  open_enrolment: bool = True
  max_participants: int = 1000
  target: str = ''
  stop_probability: float = 0.9


KINDS = Settings.__annotations__

RANGES = {
  'num_questions': (1, MOST_QUESTIONS),
  'batch_size': (1, LARGEST_BATCH),
  'control_share': (0, 1),
  'repeat_share': (0, 1),
  'attention_share': (0, 1),
  'num_candidates': (2, MOST_CANDIDATES),
  'pool_size': (1, 4096),
  'seed': (0, 2**31 - 1),
  'max_participants': (1, 10**6),
  'stop_probability': (0, 1),
}


def of_json(values: dict, source: str | pathlib.Path) -> Settings:
  """Returns settings from a JSON object; what it does not name is the default.

  Values are not checked: a study that began before one was refused goes on with it.

  Raises:
    ValueError: for an unknown name or another type.
  """
  unknown = sorted(set(values) - set(KINDS))
  if unknown:
    raise ValueError(f'{source}: no setting is called {unknown[0]!r}; known: {", ".join(KINDS)}')
  fields.check(source, values, {name: KINDS[name] for name in values})
  return _of_floats(Settings(**values))


def read(path: str | pathlib.Path) -> Settings:
  """Returns the settings in a JSON file; raises ValueError as `of_json` and `checked` do."""
  return checked(of_json(files.read_json(path), path))


def checked(settings: Settings) -> Settings:
  """Returns settings that can be, a share or a probability given as a whole number as a float.

  Raises:
    ValueError: naming the setting, its value and those allowed.
  """
  settings = _of_floats(settings)
  for name, (least, most) in RANGES.items():
    value = settings._asdict()[name]
    if not least <= value <= most:
      raise ValueError(f'{name} must lie in {least}..{most}, got {value}')
  if settings.pool_size < settings.batch_size:
    raise ValueError(
      f'pool_size must be at least batch_size, {settings.batch_size}, for a batch is chosen from '
      f'the pool; got {settings.pool_size}'
    )
  if settings.rule not in RULES:
    raise ValueError(f'unknown rule {settings.rule!r}; known: {", ".join(RULES)}')
  shares = settings.control_share + settings.repeat_share + settings.attention_share
  if shares > 1:
    raise ValueError(f'control_share, repeat_share and attention_share sum to {shares:.3g}, over 1')
  return settings


def _of_floats(settings: Settings) -> Settings:
  values = settings._asdict()
  return Settings(**{name: kind(values[name]) for name, kind in KINDS.items()})
