"""Published comparisons by real people, from the hub or local files, as the people tables.

The context of a comparison is the prompt that its conversation opens with. Holding out whole
contexts then divides no conversation, whose later turns repeat what was chosen before, and no text
stands on both sides under two names. `conversation` and `turn` are kept, too.
"""

import math
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from metapers.core import files
from metapers.data import hub, people_tables
from metapers.data.collector import Collector, PeopleTables, Place
from metapers.data.rendering import ROLES, Turn

Rows = Iterable[Mapping[str, Any]]
TURNS = ('first', 'second', 'third', 'fourth')
LETTERS = 'abcd'
COMMIT = re.compile('[0-9a-f]{40}')
NO_TEXT = 'EMPTY STRING'  # how some rows of Community Alignment write that there is none
PERSONAL = ('user_id', 'conversation_id', 'context', 'chosen', 'rejected')


class HubSplit(NamedTuple):
  """One split on the hub; how the names of its files begin, '' for as the split's."""

  split: str
  config: str = ''
  file: str = ''


class Publication(NamedTuple):
  """A published data set: its id on the hub and its splits; the columns that are read."""

  name: str
  splits: tuple[HubSplit, ...]
  columns: tuple[str, ...]
  licence: str


SPLITS = HubSplit('train'), HubSplit('validation'), HubSplit('test')
AREAS = 'Art_and_Entertainment', 'Lifestyle_and_Personal_Development', 'Society_and_Culture'
PRISM_LICENCE = (
  'people: CC BY 4.0; models: CC BY-NC 4.0 and the terms of their makers: treat as non-commercial'
)
PUBLISHED = {
  'prism': Publication(
    'HannahRoseKirk/prism-alignment',
    (HubSplit('train', 'conversations', 'conversations'),),
    ('conversation_id', 'user_id', 'conversation_history'),
    PRISM_LICENCE,
  ),
  'community_alignment': Publication(
    'facebook/community-alignment-dataset',
    (HubSplit('train', file='community_alignment'),),
    ('conversation_id', 'annotator_id', 'first_turn_prompt', 'first_turn_preferred_response',
     'first_turn_response_a', 'first_turn_response_b'),
    'CC BY 4.0',
  ),
  'personal_rewardbench_prism': Publication(
    'MichaelR207/prism_personalized_0125', SPLITS, PERSONAL, f'as PRISM: {PRISM_LICENCE}'
  ),
  'personal_rewardbench_arena': Publication(
    'MichaelR207/chatbot_arena_personalized_0125', SPLITS, PERSONAL,
    'as Chatbot Arena: see lmsys/chatbot_arena_conversations',
  ),
  'personalized_rewardbench': Publication(
    'QiyaoMa/Personalized-RewardBench',
    tuple(HubSplit('test', area, f'{area}/test') for area in AREAS),
    ('id', 'question', 'chosen', 'rejected'),
    'Apache-2.0',
  ),
}  # fmt: skip


def read_people(kind: str, *, path: str = '', revision: str = 'main') -> PeopleTables:
  """Returns the comparisons of a published data set.

  `personal_rewardbench_*` are the two halves of PersonalRewardBench. `personalized_rewardbench` is
  another benchmark: a model wrote its answers by a person's rubric, one comparison each.

  Args:
    kind: a key of PUBLISHED.
    path: a local folder of its files; '' for the hub.
    revision: of the hub's repository; a branch or tag is read at its commit of now.

  Raises:
    ValueError: for an unknown kind, a hub that cannot be reached, or a column that is missing.

  References:
    Kirk et al. 2024, arXiv:2404.16019 (PRISM); Zhang et al. 2025, arXiv:2507.09650 (Community
    Alignment); Ryan et al. 2025, arXiv:2506.05598 (PersonalRewardBench); Ma et al. 2026,
    arXiv:2604.07343 (Personalized RewardBench).
  """
  if kind not in PUBLISHED:
    raise ValueError(f'unknown data set of people {kind!r}; known: {", ".join(PUBLISHED)}')
  published, made = PUBLISHED[kind], Collector()
  known = path or COMMIT.fullmatch(revision)
  commit = revision if known else hub.commit_of(published.name, revision)
  for each in published.splits:
    frame = hub.read_table(
      published.name, commit, path, split=each.split, config=each.config, file=each.file
    )
    check_columns(frame, published)
    READERS[kind]((dict(row) for _, row in frame.iterrows()), made)
  source = f'{published.name} ({"from local files" if path else f"commit {commit}"})'
  return made.tables(source, published.licence)


def check_columns(frame: pd.DataFrame, published: Publication) -> None:
  """Checks that a table has the columns that are read.

  Raises:
    ValueError: naming what is missing, and what is there.
  """
  missing = [name for name in published.columns if name not in frame.columns]
  if missing:
    raise ValueError(
      f'{published.name} has no column {", ".join(missing)}; it has '
      f'{", ".join(map(str, frame.columns))}; was another file or revision read?'
    )


def text_of(value: Any) -> str:
  """Returns a text, '' for whatever stands where there is none."""
  return value if isinstance(value, str) and value.strip() != NO_TEXT else ''


