"""A small table and store for tests to spoil."""

import json

import pyarrow as pa

from metapers.data import synthetic
from metapers.data.manifest import Provenance

PROVENANCE = Provenance('synthetic, for a test', 'by hand', 'Apache-2.0', 'tanh', '1')
TABLE = synthetic.synthetic_store(num_prompts=30)


def texts_of(table, repeats=()):
  rows = [[f'text {p} {r}' for r in range(8)] for p in range(len(table.rewards))]
  for prompt, response, earlier in repeats:
    rows[prompt][response] = rows[prompt][earlier]
  return pa.table({'prompt': [f'prompt {p}' for p in range(len(rows))], 'responses': rows})


def edit_manifest(folder, edit):
  path = folder / 'manifest.json'
  content = json.loads(path.read_text())
  edit(content)
  path.write_text(json.dumps(content))
