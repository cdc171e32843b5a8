"""Outputs of text classifiers, of a model of random weights with three labels."""

import numpy as np
import pytest
import torch
import transformers

from metapers.data import text_classifiers
from metapers.testing import tiny_models

TEXTS = ['w1 w2 w3', 'w4', 'w5 w6 w5 w7 w8 w9']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('models') / 'classifier'
  torch.manual_seed(0)
  names = {'id2label': {0: 'sad', 1: 'joy', 2: 'calm'}, 'label2id': {'sad': 0, 'joy': 1, 'calm': 2}}
  config = transformers.BertConfig(
    vocab_size=256, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
    intermediate_size=32, pad_token_id=0, **names,
  )  # fmt: skip
  model = transformers.AutoModelForSequenceClassification.from_config(config)
  torch.nn.init.normal_(model.classifier.weight)
  model.save_pretrained(folder)
  tiny_models.tokenizer(chat=False).save_pretrained(folder)
  return str(folder)


def test_the_output_of_a_label_is_that_of_the_model(folder):
  names = [f'happy={folder}#joy', f'still={folder}#calm']
  found = text_classifiers.features([text_classifiers.classifier(name) for name in names], TEXTS)
  model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
  tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
  with torch.inference_mode():
    rows = [model(**tokenizer(text, return_tensors='pt', return_token_type_ids=False)).logits[0]
            for text in TEXTS]  # fmt: skip
  np.testing.assert_allclose(found, torch.stack(rows).numpy()[:, 1:], atol=1e-5)


def test_an_unknown_label_is_refused_with_the_known_ones(folder):
  with pytest.raises(ValueError, match=r"no label 'fun'.*calm, joy, sad"):
    text_classifiers.features([text_classifiers.classifier(f'x={folder}#fun')], TEXTS)


def test_a_model_that_is_not_there_is_said(tmp_path):
  with pytest.raises(ValueError, match='cannot load'):
    text_classifiers.features([text_classifiers.classifier(f'x={tmp_path}/none')], TEXTS)


@pytest.mark.parametrize('text', ['formality', '=model', 'x=', 'x=#label'])
def test_another_form_is_refused(text):
  with pytest.raises(ValueError, match='NAME=MODEL#LABEL'):
    text_classifiers.classifier(text)
