"""Personas told to a model, beside Dirichlet users, as a part of the page."""

import functools
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from metapers.analysis import diversity as diversity_of_users
from metapers.analysis import persona_users, study_frame, vote_table, voters
from metapers.analysis.persona_users import MOVED, NOBODY, PERSONAS
from metapers.analysis.slates import Slates
from metapers.analysis.study_frame import Whose, pick
from metapers.analysis.voters import DIRICHLET, UNIFORM, Voters
from metapers.bench.studies import diversity, part, persona_readers
from metapers.bench.studies.part import Part, Shown
from metapers.bench.studies.persona_readers import Asked, Make
from metapers.io import panels
from metapers.io.plots import Figure

TITLE = 'Personas told to a model, beside Dirichlet users'
STUDY = 'personas'
BY = 'personas by the '
NO_READERS: Mapping[str, Make] = {}


class Options(NamedTuple):
  """What personas are asked, and by whom.

  readers: name -> what makes a reader. personas: texts. most_chars: of each response to a prompt
  that is asked about. num_prompts: at most. folder: of the journals of answers.
  """

  readers: Mapping[str, Make] = NO_READERS
  personas: tuple[str, ...] = PERSONAS
  most_chars: int = 600
  num_prompts: int = 40
  folder: pathlib.Path = pathlib.Path('.')


def part_of(
  given: Slates,
  texts: tuple[np.ndarray | None, np.ndarray],
  options: Options,
  concentrations: Sequence[float],
  *,
  num_draws: int,
  seed: int = 0,
) -> Part:
  """Returns the part of the page.

  Args:
    given: the responses.
    texts: [P] of all prompts of the store, and [P, R] of their responses.
    options: of the study.
    concentrations: α of the Dirichlet users, of whom there are as many as personas.
    num_draws: of these users.
    seed: of all that is drawn.

  Raises:
    ValueError: without a reader that can be run, without texts, or without short responses.
  """
  if not options.readers:
    raise ValueError(f'no model that reads personas was given: --personas={persona_readers.FORM}')
  prompts, responses = texts
  if prompts is None:
    raise ValueError('the store holds no texts of its prompts; extract one from texts')
  short = persona_users.short_slates(
    given, responses[given.rows], most_chars=options.most_chars,
    num_prompts=options.num_prompts, seed=seed,
  )  # fmt: skip
  personas = (NOBODY, *options.personas)
  asked = Asked(personas, prompts[short.rows].tolist(), responses[short.rows], short.mask, seed)
  utilities, reasons = read(asked, options)
  if not utilities:
    raise ValueError('; '.join(reasons))
  simulated = voters.voters(
    short, concentrations, num_users=len(options.personas), num_draws=num_draws, study=STUDY,
    seed=seed,
  )  # fmt: skip
  frame = study_frame.joined(
    [
      vote_table.study(short, simulated),
      *(frame_of(short, name, each, seed) for name, each in utilities.items()),
    ]
  )
  return shown(short, frame, personas[1:], reasons)


def read(asked: Asked, options: Options) -> tuple[persona_readers.Utilities, list[str]]:
  """Returns the utilities by every reader that can be run, and why others can not."""
  found: persona_readers.Utilities = {}
  reasons = []
  for number, (name, make) in enumerate(options.readers.items()):
    try:
      made = make(asked)
      file = re.sub(r'\W+', '_', made.name) + f'_{number}.jsonl'
      found |= made.utilities(persona_readers.collect(made, asked, options.folder / file))
    except (ValueError, OSError) as error:
      reasons.append(f'{name}: left out, {error}')
  return found, reasons


def frame_of(short: Slates, name: str, utility: np.ndarray, seed: int) -> pd.DataFrame:
  """Returns the numbers of the users of one reader.

  Args:
    short: the responses.
    name: of these users.
    utility: [V, P, R] of NOBODY first.
    seed: of ties.

  Raises:
    ValueError: for a reader that answered nothing.
  """
  picked = persona_users.picks(utility, short.mask, seed=seed)
  counts = persona_users.votes(picked[1:], short.mask.shape[1])
  is_voted = counts[0].sum(-1) > 0
  if not is_voted.any():
    raise ValueError(f'{name}: no question was answered; see that the model runs')
  whose = Whose(STUDY, name)
  table = vote_table.study(short.only(is_voted), [Voters(whose, counts[:, is_voted])])
  if short.is_personal_llm and name.startswith(f'{BY}reward model'):
    table = table.assign(published=published_of(table))
  moved = persona_users.moved(picked[1:], persona_users.vote_for_nobody(utility[0], picked[0]))
  return study_frame.joined([table, study_frame.rows(whose, moved)])


