"""P-DPO on the replies of a store, from a Hugging Face folder to a table, resumed."""

import json

import numpy as np
import pandas as pd
from forks import command

from metapers.llm import published
from metapers.testing import tiny_models


def flags(folders, constructed, workdir):
  return (
    '--config=experiments/configs/p_dpo_smollm2.py', f'--workdir={workdir}', '--study=length',
    f'--config.model.folder={folders[1]}', f'--config.data.folder={constructed}',
    '--config.policy.num_tokens=2', '--config.studies.length.users.num_pairs=16',
    '--config.studies.length.users.num_held_out=8',
    '--config.studies.length.users.num_query=3', '--config.training.chunk_size=8',
    '--config.training.num_steps=40',
    '--config.evaluation.shots=(0, 2)', '--row=surface,prompted,individual,dpo',
  )  # fmt: skip


def test_a_table_from_a_store_and_a_model(folders, constructed, tmp_path):
  given = flags(folders, constructed, tmp_path)
  done = command('p_dpo', *given)
  assert done.returncode == 0, done.stderr
  frame = pd.read_csv(tmp_path / 'results.csv')
  accuracy = frame[frame['metric'] == 'accuracy'].set_index(['split', 'learner', 'shots'])['value']
  known = accuracy['seen'].droplevel('shots')
  assert known['gaussian_prior of length'] == 1
  assert {
    'zero_shot', 'told', 'told relative', 'in context', 'in context relative', 'individual',
    'individual generic', 'individual permuted', 'dpo', 'gaussian_prior of surface',
    'gaussian_prior of writer',
  } <= set(known.index)  # fmt: skip
  assert {0, 2} == set(accuracy['test']['individual'].index)
  assert {'reply_tokens@short', 'reply_tokens@long', 'reply_tokens'} <= set(frame['metric'])
  assert {'accuracy@short', 'accuracy@long'} <= set(frame['metric'])
  assert 'How do I sleep better?' in done.stdout
  check_answers(folders[1], tmp_path / 'policies' / 'length')

  path = tmp_path / 'length' / 'prompted.jsonl'
  lines = path.read_text().splitlines()
  assert len(lines) == 1 + 3 * 3 * (20 + 4)
  path.write_text('\n'.join(lines[:10]) + '\n')
  again = command('p_dpo', *given, '--row=prompted')
  assert again.returncode == 0, again.stderr
  assert sorted(path.read_text().splitlines()) == sorted(lines)
  assert json.loads(lines[0])['data_seed'] == 0
  fewer = [flag.replace('shots=(0, 2)', 'shots=(0, 1)') for flag in given]  # of others' comparisons
  others = command('p_dpo', *fewer, '--row=prompted')
  assert others.returncode == 2 and 'support: 2 there, 1 now' in others.stderr

  # Rows trained in other ways do not stand beside them.
  for other in ('policy.beta=0.5', 'training.batch_size=16', 'studies.length.users.num_pairs=8'):
    refused = command('p_dpo', *given, f'--config.{other}', '--row=cluster_2')
    assert refused.returncode == 2, other
    assert f'{other.partition("=")[0]}: ' in refused.stderr


def check_answers(model, policies):
  """Each known user is answered as themselves."""
  asked = (f'--model={model}', '--prompt=w7 w8', '--max_tokens=8')
  individual, dpo = f'--policy={policies / "individual_0"}', f'--policy={policies / "dpo_0"}'
  same, first, second, anybody = (
    command('answer', *asked, *more)
    for more in (
      (dpo,), (individual, '--user=known 0: short'), (individual, '--user=known 1: long'),
      (individual,),
    )
  )  # fmt: skip
  assert {same.returncode, first.returncode, anybody.returncode} == {0}, first.stderr
  assert first.stdout != second.stdout
  for wrong, message in [
    ((individual, '--user=me'), "does not know the user 'me'; known: known 0: short, known 1"),
    ((individual, '--says=I like it'), 'was tuned without what users say'),
    ((individual, '--arm=both'), '--arm and --max_prompt are of examples in a prompt'),
    ((dpo, '--user=known 0: short'), 'answers everybody alike'),
    (('--user=me',), 'are read by a --policy'),
    ((f'--policy={model}',), 'policy.json'),
  ]:
    done = command('answer', *asked, *wrong)
    assert done.returncode == 2 and message in done.stderr, (wrong, done.stderr)


def test_p_soups_whose_users_are_all_known(folders, tmp_path):
  """Nobody is new, and what users like is not among the data, which are known by their content."""
  rng, data = np.random.default_rng(0), tmp_path / 'data'
  data.mkdir()
  for name in published.PROFILES:
    records = [
      {
        'user_input': f'{words(rng, 4)} {published.PROFILES[name]}',
        'completion_a': words(rng, 6),
        'completion_b': words(rng, 6),
      }
      for _ in range(20)
    ]
    (data / f'{name}.json').write_text(json.dumps(records))
  given = (
    '--config=experiments/configs/p_dpo_psoups.py', f'--workdir={tmp_path / "run"}',
    f'--config.model.folder={folders[1]}',
    '--row=individual,dpo', "--config.data.lengths={'prompt': 64, 'response': 24}",
    '--config.training.epochs=1', '--config.policy.num_tokens=2',
  )  # fmt: skip
  done = command('p_dpo', *given, f'--config.data.folder={data}')
  assert done.returncode == 0, done.stderr
  frame = pd.read_csv(tmp_path / 'run' / 'results.csv')
  assert set(frame['split']) == {'seen'}
  assert {'individual', 'individual generic', 'individual permuted'} <= set(frame['learner'])
  assert len(list((tmp_path / 'run' / 'reference').glob('*.npz'))) == 1

  moved = data.rename(tmp_path / 'moved')
  path = moved / f'{name}.json'
  path.write_text(path.read_text().replace(records[0]['completion_a'], 'w1 w2 w3', 1))
  other = command('p_dpo', *given, f'--config.data.folder={moved}', '--row=dpo')
  assert other.returncode == 2 and 'data_files' in other.stderr
  assert 'data.folder' not in other.stderr


def words(rng, most):
  return ' '.join(rng.choice(tiny_models.WORDS, rng.integers(1, most)))


def test_mistakes_are_one_line(folders, constructed, tmp_path):
  for wrong, message in [
    ('--row=prompt', 'unknown row prompt; known: individual'),
    (f'--config.data.folder={folders[0]}', "the store has no reward 'length'"),
    ('--config.data.is_chat=False', 'constructed users are asked by the chat template'),
    ('--config.data.folder=nowhere', "--config.data.folder must be a folder of the data, got 'no"),
    ("--config.studies.length.rows=('base_2',)", 'unknown row of a study base_2'),
    ('--config.data.lengths.response=1', 'no prompt has two responses of at most 1 tokens'),
    ('--config.studies.length.users.tastes=loud', 'unknown taste'),
  ]:
    done = command('p_dpo', *flags(folders, constructed, tmp_path / 'w'), wrong)
    assert done.returncode == 2 and message in done.stderr, (wrong, done.stderr)
