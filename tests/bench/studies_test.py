"""The page of studies: every part, what is missing, and what is published."""

import functools

import numpy as np
import pandas as pd
import pytest

from metapers.analysis import people_statistics, persona_users, slates, study_frame
from metapers.analysis.study_frame import COLUMNS
from metapers.bench.studies import checks, drivers, page, part, people, personas, run
from metapers.bench.studies.drivers import Family
from metapers.bench.studies.persona_readers import Reader
from metapers.bench.studies.personas import BY
from metapers.core.tables import Histories
from metapers.data import personal_llm, synthetic

SMALL = run.Options((0.05, 1.0), num_users=40, num_draws=2, learners=())


@pytest.fixture(scope='module')
def table():
  return synthetic.synthetic_store(num_prompts=1000)


def no_texts():
  raise ValueError('no texts here')


def texts(table):
  words = np.array(['some very good words', 'a list\n- of\n- items', 'short!', 'Yes, surely, yes'])
  rng = np.random.default_rng(0)
  return words[rng.integers(4, size=table.mask.shape)].astype(object)


def histories(scores, *, names=()):
  rng = np.random.default_rng(1)
  pairs = np.argsort(rng.random((60, 10, len(scores))), -1)[..., :2]
  weights = rng.dirichlet(np.full(10, 0.1), 60)
  rewards = np.einsum('unkb,ub->unk', scores[pairs], weights) + rng.gumbel(size=(60, 10, 2))
  best = rewards.argmax(-1)[..., None]
  chosen, rejected = (np.take_along_axis(pairs, each, -1)[..., 0] for each in (best, 1 - best))
  return Histories(
    features=scores if names else scores[:, :2], item_ids=np.arange(len(scores)),
    user_ids=np.arange(60), chosen=chosen, rejected=rejected, mask=np.ones(chosen.shape, bool),
    context=np.zeros(len(scores), int), identity=False, num_dropped=0, source='made up',
    content_hash='', feature_names=names,
  )  # fmt: skip


@pytest.fixture(scope='module')
def parts(table):
  prompts = np.array(['What is it?', 'Imagine a poem', 'Why'] * 400, object)[: len(table.mask)]
  table = table._replace(prompt_texts=prompts)
  inputs = run.Inputs(
    table,
    slates.slates_of(table),
    functools.partial(texts, table),
    people={'nowhere': no_texts},
    opinions=('/nowhere', ''),
    runs={'gone': no_texts},
  )
  said = []
  return run.parts_of(run.studies_of(inputs, SMALL), said.append), said


def test_every_study_is_made_or_says_why_not(parts):
  made, said = parts
  assert [one.title for one in made] == said and len(made) == 9
  left_out = [one for one in made if one.frame.empty]
  assert len(left_out) == 4
  assert all(one.text[0].startswith('Left out: ') and one.warnings for one in left_out)
  for one in made:
    assert list(one.frame) == list(COLUMNS)
    assert one.findings or one.frame.empty


def test_the_page_holds_findings_figures_and_numbers(parts, tmp_path):
  made, _ = parts
  paths = page.write(tmp_path, made, source='synthetic', summary={'a': 1}, warnings=['twice'])
  text = paths[0].read_text()
  for sentence in (sentence for one in made for sentence in one.findings):
    assert sentence.split(':')[0].split('>')[0][:40] in text
  assert text.count('<svg') == 2 * sum(len(one.figures) for one in made)
  assert 'src=' not in text and 'Warning: twice' in text and 'aria-sort' in text
  numbers = pd.read_csv(tmp_path / page.NUMBERS)
  assert list(numbers) == list(COLUMNS)
  assert len(numbers) == sum(len(one.frame) for one in made)
  for one in made:
    for name in one.figures:
      assert (tmp_path / 'figures' / f'{name}.png').read_bytes().startswith(b'\x89PNG')
      assert (tmp_path / 'figures' / f'{name}.svg').is_file()


