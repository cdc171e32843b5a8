"""A policy's files: all that was trained comes back, and nothing that does not fit is believed."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_policies import BASE, KEY, MODEL, comparisons, moved

from metapers.core import files, task
from metapers.llm import generate, p_dpo, trained
from metapers.llm.trained import About, Trained

USERS = {'ann': 'I like cats.', 'bob': '', 'cy': ''}
OPTIONS = {'num_tokens': 2, 'lora_rank': 2, 'beta': 0.3}


def policy(**options) -> tuple[Trained, About]:
  given = {**OPTIONS, **options}
  made = p_dpo.p_dpo(MODEL, BASE, num_users=len(USERS), **given)
  params = moved(made.learner.init(KEY))
  return Trained(made, params), About(given, USERS, 0, True, 'abc')


@pytest.mark.parametrize(
  'options',
  [
    {},
    {'kind': 'cluster', 'num_clusters': 2},
    {'kind': 'uniform', 'num_tokens': 0, 'alpha': 0.0},
    {'lora_rank': 0},
  ],
  ids=str,
)
def test_what_was_trained_comes_back(options, tmp_path):
  made, about = policy(**options)
  if not options.get('lora_rank', 2):
    made.params['base'] = jax.tree.map(lambda x: x + 0.1, BASE)
  folder = trained.save(tmp_path / 'p', made, about)
  assert trained.save(folder, made, about) == folder  # again, in its place
  assert trained.read_about(folder) == about
  found = trained.load(folder, MODEL, BASE, model_files='abc')
  assert jax.tree.structure(found.params) == jax.tree.structure(made.params)
  jax.tree.map(np.testing.assert_array_equal, found.params, made.params)

  generator = generate.generator(MODEL, num_tokens=6)
  given, prompts = comparisons(4), [[1, 5], [1, 7, 9]]
  for row in (1, 3, None):
    before, after = (
      trained.replies(MODEL, each, state_of(each, row, given), prompts, generator, KEY).tokens
      for each in (made, found)
    )
    np.testing.assert_array_equal(before, after)


def state_of(made, row, given):
  if row is None:
    return made.policy.learner.adapt(made.params, given, task.no_context(), KEY)
  return made.policy.state_of(made.params, jnp.asarray(row), task.no_context())


def test_bfloat16_comes_back_as_it_was(tmp_path):
  base = jax.tree.map(lambda x: x.astype(jnp.bfloat16), BASE)
  policy = p_dpo.p_dpo(MODEL, base, num_users=3, **OPTIONS)
  made = Trained(policy, moved(policy.learner.init(KEY)))
  folder = trained.save(tmp_path / 'p', made, About(OPTIONS, USERS, 0, True, 'abc'))
  found = trained.load(folder, MODEL, base, model_files='abc')
  # A step of the published rate would be lost in bfloat16.
  assert found.params['users']['offsets'].dtype == jnp.float32
  assert found.params['base']['embedding'].dtype == jnp.bfloat16
  jax.tree.map(np.testing.assert_array_equal, found.params, made.params)


def test_a_reply_is_that_of_merged_weights_behind_the_soft_tokens():
  made, _ = policy()
  state = made.policy.state_of(made.params, jnp.asarray(2), task.no_context())
  found = trained.replies(
    MODEL, made, state, [[1, 5, 8]], generate.generator(MODEL, num_tokens=5), KEY
  ).tokens[0]
  adapter = made.policy.adapter
  assert adapter is not None
  merged = adapter.merge(BASE, made.params['lora'])
  rows = [MODEL.embed(merged, jnp.asarray([[1]])), state.soft[None]]
  written: list[int] = []
  for _ in range(5):
    rest = MODEL.embed(merged, jnp.asarray([[5, 8, *written]]))
    text = jnp.concatenate([*rows, rest], 1)
    hidden = MODEL.hidden(merged, text, jnp.ones(text.shape[:2], bool))
    written.append(int(MODEL.logits(merged, hidden)[0, -1].argmax()))
  assert found.tolist() == written


def test_who_is_fitted():
  fits = {
    'individual': {}, 'quick': {'inner_steps': 0}, 'cluster': {'kind': 'cluster', 'inner_steps': 0},
    'uniform': {'kind': 'uniform'},
  }  # fmt: skip
  found = {name: About(given, {}, 0, True, '').fits_new_users for name, given in fits.items()}
  assert found == {'individual': True, 'quick': False, 'cluster': True, 'uniform': False}


def test_nothing_that_does_not_fit_is_believed(tmp_path):
  made, about = policy()
  folder = trained.save(tmp_path / 'p', made, about)
  with pytest.raises(ValueError, match='tuned on another base'):
    trained.load(folder, MODEL, BASE, model_files='abd')
  with pytest.raises(ValueError, match=r'policy\.json'):
    trained.read_about(tmp_path)
  header = json.loads((folder / trained.HEADER).read_text())
  fewer = {**header, 'users': {'ann': ''}}
  files.write_json(folder / trained.HEADER, fewer)
  with pytest.raises(ValueError, match='stored arrays do not fit'):
    trained.load(folder, MODEL, BASE, model_files='abc')
  files.write_json(folder / trained.HEADER, {**header, 'options': {**OPTIONS, 'depth': 3}})
  with pytest.raises(ValueError, match='has options depth: other code'):
    trained.load(folder, MODEL, BASE, model_files='abc')
  files.write_json(folder / trained.HEADER, {**header, 'users': ['ann']})
  with pytest.raises(ValueError, match="field 'users'"):
    trained.read_about(folder)
  files.write_json(folder / trained.HEADER, header)
  path = folder / trained.PARAMETERS
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  with pytest.raises(ValueError, match='is not the file that'):
    trained.load(folder, MODEL, BASE, model_files='abc')


@pytest.mark.parametrize('beside', [False, True])
def test_a_folder_of_something_else_is_left_alone(beside, tmp_path):
  made, about = policy()
  if beside:
    trained.save(tmp_path / 'mine', made, about)
  (tmp_path / 'mine').mkdir(exist_ok=True)
  (tmp_path / 'mine' / 'letter.txt').write_text('dear')
  with pytest.raises(ValueError, match=r'holds letter\.txt, which would be lost'):
    trained.save(tmp_path / 'mine', made, about)
  assert (tmp_path / 'mine' / 'letter.txt').read_text() == 'dear'


def test_a_rounded_base_is_trained_whole_in_float32_and_else_stays_as_it_is():
  rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16), BASE)

  def dtypes(params):
    return {str(x.dtype) for x in jax.tree.leaves(params['base'])}

  whole, few = (
    p_dpo.p_dpo(MODEL, rounded, num_users=2, **OPTIONS | {'lora_rank': rank}) for rank in (0, 2)
  )
  assert dtypes(whole.learner.init(KEY)) == {'float32'}
  assert dtypes(few.learner.init(KEY)) == {'bfloat16'}
  assert dtypes(trained.untrained(MODEL, rounded).params) == {'bfloat16'}


def test_the_base_itself_is_a_policy_of_nobody():
  made = trained.untrained(MODEL, BASE)
  given = comparisons(5)
  state = made.policy.state_of(made.params, jnp.asarray(0), task.no_context())
  scores = made.policy.learner.score(made.params, state, given.candidates)
  np.testing.assert_allclose(scores, 0, atol=1e-5)
