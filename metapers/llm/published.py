"""The comparisons of P-RLHF's three experiments, from the public files that they are made of.

Reference:
  Li et al. 2024, arXiv:2402.05133; Stiennon et al. 2020, arXiv:2009.01325 (TL;DR); Jang et al.
  2023, arXiv:2310.11564 (P-SOUPS); Kirk et al. 2024, arXiv:2404.16019 (PRISM).
"""

import json
import os
import pathlib
import types
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metapers.core import files

Record = Mapping[str, Any]
TLDR_SEED, LONGER_SHARE, NUM_TLDR_USERS = 3456, 0.7, 10
PROFILES = {  # of P-SOUPS, with the sentence that is taken out of each prompt
  'P1A': 'Generate a response that can be easily understood by an elementary school student.',
  'P1B': 'Generate a response that only a PhD Student in that specific field could understand.',
  'P2A': 'Generate a response that is concise and to the point without being verbose.',
  'P2B': 'Generate a response that is very informative without missing any background information.',
  'P3A': 'Generate a response that is friendly, witty, funny, and humorous, like a close friend.',
  'P3B': 'Generate a response in an unfriendly manner.',
}
PRISM_SEED, SEEN_SHARE, LONGEST = 123, 0.9, 2300  # characters of question and answer
SURVEY = {  # of what people say of themselves: the survey's name of it, and how it is told
  'age': 'age',
  'gender': 'gender',
  'education': 'education',
  'employment_status': 'employment',
  'marital_status': 'marital',
  'english_proficiency': 'english_proficiency',
}


class Turn(NamedTuple):
  """role: 'user' or 'assistant'."""

  role: str
  text: str


class Comparison(NamedTuple):
  """What one person preferred, after some turns."""

  user: str
  turns: tuple[Turn, ...]
  chosen: str
  rejected: str


class Published(NamedTuple):
  """An experiment's comparisons.

  known: the users that have rows, in their order; others are new. texts: user -> what they say of
  themselves; empty where nobody is asked. kinds: user -> what they like, where that is constructed.
  """

  train: list[Comparison]
  evaluation: list[Comparison]
  known: list[str]
  texts: Mapping[str, str] = types.MappingProxyType({})
  kinds: Mapping[str, str] = types.MappingProxyType({})


def read_records(path: str | os.PathLike) -> list[Record]:
  """Returns the records of a .json (a list) or .jsonl file.

  Raises:
    ValueError: for another kind of file, or one that is not JSON.
  """
  path = pathlib.Path(path)
  if path.suffix == '.jsonl':
    return [record for _, record in files.json_lines(path)]
  try:
    found = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise ValueError(f'{path} is not JSON: {error}') from error
  if not isinstance(found, list):
    raise ValueError(f'{path} holds no list of records')
  return found


def tldr(train: Iterable[Record], evaluation: Iterable[Record]) -> Published:
  """Returns summaries of supervised policies, of which each worker prefers longer or shorter ones.

  The ten workers with the most comparisons are known. Preferences are simulated: with probability
  LONGER_SHARE a worker prefers the longer summary in characters, always; of equal ones the first.

  Args:
    train: records of openai/summarize_from_feedback, `comparisons`.
    evaluation: the same of its validation split.
  """
  kept, judged = list(filter(is_supervised, train)), list(filter(is_supervised, evaluation))
  counts = Counter(record['worker'] for record in kept)
  ranked = sorted({record['worker'] for record in [*kept, *judged]}, key=lambda x: (-counts[x], x))
  prefers_shorter = dict(zip(ranked, shorter_is_preferred(len(ranked)), strict=True))
  known = ranked[:NUM_TLDR_USERS]

  def compared(records):
    return [_summaries(record, prefers_shorter[record['worker']]) for record in records]

  trained = [record for record in kept if record['worker'] in set(known)]
  return Published(compared(trained), compared(judged), known)


def is_supervised(record: Record) -> bool:
  """Tells whether both summaries are by policies without reinforcement learning, of this data."""
  policies = [summary['policy'] for summary in record['summaries']]
  return all('sup' in x and 'ppo' not in x and 'cnn' not in x for x in policies)


def shorter_is_preferred(num_workers: int) -> list[bool]:
  """Returns whether each worker, most comparisons first, prefers shorter summaries."""
  draws = np.random.RandomState(TLDR_SEED).random_sample(num_workers)
  return [bool(draw >= LONGER_SHARE) for draw in draws]


def _summaries(record: Record, prefers_shorter: bool) -> Comparison:
  first, second = (summary['text'] for summary in record['summaries'])
  is_second = len(second) < len(first) if prefers_shorter else len(second) > len(first)
  # The files begin each with the space that `tokenized.encoder` puts between prompt and reply.
  chosen, rejected = (x.lstrip() for x in ((second, first) if is_second else (first, second)))
  info = record['info']
  asked = f'SUBREDDIT: r/{info["subreddit"]}\nTITLE: {info["title"]}\nPOST: {info["post"]}\nTL;DR:'
  return Comparison(record['worker'], (Turn('user', asked),), chosen, rejected)