def test_a_store_without_texts_leaves_out_what_needs_them(table):
  inputs = run.Inputs(table, slates.slates_of(table), no_texts)
  made = run.parts_of(run.studies_of(inputs, SMALL), lambda line: None)
  assert [one.frame.empty for one in made] == [False, False, True, False, True, True]
  assert 'no texts here' in made[2].warnings[0]


def test_checks_of_personal_llm_run_by_themselves(table):
  table = table._replace(source=f'PersonalLLM ({personal_llm.DATA_SET}, from local files)')
  inputs = run.Inputs(table, slates.slates_of(table), no_texts)
  first = run.studies_of(inputs, SMALL)[0]
  assert first.title == checks.TITLE
  made = first.make()
  verdicts = dict(row[:2] for row in made.tables[0].body)
  assert verdicts.pop('entropy by word within 0.03 nats') == 'not made'
  assert (
    len(verdicts) == 3
    and verdicts['numbers of rows and scores; train mean and sd within .001'] == 'FAILED'
  )
  assert 'Failed: ' in made.findings[0]


def test_an_alpha_given_twice_is_shown_once_and_said():
  options, warnings = run.checked(run.Options((0.1, 0.05, 0.1)))
  assert options.concentrations == (0.1, 0.05)
  assert warnings == ['α = 0.1 was given more than once and is shown once']


@pytest.mark.parametrize(
  ('changed', 'said'),
  [({'concentrations': (0.0,)}, 'positive'), ({'concentrations': ()}, 'positive'),
   ({'num_users': 1}, 'at least 2'), ({'num_draws': 1}, 'at least 2'),
   ({'learners': ('maml',)}, 'no learner beside the lookups is called maml')],
)  # fmt: skip
def test_options_out_of_range_are_refused(changed, said):
  with pytest.raises(ValueError, match=said):
    run.checked(SMALL._replace(**changed))


@pytest.fixture
def quick(monkeypatch):
  monkeypatch.setattr(people, 'CONCENTRATIONS', (0.1, 1.0))
  monkeypatch.setattr(people, 'TEMPERATURES', (0.0, 1.0))
  monkeypatch.setattr(people, 'NUM_SIMULATIONS', 2)


def test_people_whose_items_no_model_scores_get_no_fit(table, quick):
  given = slates.slates_of(table)
  scores = given.scores['z'][:12, 0].astype(float)
  made = people.part_of(given, people.Folder('them', histories(scores), False))
  assert any('no (α, noise) is fitted' in text for text in made.text)
  assert 'log-likelihood' not in set(made.frame['statistic'])
  assert any('Predictive checks' in sentence for sentence in made.findings)
  for shown in made.figures.values():
    shown.draw(is_narrow=True)


def test_people_of_whom_no_two_compared_one_pair_stop_no_other_study(table, quick):
  given = slates.slates_of(table)
  own = histories(given.scores['z'][:12, 0].astype(float))
  # The first two people compare 0 with 1, and 2 with 3; the others nothing.
  few = np.zeros(own.mask.shape, bool)
  few[:2, 0] = True
  chosen, rejected = own.chosen.copy(), own.rejected.copy()
  chosen[:2, 0], rejected[:2, 0] = (0, 2), (1, 3)
  alone = own._replace(mask=few, chosen=chosen, rejected=rejected)

  def make():
    return people.part_of(given, people.Folder('them', alone, False))

  (made,) = run.parts_of([run.Study('People', make)], lambda title: None)
  assert any('too few pairs of them were answered by two people' in line for line in made.text)


def test_people_whose_items_models_score_get_a_joint_region(table, quick):
  given = slates.slates_of(table)
  scores = given.scores['z'][:12, 0].astype(float)
  folder = people.Folder('them', histories(scores, names=given.reward_models), False)
  made = people.part_of(given, folder)
  inside = made.frame[made.frame['statistic'] == 'in the 95 % region']['value']
  assert 1 <= inside.sum() <= len(inside)
  assert any('Likeliest' in sentence for sentence in made.findings)


def rows(name, statistic, values, *, population=None, alpha=study_frame.NONE):
  whose = study_frame.Whose('people', population or name, alpha, 'temperature 0')
  return study_frame.rows(whose, [study_frame.Cell('', statistic, *value) for value in values])


