import json
import re

import pytest

from metapers.bench.plan import Evaluation
from metapers.io import workdirs

CONFIG = {
  'learner': {'name': 'maml', 'kwargs': {'num_steps': 5, 'hidden': (8, 8)}},
  'training': {'num_steps': 100, 'seed': 0},
  'data': 'sha256 of the manifest',
  'population': {'path': '/here', 'alpha': 0.05},
}


def changed(**parts):
  return {**CONFIG, **{name: {**CONFIG[name], **part} for name, part in parts.items()}}


def claimed(folder, config):
  """Claims a folder, and leaves there what a finished cell leaves."""
  workdirs.claim(folder, config)
  (folder / 'predictions').mkdir(exist_ok=True)


def test_a_new_workdir_is_made_and_keeps_its_config(tmp_path):
  returned = workdirs.claim(tmp_path / 'a' / 'b', CONFIG)
  assert returned == workdirs.read_config(tmp_path / 'a' / 'b') == json.loads(json.dumps(CONFIG))


def test_the_same_config_may_claim_again(tmp_path):
  workdirs.claim(tmp_path, CONFIG)
  workdirs.claim(tmp_path, CONFIG)


def test_every_difference_is_shown_with_both_values(tmp_path):
  claimed(tmp_path, CONFIG)
  other = {
    **changed(learner={'name': 'cnp'}, population={'alpha': 0.1}),
    'data': 'another',
    'new': 1,
  }
  with pytest.raises(ValueError) as error:
    workdirs.claim(tmp_path, other)
  for part in (
    str(tmp_path),
    'learner.name: maml there, cnp now',
    'population.alpha: 0.05 there, 0.1 now',
    'data: sha256 of the manifest there, another now',
    'new: absent there, 1 now',
    'give another workdir',
  ):
    assert part in str(error.value)
  assert 'seed' not in str(error.value)
  assert workdirs.read_config(tmp_path)['learner']['name'] == 'maml'


@pytest.mark.parametrize('name', workdirs.PATHS)
def test_where_data_lie_is_not_compared(tmp_path, name):
  def at(place):
    found = place
    for part in reversed(name.split('.')):
      found = {part: found}
    return changed() | found

  claimed(tmp_path, at('here'))
  workdirs.claim(tmp_path, at('there'))
  option = name.rpartition('.')[2]
  with pytest.raises(ValueError, match=f'learner.{option}: a there, b now'):
    claimed(tmp_path / 'other', changed(learner={option: 'a'}))
    workdirs.claim(tmp_path / 'other', changed(learner={option: 'b'}))


def test_how_a_run_is_evaluated_is_not_compared_but_what_it_is_chosen_by_is():
  config = changed() | {
    'protocol': 'mine',
    'evaluation': {'shots': [0, 1], 'validation_shots': [0]},
  }
  other = config | {'protocol': 'yours', 'evaluation': {'shots': [0], 'validation_shots': [0]}}
  chosen = config | {'evaluation': {'shots': [0, 1], 'validation_shots': [0, 1]}}
  assert workdirs.of_run(config) == workdirs.of_run(other) != workdirs.of_run(chosen)
  longer = config | {'training': {**CONFIG['training'], 'num_steps': 200}}
  digests = [workdirs.digest_of_run(each) for each in (config, other, longer, chosen)]
  assert len(set(digests[:3])) == 1 != len(set(digests))
  known = {f'evaluation.{name}' for name in Evaluation._fields}
  assert known > set(workdirs.CHOSEN_BY)


@pytest.mark.parametrize('source', ['0', {'mine': '0'}])
def test_a_file_that_changed_is_said_to_have_changed(tmp_path, source):
  name = 'learner_source' if source == '0' else 'learner_sources'
  other = '1' if source == '0' else {'mine': '1'}
  workdirs.claim(tmp_path, {name: source})
  (tmp_path / 'results.csv').touch()
  with pytest.raises(ValueError, match=f'{name}.*: the code of the file is another than it was'):
    workdirs.claim(tmp_path, {name: other})