def p_soups(
  profiles: Mapping[str, Sequence[Record]], *, evaluation_share: int | float = 0.1, seed: int = 123
) -> Published:
  """Returns the comparisons of six profiles as of six users; exact repetitions are left out.

  Args:
    profiles: of PROFILES, each with the records of rm_training/NAME.json.
    evaluation_share: of all comparisons.
    seed: of which these are.

  Raises:
    ValueError: for a missing profile.
  """
  missing = [name for name in PROFILES if name not in profiles]
  if missing:
    raise ValueError(f'P-SOUPS has no records of {", ".join(missing)}')
  every = [each for name in PROFILES for each in _profile(name, profiles[name])]
  order = np.random.default_rng(seed).permutation(len(every))
  held_out = set(order[: round(evaluation_share * len(every))].tolist())
  train = [each for index, each in enumerate(every) if index not in held_out]
  return Published(train, [every[index] for index in sorted(held_out)], list(PROFILES))


def _profile(name: str, records: Iterable[Record]) -> Iterator[Comparison]:
  seen = set()
  for record in records:
    chosen, rejected = record['completion_a'], record['completion_b']
    key = (record['user_input'], chosen, rejected)
    if chosen != rejected and key not in seen:
      seen.add(key)
      asked = record['user_input'].replace(PROFILES[name], '').strip()
      yield Comparison(name, (Turn('user', asked),), chosen, rejected)


def prism(survey: Iterable[Record], conversations: Iterable[Record]) -> Published:
  """Returns chosen against each rejected answer of every turn, with what came before.

  Of the users 90 % are seen, and 90 % of the conversations of each are trained on; who has one
  conversation is new. Unlike the published code, what users say of themselves is given apart from
  the prompt, for known and generic rows alike.

  Args:
    survey: records of survey.jsonl.
    conversations: records of conversations.jsonl.
  """
  people = {row['user_id']: row for row in survey if row['num_completed_conversations']}
  dialogues = {row['conversation_id']: _dialogue(row) for row in conversations}
  of_user: dict[str, list[str]] = {user: [] for user in people}
  for name, (user, turns) in dialogues.items():
    if any(map(_is_whole, turns)):
      of_user[user].append(name)
  users = np.asarray([user for user in people if of_user[user]])
  rng = np.random.RandomState(PRISM_SEED)
  rng.shuffle(users)
  num_seen = int(len(users) * SEEN_SHARE)
  trained, judged, known = [], [name for user in users[num_seen:] for name in of_user[user]], []
  for user in map(str, users[:num_seen]):
    own = np.asarray(of_user[user])
    rng.shuffle(own)
    size = int(len(own) * SEEN_SHARE)
    trained += own[:size].tolist()
    judged += own[size:].tolist()
    known += [user] if size else []
  train, evaluation = (
    [each for name in names for each in _compared(*dialogues[name])] for names in (trained, judged)
  )
  return Published(train, evaluation, known, {user: said_by(row) for user, row in people.items()})


def said_by(row: Record) -> str:
  """Returns what somebody of the survey says of themselves, in one line."""
  ranks = row['order_stated_prefs'].items()
  preferred = ', '.join(name for name, rank in ranks if rank in (1, 2, 3))
  parts = {'preference': preferred, 'self_description': row['self_description']}
  parts |= {told: row[name] for name, told in SURVEY.items()}
  return 'User textual information: ' + ' '.join(f'{name}: {x};' for name, x in parts.items())


class _Answers(NamedTuple):
  asked: list[str]
  chosen: list[str]
  rejected: list[str]


def _dialogue(row: Record) -> tuple[str, list[_Answers]]:
  turns = [_Answers([], [], []) for _ in range(row['conversation_turns'])]
  for said in row['conversation_history']:
    turn = turns[said['turn']]
    kind = turn.asked if said['role'] == 'user' else turn.rejected
    (turn.chosen if said.get('if_chosen') else kind).append(said['content'])
  return row['user_id'], turns


def _is_whole(turn: _Answers) -> bool:
  """Tells whether a turn has a question, a choice and rejected answers, none of them too long."""
  answers = [*turn.chosen[:1], *turn.rejected]
  there = bool(turn.asked and turn.chosen and turn.rejected)
  return there and all(len(turn.asked[0]) + len(answer) <= LONGEST for answer in answers)


def _compared(user: str, turns: Sequence[_Answers]) -> Iterator[Comparison]:
  history: list[Turn] = []
  for turn in turns:
    if not turn.asked:
      return
    history.append(Turn('user', turn.asked[0]))
    if _is_whole(turn):
      for rejected in turn.rejected:
        yield Comparison(user, tuple(history), turn.chosen[0], rejected)
    if turn.chosen:
      history.append(Turn('assistant', turn.chosen[0]))
