"""The environment that a node needs, in one table: the only place that knows a variable's name and value.

`jobs._ray` and `pipeline.train` set what is theirs from here, as defaults: what a node sets already stays, but for what
is `forced`. What starts nodes (a KubeRay manifest, a SLURM script) takes `values("node")`. Imports nothing of ours.
"""

import os
from dataclasses import dataclass
from typing import Literal

Scope = Literal["node", "driver", "local", "train", "elastic", "worker", "cpu_worker", "lone_node", "chaos"]
"""Who needs it.

`node`: Ray, where it is started on a node of a cluster. `driver`: every job, before it imports Ray. `local`: a job that
starts Ray on its own machine. `train`: the driver of a training run; `elastic`: of one whose number of workers changes.
`worker`: a process that trains; `cpu_worker`: one without a GPU; `lone_node`: one whose group is all on its node. `chaos`: a rig that starts a small cluster to harm it.
"""


@dataclass(frozen=True)
class Variable:
    """One variable, who needs it and why."""

    name: str
    value: str | None
    """None: only who needs it can know it."""
    scopes: tuple[Scope, ...]
    why: str
    forced: bool = False
    """Set even where it is set already."""


TABLE = (
    Variable("RAY_TRAIN_V2_ENABLED", "1", ("driver",), "Launch is written for the second version of Ray Train."),
    Variable("RAY_ENABLE_AUTO_CONNECT", "0", ("driver",), "What Ray does after its end must not find another cluster."),
    Variable("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0", ("driver",), "A task without GPUs leaves CUDA's list alone."),
    Variable(
        "RAY_AUTH_MODE",
        "token",
        ("node", "local", "chaos"),
        "No one else on the network, or machine, may submit.",
        True,
    ),
    Variable(
        "RAY_AUTH_TOKEN",
        None,
        ("local", "chaos"),
        "Of this process alone; else Ray leaves one in the home folder.",
        True,
    ),
    Variable("RAY_AUTH_TOKEN_PATH", None, ("node",), "A file of mode 0600 with the token of the cluster."),
    Variable(
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
        "0",
        ("local", "chaos"),
        "The address of the only machine is then 127.0.0.1, and nothing of Ray's listens elsewhere; Linux too reads it.",
        True,
    ),
    Variable(
        "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S",
        "3",
        ("node", "local"),
        "How long workers are waited for that wait for a dead one; 30 s otherwise. Read where Ray was started.",
    ),
    Variable("RAY_DISABLE_IMPORT_WARNING", "1", ("chaos",), "Its nodes are processes of one machine."),
    Variable("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0", ("local",), "Nobody drains the only machine there is."),
    Variable("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "1", ("train",), "How soon Ray Train notices an end or a death."),
    Variable("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "1", ("train",), "How soon it notices that a node is drained."),
    Variable(
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S",
        "15",
        ("elastic",),
        "For a while Ray Train counts on nodes that are gone; then it must soon try with fewer.",
    ),
    Variable("DS_ACCELERATOR", "cpu", ("cpu_worker",), "DeepSpeed reads at import where to compute.", True),
    Variable("LOCAL_RANK", "0", ("worker",), "Which GPU of its node; Ray Train sets it."),
    Variable(
        "GLOO_SOCKET_IFNAME", None, ("lone_node",), "The loopback: else gloo listens where the host's name leads."
    ),
    Variable("NCCL_SOCKET_IFNAME", None, ("lone_node",), "The loopback: else NCCL listens on a network card."),
    Variable("LOCAL_SIZE", None, ("worker",), "Else DeepSpeed asks numactl, which may not be there."),
    Variable("AWS_ENDPOINT_URL", None, ("node",), "An S3 that is not Amazon's."),
    Variable("AWS_ACCESS_KEY_ID", None, ("node",), "For the storage, unless the node has a role; never in a config."),
    Variable("AWS_SECRET_ACCESS_KEY", None, ("node",), "As above."),
)


def values(*scopes: Scope) -> dict[str, str | None]:
    """Name -> value of what these scopes need."""
    return {variable.name: variable.value for variable in TABLE if set(scopes) & set(variable.scopes)}


def apply(*scopes: Scope, **given: str) -> None:
    """Set what these scopes need in this process and its children; `given` are values that the table cannot know, or
    leaves to the caller. A variable without a value is left alone."""
    for variable in TABLE:
        value = given.get(variable.name, variable.value)
        if value is None or not set(scopes) & set(variable.scopes):
            continue
        if variable.forced:
            os.environ[variable.name] = value
        else:
            os.environ.setdefault(variable.name, value)
