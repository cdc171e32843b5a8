"""What the page's model hears: choices, ties, and what else it was trained to read."""

import functools

import made_studies
import numpy as np
import pytest

from metapers.collect import items as texts
from metapers.collect import running
from metapers.collect.beliefs import Beliefs
from metapers.collect.settings import Settings
from metapers.collect.store import Answer, Question
from metapers.serving.comparisons import pairs
from metapers.serving.personalizer import Personalizer

KINDS = ('tie', 'both_bad')
PAIR = np.array([[0, 2]])
SURE = [(0, 2, 0), (0, 4, 0), (6, 2, 0), (8, 2, 0)]  # rows of two items, and which is chosen


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return made_studies.write_items(tmp_path_factory.mktemp('beliefs') / 'items')


@pytest.fixture(scope='module')
def beliefs(folder):
  """Makes beliefs of the demo's prior, or of a model trained on answers of some kinds."""

  @functools.cache
  def of(kinds=None):
    export = running.prior(folder) if kinds is None else made_studies.trained(kinds)
    return Beliefs(Personalizer(export), texts.read(folder), np.arange(0, 12, 2))

  return of


def answered(*given, kind='asked'):
  """Returns a history of (first row, second row, answer); an index says which is chosen."""
  return [
    Question(
      number, kind, 'random', number, tuple(f'i{row}' for row in rows), (0, 1), 1.0, (), None, '',
      number + 1, Answer('choice', '', said) if isinstance(said, int) else Answer(said, ''),
    )
    for number, (*rows, said) in enumerate(given)
  ]  # fmt: skip


def all_of(found, history):
  """Returns whatever is believed of a history, as numbers."""
  standing = found.standing(history)
  directions = [number for each in found.directions(history) for number in each[1:]]
  predicted = found.predict(history, PAIR).ravel()
  return np.array([*predicted, *standing, *directions])


def test_a_tie_moves_what_was_sure_towards_one_half(beliefs):
  found = beliefs(KINDS)
  sure = found.predict(answered(*SURE), PAIR)[0, 0]
  told = found.predict(answered(*SURE, (0, 2, 'same')), PAIR)[0, 0]
  assert sure > 0.7
  assert 0.5 < told < sure - 0.02


def test_a_model_that_was_trained_on_outcomes_reads_them_as_such(beliefs, folder):
  found, features = beliefs(KINDS), texts.read(folder).features
  said = ['chosen', 'tie', 'both_bad']
  given = pairs(features[[4, 0, 6]], features[[0, 2, 8]], outcome=said)
  expected = found.model.probability(found.model.adapt(given), features[0], features[2])
  history = answered((0, 4, 1), (0, 2, 'same'), (6, 8, 'both_bad'))
  assert found.predict(history, PAIR)[0, 0] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(
  ('kinds', 'what'),
  [(None, 'skip'), (None, 'same'), (None, 'both_bad'), (KINDS, 'skip'), (('both_bad',), 'same')],
)
def test_what_a_model_cannot_read_tells_it_nothing(beliefs, kinds, what):
  found = beliefs(kinds)
  before = found.profile(answered(*SURE))
  assert found.profile(answered(*SURE, (0, 2, what))) is before


def test_a_tie_on_a_check_of_attention_or_among_three_tells_nothing(beliefs):
  found = beliefs(KINDS)
  before, checks = found.profile(()), answered((0, 2, 'same'), kind='attention')
  assert found.profile(checks) is before
  assert found.profile(answered((0, 2, 4, 'same'))) is before


@pytest.mark.parametrize('kinds', [None, KINDS])
def test_the_order_of_answers_does_not_matter(beliefs, kinds):
  given = [*SURE[:2], (0, 2, 'same'), (4, 8, 'both_bad'), (2, 6, 1)]
  found = beliefs(kinds)
  np.testing.assert_allclose(
    all_of(found, answered(*given)), all_of(found, answered(*given[::-1])), atol=2e-5
  )


def test_a_tie_of_two_texts_is_not_a_choice_of_the_first(beliefs):
  found = beliefs(KINDS)
  one, other = (all_of(found, answered(*SURE, (0, 2, said))) for said in ('same', 0))
  assert np.abs(one - other).max() > 0.01


def test_undoing_a_tie_restores_what_was_believed(tmp_path, folder):
  asked = Settings(num_questions=6, control_share=0.0, repeat_share=0.0, attention_share=0.0)
  study = made_studies.open_study(tmp_path, asked, made_studies.trained(KINDS))
  _, user = made_studies.enrol(study)
  made_studies.answer(study, user)
  before = study.progress(user)
  believed = all_of(study.beliefs, before.answered)
  made_studies.answer(study, user, 'same')
  after = study.progress(user)
  assert np.abs(all_of(study.beliefs, after.answered) - believed).max() > 0.01
  study.undo(user, after.answered[-1].answer.id)
  again = study.progress(user)
  assert again == before
  np.testing.assert_array_equal(all_of(study.beliefs, again.answered), believed)
  study.store.close()
