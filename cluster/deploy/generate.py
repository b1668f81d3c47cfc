"""Writes the deploy files from their templates: ``python -m cluster.deploy.generate``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2

from cluster.pools import PoolsOptions

HERE = Path(__file__).parent

#: Written into this folder, from the template of the same name.
GENERATED_FILES = (
    "pools.toml",
    "kuberay/raycluster.yaml",
    "kuberay/rayjob.yaml",
    "aws/ray-up.yaml",
)

_CONTEXT = {
    "generated": "Made by `python -m cluster.deploy.generate`; a test checks that it is current.",
    "image": f"registry.example.com/catalog-cleanup:{version('catalog-cleanup')}",
    "ray_version": version("ray"),
}


@dataclass(frozen=True, slots=True)
class MachineType:
    """A type of worker node that is added and removed with its pool's work: one table of
    machines.toml.
    """

    pool: str
    ec2_type: str
    cpus: int
    memory_gib: int
    gpus: int
    max_nodes: int
    cache_gib: int

    @property
    def group(self) -> str:
        """The name of the worker group; pools are matched by it while no such node is up."""
        return self.pool.replace("_", "-")

    @property
    def labels(self) -> Mapping[str, str]:
        """The nodes' labels in Ray, which the pool's actors select by default."""
        selector: dict[str, str] = getattr(PoolsOptions(), self.pool).label_selector
        return selector

    @property
    def usable_cpus(self) -> int:
        """CPUs of Ray's container; one is reserved for the system."""
        return self.cpus - 1

    @property
    def usable_gib(self) -> int:
        """Memory of Ray's container, in GiB; a tenth is reserved for the system."""
        return self.memory_gib * 9 // 10

    @property
    def actors_gib(self) -> int:
        """Memory available to actors, in GiB; Ray reserves three tenths for its object store."""
        return self.usable_gib * 7 // 10


def machine_types() -> list[MachineType]:
    """Read machines.toml, in its order."""
    tables: dict[str, Any] = tomllib.loads((HERE / "machines.toml").read_text("utf-8"))
    return [MachineType(pool, **table) for pool, table in tables.items()]


def render_files() -> dict[str, str]:
    """Render the deploy files: path below this folder -> content."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - YAML and TOML, of our own values
    )
    context = _CONTEXT | {"machines": machine_types()}
    return {
        name: environment.get_template(f"{name}.j2").render(context) for name in GENERATED_FILES
    }


if __name__ == "__main__":
    for name, content in render_files().items():
        (HERE / name).write_text(content, "utf-8")
