"""Writes the deploy files from the pools and machines: ``python -m cluster.deploy.generate``.

What they hold beside those is here: change it here, or in a copy of your own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomli_w
import yaml

from cluster.deploy.dashboard import dashboard
from cluster.deploy.machines import MACHINES, Machine

HERE = Path(__file__).parent

IMAGE = f"registry.example.com/catalog-cleanup:{version('catalog-cleanup')}"
BUCKET = "example-catalog"
NAME = "catalog-cleanup"

#: Pods of a pool's group run on nodes with this label, and may where it is a taint.
POOL_KEY = f"{NAME}/pool"

#: In the image.
USER = 1000
POOLS_FILE = "/home/ray/pools.toml"
_CACHE = "/cache"
_PORTS = {"gcs": 6379, "dashboard": 8265, "client": 10001}
_METRICS = {"metrics": 8080}
_HEAD_METRICS = {"as-metrics": 44217, "dash-metrics": 44227}

_GENERATED = "Made by `python -m cluster.deploy.generate`; a test holds it against the pools."

_CLUSTER_NEEDS = f"""\
Needs KubeRay 1.5.1 or newer, and
- nodes with the label {POOL_KEY}: cpu, small-gpu or large-gpu; those with GPUs with NVIDIA's
  device plugin. They may be spot nodes, and may have the label, and nvidia.com/gpu, as a taint;
- the ServiceAccount {NAME}, which may what cluster/deploy/aws/bucket-policy.json says;
- the Secret hf-token with `token`, if weights come from gated models."""

_RAYCLUSTER = f"""\
A cluster that stays; its workers come and go. `catalog-cleanup submit` sends it runs.
{_GENERATED}
{_CLUSTER_NEEDS}
- a Redis that keeps its data on disk, reached as redis:6379, and its password as `password` in the
  Secret redis-password: from there a head that died goes on with its cluster.
The token of the job API is in the Secret {NAME}, as `auth_token`."""

_RAYJOB = f"""\
One run on a cluster of its own, which goes when it has ended. Set the manifest and the output.
{_GENERATED}
{_CLUSTER_NEEDS}
A run that does not finish is tried again on a new cluster, and goes on with what is left; one that
has failed rows (exit code 3) has finished."""

_MONITORING = f"""\
For the Prometheus operator: scrapes the head and the workers of the cluster.
{_GENERATED}
Prometheus only sees it with the labels that it selects PodMonitors by (`release`, often)."""

_RAY_UP = f"""\
ray up cluster/deploy/aws/ray-up.yaml: a head, and spot workers that come and go.
{_GENERATED}
Before: `ray get-auth-token --generate`, whose token is copied to the nodes; an instance profile
{NAME}, which may what cluster/deploy/aws/bucket-policy.json says and what Ray's autoscaler needs
of EC2; an AMI with Docker and NVIDIA's driver (the Deep Learning AMI that Ray takes has both).
After: `ray dashboard cluster/deploy/aws/ray-up.yaml` lets you reach http://localhost:8265."""


_POOLS = f"""\
A pools' file that names the nodes which the autoscalers of these deploy files may add.
{_GENERATED}"""


def files() -> dict[str, str]:
    """Path below this folder -> content."""
    made = {
        "pools.toml": _comment(_POOLS) + tomli_w.dumps({"nodes": dict(_nodes())}),
        "kuberay/raycluster.yaml": _yaml(_RAYCLUSTER, _ray_cluster()),
        "kuberay/rayjob.yaml": _yaml(_RAYJOB, _ray_job()),
        "kuberay/monitoring.yaml": _yaml(_MONITORING, _monitor()),
        "aws/ray-up.yaml": _yaml(_RAY_UP, _ray_up()),
    }
    tables = {"aws/bucket-policy.json": _policy(), "grafana/dashboard.json": dashboard()}
    return made | {name: json.dumps(table, indent=2) + "\n" for name, table in tables.items()}


