import pytest

from metapers.llm import in_context
from metapers.llm.in_context import Example

EXAMPLES = [Example('why', 'because', 'dunno'), Example('who', 'me', 'nobody')]


@pytest.mark.parametrize(
  ('arm', 'shown', 'hidden'),
  [
    ('winning', ['because', 'me'], ['dunno', 'nobody', 'disliked']),
    ('losing', ['dunno', 'nobody'], ['because']),
    ('both', ['because', 'dunno', 'me', 'nobody'], []),
    ('mislabelled', ['liked: dunno', 'liked: nobody'], ['because', 'disliked']),
  ],
)
def test_an_arm_shows_what_it_says_and_nothing_else(arm, shown, hidden):
  text = in_context.message(arm, EXAMPLES, 'how?')
  assert all(part in text for part in ['why', 'who', *shown])
  assert not any(part in text for part in hidden)
  assert text.endswith('how?')
  assert text.index('why') < text.index('who')


def test_without_examples_the_question_stands_alone():
  assert in_context.message('zero_shot', EXAMPLES, 'how?') == 'how?'
  assert in_context.message('both', [], 'how?') == 'how?'


def test_an_unknown_arm_is_refused():
  with pytest.raises(ValueError, match='known: zero_shot, winning'):
    in_context.message('best', EXAMPLES, 'how?')


def test_the_first_examples_are_left_out_where_all_are_too_long():
  whole = in_context.message('winning', EXAMPLES, 'how?')
  found = in_context.fitted('winning', EXAMPLES, 'how?', len, most=len(whole))
  assert found == (whole, 0)
  found = in_context.fitted('winning', EXAMPLES, 'how?', len, most=len(whole) - 1)
  assert found == (in_context.message('winning', EXAMPLES[1:], 'how?'), 1)
  assert in_context.fitted('winning', EXAMPLES, 'how?', len, most=4) == ('how?', 2)
  with pytest.raises(ValueError, match='4 tokens does not fit in 3'):
    in_context.fitted('winning', EXAMPLES, 'how?', len, most=3)
