"""Published comparisons by real people, from the hub or local files, as the people tables.

A person's comparisons keep their conversation as context, so that no split can part one; chosen and
rejected are rendered by one function, and a check sees that no format cue tells them apart.
"""

import json
import os
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from metapers.core import files
from metapers.data import hub, rendering
from metapers.data.rendering import Turn

TURNS = ('first', 'second', 'third', 'fourth')
LETTERS = 'abcd'


class PeopleTables(NamedTuple):
  """items: item_id, context, text. comparisons: user_id, chosen, rejected, context, order.

  source, licence: one line each. left_out: why comparisons were not made -> how many.
  """

  items: pd.DataFrame
  comparisons: pd.DataFrame
  source: str
  licence: str
  left_out: dict[str, int]


class Publication(NamedTuple):
  """Where a data set is: id on the hub, its configuration and split; the columns that are read."""

  name: str
  config: str
  split: str
  file: str
  columns: tuple[str, ...]
  licence: str


PUBLISHED = {
  'prism': Publication(
    'HannahRoseKirk/prism-alignment', 'conversations', 'train', 'conversations',
    ('conversation_id', 'user_id', 'conversation_history'),
    'human text CC BY 4.0, model text by its terms',
  ),
  'community_alignment': Publication(
    'facebook/community-alignment-dataset', '', 'filtered', '',
    ('conversation_id', 'annotator_id', 'first_turn_prompt', 'first_turn_preferred_response'),
    'CC BY 4.0',
  ),
  'personalized_rewardbench': Publication(
    'QiyaoMa/Personalized-RewardBench', 'Art_and_Entertainment', 'test', '',
    ('id', 'question', 'chosen', 'rejected'), 'Apache-2.0',
  ),
}  # fmt: skip


class Collector:
  """Gathers items and comparisons, and counts what makes none."""

  def __init__(self):
    self.items: dict[tuple[str, str], int] = {}
    self.rows: list[dict[str, Any]] = []
    self.left_out: Counter = Counter()
    self._orders: Counter = Counter()

  def compare(
    self, user: Any, context: str, history: list[Turn], chosen: str, rejected: str
  ) -> None:
    """Adds one comparison, unless its texts are empty or the same."""
    texts = [rendering.render(history, text) for text in (chosen, rejected)]
    if not rendering.clean(chosen) or not rendering.clean(rejected):
      self.left_out['empty text'] += 1
    elif texts[0] == texts[1]:
      self.left_out['same text'] += 1
    else:
      first, second = (self.items.setdefault((context, text), len(self.items)) for text in texts)
      row = {'user_id': user, 'chosen': first, 'rejected': second, 'context': context}
      self.rows.append(row | {'order': self._orders[user]})
      self._orders[user] += 1

  def tables(self, publication: Publication, source: str) -> PeopleTables:
    """Returns what was gathered.

    Raises:
      ValueError: for no comparison at all, or a form that gives the choice away.
    """
    if not self.rows:
      raise ValueError(f'{source} holds no comparison; left out: {dict(self.left_out)}')
    items = pd.DataFrame(
      [
        {'item_id': number, 'context': context, 'text': text}
        for (context, text), number in self.items.items()
      ]
    )
    comparisons = pd.DataFrame(self.rows)
    rendering.check_cues(items, comparisons)
    return PeopleTables(items, comparisons, source, publication.licence, dict(self.left_out))


def read(kind: str, *, path: str = '', revision: str = 'main') -> PeopleTables:
  """Reads a published data set.

  Args:
    kind: a key of PUBLISHED.
    path: a local folder of its files; '' for the hub.
    revision: of the hub's repository.

  Raises:
    ValueError: for an unknown kind, a hub that cannot be reached, or a column that is missing.

  References:
    Kirk et al. 2024, arXiv:2404.16019 (PRISM); Zhang et al. 2025, arXiv:2507.09650 (Community
    Alignment); Ma et al. 2026, arXiv:2604.07343 (Personalized RewardBench).
  """
  if kind not in PUBLISHED:
    raise ValueError(f'unknown data set of people {kind!r}; known: {", ".join(PUBLISHED)}')
  published = PUBLISHED[kind]
  frame = hub.read_table(
    published.name, revision, path, config=published.config, split=published.split,
    file=published.file,
  )  # fmt: skip
  missing = [name for name in published.columns if name not in frame.columns]
  if missing:
    raise ValueError(
      f'{published.name} has no column {", ".join(missing)}; it has {", ".join(frame.columns)}'
    )
  made = Collector()
  READERS[kind]((dict(row) for _, row in frame.iterrows()), made)
  return made.tables(published, f'{published.name} (revision {revision})')


