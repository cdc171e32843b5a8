"""A question answered from examples in the prompt, or by a policy that knows the user."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import transformers
from forks import command

from metapers.core import task
from metapers.core.task import Candidates
from metapers.llm import chat_tokens, decoder, generate, hf_config, load, p_dpo, prompting, trained
from metapers.llm.trained import About, Trained
from metapers.testing import tiny_models


def test_an_answer_follows_the_examples_that_it_is_shown(folders, tmp_path):
  """A random model says something else where it reads something else, and the same for the same."""
  path = tmp_path / 'mine.jsonl'
  path.write_text('{"prompt": "w1 w2", "winning": "w3", "losing": "w4 w5"}\n')
  common = (f'--model={folders[1]}', '--prompt=w7 w8', '--max_tokens=8', '--max_prompt=256')
  first, again, shown = (
    command('answer', *common, *more) for more in ((), (), (f'--examples={path}',))
  )
  assert first.returncode == again.returncode == shown.returncode == 0, shown.stderr
  assert first.stdout == again.stdout != shown.stdout
  path.write_text('\n')
  empty = command('answer', *common, f'--examples={path}')
  assert empty.returncode == 2 and 'holds no example' in empty.stderr
  path.write_text('{"prompt": "w1"}\n')
  wrong = command('answer', *common, f'--examples={path}')
  assert wrong.returncode == 2 and 'line 1: an example has texts' in wrong.stderr


def test_a_new_user_is_answered_by_the_clusters_that_examples_tell_of(folders, tmp_path):
  model = decoder.decoder(hf_config.read(folders[1]))
  base, options = (
    load.params(folders[1]),
    {'kind': 'cluster', 'num_clusters': 2, 'num_tokens': 3, 'beta': 20},
  )
  policy = p_dpo.p_dpo(model, base, num_users=2, **options)
  params = policy.learner.init(jax.random.key(0))
  params['users']['clusters'] = 3 * jax.random.normal(jax.random.key(1), (2, 3, 16))
  about = About(options, {'ann': '', 'bob': ''}, 0, True, load.fingerprint(folders[1]))
  made = Trained(policy, params)
  asked = [f'--model={folders[1]}', '--prompt=w7 w8', '--max_tokens=8']
  asked.append(f'--policy={trained.save(tmp_path / "policy", made, about)}')

  chat = chat_tokens.of(transformers.AutoTokenizer.from_pretrained(folders[1]))
  soft = params['users']['clusters']
  said = [policy.state_of(params, jnp.asarray(0), task.no_context())._replace(soft=x) for x in soft]
  generator = generate.generator(model, num_tokens=8, end_tokens=chat.end)
  expected = []
  for state in said:
    found = trained.replies(
      model, made, state, [chat.prompt('w7 w8')], generator, jax.random.key(0)
    )
    tokens = np.asarray(found.tokens[0])[np.asarray(found.mask[0])]
    expected.append(chat.tokenizer.decode(tokens, skip_special_tokens=True).strip())
  assert expected[0] != expected[1]

  # Many comparisons, in each of which one cluster finds the reply that was chosen the likelier.
  rng = np.random.default_rng(0)
  replies = [' '.join(rng.choice(tiny_models.WORDS, 5)) for _ in range(30)]
  found = ratios(policy, params, said, chat, replies)  # how much likelier by the first cluster
  by_ratio = [replies[row] for row in np.argsort(found)]
  for cluster, answer in enumerate(expected):
    least, most = by_ratio[:5], by_ratio[-5:]
    chosen, rejected = (most, least) if cluster == 0 else (least, most)
    path = tmp_path / f'{cluster}.jsonl'
    path.write_text(
      ''.join(
        json.dumps({'prompt': 'w1', 'winning': won, 'losing': lost}) + '\n'
        for won, lost in zip(chosen * 8, rejected * 8)
      )
    )
    done = command('answer', *asked, f'--examples={path}')
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == answer
  wrong = command('answer', *asked, f'--examples={path}', '--user=ann')
  assert wrong.returncode == 2 and '--examples are of a new one' in wrong.stderr


def test_a_known_user_is_answered_with_what_they_say_of_themselves(folders, tmp_path):
  """As in training, behind the token that begins a text, of a policy without a chat template."""
  model = decoder.decoder(hf_config.read(folders[1]))
  options = {'num_tokens': 2, 'inner_steps': 0}
  base, files = load.params(folders[1]), load.fingerprint(folders[1])
  policy = p_dpo.p_dpo(model, base, num_users=2, **options)
  made = Trained(policy, policy.learner.init(jax.random.key(0)))
  about = About(options, {'ann': 'w5 w6', 'bob': 'w9'}, 8, False, files)
  asked = (
    f'--model={folders[1]}', '--prompt=w7 w8', '--max_tokens=8',
    f'--policy={trained.save(tmp_path / "policy", made, about)}',
  )  # fmt: skip
  tokenizer = transformers.AutoTokenizer.from_pretrained(folders[1])
  said = chat_tokens.plain(tokenizer, 'w5 w6')
  context = {
    'text': jnp.asarray([*said, *[0] * (8 - len(said))]), 'mask': jnp.arange(8) < len(said)
  }  # fmt: skip
  state = policy.state_of(made.params, jnp.asarray(0), context)
  generator = generate.generator(model, num_tokens=8, end_tokens=[tokenizer.eos_token_id])
  prompt = [tokenizer.bos_token_id, *chat_tokens.plain(tokenizer, 'w7 w8')]
  found = trained.replies(model, made, state, [prompt], generator, jax.random.key(0))
  tokens = np.asarray(found.tokens[0])[np.asarray(found.mask[0])]
  done = command('answer', *asked, '--user=ann')
  assert done.returncode == 0, done.stderr
  expected = tokenizer.decode(tokens, skip_special_tokens=True).strip()
  assert done.stdout.strip() == expected
  other = command('answer', *asked, '--user=ann', '--says=w9')
  assert other.returncode == 0 and other.stdout.strip() != expected
  longer = command('answer', *asked, '--user=ann', f'--says={"w5 " * 20}')
  assert longer.returncode == 2
  assert '--says is longer than the 8 tokens that are read of it' in longer.stderr


def ratios(policy, params, said, chat, replies):
  prompts = prompting.padded([chat.prompt('w1')] * len(replies), side='left')
  responses = prompting.padded([chat.response(text) for text in replies], side='right')
  features = p_dpo.sequences(*map(jnp.asarray, (*prompts, *responses)))
  candidates = Candidates(features, jnp.ones(len(replies), bool))
  first, second = (policy.learner.score(params, state, candidates) for state in said)
  return np.asarray(first - second)