class _Plain(yaml.SafeDumper):
    """Without references from one place to another, which no person wants to follow."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        return True


def _yaml(head: str, content: Mapping[str, Any]) -> str:
    text: str = yaml.dump(dict(content), Dumper=_Plain, sort_keys=False, width=100)
    return _comment(head) + text


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in text.splitlines())


def _nodes() -> Iterator[tuple[str, dict[str, Any]]]:
    for machine in MACHINES:
        yield machine.group, machine.node_type().model_dump()


def _ray_cluster() -> dict[str, Any]:
    password = {"valueFrom": {"secretKeyRef": {"name": "redis-password", "key": "password"}}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": NAME},
        "spec": {
            "gcsFaultToleranceOptions": {"redisAddress": "redis:6379", "redisPassword": password},
            **_cluster_spec(),
        },
    }


def _ray_job() -> dict[str, Any]:
    run = f"catalog-cleanup run s3://{BUCKET}/manifest.csv --output s3://{BUCKET}/cleaned"
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"name": NAME},
        "spec": {
            # As HTTP, the command reaches a shell as it is.
            "submissionMode": "HTTPMode",
            "entrypoint": f"{run} --recipe clean-apache --pools {POOLS_FILE} || [ $? -eq 3 ]",
            "backoffLimit": 3,
            "shutdownAfterJobFinishes": True,
            "ttlSecondsAfterFinished": 600,
            "rayClusterSpec": _cluster_spec(),
        },
    }


def _cluster_spec() -> dict[str, Any]:
    return {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": True,
        "autoscalerOptions": {"version": "v2", "idleTimeoutSeconds": 120},
        "headGroupSpec": {
            "serviceType": "ClusterIP",
            # Photos are none of its business; the runs' drivers are.
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104 - the pod's
            "template": _pod(
                "ray-head", {"cpu": 4, "memory": "16Gi"}, _PORTS | _METRICS | _HEAD_METRICS, 20
            ),
        },
        "workerGroupSpecs": [_worker_group(machine) for machine in MACHINES],
    }


def _worker_group(machine: Machine) -> dict[str, Any]:
    takes: dict[str, Any] = {"cpu": machine.usable_cpus, "memory": f"{machine.usable_gib}Gi"}
    if machine.gpus:
        takes["nvidia.com/gpu"] = machine.gpus
    template = _pod("ray-worker", takes, _METRICS, machine.cache_gib)
    template["spec"] |= {
        "nodeSelector": {POOL_KEY: machine.group},
        "tolerations": [
            {"key": POOL_KEY, "operator": "Equal", "value": machine.group, "effect": "NoSchedule"},
            *([{"key": "nvidia.com/gpu", "operator": "Exists"}] if machine.gpus else []),
        ],
    }
    labels = {"labels": dict(machine.labels)} if machine.labels else {}
    return {
        "groupName": machine.group,
        "replicas": 0,
        "minReplicas": 0,
        "maxReplicas": machine.most,
        **labels,
        "rayStartParams": {},
        "template": template,
    }


def _pod(
    name: str, takes: Mapping[str, Any], ports: Mapping[str, int], cache_gib: int
) -> dict[str, Any]:
    """A pod of one container, for which ``takes`` is reserved, beside disk for its cache."""
    token = {"secretKeyRef": {"name": "hf-token", "key": "token", "optional": True}}
    reserved = {**takes, "ephemeral-storage": f"{cache_gib + 10}Gi"}
    container = {
        "name": name,
        "image": IMAGE,
        "ports": [{"name": key, "containerPort": port} for key, port in ports.items()],
        "env": [
            {"name": "CATALOG_CLEANUP_CACHE", "value": _CACHE},
            {"name": "HF_TOKEN", "valueFrom": token},
        ],
        "resources": {"requests": reserved, "limits": dict(reserved)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "cache", "mountPath": _CACHE}],
    }
    return {
        "metadata": {
            "annotations": {
                "prometheus.io/scrape": "true",
                "prometheus.io/port": str(_METRICS["metrics"]),
            }
        },
        "spec": {
            "serviceAccountName": NAME,
            "restartPolicy": "Never",  # a node that comes back would be another one to Ray
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER,
                "fsGroup": USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": "cache", "emptyDir": {"sizeLimit": f"{cache_gib}Gi"}}],
        },
    }


def _monitor() -> dict[str, Any]:
    cluster = {
        "sourceLabels": ["__meta_kubernetes_pod_label_ray_io_cluster"],
        "targetLabel": "ray_io_cluster",
    }
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": NAME},
        "spec": {
            "selector": {
                "matchExpressions": [
                    {"key": "ray.io/node-type", "operator": "In", "values": ["head", "worker"]}
                ]
            },
            "podMetricsEndpoints": [
                {"port": port, "relabelings": [cluster]} for port in _METRICS | _HEAD_METRICS
            ],
        },
    }


def _ray_up() -> dict[str, Any]:
    profile = {"IamInstanceProfile": {"Name": NAME}}
    head = {"InstanceType": "m7i.xlarge", **profile, **_disk(100)}
    return {
        "cluster_name": NAME,
        "max_workers": sum(machine.most for machine in MACHINES),
        "idle_timeout_minutes": 5,
        "provider": {"type": "aws", "region": "us-east-1", "cache_stopped_nodes": False},
        "auth": {"ssh_user": "ubuntu"},
        "docker": {
            "image": IMAGE,
            "container_name": NAME,
            "run_options": [
                "--env RAY_AUTH_MODE=token",
                "--env RAY_enable_autoscaler_v2=1",  # the one that knows labels
                f"--env CATALOG_CLEANUP_CACHE={_CACHE}",
                f"--volume /var/cache/{NAME}:{_CACHE}",
                "--ulimit nofile=65536:65536",
            ],
        },
        "file_mounts": {"/home/ray/.ray/auth_token": "~/.ray/auth_token"},
        "initialization_commands": [f"sudo install -d -o {USER} /var/cache/{NAME}"],
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "node_config": head},
            **dict(_node_types(profile)),
        },
        "head_start_ray_commands": [
            "ray stop",
            f"ray start --head --port={_PORTS['gcs']} --dashboard-host=127.0.0.1 "
            f"--metrics-export-port={_METRICS['metrics']} "
            "--autoscaling-config=~/ray_bootstrap_config.yaml",
        ],
        "worker_start_ray_commands": [
            "ray stop",
            f"ray start --address=$RAY_HEAD_IP:{_PORTS['gcs']} "
            f"--metrics-export-port={_METRICS['metrics']}",
        ],
    }


def _node_types(profile: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, machine in enumerate(MACHINES):
        yield (
            machine.group,
            {
                "min_workers": 0,
                "max_workers": machine.most,
                "priority": -number,  # what a cheap one can do, no dear one is started for
                "resources": {"CPU": machine.usable_cpus, "GPU": machine.gpus},
                "labels": dict(machine.labels),
                "node_config": {
                    "InstanceType": machine.aws,
                    "InstanceMarketOptions": {"MarketType": "spot"},
                    **profile,
                    **_disk(machine.cache_gib + 80),
                },
            },
        )


def _disk(gib: int) -> dict[str, Any]:
    ebs = {"VolumeSize": gib, "VolumeType": "gp3"}
    return {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": ebs}]}


def _policy() -> dict[str, Any]:
    """What a run needs of a bucket that holds photos, models and results."""
    bucket = f"arn:aws:s3:::{BUCKET}"
    output = [f"{bucket}/cleaned/*"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            _allow("FindManifestsAndRecords", ["s3:ListBucket"], [bucket]),
            _allow("ReadPhotosMasksAndModels", ["s3:GetObject"], [f"{bucket}/*"]),
            # Lineage files are merged, and those that they were merged from deleted.
            _allow(
                "StoreResults",
                ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
                output,
            ),
        ],
    }


def _allow(sid: str, actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resources}


def main() -> None:
    """Write the files."""
    for name, content in files().items():
        path = HERE / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, "utf-8")


if __name__ == "__main__":
    main()
