"""Representativeness on a small made-up survey, by hand and against SciPy."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from metapers.analysis import opinions
from metapers.analysis.study_frame import pick, value_of
from metapers.analysis.voters import DIRICHLET, POOLED, SINGLE, UNIFORM
from metapers.bench.studies import opinions as page
from metapers.data import opinion_qa


@pytest.fixture
def folder(tmp_path):
  place = tmp_path / 'American_Trends_Panel_W26'
  place.mkdir()
  info = {
    'key': ['Q1', 'Q2', 'Q9'],
    'references': ["['Low', 'Mid', 'High', 'Refused']", "['No', 'Yes', 'Refused']", "['A', 'B']"],
    'option_ordinal': ['[1.0, 2.0, 3.0]', '[2.0, 1.0]', '[1, 2]'],
  }
  pd.DataFrame(info).to_csv(place / 'info.csv')
  responses = {
    'Q1': ['Low', 'High', 'High', 'Refused', None],
    'Q2': ['Yes', 'Yes', 'No', 'No', 'Yes'],
    'WEIGHT_W26': [1.0, 2.0, 1.0, 9.0, 1.0],
    'AGE': ['18-29', '18-29', '65+', '65+', 'Refused'],
  }
  pd.DataFrame(responses).to_csv(place / 'responses.csv')
  options = ["['18-29', '65+', '99+']", "['Male', 'Female']"]
  pd.DataFrame({'key': ['AGE', 'SEX'], 'options': options}).to_csv(place / 'metadata.csv')
  return tmp_path


def test_people_answer_by_weight_without_refusals(folder):
  first, second = opinion_qa.read_questions(str(folder))
  assert first.options == ('Low', 'Mid', 'High') and first.key == 'Q1'
  np.testing.assert_allclose(first.people['Overall'], [0.25, 0, 0.75])
  np.testing.assert_allclose(first.people['AGE: 18-29'], [1 / 3, 0, 2 / 3])
  np.testing.assert_allclose(first.people['AGE: 65+'], [0, 0, 1])
  np.testing.assert_allclose(second.people['Overall'], [10 / 14, 4 / 14])
  assert set(second.people) == {'Overall', 'AGE: 18-29', 'AGE: 65+'}


def test_options_may_be_numbers(folder):
  place = folder / 'American_Trends_Panel_W26'
  for name, changes in (
    ('info', {'references': "['1', '2', 'Refused']", 'option_ordinal': '[1, 2]'}),
    ('responses', {'Q1': [1, 2, 2, 2, 1]}),
  ):
    table = pd.read_csv(place / f'{name}.csv', index_col=0)
    table.assign(**changes).to_csv(place / f'{name}.csv')
  first = opinion_qa.read_questions(str(folder))[0]
  np.testing.assert_allclose(first.people['Overall'], [2 / 14, 12 / 14])


def test_options_and_groups_that_pandas_would_take_for_missing_are_read(folder):
  place = folder / 'American_Trends_Panel_W26'
  for name, changes in (
    ('info', {'references': "['NA', 'None', 'High', 'Refused']"}),
    ('responses', {'Q1': ['NA', 'None', 'High', 'Refused', None], 'AGE': ['None', 'None', *'xyz']}),
    ('metadata', {'options': "['None']"}),
  ):
    table = pd.read_csv(place / f'{name}.csv', dtype=str, keep_default_na=False)
    table.assign(**changes).to_csv(place / f'{name}.csv', index=False)
  first = opinion_qa.read_questions(str(folder))[0]
  np.testing.assert_allclose(first.people['Overall'], [0.25, 0.5, 0.25])
  np.testing.assert_allclose(first.people['AGE: None'], [1 / 3, 2 / 3, 0])


def test_representativeness_is_as_by_hand(folder):
  questions = opinion_qa.read_questions(str(folder))
  answers = [np.array([0.5, 0.5, 0]), np.array([1.0, 0])]
  # Q1: |.5 - .25| + |1 - .25| = 1 of 2; Q2: 4/14 of 1.
  found = opinions.representativeness(questions, answers, 'Overall')
  distances = np.array([0.5, 4 / 14])
  assert found.value == pytest.approx(1 - distances.mean())
  assert found.standard_error == pytest.approx(distances.std(ddof=1) / np.sqrt(2))
  # 65+: Q1 (.5 + 1) / 2; Q2: all say No.
  assert opinions.representativeness(questions, answers, 'AGE: 65+').value == pytest.approx(0.625)


def test_distances_are_those_of_scipy():
  rng = np.random.default_rng(0)
  for _ in range(20):
    ordinal = rng.permutation(rng.choice(9, 4, replace=False)).astype(float)
    one, other = rng.dirichlet(np.ones(4), 2)
    low, high = np.eye(4)[ordinal.argmin()], np.eye(4)[ordinal.argmax()]
    expected = stats.wasserstein_distance(ordinal, ordinal, one, other)
    expected /= stats.wasserstein_distance(ordinal, ordinal, low, high)
    assert opinions.distance(ordinal, one, other) == pytest.approx(expected)


def test_shares_are_of_favourites():
  scores = np.array([[1.0, 0], [0, 1], [0.9, 0.9]])
  weights = np.array([[1.0, 0], [0, 1], [0.5, 0.5], [0.45, 0.55]])
  np.testing.assert_allclose(opinions.shares(scores, weights), [0.25, 0.25, 0.5])


def test_scores_count_in_their_spread_inside_questions():
  rng = np.random.default_rng(1)
  scores = [rng.normal(5, [1, 30], (3, 2)), rng.normal(-9, [1, 30], (4, 2))]
  scaled = opinions.standardised(scores)
  np.testing.assert_allclose(np.concatenate(scaled).std(0), 1)
  np.testing.assert_allclose([own.mean(0) for own in scaled], 0, atol=1e-12)


def write_scores(folder, questions, models=('a', 'b')):
  rng = np.random.default_rng(2)
  rows = [
    {'wave': one.wave, 'key': one.key, 'option': option, **dict(zip(models, rng.normal(size=9)))}
    for one in questions
    for option in one.options
  ]
  pd.DataFrame(rows).to_csv(folder / 'scores.csv', index=False)
  return str(folder / 'scores.csv')


def test_users_stand_beside_uniform_single_and_permuted_answers(folder):
  questions = opinion_qa.read_questions(str(folder))
  names, scores = opinion_qa.read_scores(write_scores(folder, questions), questions)
  assert names == ('a', 'b') and [own.shape for own in scores] == [(3, 2), (2, 2)]
  given = opinions.answerers(scores, names, [0.1, 1.0], num_users=50)
  frame = opinions.study(questions, given, is_published=True)
  uniform = pick(frame, population=UNIFORM, group='Overall')['value'].iloc[0]
  # Q1: (|1/3 - 1/4| + |2/3 - 1/4|) / 2 = 1/4; Q2: 10/14 - 1/2.
  assert uniform == pytest.approx(1 - (0.25 + 3 / 14) / 2)
  single = value_of(frame, population=f'{SINGLE}: a', group='Overall')
  best = [np.eye(len(own))[own[:, 0].argmax()] for own in scores]
  assert single == pytest.approx(opinions.representativeness(questions, best, 'Overall').value)
  pooled = [np.eye(len(own))[own.mean(1).argmax()] for own in opinions.standardised(scores)]
  found = value_of(frame, population=POOLED, group='Overall')
  assert found == pytest.approx(opinions.representativeness(questions, pooled, 'Overall').value)
  users = pick(frame, population=DIRICHLET, group='Overall')
  assert users['published'].tolist() == [opinions.PUBLISHED] * 2
  mixed = frame[frame['population'].str.contains(opinions.PERMUTED) & (frame['group'] == 'Overall')]
  assert len(mixed) == 2 and mixed['value'].between(0, 1).all()


def test_permuted_shares_are_the_same_shares():
  rng = np.random.default_rng(3)
  answers = [rng.dirichlet(np.ones(4)) for _ in range(5)]
  found = opinions.permuted(answers, rng)
  np.testing.assert_allclose(np.sort(found, 1), np.sort(answers, 1))
  assert any((one != other).any() for one, other in zip(found, answers))


def test_the_part_of_the_page_says_what_scores_are_missing(folder):
  alone = page.part_of(str(folder), '', [0.05], num_users=20)
  assert 'no table of option scores' in alone.findings[0]
  questions = opinion_qa.read_questions(str(folder))
  both = page.part_of(str(folder), write_scores(folder, questions), [0.05], num_users=20)
  assert '(α = 0.05)' in both.findings[0]
  both.figures['opinions'].draw(is_narrow=True)


def test_files_of_another_form_are_refused(folder, tmp_path):
  with pytest.raises(ValueError, match='human_resp'):
    opinion_qa.read_questions(str(tmp_path / 'American_Trends_Panel_W26'))
  questions = opinion_qa.read_questions(str(folder))
  path = write_scores(folder, questions[:1])
  with pytest.raises(ValueError, match="no scores of \\(26, 'Q2', 'No'\\)"):
    opinion_qa.read_scores(path, questions)
  (folder / 'American_Trends_Panel_W26' / 'info.csv').write_text('key\nQ1\n')
  with pytest.raises(ValueError, match='option_ordinal'):
    opinion_qa.read_questions(str(folder))
