"""What is counted of replies that a policy writes, by replies that are known."""

import jax
import jax.numpy as jnp
import numpy as np

from metapers.bench.language import written_replies
from metapers.llm import decoder, trained
from metapers.llm.chat_tokens import ChatTokens
from metapers.llm.generate import Generated
from metapers.llm.layers import Config

END, LENGTH = 7, 4


class Letters:
  """A stand-in for a tokenizer: a token for each letter."""

  all_special_ids, added_tokens_decoder, unk_token_id = (), {}, None

  def __call__(self, text, **options):
    return {'input_ids': [ord(letter) for letter in text]}

  def decode(self, tokens, **options):
    return 'x' * len(tokens)


CHAT = ChatTokens(Letters(), before=(), after=(), end=(END,))
MODEL = decoder.decoder(
  Config(vocab_size=128, width=8, hidden=8, num_layers=1, num_heads=1, num_key_heads=1, head_size=8)
)


def test_the_share_of_replies_that_were_cut_is_told(monkeypatch):
  num_prompts = len(written_replies.PROMPTS)
  tokens = np.full((num_prompts, LENGTH), 9)
  tokens[1, -1] = END  # with the last token that a reply may have
  tokens[2:, 1:] = [END, 0, 0]
  found = Generated(jnp.asarray(tokens), jnp.asarray(tokens > 0))
  monkeypatch.setattr(trained, 'replies', lambda *args: found)
  made = trained.untrained(MODEL, MODEL.init(jax.random.key(0)))
  measured = written_replies.of_rows(MODEL, made, [0, 1], CHAT).measured
  assert measured['reply_cut'] == 1 / num_prompts
  assert measured['reply_tokens'] == (2 * LENGTH + 2 * (num_prompts - 2)) / num_prompts