def published_of(table: pd.DataFrame) -> list[float]:
  """Returns what is published of other personas, read by one reward model, row by row."""
  known = vote_table.of_paper(diversity_of_users.PERSONA_PROMPTING)
  return [known.get(key, study_frame.NONE) for key in zip(table['group'], table['statistic'])]


def shown(
  short: Slates, frame: pd.DataFrame, personas: tuple[str, ...], reasons: Sequence[str]
) -> Part:
  """Returns the numbers as a part of the page."""
  count, places = len(personas), len(short.rows)
  own = frame[frame['population'].isin([DIRICHLET, UNIFORM]) | is_persona(frame)]
  table = diversity.table_of(own, 'z')
  note = (
    f'{count} personas and as many users in each draw, on the same {places} prompts; errors of '
    'personas are for new prompts, of Dirichlet users for new users as well'
  )
  return Part(
    TITLE,
    frame,
    findings=sentences(frame, count, places),
    text=text_of(count, places, personas, reasons),
    figures={
      'personas': Shown(functools.partial(figure, frame), f'{note}. z scores.'),
    },
    tables=[table._replace(note=note)],
    warnings=list(reasons),
  )


def text_of(
  count: int, places: int, personas: tuple[str, ...], reasons: Sequence[str]
) -> list[str]:
  """Returns what was done, in paragraphs."""
  form = persona_users.TOLD.format(persona='PERSONA', prompt='PROMPT').replace('\n\n', ' ')
  return [
    f'A model is told one of {count} personas and one of {places} prompts with short responses, as '
    f'"{form}", and the response it then finds best has that persona\'s vote: by a reward model '
    'the one of largest score; by a decoder the one that it finds likeliest, in all (which favours '
    'short ones), per token, or over how likely it is without a persona; by a chat model the one '
    'it names when all are shown in random order. Dirichlet users vote on the same responses.',
    f'The personas: {" / ".join(personas)}',
    *reasons,
  ]


def is_persona(frame: pd.DataFrame) -> pd.Series:
  """Tells which rows are of personas."""
  return frame['population'].str.startswith(BY)


def figure(frame: pd.DataFrame, *, is_narrow: bool = False) -> Figure:
  """Returns the shares of the most popular response and the numbers of winners."""
  users = diversity.users_of(frame, 'z')
  middle = users['name'].unique()[len(users['name'].unique()) // 2]
  personas = frame[is_persona(frame)]
  personas = personas.assign(name=personas['population'].str.removeprefix(BY))
  own = pd.concat([personas, users[users['name'] == middle]])

  def series(statistic: str) -> dict[str, panels.Numbers]:
    rows = own[own['statistic'] == statistic]
    return {str(name): part.numbers(each) for name, each in rows.groupby('name', sort=False)}

  parts = [
    panels.Panel(panels.bars(series(statistic), '% of prompts'), title, 3.0)
    for statistic, title in (
      (vote_table.TOP, 'Top response gets'),
      (vote_table.NUM_WINNERS, 'Number of winners'),
    )
  ]
  return panels.figure(
    parts, title='Personas and Dirichlet users', described='see the table', is_narrow=is_narrow
  )


def sentences(frame: pd.DataFrame, count: int, places: int) -> list[str]:
  """Returns what was found of each reader, in words."""
  users = diversity.users_of(frame, 'z')
  entropies = users[users['statistic'] == vote_table.ENTROPY]
  simulated = ', '.join(
    f'{value:.2f} ({name})' for value, name in zip(entropies['value'], entropies['name'])
  )
  said = []
  for name, own in frame[is_persona(frame)].groupby('population', sort=False):
    entropy = study_frame.value_of(own, statistic=vote_table.ENTROPY)
    moved = pick(own, statistic=MOVED)
    changes = [part.written(*row) for row in zip(moved['value'], moved['standard_error'])]
    said.append(
      f'{count} {name}: the entropy of the vote on {places} prompts is {entropy:.2f} nats, of as '
      f'many Dirichlet users {simulated}'
      + ''.join(f'; a persona changes the vote from that for nobody in {each} % of the cases'
                for each in changes)
      + '.'
    )  # fmt: skip
  return said