def test_a_name_without_options_is_compared(tmp_path):
  """Such as a member of a hedge, with its defaults."""
  one, two = (changed(learner={'members': {name: {} for name in names}}) for names in ('a', 'ab'))
  assert workdirs.digest_of_run(one) != workdirs.digest_of_run(two)
  claimed(tmp_path, one)
  with pytest.raises(ValueError, match=re.escape('learner.members.b: absent there, {} now')):
    workdirs.claim(tmp_path, two)


def test_a_table_is_of_one_population_and_protocol():
  config = {'kind': 'table', 'protocol': 'mine', 'population': {'kwargs': {'path': 'a', 'size': 3}}}
  grown = config | {'learners': {'cnp': {}}, 'evaluation': {'shots': [0]}}
  assert workdirs.of_table(config) == workdirs.of_table(grown)
  assert workdirs.of_table(config) == {
    'kind': 'table', 'protocol': 'mine', 'population.kwargs.size': 3,
  }  # fmt: skip


def test_only_the_steps_of_training_may_grow(tmp_path):
  claimed(tmp_path, CONFIG)
  workdirs.claim(tmp_path, changed(training={'num_steps': 200}))
  with pytest.raises(ValueError, match=r'num_steps: 200 there, 100 now \(a run can be extended'):
    workdirs.claim(tmp_path, CONFIG)
  longer = changed(
    learner={'kwargs': {'num_steps': 9, 'hidden': (8, 8)}}, training={'num_steps': 200}
  )
  with pytest.raises(ValueError, match=r'learner.kwargs.num_steps: 5 there, 9 now\)'):
    workdirs.claim(tmp_path, longer)


@pytest.mark.parametrize('place', ['.', 'runs/cnp-0'])
def test_until_its_first_checkpoint_a_workdir_takes_another_config(tmp_path, place):
  run, other = tmp_path / place, changed(learner={'name': 'cnp'})
  workdirs.claim(tmp_path, CONFIG)
  workdirs.claim(run, CONFIG)
  (run / 'metrics.jsonl').touch()
  (run / 'checkpoints' / '4.orbax-checkpoint-tmp-0').mkdir(parents=True)
  workdirs.claim(tmp_path, other)
  assert workdirs.read_config(tmp_path)['learner']['name'] == 'cnp'
  (run / 'checkpoints' / '4').mkdir()
  with pytest.raises(ValueError, match=r'learner\.name: cnp there, maml now'):
    workdirs.claim(tmp_path, CONFIG)


@pytest.mark.parametrize('name', ['predictions', 'export', 'checkpoints_begun', 'thesis.tex'])
def test_what_cannot_be_made_again_belongs_to_its_config(tmp_path, name):
  workdirs.claim(tmp_path, CONFIG)
  (tmp_path / name).mkdir()
  with pytest.raises(ValueError, match=r'learner\.name: maml there, cnp now'):
    workdirs.claim(tmp_path, changed(learner={'name': 'cnp'}))


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
  (tmp_path / 'thesis.tex').write_text('precious')
  with pytest.raises(ValueError, match=r'is not empty and holds no config\.json'):
    workdirs.claim(tmp_path, CONFIG)
  assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_a_claim_that_was_killed_half_way_can_be_made_again(tmp_path):
  (tmp_path / '.config.json.x1y2').write_text('{"lear')
  workdirs.claim(tmp_path, CONFIG)
  assert workdirs.read_config(tmp_path)['learner']['name'] == 'maml'


def test_reading_says_what_is_wrong(tmp_path):
  with pytest.raises(
    ValueError, match=r'holds no run: it has no config\.json; give another folder'
  ):
    workdirs.read_config(tmp_path)
  (tmp_path / 'config.json').write_text('{"lear')
  with pytest.raises(ValueError, match='is not JSON'):
    workdirs.read_config(tmp_path)
