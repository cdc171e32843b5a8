"""A reward model or encoder on a device: text in, scores and features out. Needs torch.

The score of a response depends on its own text only, up to rounding: padding is on the right and
masked, and texts of like length share a batch for speed alone. The batch changes scores by up to
.02 sd in bfloat16, whose products round by its shape (measured), by less than 1e-4 sd in float32.
"""

import hashlib
import itertools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np
import torch
import transformers

from metapers.core.types import Int
from metapers.data import hub, rendering, reward_models
from metapers.data.reward_models import (
  CHAT,
  PAIR,
  TEMPLATES,
  Options,
  RewardModel,
  Scored,
  TextError,
)

# Files of a folder that decide what its model makes of a text: weights, tokenizer and templates.
READ_BY = ('.safetensors', '.bin', '.json', '.jinja', '.model', '.txt')
TORCH_DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'float16': torch.float16}


class Encoded(NamedTuple):
  """One text as the model takes it: token ids, and which segment each belongs to."""

  ids: list[int]
  segments: list[int]


def unreachable(model: RewardModel, what: str, error: Exception) -> ValueError:
  """Returns the error of a repository that cannot be read, with the ways out."""
  reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
  is_encoder = model.pooling != 'score'
  of_encoder = ' (--config.encoder.model=FOLDER), or of an encoder none and features of syntax '
  of_encoder += 'alone (--config.encoder.model= --config.syntax=True)'
  return ValueError(
    f'{model.name}: cannot load the {what} of {model.model} (revision {model.revision}): {reason} '
    f'Without a network give a local folder of the repository as its model'
    f'{of_encoder if is_encoder else ""}; weights that are no safetensors load only with '
    'allow_pickle'
  )


def read_tokenizer(model: RewardModel, options: Options) -> tuple[Any, str]:
  """Returns the tokenizer of a model and the chat template that it is read by, '' without any.

  Raises:
    ValueError: for a repository that cannot be read, a tokenizer without a chat template, or one
      that prints today's date in a form that it works out.
  """
  has_own = not model.tokenizer
  source, revision = (model.model, model.revision) if has_own else (model.tokenizer, 'main')
  try:
    hub.require_model(source, revision)
    tokenizer = transformers.AutoTokenizer.from_pretrained(
      source, revision=revision, trust_remote_code=False, padding_side='right'
    )
  except (OSError, ValueError) as error:
    raise unreachable(model, 'tokenizer', error) from error
  if model.template == CHAT and not tokenizer.chat_template and model.pooling == 'score':
    raise ValueError(
      f'{model.name}: its tokenizer has no chat template; name the documented one, of '
      f'{", ".join((PAIR, *TEMPLATES))}'
    )
  template = tokenizer.get_chat_template() if tokenizer.chat_template else ''
  return tokenizer, rendering.with_date(template, options.date)


