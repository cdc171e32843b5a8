"""The table of votes, its baselines, and which convention fits what is published."""

import numpy as np
import pytest
from scipy import stats

from metapers.analysis import (
  diversity,
  personal_llm_checks,
  slates,
  study_frame,
  vote_table,
  voters,
)
from metapers.analysis.study_frame import Whose, pick, value_of
from metapers.analysis.voters import ALONE, DIRICHLET, POOLED, SINGLE, UNIFORM
from metapers.data import personal_llm, synthetic


@pytest.fixture(scope='module')
def table():
  return synthetic.synthetic_store(num_prompts=600)


@pytest.fixture(scope='module')
def of_personal_llm():
  table = synthetic.synthetic_store(num_prompts=10402)
  return table._replace(source=f'PersonalLLM ({personal_llm.DATA_SET}, from local files)')


@pytest.fixture(scope='module')
def frame(table):
  given = slates.slates_of(table)
  size = {'num_users': 60, 'num_draws': 3}
  return vote_table.study(given, voters.voters(given, [0.05, 1.0], **size))


def test_entropies_are_those_of_scipy():
  counts = np.array([[[3, 1, 0], [2, 2, 4]]])
  np.testing.assert_allclose(vote_table.entropies(counts), stats.entropy(counts, axis=-1))


def test_the_table_agrees_with_a_count_by_hand():
  # Four users, one for each reward model; three prompts.
  best = np.array([[0, 0, 0, 0], [0, 0, 1, 2], [3, 2, 1, 0]])  # [P, U]
  rewards = (best[:, None] == np.arange(4)[:, None]).astype(np.float32)  # [P, R, B]
  models = np.array([[0, 1, 2, 3], [0, 1, 2, 3], [3, 2, 1, 0]])
  counts = voters.votes_of(rewards, np.ones((3, 4), bool), np.eye(4)[None])
  found = vote_table.percentages(counts, models, tuple('abcde'))
  assert list(found) == [
    *((f'<={share}%', vote_table.TOP) for share in diversity.TOP_SHARES),
    *((name, vote_table.NUM_WINNERS) for name in diversity.WINNERS),
    *((name, vote_table.WINS) for name in 'abcde'),
  ]
  expected = [*[200 / 3] * 3, *[100 / 3] * 3, 0, 0, *(np.array([7, 2, 2, 1, 0]) / 12 * 100)]
  np.testing.assert_allclose(list(found.values()), expected)


def test_published_wins_follow_the_names_of_response_models(table):
  flipped = table._replace(
    response_model=7 - table.response_model, response_models=table.response_models[::-1]
  )
  straight, turned = (vote_table.as_text(each).splitlines() for each in (table, flipped))
  wins = slice(10, 18)
  assert straight[: wins.start] == turned[: wins.start]
  assert straight[wins] == turned[wins][::-1] != turned[wins]


def test_other_response_models_have_nothing_to_be_compared_with(table):
  shown = vote_table.as_text(table._replace(response_models=tuple('abcdefgh')))
  assert shown.endswith('nothing is published for these response models')
  assert 'paper' not in shown


def test_of_one_reward_model_all_users_want_the_same(frame, table):
  given = slates.slates_of(table)
  own = pick(frame, population=SINGLE, convention='z')
  assert value_of(own, group='<=2') == 100
  assert value_of(own, statistic=vote_table.ENTROPY) == 0
  best = given.scores['z'].argmax(1)  # [P, B]
  models = np.take_along_axis(given.response_model, best, 1)
  name = given.response_models[2]
  assert value_of(own, group=name) == pytest.approx(100 * np.mean(models == 2))


def test_the_pooled_user_wants_the_largest_mean(frame, table):
  given = slates.slates_of(table)
  best = given.scores['raw'].mean(-1).argmax(1)
  models = np.take_along_axis(given.response_model, best[:, None], 1)
  own = pick(frame, population=POOLED, convention='raw')
  name = given.response_models[1]
  assert value_of(own, group=name) == pytest.approx(100 * np.mean(models == 1))


def test_uniform_choosers_give_every_real_response_its_share():
  mask = np.array([[True, True, False], [True, True, True]])
  counts = voters.uniform_votes(mask, num_draws=400, num_users=100)
  assert (counts.sum(-1) == 100).all()
  np.testing.assert_allclose(counts.mean(0), [[50, 50, 0], [100 / 3, 100 / 3, 100 / 3]], atol=1.5)


