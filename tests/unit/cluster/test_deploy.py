"""The deploy files are those of the pools, and what they are for takes them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml

from cluster.deploy import generate
from cluster.pools import PoolSize, PoolsOptions, selects
from cluster.sizing import NodeGroup, size_pools
from jobs.driver.placement import load_pools

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "cluster" / "deploy"
GROUPS = ["cpu", "small_gpu", "large_gpu", "cpu"]

#: The fields of KubeRay's API that are used, by its documentation (ray.io/v1). Others are mistakes:
#: the operator would drop them without a word.
CLUSTER_FIELDS: dict[str, Any] = {
    "rayVersion": str,
    "authOptions": {"mode": ("disabled", "token")},
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": {"version": ("v1", "v2"), "idleTimeoutSeconds": int},
    "gcsFaultToleranceOptions": {"redisAddress": str, "redisPassword": dict},
    "headGroupSpec": {"serviceType": str, "rayStartParams": dict, "template": dict},
    "workerGroupSpecs": [
        {
            "groupName": str,
            "replicas": int,
            "minReplicas": int,
            "maxReplicas": int,
            "labels": dict,
            "rayStartParams": dict,
            "template": dict,
        }
    ],
}
JOB_FIELDS: dict[str, Any] = {
    "submissionMode": ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    "entrypoint": str,
    "backoffLimit": int,
    "shutdownAfterJobFinishes": bool,
    "ttlSecondsAfterFinished": int,
    "rayClusterSpec": CLUSTER_FIELDS,
}


def loaded(name: str) -> Any:
    return yaml.safe_load((CLUSTER / name).read_text("utf-8"))


def assert_fields(value: Any, fields: Any, where: str = "spec") -> None:
    if isinstance(fields, dict):
        assert set(value) <= set(fields), where
        for name, each in value.items():
            assert_fields(each, fields[name], f"{where}.{name}")
    elif isinstance(fields, list):
        for number, each in enumerate(value):
            assert_fields(each, fields[0], f"{where}[{number}]")
    elif isinstance(fields, tuple):
        assert value in fields, where
    else:
        assert type(value) is fields, where


def ray_clusters() -> dict[str, Any]:
    job = loaded("kuberay/rayjob.yaml")["spec"]
    return {
        "raycluster": loaded("kuberay/raycluster.yaml")["spec"],
        "rayjob": job["rayClusterSpec"],
    }


def pods(cluster: Any) -> list[Any]:
    return [cluster["headGroupSpec"]["template"]] + [
        group["template"] for group in cluster["workerGroupSpecs"]
    ]


def test_the_files_are_those_of_the_pools() -> None:
    for name, content in generate.render_files().items():
        assert (CLUSTER / name).read_text("utf-8") == content, (
            "run: python -m cluster.deploy.generate"
        )


def nodes_to_come(pools: PoolsOptions) -> list[NodeGroup]:
    return [NodeGroup.potential(name, each) for name, each in pools.nodes.items()]


def test_the_pools_find_their_machines_before_and_after_these_are_up() -> None:
    pools = load_pools(CLUSTER / "pools.toml")
    nodes = nodes_to_come(pools)
    for each in (nodes, [replace(node, labels=None) for node in nodes]):
        sizing = size_pools(pools, each, GROUPS, rows=1000, used_cpus=0)
        assert not sizing.problems
        assert {name for name, size in sizing.sizes.items() if size.max_actors} == set(GROUPS)


def test_each_gpu_pool_is_pinned_to_its_machines_and_none_refines_on_small_ones() -> None:
    nodes = {node.name: node for node in nodes_to_come(load_pools(CLUSTER / "pools.toml"))}
    for pool, unfit in (("small_gpu", {"cpu"}), ("large_gpu", {"cpu", "small-gpu"})):
        wanted = getattr(PoolsOptions(), pool)
        size = PoolSize(1, 1, wanted.cpus, wanted.gpus, wanted.memory_gib)
        named = pool.replace("_", "-")
        assert nodes[named].room_for(size) >= 1
        chosen = [
            name for name in nodes if selects(wanted.label_selector, nodes[name].labels or {})
        ]
        assert chosen == [named]
        # Ray Data asks the autoscaler for resources, without labels.
        assert {name for name in nodes if nodes[name].room_for(size) == 0} == unfit


def test_kuberay_knows_the_fields() -> None:
    for name, kind, fields in (
        ("kuberay/raycluster.yaml", "RayCluster", CLUSTER_FIELDS),
        ("kuberay/rayjob.yaml", "RayJob", JOB_FIELDS),
    ):
        document = loaded(name)
        assert (document["apiVersion"], document["kind"]) == ("ray.io/v1", kind)
        assert_fields(document["spec"], fields)


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_kubernetes_takes_each_pod(name: str) -> None:
    for template in pods(ray_clusters()[name]):
        kubernetes_validate.validate(
            {
                "apiVersion": "v1",
                "kind": "PodTemplate",
                "metadata": {"name": "pod"},
                "template": template,
            },
            kubernetes_validate.latest_version(),
            strict=True,
        )


def test_a_pod_that_kubernetes_does_not_know_is_found_out() -> None:
    template = pods(ray_clusters()["rayjob"])[0]
    template["spec"]["containers"][0]["volumeMount"] = []
    pod = {"apiVersion": "v1", "kind": "PodTemplate", "template": template}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_a_cluster_has_a_group_for_each_pool(name: str) -> None:
    cluster = ray_clusters()[name]
    assert cluster["rayVersion"] == version("ray")
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["enableInTreeAutoscaling"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert list(groups) == ["cpu", "small-gpu", "large-gpu"]
    for machine in generate.machine_types():
        group = groups[machine.group]
        assert group["minReplicas"] == 0 < group["maxReplicas"] == machine.max_nodes
        assert group.get("labels", {}) == dict(machine.labels)
        spec = group["template"]["spec"]
        tolerated = {each["key"] for each in spec["tolerations"]}
        assert set(spec["nodeSelector"]) <= tolerated
        limits = spec["containers"][0]["resources"]["limits"]
        assert limits.get("nvidia.com/gpu", 0) == machine.gpus
        assert ("nvidia.com/gpu" in tolerated) == (machine.gpus > 0)


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_no_pod_is_root_and_each_has_room_for_its_weights(name: str) -> None:
    for template in pods(ray_clusters()[name]):
        spec = template["spec"]
        (container,) = spec["containers"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
        (volume,) = spec["volumes"]
        cache = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        assert container["volumeMounts"][0] == {
            "name": volume["name"],
            "mountPath": cache["CATALOG_CLEANUP_CACHE"],
        }
        cached = int(volume["emptyDir"]["sizeLimit"].removesuffix("Gi"))
        requests = container["resources"]["requests"]
        disk, memory = (
            int(requests[each].removesuffix("Gi")) for each in ("ephemeral-storage", "memory")
        )
        assert cached + 0.3 * memory < disk, "Ray's object store spills to it"


@pytest.mark.parametrize("name", ["raycluster", "rayjob"])
def test_the_head_stays_where_it_is(name: str) -> None:
    """Without it, no run goes on: it is not on a spot node, and not moved to a cheaper one."""
    head, *workers = pods(ray_clusters()[name])
    assert head["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    affinity = head["spec"]["affinity"]["nodeAffinity"]
    (term,) = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    assert {each["operator"] for each in term["matchExpressions"]} == {"NotIn"}
    assert not any("affinity" in worker["spec"] for worker in workers)


def test_a_run_of_a_job_is_tried_again_unless_it_finished(tmp_path: Path) -> None:
    spec = loaded("kuberay/rayjob.yaml")["spec"]
    assert spec["backoffLimit"] > 0
    fake = tmp_path / "catalog-cleanup"
    for code, ended in ((0, 0), (3, 0), (2, 1), (1, 1)):
        fake.write_text(f"#!/bin/sh\nexit {code}\n")
        fake.chmod(0o755)
        done = subprocess.run(
            ["sh", "-c", spec["entrypoint"]],
            env={"PATH": f"{tmp_path}:/bin:/usr/bin"},
            check=False,
        )
        assert done.returncode == ended


def test_each_port_that_is_scraped_is_one_of_the_pods() -> None:
    (monitor,) = yaml.safe_load_all((CLUSTER / "kuberay" / "monitoring.yaml").read_text("utf-8"))
    scraped = {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]}
    head, *workers = [
        {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        for pod in pods(ray_clusters()["raycluster"])
    ]
    assert scraped <= head
    assert all("metrics" in ports and ports <= head for ports in workers)


def test_ray_up_takes_its_file() -> None:
    schema = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    made = loaded("aws/ray-up.yaml")
    jsonschema.validate(made, json.loads(schema.read_text()))
    types = made["available_node_types"]
    assert made["head_node_type"] in types
    for machine in generate.machine_types():
        workers = types[machine.group]
        assert workers["labels"] == dict(machine.labels)
        assert workers["max_workers"] == machine.max_nodes
        assert workers["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in types["head"]["node_config"]


#: What a call of boto3's client needs to be allowed.
NEEDS = {
    "copy_object": {"s3:GetObject", "s3:PutObject"},
    "delete_object": {"s3:DeleteObject"},
    "download_fileobj": {"s3:GetObject"},
    "get_object": {"s3:GetObject"},
    "head_bucket": {"s3:ListBucket"},
    "head_object": {"s3:GetObject"},
    "list_objects_v2": {"s3:ListBucket"},
    "put_object": {"s3:PutObject"},
    "upload_fileobj": {"s3:PutObject", "s3:AbortMultipartUpload"},
}


def test_the_policy_allows_what_the_code_calls_and_no_more() -> None:
    calls: set[str] = set()
    for path in (ROOT / "manifests" / "storage").rglob("*.py"):
        calls |= set(re.findall(r"\b(?:client|probe)\.(\w+)\(", path.read_text("utf-8")))
    needed = set().union(*(NEEDS[call] for call in calls))
    statements = loaded("aws/bucket-policy.json")["Statement"]
    assert {action for each in statements for action in each["Action"]} == needed
    assert all(each["Effect"] == "Allow" for each in statements)
    written = [each for each in statements if "s3:PutObject" in each["Action"]]
    assert [each["Resource"] for each in written] == [["arn:aws:s3:::example-catalog/cleaned/*"]]


def instructions() -> list[tuple[str, str]]:
    text = (CLUSTER / "Dockerfile").read_text("utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return [
        (name, rest)
        for line in text.splitlines()
        for name, _, rest in [line.partition(" ")]
        if name
    ]


def test_the_image_is_built_of_what_there_is_and_from_the_lock() -> None:
    sent = (CLUSTER / "Dockerfile.dockerignore").read_text("utf-8").split()
    assert sent[0] == "*"
    copied = [
        name
        for instruction, rest in instructions()
        if instruction == "COPY" and not rest.startswith("--from")
        for name in rest.split()[:-1]
    ]
    (pools,) = re.findall(r"--pools (\S+)", loaded("kuberay/rayjob.yaml")["spec"]["entrypoint"])
    assert ("COPY", f"cluster/deploy/pools.toml {pools}") in instructions()
    assert {"uv.lock", "manifests", "stages", "cluster", "jobs"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name.partition('/')[0]}" in sent
    syncs = [rest for _, rest in instructions() if "uv sync" in rest]
    assert len(syncs) == 2
    assert all("--locked" in each and "--no-default-groups" in each for each in syncs)


def test_the_image_is_small_and_not_root() -> None:
    steps = instructions()
    stages = [rest for name, rest in steps if name == "FROM"]
    assert len(stages) == 2
    assert all(re.search(r":\S*\d", rest) for rest in stages), "a base without a version"
    last = steps[max(number for number, step in enumerate(steps) if step[0] == "FROM") :]
    (user,) = [rest for name, rest in last if name == "USER"]
    assert int(user) != 0
    for pod in [*pods(ray_clusters()["raycluster"]), *pods(ray_clusters()["rayjob"])]:
        assert pod["spec"]["securityContext"]["runAsUser"] == int(user)
    assert not [rest for _, rest in steps if "models pull" in rest], "weights are not baked in"
    assert not [rest for name, rest in last if "uv" in rest.split()]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    lint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [lint, "--no-color", CLUSTER / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
