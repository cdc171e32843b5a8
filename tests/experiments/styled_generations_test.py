from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_styles import BASE, MODEL

from experiments import styled_generations
from metapers.bench.language.policies import Study
from metapers.core.population import SEEN
from metapers.llm import generate, p_dpo, styled_users, styles, trained
from metapers.llm.prompting import Inputs
from metapers.llm.text_users import Split
from metapers.llm.trained import Trained

KINDS = np.array([0, 1, 1, 0])  # curt, warm


def study():
  """Users of whom no more is there than how many they are and what they like."""
  weights = jax.nn.one_hot(KINDS // 2, 5) * (2.0 * (KINDS % 2) - 1)[:, None]
  tasks = SimpleNamespace(user=np.arange(4), context=jnp.arange(8.0).reshape(4, 2))
  split = Split(tasks, SimpleNamespace(weights=weights))  # pyright: ignore
  return Study('styles', {'train': split, SEEN: split}, None, {}, KINDS, (0,))  # pyright: ignore


def test_the_untrained_policy_is_the_base():
  made = trained.untrained(MODEL, BASE)
  numbers = jnp.asarray(styled_users.prompts(0).test[:2])
  tokens = jax.vmap(styles.prompt_of)(numbers)
  greedy = generate.generator(
    MODEL, num_tokens=styles.RESPONSE_LENGTH, end_tokens=(styles.EOS,)
  )(BASE, Inputs(MODEL.embed(BASE, tokens), tokens != styles.PAD), jax.random.key(0))  # fmt: skip
  texts = styled_generations.of_nobody(MODEL, made, study(), 0).texts
  assert len(texts) == styled_generations.NUM_SHOWN
  for text, prompt, answer in zip(texts, tokens, greedy.tokens, strict=False):
    written = styles.words_of(np.asarray(answer))
    assert text.split() == f'nobody {styles.words_of(np.asarray(prompt))} {written}'.split()


def test_known_users_are_written_to_by_what_they_say():
  policy = p_dpo.p_dpo(MODEL, BASE, num_users=4, num_tokens=2, lora_rank=2)
  heard = []

  def state_of(params, row, context):
    heard.append((int(row), context.tolist()))
    return policy.state_of(params, row, context)

  made = Trained(policy._replace(state_of=state_of), policy.learner.init(jax.random.key(1)))
  styled_generations.of_users(MODEL, made, study(), 0)
  assert set(map(str, heard)) == {f'({row}, [{2.0 * row}, {2 * row + 1.0}])' for row in range(4)}
  heard.clear()
  styled_generations.of_nobody(MODEL, made, study(), 0)
  assert all(row >= 4 and not said for row, said in heard)


def test_users_who_are_like_nobody_get_what_nobody_gets():
  policy = p_dpo.p_dpo(MODEL, BASE, num_users=4, num_tokens=2, lora_rank=2)
  made = Trained(policy, policy.learner.init(jax.random.key(1)))  # whose offsets are 0
  nobody = styled_generations.of_nobody(MODEL, made, study(), 0)
  known = styled_generations.of_users(MODEL, made, study(), 0)
  assert set(known.shares) == {
    f'{way}{what}@{pole}'
    for way in ('generated', 'likeliest')
    for what in ('', '_well_formed')
    for pole in ('curt', 'warm')
  }
  for pole in ('curt', 'warm'):
    assert known.shares[f'likeliest@{pole}'] == nobody.shares[f'likeliest@{pole}']
    both = known.shares[f'likeliest_well_formed@{pole}'], nobody.shares['likeliest_well_formed']
    assert both[0] == both[1]


@pytest.mark.parametrize('kind', [0, 1, 5])
def test_the_share_of_a_pole_is_counted(kind):
  poles = jnp.asarray(np.random.default_rng(0).integers(0, 2, (3, 20, 5)), jnp.int32)
  keys = jax.random.split(jax.random.key(0), (3, 20))
  answers = jax.vmap(jax.vmap(styles.response_of, (0, None, 0)), (0, None, 0))(
    keys, jnp.asarray(7), poles
  )
  expected = np.mean(poles[..., kind // 2] == kind % 2)
  np.testing.assert_allclose(styled_generations.share(answers, kind), expected)


def test_answers_to_one_question_stand_side_by_side():
  questions = [styles.words_of(np.asarray(styles.prompt_of(jnp.asarray(n)))) for n in (1, 500)]
  texts = [f'{label:<10} {question} so' for label in ('curt', 'warm') for question in questions]
  shown = styled_generations.side_by_side(texts).splitlines()
  assert [line.split()[0] for line in shown] == ['curt', 'warm', 'curt', 'warm']
  assert sorted(shown) == sorted(texts)