def test_what_no_simulated_users_reach_is_named():
  statistic = people_statistics.DISAGREEMENT
  drawn = [
    rows('x', statistic, [(value, 0.01)], population=people.SIMULATED.format('x'), alpha=alpha)
    for value, alpha in ((0.2, 0.1), (0.3, 1.0))
  ]
  far, near = (
    study_frame.joined([rows('x', statistic, [(value, 0.01)]), *drawn]) for value in (0.4, 0.21)
  )
  assert people.unreached(far, 'x') == ['disagreement 0.4 (simulated: 0.2 to 0.3)']
  assert people.unreached(near, 'x') == [] and people.alike(far, 'x') == []
  assert people.alike(near, 'x') == ['α = 0.1, temperature 0']
  assert people.nearest(near, 'x') == (0.1, 0.0)


def test_semantic_features_stand_beside_syntactic_ones(table):
  given = slates.slates_of(table)
  rng = np.random.default_rng(2)
  families = [
    Family(name, rng.normal(size=(*given.mask.shape, 2)), (f'{name} a', f'{name} b'))
    for name in ('syntactic', 'semantic')
  ]
  made = drivers.part_of(given, families, ['one is missing'], [0.05], num_users=20)
  assert set(made.figures) == {'drivers_syntactic', 'drivers_semantic'}
  assert 'one is missing' in made.text and len(made.findings) == 2


def oracle_of_persona(asked):
  """A reader for whom every persona likes one place best, and nobody the first."""

  def answers(cells):
    for cell in cells:
      real = len(asked.real(cell.prompt))
      yield cell, [float(place == cell.voter % real) for place in range(real)]

  return Reader('personas by the test', {'model': 'x'}, answers, lambda x: {BY + 'test': x})


def unreachable(asked):
  raise OSError('no such endpoint')


def test_personas_stand_beside_as_many_dirichlet_users(table, tmp_path):
  given = slates.slates_of(table)
  prompts = np.full(len(table.mask), 'What?', object)
  responses = texts(table)
  readers = {'test': oracle_of_persona, 'gone': unreachable}
  whom = personas.Options(readers, ('I am a.', 'I am b.', 'I am c.'), 60, 7, tmp_path)
  made = personas.part_of(given, (prompts, responses), whom, [0.05, 1.0], num_draws=2)
  own = study_frame.pick(made.frame, population='personas by the test')
  assert study_frame.value_of(own, statistic='entropy') == pytest.approx(np.log(3), abs=0.01)
  assert study_frame.value_of(own, statistic=persona_users.MOVED) == 100
  assert study_frame.value_of(own, statistic=persona_users.MISSING) == 0
  users = study_frame.pick(made.frame, population='Dirichlet users', statistic='number of winners')
  assert users[users['group'].isin(['4', '5', '>=6'])]['value'].sum() == 0  # of three voters
  assert any('gone: left out, no such endpoint' in text for text in made.text)
  assert any('I am b.' in text for text in made.text) and len(made.findings) == 1
  made.figures['personas'].draw(is_narrow=True)


@pytest.mark.parametrize(
  ('changed', 'message'),
  [({'readers': {}}, 'no model that reads personas was given'),
   ({'readers': {'gone': unreachable}}, 'gone: left out, no such endpoint'),
   ({'most_chars': 1}, 'no prompt has 5 responses')],
)  # fmt: skip
def test_personas_without_models_or_texts_say_so(table, tmp_path, changed, message):
  given, prompts = slates.slates_of(table), np.full(len(table.mask), 'What?', object)
  whom = personas.Options({'test': oracle_of_persona}, ('I a.', 'I b.'), 60, 7, tmp_path)
  with pytest.raises(ValueError, match=message):
    own = whom._replace(**changed)
    personas.part_of(given, (prompts, texts(table)), own, [0.05], num_draws=2)


def test_numbers_are_written_with_half_their_interval():
  assert part.written(0.5, 0.01, scale=100) == '50.0 ± 2.0'
  assert part.written(0.5, float('nan'), digits=2) == '0.50'
  assert part.written(float('nan'), 0.1) == ''
