"""Syntactic features of a text: how long it is, of what words, with what marks.

Reference:
  Zollo et al. 2024, arXiv:2409.20296, appendix B.1, for the list of features. Unlike there, parts
  of speech are told by the lexicon and rules of textblob, which need no download.
"""

import functools
import re
import string
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from metapers.core.types import Float
from metapers.data import extras
from metapers.data.constructed_rewards import LIST_ITEM

TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
PUNCTUATION = frozenset(string.punctuation) | frozenset('“”‘’—–…•')
DESCRIBING = ('JJ', 'RB')  # adjectives and adverbs, of the Penn Treebank's tags
STOP_WORDS = frozenset([
  'a', 'about', 'above', 'after', 'again', 'against', 'all', 'am', 'an', 'and', 'any', 'are',
  'as', 'at', 'be', 'because', 'been', 'before', 'being', 'below', 'between', 'both', 'but', 'by',
  'can', 'cannot', 'could', 'did', 'do', 'does', 'doing', 'down', 'during', 'each', 'few', 'for',
  'from', 'further', 'had', 'has', 'have', 'having', 'he', 'her', 'here', 'hers', 'herself',
  'him', 'himself', 'his', 'how', 'i', 'if', 'in', 'into', 'is', 'it', 'its', 'itself', 'just',
  'me', 'more', 'most', 'my', 'myself', 'no', 'nor', 'not', 'now', 'of', 'off', 'on', 'once',
  'only', 'or', 'other', 'our', 'ours', 'ourselves', 'out', 'over', 'own', 'same', 'she',
  'should', 'so', 'some', 'such', 'than', 'that', 'the', 'their', 'theirs', 'them', 'themselves',
  'then', 'there', 'these', 'they', 'this', 'those', 'through', 'to', 'too', 'under', 'until',
  'up', 'very', 'was', 'we', 'were', 'what', 'when', 'where', 'which', 'while', 'who', 'whom',
  'why', 'will', 'with', 'would', 'you', 'your', 'yours', 'yourself', 'yourselves',
])  # fmt: skip
NAMES = (
  'tokens', 'unique words', 'mean word length', 'stop words', 'punctuation', 'list items',
  'adjectives and adverbs',
)  # fmt: skip


def features(texts: Sequence[str]) -> Float[np.ndarray, 'N F']:
  """Returns NAMES of N texts: counts, and the mean length of words in letters.

  Raises:
    ValueError: where the library that tells parts of speech is not installed.
  """
  extras.require('extract', extras.SYNTAX)
  tagger = part_of_speech_tagger()
  return np.array([of_text(text, tagger) for text in texts], np.float64).reshape(-1, len(NAMES))


def of_text(text: str, tagger: Any) -> list[float]:
  """Returns the features of one text, in the order of NAMES."""
  tokens = TOKEN.findall(text.lower())
  words = [token for token in tokens if token[0] not in PUNCTUATION]
  tags = tagger.tag(text) if text.strip() else []
  counted = [
    len(tokens),
    len(set(words)),
    sum(map(len, words)) / max(len(words), 1),
    sum(word in STOP_WORDS for word in words),
    sum(token in PUNCTUATION for token in tokens),
    len(LIST_ITEM.findall(text)),
    sum(tag.startswith(DESCRIBING) for _, tag in tags),
  ]
  return [float(value) for value in counted]


@functools.cache
def part_of_speech_tagger() -> Any:
  """Returns the tagger, whose lexicon comes with its package, loaded once."""
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', ResourceWarning)  # it leaves its lexicon's file open
    from textblob.en.taggers import PatternTagger

    tagger = PatternTagger()
    tagger.tag('word')
  return tagger
