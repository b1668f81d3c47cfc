"""Pools: their file, their sizes on all kinds of clusters (without Ray), and what is told.

``tests/ray/test_autoscaling.py`` has them grow.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from rich.console import Console

from cluster.nodes import merge_node_groups
from cluster.pools import PoolsOptions, selects
from cluster.sizing import ACCELERATOR, NodeGroup, Sizing, has_gpus, size_pools, unplaced
from jobs.driver.placement import load_pools
from jobs.run import run
from manifests.errors import ClusterError
from stages.recipe import Recipe
from tests.conftest import Command
from tests.support import DEMO

CLEAN = ["cpu", "small_gpu", "large_gpu", "cpu"]
LAMA = ["cpu", "small_gpu", "cpu"]
GIB = 2**30


def sized(
    nodes: list[NodeGroup], groups: list[str], rows: int = 1000, **pools: dict[str, object]
) -> Sizing:
    return size_pools(PoolsOptions.model_validate(pools), nodes, groups, rows)


def ranges(sizing: Sizing) -> dict[str, tuple[int, int]]:
    return {name: (size.min_actors, size.max_actors) for name, size in sizing.sizes.items()}


def small(up: int, max_nodes: int = 0) -> NodeGroup:
    return NodeGroup("small", 8, 1, 20, {"gpu-tier": "small"}, up, max_nodes or up)


def large(up: int, max_nodes: int = 0) -> NodeGroup:
    return NodeGroup("large", 16, 1, 150, {"gpu-tier": "large"}, up, max_nodes or up)


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "pools.toml"
    file.write_text(
        'wait_s = 60\n[large_gpu]\nmax_actors = 3\nlabel_selector = { kind = "in(a,b)" }'
    )
    pools = load_pools(file)
    assert (pools.wait_s, pools.large_gpu.max_actors, pools.large_gpu.memory_gib) == (60, 3, 40)
    assert pools.large_gpu.label_selector == {"kind": "in(a,b)"}
    assert pools.small_gpu == PoolsOptions().small_gpu


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "[large_gpu]\nmax_actor = 3",
            r"large_gpu\.max_actor .*did you mean large_gpu.max_actors\?",
        ),
        ("[smal_gpu]\n", r"smal_gpu .*did you mean small_gpu\?"),
        ("[cpu]\ngpus = 1", r"cpu\.gpus is not an option"),
        ("[small_gpu]\ngpus = 1.5", r"gpus = 1\.5 must be a fraction of one GPU"),
        ("[cpu]\nmin_actors = 4\nmax_actors = 2", "max_actors = 2 is less than min_actors"),
        ('[cpu]\nlabel_selector = { zone = "in(a" }', r"'in\(a' is none of"),
        ("[cpu]\ntasks_in_flight = 1", r"cpu\.tasks_in_flight = 1"),
        ("[cpu", "pools.toml is not TOML: "),
    ],
)
def test_a_file_with_mistakes_is_refused(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "pools.toml"
    file.write_text(text)
    with pytest.raises(ClusterError, match=told) as caught:
        load_pools(file)
    assert caught.value.code == "cluster.bad_pools"


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"none\.toml"):
        load_pools(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        *[("a", True), ("b", False), ("!b", True), ("!a", False)],
        *[("in(b,a)", True), ("in(b, c)", False), ("!in(b,c)", True), ("!in(a)", False)],
    ],
)
def test_labels_are_selected_as_ray_does(selector: str, matches: bool) -> None:
    assert selects({"tier": selector, "zone": "!x"}, {"tier": "a"}) == matches


def test_cpus_alone_take_one_actor_each_but_no_more_than_there_are_shards() -> None:
    nodes = [NodeGroup("", 8, up=2, max_nodes=2)]
    assert ranges(sized(nodes, ["cpu"])) == {"cpu": (16, 16)}
    assert ranges(sized(nodes, ["cpu"], rows=3)) == {"cpu": (3, 3)}
    assert ranges(size_pools_taken(nodes, 6)) == {"cpu": (10, 16)}, "others are at work there"


def size_pools_taken(nodes: list[NodeGroup], taken: float) -> Sizing:
    return size_pools(PoolsOptions(), nodes, ["cpu"], 1000, taken)


def test_cpus_that_an_autoscaler_may_add_count_as_room_to_grow() -> None:
    head, workers = NodeGroup("head", 1), NodeGroup("cpu", 8, labels=None, up=0, max_nodes=10)
    assert ranges(sized([head, workers], ["cpu"])) == {"cpu": (1, 81)}
    from_zero = sized([NodeGroup("head", 0), workers], ["cpu"])
    assert ranges(from_zero) == {"cpu": (1, 80)}
    assert not from_zero.problems


def test_one_gpu_is_shared_by_both_pools() -> None:
    sizing = sized([NodeGroup("", 8, 1, 60)], CLEAN)
    assert ranges(sizing) == {"cpu": (1, 3), "small_gpu": (1, 1), "large_gpu": (1, 1)}
    assert [sizing.sizes[name].gpus for name in ("small_gpu", "large_gpu")] == [0.5, 0.5]
    assert sizing.sizes["large_gpu"].label_selector == {}
    assert not sizing.problems
    tiny = sized([NodeGroup("", 2, 1, 60)], CLEAN)
    assert {size.cpus for size in tiny.sizes.values()} == {0.5}, "four parts share two CPUs"
    assert not tiny.problems
    alone = sized([NodeGroup("", 8, 1, 60)], LAMA)
    assert alone.sizes["small_gpu"].gpus == 1


def test_of_gpus_without_labels_a_fifth_removes() -> None:
    sizing = sized([NodeGroup("", 64, 8, 900)], CLEAN)
    assert ranges(sizing) == {"cpu": (1, 4), "small_gpu": (1, 1), "large_gpu": (1, 7)}
    fleet = sized([NodeGroup("", 16, 1, 100, up=3, max_nodes=10), NodeGroup("", 32, 2, 100)], CLEAN)
    assert ranges(fleet) == {"cpu": (1, 8), "small_gpu": (1, 2), "large_gpu": (1, 10)}
    assert fleet.sizes["large_gpu"].actors_that_fit == 4
    assert not fleet.problems


def test_two_tiers_are_pinned_by_our_labels() -> None:
    sizing = sized([small(3), large(2)], CLEAN)
    assert ranges(sizing) == {"cpu": (1, 8), "small_gpu": (1, 3), "large_gpu": (1, 2)}
    assert sizing.sizes["small_gpu"].label_selector == {"gpu-tier": "small"}
    assert sizing.sizes["large_gpu"].label_selector == {"gpu-tier": "large"}
    assert sizing.sizes["large_gpu"].memory_gib == 40
    assert (sizing.notes, sizing.problems) == ([], [])


def test_two_tiers_without_labels_of_ours_are_pinned_by_the_kind_of_gpu() -> None:
    nodes = [
        NodeGroup("", 8, 1, 20, {ACCELERATOR: "L4"}, 4, 4),
        NodeGroup("", 8, 1, 20, {ACCELERATOR: "T4"}),
        NodeGroup("", 26, 1, 150, {ACCELERATOR: "H100"}, 2, 2),
    ]
    sizing = sized(nodes, CLEAN)
    assert sizing.sizes["small_gpu"].label_selector == {ACCELERATOR: "in(L4,T4)"}
    assert sizing.sizes["large_gpu"].label_selector == {ACCELERATOR: "in(H100)"}
    assert ranges(sizing)["small_gpu"] == (1, 5)
    assert ranges(sizing)["large_gpu"] == (1, 2)
    only_large = sized(nodes[2:], CLEAN)
    assert only_large.sizes["small_gpu"].label_selector == {}


def test_node_types_that_are_not_up_belong_to_the_pool_that_they_are_named_after() -> None:
    types = [
        NodeGroup("head", 1),
        NodeGroup("small-gpu", 8, 1, 20, None, 0, 4),
        NodeGroup("large-gpu-spot", 16, 1, 150, None, 0, 2),
    ]
    sizing = sized(types, CLEAN)
    assert ranges(sizing) == {"cpu": (1, 8), "small_gpu": (1, 4), "large_gpu": (1, 2)}
    assert sizing.sizes["large_gpu"].label_selector == {"gpu-tier": "large"}
    assert not sizing.problems


def test_what_is_set_is_taken_as_it_is() -> None:
    nodes = [NodeGroup("", 8, 1, 20)]
    missing = sized(nodes, LAMA, small_gpu={"label_selector": {"gpu-tier": "small"}})
    assert missing.problems == ["small_gpu: there is no node with the label gpu-tier=small."]
    memory = sized(nodes, LAMA, small_gpu={"memory_gib": 30})
    assert "needs 30 GiB of memory, but no node has more than 20" in memory.problems[0]
    shares = sized(nodes, CLEAN, small_gpu={"gpus": 0.25}, large_gpu={"gpus": 0.75})
    assert [shares.sizes[name].gpus for name in ("small_gpu", "large_gpu")] == [0.25, 0.75]
    assert not shares.problems


def test_what_finds_no_room_is_a_problem() -> None:
    more = sized([small(2), large(1)], CLEAN, large_gpu={"min_actors": 3})
    assert "of the 3 actors that a run starts with, only 1 fit" in more.problems[0]
    both = sized([NodeGroup("", 8, 1, 60)], CLEAN, small_gpu={"gpus": 1}, large_gpu={"gpus": 1})
    assert len(both.problems) == 1
    no_cpu = sized([NodeGroup("", 2, 1, 60)], CLEAN, small_gpu={"cpus": 1}, large_gpu={"cpus": 1})
    assert no_cpu.problems, "two GPU actors take both CPUs, and the CPU pool has none"
    many = sized([small(2)], LAMA, small_gpu={"max_actors": 8})
    assert many.notes == ["small_gpu has max_actors = 8, but only 2 fit."]


def test_defaults_that_no_node_allows_are_left_out_with_a_note() -> None:
    sizing = sized([NodeGroup("", 8, 2, 20)], CLEAN)
    assert sizing.sizes["large_gpu"].memory_gib == 0
    assert not sizing.problems
    assert [note.split()[0] for note in sizing.notes] == ["small_gpu", "large_gpu", "large_gpu"]


def test_without_growing_a_pool_begins_with_all_that_there_is_room_for() -> None:
    size = sized([small(2, 9), large(3)], CLEAN).sizes["small_gpu"]
    assert (size.min_actors, size.max_actors, size.actors_that_fit) == (1, 9, 2)
    single = size.one_by_one(1000)
    assert (single.min_actors, single.max_actors, single.tasks_in_flight) == (2, 9, 1)


def test_nodes_of_a_shape_are_put_together_and_those_to_come_counted() -> None:
    resources = {"CPU": 8.0, "GPU": 1.0, "memory": 20.04 * GIB}
    labels = {"ray.io/node-group": "small", "gpu-tier": "small"}
    alive = [(resources, labels | {"ray.io/node-id": name}) for name in "ab"]
    alive.append(({"CPU": 1.0}, {"ray.io/node-group": "head"}))
    types = [
        NodeGroup("small", 8, 1, 20, labels, 0, 5),
        NodeGroup("large", 16, 1, 150, None, 0, 3),
        NodeGroup("full", 16, 1, 150, None, 0, 0),
    ]
    first, head, last = merge_node_groups(alive, types)
    assert first == NodeGroup("small", 8, 1, 20, labels, 2, 5)
    assert (head.name, head.up, head.max_nodes) == ("head", 1, 1)
    assert last == types[1]
    assert has_gpus([last])
    assert not has_gpus([head])


def test_what_is_missing_while_nodes_come_up() -> None:
    sizes = sized([small(0, 3), large(1)], CLEAN).sizes
    assert unplaced(sizes, [large(1)], CLEAN) == [
        "small_gpu: there is no node with the label gpu-tier=small."
    ]


def pinned_to_nothing(folder: Path, more: str = "") -> Path:
    file = folder / "pools.toml"
    file.write_text(f'wait_s = 2\n[cpu]\nlabel_selector = {{ zone = "moon" }}\n{more}')
    return file


def test_the_doctor_tells_what_would_be_placed_where(
    invoke: Command, ray_address: str, tmp_path: Path
) -> None:
    done = invoke("doctor", "--address", ray_address, "--recipe", "telea")
    assert done.returncode == 0, done.stdout
    assert re.search(r"ok +Nodes: 1 CPU, .* GiB; 1 up", done.stdout)
    assert "Pool: cpu: fetch ▸ decode" in done.stdout
    assert "publish: 1 actor, each 1 CPU" in done.stdout
    file = pinned_to_nothing(tmp_path)
    bad = invoke("doctor", "--address", ray_address, "--recipe", "telea", "--pools", file)
    assert bad.returncode == 1
    assert re.search("bad +Pool: cpu: there is no node with the label zone=moon.", bad.stdout)


def test_a_run_that_finds_no_room_says_so_instead_of_waiting_for_ever(
    ray_address: str, tmp_path: Path
) -> None:
    def run_with(pools: Path) -> ClusterError:
        manifest, recipe = str(DEMO / "manifest.csv"), Recipe.load("telea")
        quiet, output = Console(quiet=True), str(tmp_path / "out")
        with pytest.raises(ClusterError) as caught:
            run(manifest, output, recipe, quiet, address=ray_address, pools=load_pools(pools))
        assert caught.value.code == "cluster.too_small"
        return caught.value

    at_once = run_with(pinned_to_nothing(tmp_path))
    assert at_once.message == "cpu: there is no node with the label zone=moon."
    never_come = pinned_to_nothing(tmp_path, '[nodes.far]\ncpus = 4\nlabels = { zone = "moon" }')
    assert "did not start in time. cpu: there is no node" in run_with(never_come).message