def messages(value: Any) -> list[Mapping[str, Any]]:
  """Returns the messages of a conversation, none if any is malformed."""
  listed = [] if value is None or isinstance(value, str | float | Mapping) else list(value)
  sound = all(isinstance(one, Mapping) and one.get('role') in ROLES for one in listed)
  return listed if sound else []


def collect_prism(rows: Rows, made: Collector) -> None:
  """Collects chosen against every other answer of a turn that was rated lower."""
  for row in rows:
    history: list[Turn] = []
    turns = prism_turns(messages(row['conversation_history']), made)
    for number, (asked, chosen, others) in enumerate(turns):
      history.append(Turn('user', asked))
      place = Place(row['user_id'], row['conversation_id'], number)
      for other in others:
        gap = score(chosen) - score(other)
        if gap > 0:
          made.compare(place, history, text_of(chosen['content']), text_of(other['content']))
        else:
          made.left_out['tie' if gap == 0 else 'unrated, or rated above the chosen one'] += 1
      history.append(Turn('assistant', text_of(chosen['content'])))


def prism_turns(
  entries: list[Mapping[str, Any]], made: Collector
) -> Iterator[tuple[str, Mapping[str, Any], list[Mapping[str, Any]]]]:
  """Yields question, chosen and other answers, up to the first turn that is not of that form."""
  by_turn: dict[Any, list[Mapping[str, Any]]] = {}
  for entry in entries:
    by_turn.setdefault(entry.get('turn'), []).append(entry)
  if not entries or not all(isinstance(turn, int) for turn in by_turn):
    made.left_out['malformed conversation'] += 1
    return
  for turn in sorted(by_turn):
    asked = [text_of(entry.get('content')) for entry in by_turn[turn] if entry['role'] == 'user']
    answers = [entry for entry in by_turn[turn] if entry['role'] != 'user']
    chosen = [entry for entry in answers if entry.get('if_chosen')]
    # Where the model said the same twice, both are marked.
    if len(asked) != 1 or len({text_of(entry.get('content')) for entry in chosen}) != 1:
      made.left_out['turn without one question and one choice, and what follows'] += 1
      return
    yield asked[0], chosen[0], [entry for entry in answers if not entry.get('if_chosen')]


def score(entry: Mapping[str, Any]) -> float:
  """Returns a rating, NaN where there is none."""
  found = entry.get('score')
  return float(found) if isinstance(found, int | float) else math.nan


def collect_community_alignment(rows: Rows, made: Collector) -> None:
  """Collects the preferred of four answers against the others, for up to four turns."""
  for row in rows:
    history: list[Turn] = []
    for number, turn in enumerate(TURNS):
      answers = {letter: text_of(row.get(f'{turn}_turn_response_{letter}')) for letter in LETTERS}
      prompt = text_of(row.get(f'{turn}_turn_prompt'))
      preferred = text_of(row.get(f'{turn}_turn_preferred_response')).rpartition('_')[2]
      if not prompt and not preferred:
        break  # the conversation ends here
      if not prompt or not answers.get(preferred):
        made.left_out['turn without one question and one choice, and what follows'] += 1
        break
      history.append(Turn('user', prompt))
      place = Place(row['annotator_id'], row['conversation_id'], number)
      for other in (name for name in answers if name != preferred):
        made.compare(place, history, answers[preferred], answers[other])
      history.append(Turn('assistant', answers[preferred]))


def collect_personal_rewardbench(rows: Rows, made: Collector) -> None:
  """Collects pairs of messages; one side may be a list of one message and the other not."""
  for row in rows:
    history = [
      Turn(ROLES[one['role']], text_of(one.get('content'))) for one in messages(row['context'])
    ]
    sides = [
      messages([side] if isinstance(side, Mapping) else side)
      for side in (row['chosen'], row['rejected'])
    ]
    if not history or any(len(side) != 1 for side in sides):
      made.left_out['malformed conversation'] += 1
      continue
    place = Place(row['user_id'], row['conversation_id'], len(history) // 2)
    made.compare(place, history, *(text_of(side[0].get('content')) for side in sides))


def collect_personalized_rewardbench(rows: Rows, made: Collector) -> None:
  """Collects one comparison of each person."""
  for row in rows:
    history = [Turn('user', text_of(row['question']))]
    place = Place(row['id'], row['id'], 0)
    made.compare(place, history, text_of(row['chosen']), text_of(row['rejected']))


READERS: dict[str, Callable[[Rows, Collector], None]] = {
  'prism': collect_prism,
  'community_alignment': collect_community_alignment,
  'personal_rewardbench_prism': collect_personal_rewardbench,
  'personal_rewardbench_arena': collect_personal_rewardbench,
  'personalized_rewardbench': collect_personalized_rewardbench,
}


def write_people(folder: str | os.PathLike, tables: PeopleTables) -> pathlib.Path:
  """Writes the tables to a folder for `load_comparisons`, beside source.json, and returns it."""
  folder = pathlib.Path(folder)
  about = {'source': tables.source, 'licence': tables.licence, 'left_out': tables.left_out}
  files.write_json(folder / people_tables.SOURCE, about)
  files.write_atomically(folder / 'items.parquet', tables.items.to_parquet())
  files.write_atomically(folder / 'comparisons.parquet', tables.comparisons.to_parquet())
  return folder
