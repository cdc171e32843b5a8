"""Two answers to a question before a judge: wins, ties and losses, with intervals.

Every pair is asked in both orders. A win is one in both; where the orders disagree, or either says
that they are equal, it is a tie. What the place of an answer does to the verdict is reported.

Reference:
  Zheng et al. 2023, arXiv:2306.05685 (judges prefer places; both orders, ties where they disagree).
"""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from metapers.core import files
from metapers.core.types import Bool, Float, Int
from metapers.evaluation import bootstrap, estimates, intervals
from metapers.io import chat, responses
from metapers.io.responses import Wanted

QUESTION = """Which of two answers does a person prefer?

{about}Question:
{prompt}

[Answer A, {tag}]
{first}
[End of answer A, {tag}]

[Answer B, {tag}]
{second}
[End of answer B, {tag}]

Say which answer this person would prefer, in one word: A, B, or tie."""
ABOUT = 'About this person:\n{about}\n\n'
FIRST, SECOND, TIE = 1, -1, 0
VERDICTS = {'a': FIRST, 'b': SECOND, 'tie': TIE}
AT_FIRST = re.compile(r'\W*(?:answer\s+)?(a|b|tie)\W*(?:$|\n|[.,:;])', re.IGNORECASE)
TIE_ARTICLE = re.compile(r'\ba (?=tie\b(?!-))', re.IGNORECASE)
# A capital A that names an answer: an article stands before a lower-case word, other than these.
NAMES_A = re.compile(
  r'(?i:answer|option|reply|response) A\b|\bA\b(?![ -][a-z])|'
  r'\bA (?:and|as|because|but|for|has|is|or|over|since|than|was|would)\b'
)
COLUMNS = ('metric', 'value', 'ci_low', 'ci_high', 'num_users', 'num_prompts', 'num_pairs')
WIN, EVEN, LOSS = 'win', 'tie', 'loss'
# Of verdicts that prefer one answer, how many prefer that shown first; and of pairs with a verdict
# in both orders, how many have the same in both.
PLACE, CONSISTENT = 'first_preferred', 'consistent'


class Duel(NamedTuple):
  """Two answers to a user's question. about: what is said of the user, or ''."""

  user: str
  prompt_id: str
  prompt: str
  answer: str
  rival: str
  about: str = ''


class Verdicts(NamedTuple):
  """Of D duels: +1 for the answer, -1 for its rival, 0 for neither; masked where there is none.

  shown_first: the verdict where the answer was shown first. shown_second: where its rival was.
  """

  shown_first: Int[np.ndarray, 'D']
  shown_second: Int[np.ndarray, 'D']
  is_first: Bool[np.ndarray, 'D']
  is_second: Bool[np.ndarray, 'D']

  @property
  def is_judged(self) -> Bool[np.ndarray, 'D']:
    """Which duels have a verdict in both orders; the others are counted, and left out."""
    return self.is_first & self.is_second

  @property
  def outcome(self) -> Int[np.ndarray, 'D']:
    """+1, 0, or -1: a tie where the orders disagree."""
    return np.where(self.shown_first == self.shown_second, self.shown_first, TIE)


def read_duels(path: str | os.PathLike) -> list[Duel]:
  """Returns the duels of a .jsonl file, with the fields of `Duel` in each line; `about` may lack.

  Raises:
    ValueError: for a line with other fields, or empty texts, with its number.
  """
  found = []
  for source, line in files.json_lines(path):
    record = {'about': '', **line}
    texts = all(isinstance(value, str) for value in record.values())
    if set(record) != set(Duel._fields) or not texts or not record['prompt'].strip():
      raise ValueError(
        f'{source}: a pair has texts {", ".join(Duel._fields)}, of which about may '
        f'lack; got {sorted(record)}'
      )
    found.append(Duel(**record))
  if not found:
    raise ValueError(f'{path} holds no pairs of answers')
  return found


def question(duel: Duel, *, swapped: bool) -> str:
  """Returns what the judge is asked, with the rival first if swapped.

  Where an answer ends is marked by a digest of all texts, which no answer can hold: none can speak
  for the other.
  """
  first, second = (duel.rival, duel.answer) if swapped else (duel.answer, duel.rival)
  about = ABOUT.format(about=duel.about) if duel.about else ''
  tag = files.sha256(json.dumps([first, second]).encode())[:8]
  return QUESTION.format(about=about, prompt=duel.prompt, first=first, second=second, tag=tag)


