"""Arrays of scores become tables of a store, or are refused by what is wrong with them."""

import numpy as np
import pandas as pd
import pytest

from metapers.data import feature_store, score_arrays, texts
from metapers.data.manifest import Provenance
from metapers.populations import reward_ensemble

SCORES = np.random.default_rng(0).normal(size=(60, 4, 3))
TEXTS = texts.from_frame(
  pd.DataFrame(
    {'prompt': [f'{n // 2}' for n in range(60)]}
    | {f'response_{i + 1}': [f'{n} {i}' for n in range(60)] for i in range(4)}
    | {f'response_{i + 1}_model': ['xyzw'[i]] * 60 for i in range(4)}
  )
)


def test_scores_alone_make_a_population(tmp_path):
  scores = SCORES.copy()
  scores[3, 1, 2], scores[5, 0, 0], scores[7, 3] = np.nan, np.inf, scores[7, 0]
  table = score_arrays.from_scores(scores)
  assert table.reward_models == ('model_1', 'model_2', 'model_3')
  assert table.response_models[3] == 'response 4'
  assert np.argwhere(~table.mask).tolist() == [[3, 1], [5, 0], [7, 3]]
  provenance = Provenance('mine', 'by hand', '')
  read = feature_store.open_store(feature_store.write_store(tmp_path / 's', table, provenance))
  np.testing.assert_array_equal(read.mask, table.mask)
  users = reward_ensemble.reward_ensemble(read, num_support=2, num_query=1, num_slates=1)
  assert users.spec.num_features == 3


def test_equal_prompts_share_a_split_and_texts_say_who_wrote_them():
  table = score_arrays.from_scores(SCORES, 'abc', texts=TEXTS)
  np.testing.assert_array_equal(table.prompt_split[::2], table.prompt_split[1::2])
  assert set(table.response_models) == set('xyzw')
  np.testing.assert_array_equal(table.prompt_split, TEXTS.prompt_split)
  alone = score_arrays.from_scores(SCORES, 'abc', prompts=TEXTS.prompts)
  np.testing.assert_array_equal(alone.prompt_split, TEXTS.prompt_split)


@pytest.mark.parametrize(
  ('scores', 'options', 'message'),
  [
    (SCORES[0], {}, r'reward models\].*got float64 \[4, 3\]'),
    (SCORES.astype(str), {}, r'must be numbers .* got <U'),
    (SCORES[:, :1], {}, r'two responses or more .* \[60, 1, 3\]'),
    (SCORES[:2], {}, r'scores of 2 prompts by 3 reward models make no store; give 3 prompts'),
    (SCORES, {'reward_models': ['a', 'b']}, r'of 3 reward models.* got 2: a, b'),
    (SCORES, {'reward_models': ['a', 'b', 'a']}, r'as many different names, got 3'),
    (SCORES[:40], {'texts': TEXTS}, r'texts are of shape \[60, 4\], and scores .* \[40, 4\]'),
    (SCORES, {'prompts': ['a']}, r'prompts are of shape \[1\]'),
    (SCORES, {'features': np.ones((60, 3, 2), np.float32)}, r'features are of shape \[60, 3\]'),
    (SCORES * [1, 0, 1], {}, 'reward model model_2 gives every train response the same score'),
    (SCORES * np.nan, {}, 'no usable response to a train prompt'),
  ],
)  # fmt: skip
def test_what_makes_no_table_is_refused(scores, options, message):
  with pytest.raises(ValueError, match=message):
    score_arrays.from_scores(scores, **options)
