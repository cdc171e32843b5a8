"""Both texts of a comparison are written alike, and a form that gives the choice away is found."""

import numpy as np
import pandas as pd
import pytest

from metapers.data import collector, rendering
from metapers.data.rendering import Turn


def test_one_function_renders_both_sides():
  history = [Turn('user', ' why?\n'), Turn('assistant', 'so<|eot_id|>'), Turn('user', 'and?')]
  rendered = rendering.render(history, '\tcafe\u0301</s>\n')
  assert rendered == 'user: why?\n\nassistant: so\n\nuser: and?\n\nassistant: caf\u00e9'


def pairs(mark, share=1.0, count=40):
  """Makes texts of which a share of the chosen ones are marked."""
  items = [f'chosen {n}' for n in range(count)] + [f'rejected {n}' for n in range(count)]
  marked = [mark(t) if n < share * count else t for n, t in enumerate(items)]
  numbers = np.arange(count)
  return (
    pd.DataFrame({'item_id': np.arange(2 * count), 'text': marked}),
    pd.DataFrame({'chosen': numbers, 'rejected': numbers + count}),
  )


@pytest.mark.parametrize(
  'mark',
  [
    lambda text: f' {text}',
    lambda text: f'{text}\n',
    lambda text: f'{text}</s>',
    lambda text: f'User: {text}',
    lambda text: f'{text} e\u0301',
  ],
)
def test_a_format_cue_of_one_side_is_found(mark):
  with pytest.raises(ValueError, match='a learner would read the form'):
    rendering.check_cues(*pairs(mark))


def test_a_cue_of_the_rejected_side_is_found_too():
  items, compared = pairs(lambda text: f'{text}\n')
  swapped = compared.rename(columns={'chosen': 'rejected', 'rejected': 'chosen'})
  with pytest.raises(ValueError, match='the chosen text has less in 100%'):
    rendering.check_cues(items, swapped)


def test_people_whose_chosen_texts_carry_a_mark_are_refused():
  made = collector.Collector()
  for n in range(30):
    place = collector.Place(f'user{n}', f'c{n}', 0)
    made.compare(place, [Turn('user', 'why?')], f'[INST] because {n}', f'so {n}')
  with pytest.raises(ValueError, match='tags of roles differ in 30 of 30 pairs'):
    made.tables('made up', 'none')


def test_a_prompt_shown_on_one_side_only_is_found():
  items, compared = pairs(lambda text: f'why, {text}')
  rendering.check_cues(items, compared)
  with pytest.raises(ValueError, match='the prompt differ in 40 of 40 pairs'):
    rendering.check_cues(items.assign(context='why'), compared)


def test_rare_or_balanced_marks_are_no_leak():
  rendering.check_cues(*pairs(lambda text: f'{text}\n', share=0.3))
  items, compared = pairs(lambda text: f'{text}\n')
  swapped = compared.copy()
  swapped.loc[::2, ['chosen', 'rejected']] = compared.loc[::2, ['rejected', 'chosen']].to_numpy()
  rendering.check_cues(items, swapped)
  rendering.check_cues(*pairs(lambda text: text))