def collect_prism(rows: Iterable[Mapping[str, Any]], made: Collector) -> None:
  """Collects chosen against every other answer of a turn; PRISM's scores break no tie."""
  for row in rows:
    history: list[Turn] = []
    by_turn: dict[int, list[Mapping[str, Any]]] = {}
    for entry in row['conversation_history']:
      by_turn.setdefault(int(entry['turn']), []).append(entry)
    for turn in sorted(by_turn):
      asked = [entry for entry in by_turn[turn] if entry['role'] == 'user']
      answers = [entry for entry in by_turn[turn] if entry['role'] == 'model']
      chosen = [entry for entry in answers if entry.get('if_chosen')]
      if len(asked) != 1 or len(chosen) != 1:
        made.left_out['turn without one question and one choice'] += 1
        break
      history.append(Turn('user', str(asked[0]['content'])))
      for other in (entry for entry in answers if entry is not chosen[0]):
        if other.get('score') is not None and other['score'] == chosen[0].get('score'):
          made.left_out['tie'] += 1
          continue
        context = f'{row["conversation_id"]}/{turn}'
        made.compare(row['user_id'], context, history, chosen[0]['content'], other['content'])
      history.append(Turn('assistant', str(chosen[0]['content'])))


def collect_community_alignment(rows: Iterable[Mapping[str, Any]], made: Collector) -> None:
  """Collects the preferred of four answers against the others, for up to four turns."""
  for row in rows:
    history: list[Turn] = []
    for turn in TURNS:
      prompt, preferred = row.get(f'{turn}_turn_prompt'), row.get(f'{turn}_turn_preferred_response')
      answers = {letter: row.get(f'{turn}_turn_response_{letter}') for letter in LETTERS}
      answers = {letter: text for letter, text in answers.items() if isinstance(text, str)}
      if not isinstance(prompt, str) or not isinstance(preferred, str):
        break  # the conversation ends here
      letter = preferred.rpartition('_')[2]
      if letter not in answers:
        made.left_out['preferred answer missing'] += 1
        break
      history.append(Turn('user', prompt))
      for other in (name for name in answers if name != letter):
        context = f'{row["conversation_id"]}/{turn}'
        made.compare(row['annotator_id'], context, history, answers[letter], answers[other])
      history.append(Turn('assistant', answers[letter]))


def collect_rewardbench(rows: Iterable[Mapping[str, Any]], made: Collector) -> None:
  """Collects one comparison of each person."""
  for row in rows:
    history = [Turn('user', str(row['question']))]
    made.compare(row['id'], str(row['id']), history, str(row['chosen']), str(row['rejected']))


READERS: dict[str, Callable[[Iterable[Mapping[str, Any]], Collector], None]] = {
  'prism': collect_prism,
  'community_alignment': collect_community_alignment,
  'personalized_rewardbench': collect_rewardbench,
}


def write(folder: str | os.PathLike, tables: PeopleTables) -> pathlib.Path:
  """Writes items.parquet, comparisons.parquet and source.json, as `load_comparisons` reads them."""
  folder = pathlib.Path(folder)
  about = {'source': tables.source, 'licence': tables.licence, 'left_out': tables.left_out}
  files.write_atomically(folder / 'source.json', json.dumps(about, indent=2) + '\n')
  files.write_atomically(folder / 'items.parquet', tables.items.to_parquet())
  files.write_atomically(folder / 'comparisons.parquet', tables.comparisons.to_parquet())
  return folder
