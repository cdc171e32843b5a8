"""Rewards constructed from surface features of a text, preferences that people would recognise.

CONSTRUCTED, not learned from people: they stand in for reward models where none can be run, and are
labelled so wherever they are shown. Deterministic, offline, and finite for any text.
"""

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from metapers.core.types import Float

WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
# No pattern repeats over what its next match may start in: that takes quadratic time.
SENTENCE_END = re.compile(r'[.!?](?=\s|$)')
LIST_ITEM = re.compile(r'^[^\S\n]*(?:[-*•]|\d+[.)])\s', re.MULTILINE)
MARKDOWN = re.compile(r'^#{1,6}\s|\*\*|`|^\|', re.MULTILINE)
NUMBER = re.compile(r'\d+(?:[.,]\d+)*')
NAME = re.compile(r'(?<=[a-z,;] )[A-Z][a-z]+')  # capitalised inside a sentence
EXAMPLE = re.compile(r'\b(?:for example|for instance|such as|e\.g\.|namely)', re.IGNORECASE)
QUESTION = re.compile(r'\?')
HEDGES = frozenset([
  'may', 'might', 'could', 'perhaps', 'possibly', 'probably', 'generally', 'usually', 'often',
  'sometimes', 'seems', 'seem', 'appears', 'appear', 'likely', 'unlikely', 'suggest', 'suggests',
  'tend', 'tends', 'typically', 'potentially',
])  # fmt: skip
CONTRACTION = re.compile(r"\b\w+'(?:t|s|re|ve|ll|d|m)\b", re.IGNORECASE)
CASUAL = frozenset([
  'hey', 'yeah', 'ok', 'okay', 'wow', 'cool', 'awesome', 'gonna', 'wanna', 'kinda', 'lol', 'stuff',
  'guys', 'hi',
])  # fmt: skip
YOU = frozenset(['you', 'your', 'yours', 'yourself', "you're", "you'll", "you've", "you'd"])
ENDINGS = ('tion', 'sion', 'ment', 'ness', 'ity', 'ance', 'ence', 'ism')  # of abstract nouns
PER_WORDS = 100  # rates are per hundred words
VERSION = 2  # raised whenever some text has another score
SENTIMENT_CHARACTERS = 1500  # of which sentiment is read: the lexicon's rules take their time


def straight(text: str) -> str:
  """Returns a text whose apostrophes are those of the patterns and lexicons here."""
  return text.replace('\u2019', "'")


def words_of(text: str) -> list[str]:
  """Returns the words of a text, in lower case."""
  return WORD.findall(straight(text).lower())


def rate(count: int, text: str) -> float:
  """Returns the logarithm of 1 + occurrences per hundred words."""
  return math.log1p(PER_WORDS * count / max(len(words_of(text)), 1))


def length(prompt: str, response: str) -> float:
  """Returns log(1 + characters): prefers long answers."""
  del prompt
  return math.log1p(len(response))


def brevity(prompt: str, response: str) -> float:
  """Returns -log(1 + words per sentence): prefers short sentences, whatever the whole length."""
  del prompt
  sentences = max(len(SENTENCE_END.findall(response)), 1)
  return -math.log1p(len(words_of(response)) / sentences)


def readability(prompt: str, response: str) -> float:
  """Returns minus the automated readability index, a school grade from -5 to 25."""
  import textstat  # comes with an extra, as vaderSentiment does

  del prompt
  prose = LIST_ITEM.sub('', straight(response))
  return -min(max(float(textstat.textstat.automated_readability_index(prose)), -5.0), 25.0)


def lists(prompt: str, response: str) -> float:
  """Returns the rate of list and markdown marks."""
  del prompt
  return rate(len(LIST_ITEM.findall(response)) + len(MARKDOWN.findall(response)), response)


def formality(prompt: str, response: str) -> float:
  """Returns 5 x the share of long words minus the rate of contractions and casual words."""
  del prompt
  words = words_of(response)
  casual = len(CONTRACTION.findall(straight(response))) + sum(word in CASUAL for word in words)
  long = sum(len(word) > 8 for word in words) / max(len(words), 1)
  return 5 * long - rate(casual, response)


@functools.cache
def lexicon() -> Any:
  """Returns the sentiment lexicon that comes with vaderSentiment, loaded once."""
  from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

  return SentimentIntensityAnalyzer()


def sentiment(prompt: str, response: str) -> float:
  """Returns the positive minus the negative share (Hutto and Gilbert 2014, VADER)."""
  del prompt
  found = lexicon().polarity_scores(straight(response[:SENTIMENT_CHARACTERS]))
  return found['pos'] - found['neg']


def hedging(prompt: str, response: str) -> float:
  """Returns the rate of hedges: prefers cautious claims."""
  del prompt
  return rate(sum(word in HEDGES for word in words_of(response)), response)


def questions(prompt: str, response: str) -> float:
  """Returns the rate of question marks: prefers questions in return."""
  del prompt
  return rate(len(QUESTION.findall(response)), response)


def vocabulary(prompt: str, response: str) -> float:
  """Returns log(1 + different words) - ¾ log(1 + words): prefers a rich vocabulary."""
  del prompt
  words = words_of(response)
  return math.log1p(len(set(words))) - 0.75 * math.log1p(len(words))


def concreteness(prompt: str, response: str) -> float:
  """Returns the rate of numbers, names and examples minus that of abstract nouns."""
  del prompt
  concrete = sum(len(mark.findall(response)) for mark in (NUMBER, NAME, EXAMPLE))
  abstract = sum(word.endswith(ENDINGS) for word in words_of(response))
  return rate(concrete, response) - rate(abstract, response)


def enthusiasm(prompt: str, response: str) -> float:
  """Returns the rate of exclamation marks."""
  del prompt
  return rate(response.count('!'), response)


def directness(prompt: str, response: str) -> float:
  """Returns the rate of the second person: prefers direct address."""
  del prompt
  return rate(sum(word in YOU for word in words_of(response)), response)


def echo(prompt: str, response: str) -> float:
  """Returns the share of the words of the prompt that the response repeats."""
  asked = set(words_of(prompt))
  return len(asked & set(words_of(response))) / max(len(asked), 1)


CONSTRUCTED: dict[str, Callable[[str, str], float]] = {
  'length': length,
  'brevity': brevity,
  'readability': readability,
  'lists': lists,
  'formality': formality,
  'sentiment': sentiment,
  'hedging': hedging,
  'questions': questions,
  'vocabulary': vocabulary,
  'concreteness': concreteness,
  'enthusiasm': enthusiasm,
  'directness': directness,
  'echo': echo,
}


def check_names(names: Sequence[str]) -> None:
  """Checks that all names are those of constructed rewards.

  Raises:
    ValueError: for an unknown name; lists the known ones.
  """
  unknown = [name for name in names if name not in CONSTRUCTED]
  if unknown:
    raise ValueError(
      f'unknown constructed rewards {", ".join(unknown)}; known: {", ".join(CONSTRUCTED)}'
    )


def score(
  names: Sequence[str], prompts: Sequence[str], responses: Sequence[str]
) -> Float[np.ndarray, 'N B']:
  """Returns the scores of N pairs of prompt and response by the B rewards named: float32 [N, B].

  Raises:
    ValueError: for an unknown name; lists the known ones.
  """
  check_names(names)
  pairs = list(zip(prompts, responses, strict=True))
  columns = [[CONSTRUCTED[name](*pair) for pair in pairs] for name in names]
  return np.array(columns, np.float32).reshape(len(names), len(pairs)).T
