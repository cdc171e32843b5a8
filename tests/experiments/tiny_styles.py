"""A tiny decoder of styled answers, for tests of what is trained of it and of what it writes."""

import jax

from metapers.llm import decoder, styles
from metapers.llm.layers import Config

MODEL = decoder.decoder(
  Config(
    vocab_size=len(styles.WORDS), width=8, hidden=16, num_layers=1, num_heads=1, num_key_heads=1,
    head_size=8,
  )
)  # fmt: skip
BASE = MODEL.init(jax.random.key(0))