class Scorer:
  """One model on one device."""

  def __init__(
    self,
    model: RewardModel,
    options: Options,
    device: str = 'cpu',
    *,
    keeps_features: bool = False,
  ):
    """Loads tokenizer and weights.

    Args:
      model: that scores, or an encoder.
      options: how it is run.
      device: where, such as 'cuda:0'.
      keeps_features: whether a model that scores returns its features, too; an encoder always does.

    Raises:
      ValueError: for a repository that cannot be read, weights that are missing or left over, or a
        tokenizer without a chat template, or a label that the model does not have.
    """
    self.spec = reward_models.checked_model(model)
    self.options = reward_models.checked_options(options)
    self.keeps_features = keeps_features or model.pooling != 'score'
    self.device = torch.device(device)
    self.tokenizer, self.template = read_tokenizer(self.spec, self.options)
    self.module = self._load_module().to(self.device).eval()
    self.pad_id = self._pad_id()
    self.version = self._version()
    self.output = self._output()

  def _load_module(self) -> Any:
    spec, classifies = self.spec, self.spec.pooling == 'score'
    kind = transformers.AutoModelForSequenceClassification if classifies else transformers.AutoModel
    extra: dict[str, Any] = {'num_labels': 1} if classifies and not spec.label else {}
    if spec.key_mapping:
      extra['key_mapping'] = dict(spec.key_mapping)
    try:
      module, report = kind.from_pretrained(
        spec.model,
        revision=spec.revision,
        dtype=TORCH_DTYPES[self.options.dtype],
        use_safetensors=None if self.options.allow_pickle else True,
        trust_remote_code=False,
        output_loading_info=True,
        **extra,
      )
    except (OSError, ValueError, RuntimeError) as error:
      raise unreachable(spec, 'weights', error) from error
    missing = sorted(report['missing_keys'])
    unused = [key for key in sorted(report['unexpected_keys']) if not key.startswith(spec.ignored)]
    if classifies and (missing or unused):
      raise ValueError(
        f'{spec.name}: weights of {spec.model} do not fit a {type(module).__name__}: missing '
        f'{missing[:3]}, left over {unused[:3]}; it would score at random. Give a key_mapping'
      )
    return module

  def _output(self) -> int:
    # Which of the classifier's outputs is the score.
    labels = self.module.config.label2id if self.spec.label else {'': 0}
    if self.spec.label not in labels:
      raise ValueError(
        f'{self.spec.name}: {self.spec.model} has no label {self.spec.label!r}; it has '
        f'{", ".join(labels)}'
      )
    return int(labels[self.spec.label])

  def _version(self) -> str:
    # The hub's commit, or the sha256 of what decides how a folder's model reads and scores a text.
    if not pathlib.Path(self.spec.model).is_dir():
      return str(self.module.config._commit_hash)
    folders = [pathlib.Path(self.spec.model), pathlib.Path(self.spec.tokenizer or self.spec.model)]
    digest = hashlib.sha256()
    for path in (path for folder in dict.fromkeys(folders) for path in sorted(folder.glob('*'))):
      if path.suffix in READ_BY:
        with path.open('rb') as file:
          digest.update(f'{path.name} {hashlib.file_digest(file, "sha256").hexdigest()} '.encode())
    return f'sha256 {digest.hexdigest()}'

  def _pad_id(self) -> int | None:
    # A classifier scores the last token that is not the checkpoint's own padding token, be that one
    # that texts hold; where it names none, the last token. The tokenizer's is not looked at: it may
    # be the end token, with which every text ends.
    own = self.module.config.pad_token_id
    return own if own is not None and own >= 0 else None

  def render(self, prompt: str, response: str) -> str:
    """Returns the text that the model reads; a pair is shown with its two parts joined by a bar."""
    if self.spec.template == PAIR:
      return f'{prompt} | {response}'
    if self.spec.template != CHAT:
      # Replaced one after the other, a prompt that holds '{response}' would be filled in.
      before, _, after = TEMPLATES[self.spec.template].partition('{response}')
      return before.replace('{prompt}', prompt) + response + after
    if not self.tokenizer.chat_template:
      return response
    turns = [{'role': 'user', 'content': prompt}, {'role': 'assistant', 'content': response}]
    return self.tokenizer.apply_chat_template(turns, tokenize=False, chat_template=self.template)

  def encode(self, prompt: str, response: str) -> tuple[Encoded, bool]:
    """Returns the tokens of one text, and whether it had to be cut, as `reward_models.CUT` says.

    A response is cut only where it does not fit without its prompt: a score is of what is left of
    the response, which then does not depend on how long the prompt is.
    """
    limit = self.spec.max_length or self.options.max_length
    found = self._read(prompt, response)
    over = len(found.ids) - limit
    if over <= 0:
      return found, False
    if len(self._read('', response).ids) > limit:
      return self._read('', response, truncation=True, max_length=limit), True
    starts, first = self._starts(prompt), 0
    while over > 0:  # the first tokens of what is left may be others than in the whole
      first += over
      rest = prompt[starts[first] :] if first < len(starts) else ''
      found = self._read(rest, response)
      over = len(found.ids) - limit
    return found, True

  def _read(self, prompt: str, response: str, **cut: Any) -> Encoded:
    parts = (prompt, response) if self.spec.template == PAIR else (self.render(prompt, response),)
    is_rendered = self.spec.template == CHAT and bool(self.tokenizer.chat_template)
    tokens = self.tokenizer(
      *parts,
      add_special_tokens=not is_rendered,  # a chat template writes them itself
      return_token_type_ids=True,
      verbose=False,
      **cut,
    )
    return Encoded(tokens['input_ids'], tokens['token_type_ids'])

  def _starts(self, text: str) -> Sequence[int]:
    # Where each token of a text starts in it; slow tokenizers do not tell, and lose letters.
    if not self.tokenizer.is_fast:
      return range(len(text))
    read = self.tokenizer(
      text, add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    return [start for start, _ in read['offset_mapping']]

  def encode_all(
    self, prompts: Sequence[str], responses: Sequence[str]
  ) -> list[tuple[Encoded, bool]]:
    """Returns what `encode` does of N texts.

    Raises:
      TextError: for a text that the chat template refuses.
    """
    found = []
    for number, pair in enumerate(zip(prompts, responses, strict=True)):
      try:
        found.append(self.encode(*pair))
      except jinja2.TemplateError as error:
        raise TextError(
          number, f'the chat template of {self.spec.name} refuses {pair!r:.100}: {error}'
        ) from error
    return found

  def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> Scored:
    """Returns the scores, or features, of N pairs of prompt and response."""
    encoded, is_long = zip(*self.encode_all(prompts, responses))
    lengths = np.array([len(one.ids) for one in encoded])
    scores = np.full(len(lengths), np.nan, np.float32)
    features: np.ndarray | None = None
    for rows in batches(lengths, self.options.batch_size, bucket=self.options.bucket):
      found_scores, found_features = self.run([encoded[row] for row in rows])
      if found_scores is not None:
        scores[rows] = found_scores
      if found_features is not None:
        if features is None:
          features = np.zeros((len(lengths), found_features.shape[1]), np.float16)
        features[rows] = found_features
    kept = scores if self.spec.pooling == 'score' else None
    return Scored(kept, features, sum(is_long), self.version)

  @torch.inference_mode()
  def run(self, texts: Sequence[Encoded]) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Returns scores [n] and features [n, D] of one padded batch, each if it is kept."""
    width = max(len(text.ids) for text in texts)
    pad_id = absent_id(texts) if self.pad_id is None else self.pad_id
    self.module.config.pad_token_id = pad_id  # by which a classifier finds the last token
    ids = torch.full((len(texts), width), pad_id)
    mask, segments = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, text in enumerate(texts):
      ids[row, : len(text.ids)] = torch.tensor(text.ids)
      segments[row, : len(text.ids)] = torch.tensor(text.segments)
      mask[row, : len(text.ids)] = 1
    inputs = {'input_ids': ids.to(self.device), 'attention_mask': mask.to(self.device)}
    if self.spec.template == PAIR and 'token_type_ids' in self.tokenizer.model_input_names:
      inputs['token_type_ids'] = segments.to(self.device)
    outputs = self.module(**inputs, output_hidden_states=self.keeps_features)
    scores = None
    if self.spec.pooling == 'score':
      scores = self.spec.sign * outputs.logits[:, self.output].float().cpu().numpy()
    if not self.keeps_features:
      return scores, None
    hidden = outputs.hidden_states[self.options.layer].float()
    return scores, self.pooled(hidden, inputs, pad_id).cpu().numpy().astype(np.float16)

  def pooled(
    self, hidden: torch.Tensor, inputs: dict[str, torch.Tensor], pad_id: int
  ) -> torch.Tensor:
    """Returns one vector a text [n, D] from its hidden states [n, length, D]."""
    mask, pooling = inputs['attention_mask'], self.spec.pooling
    if pooling == 'mean':
      return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    reads_first = pooling == 'score' and 'score' not in dict(self.module.named_children())
    if pooling == 'cls' or reads_first:
      return hidden[:, 0]
    real = mask.bool() if pooling == 'last' else inputs['input_ids'] != pad_id
    position = torch.arange(hidden.shape[1], device=hidden.device)
    last = torch.where(real, position, 0).argmax(1)  # the token that the classifier scores
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


def absent_id(texts: Sequence[Encoded]) -> int:
  """Returns the smallest token id that none of the texts holds."""
  present = {token for text in texts for token in text.ids}
  return next(number for number in itertools.count() if number not in present)


def batches(
  lengths: Int[np.ndarray, 'N'], batch_size: int, *, bucket: bool
) -> list[Int[np.ndarray, 'n']]:
  """Returns the rows of each batch of N texts: of like length, longest first, or in their order."""
  order = np.argsort(-lengths, kind='stable') if bucket else np.arange(len(lengths))
  return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
