"""PersonalLLM's published reward and response models, apart from what reads its data set.

Reference: Zollo et al. 2024, arXiv:2409.20296; github.com/namkoong-lab/PersonalLLM, constants.py.
"""

# PersonalLLM's reward models in its own order (sorted), with mean and sd of their raw train scores.
REWARD_MODELS = {
  'beaver_7b': (6.233516894340515, 3.012641148973965),
  'gemma_2b': (4.3304170169830325, 2.038611338958803),
  'gemma_7b': (1.6259730467796325, 2.6096741570264976),
  'llama3_sfairx': (1.0637639780044557, 2.953017385451928),
  'mistral_raft': (8.309211883544922, 3.0728436748484533),
  'mistral_ray': (3.0136284782886507, 1.6902981149232585),
  'mistral_weqweasdas': (7.071075622558594, 2.578636650248985),
  'oasst_deberta_v3': (2.8976835689097644, 1.7207868789061331),
  'oasst_pythia_1b': (4.293944010734558, 2.3018268820938133),
  'oasst_pythia_7b': (4.706351243972779, 1.3659142113789966),
}
RESPONSE_MODELS = (
  'cohere/command-r-plus',
  'openai/gpt-4-turbo',
  'openai/gpt-4o',
  'anthropic/claude-3-opus:beta',
  'anthropic/claude-3-sonnet:beta',
  'meta-llama/llama-3-70b-instruct:nitro',
  'google/gemini-pro-1.5',
  'mistralai/mixtral-8x22b-instruct',
)