def parse(text: str) -> int | None:
  """Returns the verdict of a judge's words: FIRST, SECOND, TIE, or None where it gives none.

  It stands first, as asked for, or is the only one of 'A', 'B' and 'tie' that the text holds as a
  word of its own; 'a' in a sentence is an article, as is 'A' before 'tie' and most other words.
  """
  text = TIE_ARTICLE.sub('', text)
  found = AT_FIRST.match(text)
  if found:
    return VERDICTS[found[1].lower()]
  words = re.findall(r'[A-Za-z]+', text)
  named = {VERDICTS[word.lower()] for word in words if word in ('A', 'B') or word.lower() == 'tie'}
  if named == {FIRST} and not NAMES_A.search(text):
    return None
  return named.pop() if len(named) == 1 else None


def identity(duels: Sequence[Duel]) -> str:
  """Returns the sha256 of what is asked: a journal means the pairs of the same file."""
  return files.sha256(json.dumps([list(duel) for duel in duels] + [QUESTION]).encode())


class Asked(NamedTuple):
  """Verdicts, and what did not become one. failures: why, by request. usage: tokens, summed."""

  verdicts: Verdicts
  failures: Mapping[Wanted, str]
  num_unclear: int
  usage: Mapping[str, int]


def ask(
  client: chat.Client,
  judge: str,
  duels: Sequence[Duel],
  path: str | os.PathLike,
  *,
  parameters: Mapping[str, Any],
  concurrency: int = 8,
  ended: Callable[[int], object] = lambda count: None,
) -> Asked:
  """Returns a judge's verdicts of all pairs in both orders; none that is there is asked for again.

  Args:
    client: of the endpoint.
    judge: the model, as the endpoint names it.
    duels: pairs of answers.
    path: of the journal.
    parameters: of every request, such as temperature and max_tokens.
    concurrency: how many requests are under way at once.
    ended: called with how many verdicts have come or failed, of all.

  Raises:
    ValueError, OSError: as `responses.collect` and `responses.Journal`.
  """
  shared = {'base_url': client.base_url, **parameters, 'pairs': identity(duels)}
  journal = responses.Journal(path, shared)
  prompts = [question(duel, swapped=swapped) for duel in duels for swapped in (False, True)]
  try:
    failures = responses.collect(
      client, prompts, [judge], journal,
      parameters=parameters, concurrency=concurrency, ended=ended,
    )  # fmt: skip
  finally:
    journal.close()
  answers = [journal.answers.get(Wanted(row, judge)) for row in range(len(prompts))]
  said = [None if answer is None else parse(answer.text) for answer in answers]
  unclear = sum(one is not None and verdict is None for one, verdict in zip(answers, said))
  return Asked(verdicts_of(said), failures, unclear, usage_of(answers))


def verdicts_of(said: Sequence[int | None]) -> Verdicts:
  """Returns the verdicts of pairs of replies, one for each order; the second one turned round."""
  real = np.array([verdict is not None for verdict in said]).reshape(-1, 2)
  values = np.array([verdict or TIE for verdict in said], np.int32).reshape(-1, 2)
  return Verdicts(values[:, 0], -values[:, 1], real[:, 0], real[:, 1])


def usage_of(answers: Sequence[chat.Completion | None]) -> dict[str, int]:
  """Returns the numbers of tokens that an endpoint counted, summed by name."""
  total: dict[str, int] = {}
  for answer in answers:
    for name, count in (answer.usage if answer else {}).items():
      if isinstance(count, int):
        total[name] = total.get(name, 0) + count
  return total


def by_score(
  answer: Float[np.ndarray, 'D'], rival: Float[np.ndarray, 'D'], *, gap: float = 0.0
) -> Verdicts:
  """Returns the verdicts of a known utility, such as that of styles: no judge is needed.

  Args:
    answer: utility to its user of each answer.
    rival: of its rival.
    gap: that differences must exceed to be none.
  """
  away = np.asarray(answer, float) - np.asarray(rival, float)
  outcome = np.where(np.abs(away) > gap, np.sign(away), 0).astype(np.int32)
  every = np.ones(len(outcome), bool)
  return Verdicts(outcome, outcome, every, every)