def test_users_of_one_reward_model_each_vote_as_it_does(frame, table):
  given = slates.slates_of(table)
  best = given.scores['z'].argmax(1)
  models = np.take_along_axis(given.response_model, best, 1)
  own = pick(frame, population=ALONE, convention='z')
  row = own[own['group'] == given.response_models[0]].iloc[0]
  assert abs(row['value'] - 100 * np.mean(models == 0)) < 4 * row['standard_error'] + 2


def test_nothing_is_published_of_another_store(frame):
  assert frame['published'].isna().all()
  assert vote_table.fit(frame).empty and vote_table.best_convention(vote_table.fit(frame)) == ''


def test_baselines_have_no_published_value(frame):
  assert set(frame['population']) == {DIRICHLET, ALONE, SINGLE, POOLED, UNIFORM}


def test_the_convention_that_fits_is_found(of_personal_llm):
  given = slates.slates_of(of_personal_llm)
  assert given.is_personal_llm
  drawn = list(voters.voters(given, [0.05, 0.1], num_users=200, num_draws=2))
  fits = vote_table.fit(vote_table.study(given, drawn))
  assert vote_table.best_convention(fits) == 'z'  # by which the synthetic store was calibrated
  frame = vote_table.study(given, drawn)
  known = pick(frame, convention='z').dropna(subset=['published'])
  known = known[known['statistic'] != vote_table.ENTROPY]
  away = (known['value'] - known['published']).abs()
  found = pick(fits, convention='z')['value'].tolist()
  assert found == pytest.approx([away.mean(), away.max()])
  paper = diversity.PAPER[0.1]
  own = pick(frame, concentration=0.1, convention='raw', statistic=vote_table.WINS)
  by_name = dict(zip(own['group'], own['published']))
  assert by_name['openai/gpt-4o'] == paper.wins[2]


def test_conventions_are_compared_cell_by_cell(frame):
  wide = {
    (row.population, str(row.concentration), row.group, row.statistic, row.convention): row.value
    for row in frame.itertuples()
    if row.statistic != vote_table.ENTROPY and row.convention
  }
  away = [abs(value - wide[(*key[:-1], 'raw')]) for key, value in wide.items() if key[-1] == 'z']
  assert vote_table.largest_gap(frame) == pytest.approx(max(away))


def test_a_loader_check_passes_on_what_is_published_and_fails_on_less(of_personal_llm):
  verdict = personal_llm_checks.check_loaded(of_personal_llm)
  assert verdict.passed, verdict.found
  rewards = of_personal_llm.rewards.copy()
  rewards[3, 2, 1] = np.nan
  failed = personal_llm_checks.check_loaded(of_personal_llm._replace(rewards=rewards))
  assert not failed.passed and '1 of them not finite' in failed.found
  moved = of_personal_llm._replace(rewards=of_personal_llm.rewards + 0.01)
  assert not personal_llm_checks.check_loaded(moved).passed


def test_checks_of_diversity_are_by_convention():
  whose = [Whose('diversity', DIRICHLET, convention=name) for name in ('z', 'raw')]
  fits = study_frame.joined(
    study_frame.rows(
      one,
      [study_frame.Cell('all cells', name, size) for name, size in zip(vote_table.FITS, sizes)],
    )
    for one, sizes in zip(whose, ([0.5, 1.9], [0.6, 2.1]))
  )
  assert [one.passed for one in personal_llm_checks.check_diversity(fits)] == [True, False]


def test_a_store_of_the_same_names_is_not_personal_llm(table):
  assert not slates.slates_of(table).is_personal_llm


def test_splits_choose_the_prompts(table):
  assert len(slates.slates_of(table, split='all').rows) == 600
  test = np.flatnonzero(table.prompt_split == 2)
  np.testing.assert_array_equal(slates.slates_of(table).rows, test)
  with pytest.raises(ValueError, match="got 'tset'"):
    slates.slates_of(table, split='tset')
  single = table._replace(mask=table.mask & (np.arange(8) < 1))
  with pytest.raises(ValueError, match='no prompt'):
    slates.slates_of(single)


def test_concentrations_are_shown_once():
  assert slates.different([0.1, 0.05, 0.1]) == ([0.1, 0.05], [0.1])
