"""Syntactic features of texts, counted by hand."""

import numpy as np
import pytest

from metapers.data import extras, syntax

TEXT = "The very quick fox doesn't stop.\n- a red hat\n2. Run!"


def of(text):
  return dict(zip(syntax.NAMES, syntax.features([text])[0], strict=True))


def test_a_text_is_counted_by_hand():
  found = of(TEXT)
  # the very quick fox doesn't stop . - a red hat 2 . run !
  assert found['tokens'] == 15
  assert found['unique words'] == 11
  assert found['punctuation'] == 4
  assert found['mean word length'] == pytest.approx(
    (3 + 4 + 5 + 3 + 7 + 4 + 1 + 3 + 3 + 1 + 3) / 11
  )
  assert found['stop words'] == 3  # the, very, a
  assert found['list items'] == 2


def test_adjectives_and_adverbs_are_told_from_other_words():
  assert of('The lazy dog sleeps very happily')['adjectives and adverbs'] == 3
  assert of('The dog eats the bone')['adjectives and adverbs'] == 0


def test_repeated_words_are_unique_once():
  assert of('Word word WORD')['unique words'] == 1


def test_an_empty_text_has_nothing():
  np.testing.assert_array_equal(syntax.features(['', ' \n']), np.zeros((2, len(syntax.NAMES))))
  assert syntax.features([]).shape == (0, len(syntax.NAMES))


def test_a_missing_library_is_said(monkeypatch):
  monkeypatch.setattr(extras, 'is_installed', lambda name: False)
  with pytest.raises(ValueError, match='textblob is needed'):
    syntax.features(['a'])