def shares(
  duels: Sequence[Duel], verdicts: Verdicts, *, num_resamples: int = 1000, level: float = 0.95
) -> pd.DataFrame:
  """Returns the shares of wins, ties and losses, and what places do, each with an interval.

  Intervals are for new users and new prompts; every user counts alike. `win_minus_loss` is paired.

  Args:
    duels: pairs of answers.
    verdicts: of them; those without two are left out.
    num_resamples: of the bootstrap.
    level: of the intervals.

  Raises:
    ValueError: for verdicts of fewer than two users.
  """
  kept = np.flatnonzero(verdicts.is_judged)
  table = _Table([duels[row] for row in kept.tolist()])
  outcome = verdicts.outcome[kept]
  tables = {
    WIN: (outcome == 1, None),
    EVEN: (outcome == 0, None),
    LOSS: (outcome == -1, None),
    'win_minus_loss': (outcome, None),
    CONSISTENT: (verdicts.shown_first[kept] == verdicts.shown_second[kept], None),
  }
  both = np.stack([verdicts.shown_first[kept], verdicts.shown_second[kept]])  # of the answer
  decided = (both != 0).sum(0)
  first = (both[0] == 1).astype(float) + (both[1] == -1)
  if decided.any():
    tables[PLACE] = (first, decided)
  lines = []
  for metric, (value, counted) in tables.items():
    low_high = table.interval(metric, value, counted, num_resamples, level)
    lines.append((metric, *low_high, table.num_users, table.num_prompts, len(kept)))
  return pd.DataFrame(lines, columns=list(COLUMNS))


class _Table:
  """Duels as cells of users; a user may have any number of them."""

  def __init__(self, duels: Sequence[Duel]):
    users = sorted({duel.user for duel in duels})
    prompts = sorted({duel.prompt_id for duel in duels})
    self.num_users, self.num_prompts = len(users), len(prompts)
    if self.num_users < 2:
      raise ValueError(f'an interval needs pairs of at least 2 users, got {self.num_users}')
    rows = {name: number for number, name in enumerate(users)}
    ids = {name: number for number, name in enumerate(prompts)}
    self._user = np.array([rows[duel.user] for duel in duels])
    places = np.zeros(len(users), int)
    self._place = np.zeros(len(duels), int)
    for number, user in enumerate(self._user):
      self._place[number] = places[user]
      places[user] += 1
    self._shape = (len(users), places.max())
    self._prompts = self._laid(np.array([ids[duel.prompt_id] for duel in duels])).astype(int)

  def _laid(self, values: np.ndarray) -> np.ndarray:
    found = np.zeros(self._shape)
    found[self._user, self._place] = values
    return found

  def interval(
    self,
    metric: str,
    value: np.ndarray,
    counted: np.ndarray | None,
    num_resamples: int,
    level: float,
  ) -> tuple[float, float, float]:
    """Returns value, low and high of Σ value / Σ counted."""
    own = np.ones(len(value)) if counted is None else counted
    draws = bootstrap.draw(self.num_users, self._prompts, num_resamples=num_resamples, seed=0)
    weights = bootstrap.weights(draws, self._laid(own), self._prompts)
    samples = estimates.weigh(weights, self._laid(value)[None, None], [metric])[0]
    sizes = {'num_users': self.num_users, 'num_prompts': self.num_prompts}
    if metric == 'win_minus_loss':
      found = np.clip(intervals.interval(samples, level=level, **sizes), -1, 1)
    else:
      found = np.clip(intervals.share_interval(samples, level=level, **sizes), 0, 1)
    middle, low, high = found[:, 0].tolist()
    return middle, low, high


def in_words(frame: pd.DataFrame) -> list[str]:
  """Returns a line for each number, in percent."""
  return [
    f'{metric:<16} {100 * value:5.1f} [{100 * low:.1f}, {100 * high:.1f}]'
    for metric, value, low, high in frame[list(COLUMNS[:4])].itertuples(index=False)
  ]
