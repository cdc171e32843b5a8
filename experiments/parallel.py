"""How a training command uses devices and machines: its flags, the same of every such command."""

import jax
from absl import flags

from metapers.training import devices
from metapers.training.devices import Placement

PARALLEL = flags.DEFINE_enum(
  'parallel', 'jit', devices.PARALLEL, 'One program over all devices, or pmap: one for each.'
)
SHARD_ARRAYS = flags.DEFINE_bool(
  'shard_arrays', False, 'Divide features and rewards by prompt, if they do not fit into a device.'
)
DISTRIBUTED = flags.DEFINE_bool(
  'distributed', False, 'Started on several machines, all of which train one run at a time.'
)
COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'HOST:PORT of process 0; TPU pods and SLURM know. As are the next two.'
)
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'That were started.', lower_bound=1)
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'From 0, of this process.', lower_bound=0)
HEARTBEAT = 30  # seconds without a sign of another process until all end
LONGEST_END = 24 * 60 * 60  # seconds in which the first process evaluates and others wait for it


def begin() -> None:
  """Joins the other processes of a command, if there are any; called before anything is computed.

  Raises:
    ValueError: for flags that do not fit each other, or processes that do not find each other.
  """
  told = (COORDINATOR, NUM_PROCESSES, PROCESS_ID)
  given = [f'--{flag.name}' for flag in told if flag.value is not None]
  if DISTRIBUTED.value:
    join(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
  elif given:
    raise ValueError(f'{", ".join(given)} need --distributed')
  if SHARD_ARRAYS.value:  # whole in main memory alone, and so is what is drawn from them there
    jax.config.update('jax_default_device', jax.local_devices(backend='cpu')[0])


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
  """Joins the other processes.

  Args:
    coordinator: HOST:PORT of the first process; None where the cluster says, like the others.
    num_processes: that were started.
    process_id: of this one.

  Raises:
    ValueError: for processes that do not find each other.
  """
  try:
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
      heartbeat_timeout_seconds=HEARTBEAT,
      shutdown_timeout_seconds=LONGEST_END,
    )
  except (ValueError, RuntimeError) as error:
    raise ValueError(
      f'--distributed: {error}; neither on a TPU pod nor under SLURM every process is given '
      '--coordinator=HOST:PORT of the first, --num_processes and its own --process_id'
    ) from error


def placement() -> Placement:
  """Returns how runs are laid out over all devices.

  Raises:
    ValueError: for arrays that are to be divided over programs that hold them whole.
  """
  rule = devices.by_prompt if SHARD_ARRAYS.value else devices.replicated
  return devices.placement(PARALLEL.value, rule=rule)
