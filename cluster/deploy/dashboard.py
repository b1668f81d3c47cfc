"""The Grafana dashboard of runs, with the metrics of ``jobs/pipeline/metrics.py`` and Ray's own."""

from __future__ import annotations

from typing import Any

_SOURCE = {"type": "prometheus", "uid": "${source}"}

_ROWS = "ray_catalog_cleanup_rows_total"
_STAGE = "ray_catalog_cleanup_stage_seconds"
_FILL = "ray_catalog_cleanup_batch_fill"
_BYTES = "ray_catalog_cleanup_bytes_total"
_RETRIES = "ray_catalog_cleanup_storage_retries_total"
_COST = "ray_catalog_cleanup_cost_dollars_total"

#: (title, unit as Grafana names it, legend, expression)
_PANELS: tuple[tuple[str, str, str, str], ...] = (
    (
        "Photos recorded, by status",
        "ops",
        "{{status}}",
        f"sum by (status) (rate({_ROWS}[$__rate_interval]))",
    ),
    (
        "Photos failed in the time shown, by code",
        "short",
        "{{code}}",
        f'sum by (code) (increase({_ROWS}{{status!="ok"}}[$__range]))',
    ),
    (
        "Seconds a photo in each stage, mean",
        "s",
        "{{stage}}",
        f"sum by (stage) (rate({_STAGE}_sum[$__rate_interval])) / "
        f"sum by (stage) (rate({_STAGE}_count[$__rate_interval]))",
    ),
    (
        "Seconds a photo in each stage, the slowest 5 %",
        "s",
        "{{stage}}",
        f"histogram_quantile(0.95, sum by (le, stage) (rate({_STAGE}_bucket[$__rate_interval])))",
    ),
    (
        "Actors busy in each stage",
        "short",
        "{{stage}}",
        f"sum by (stage) (rate({_STAGE}_sum[$__rate_interval]))",
    ),
    (
        "Fill of the GPU actors' batches",
        "percentunit",
        "{{pool}}",
        f"sum by (pool) (rate({_FILL}_sum[$__rate_interval])) / "
        f"sum by (pool) (rate({_FILL}_count[$__rate_interval]))",
    ),
    (
        "Photos, masks and results",
        "Bps",
        "{{direction}}",
        f"sum by (direction) (rate({_BYTES}[$__rate_interval]))",
    ),
    (
        "Requests to S3 made again",
        "ops",
        "retries",
        f"sum(rate({_RETRIES}[$__rate_interval]))",
    ),
    ("Nodes", "short", "nodes", "count(ray_node_cpu_count)"),
    (
        "Cost in the time shown, where prices are given",
        "currencyUSD",
        "dollars",
        f"sum(increase({_COST}[$__range]))",
    ),
)


def dashboard() -> dict[str, Any]:
    """As Grafana imports it; it asks for the data source."""
    return {
        "title": "catalog-cleanup",
        "uid": "catalog-cleanup",
        "schemaVersion": 39,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": [_panel(number, *panel) for number, panel in enumerate(_PANELS)],
    }


def _panel(number: int, title: str, unit: str, legend: str, expression: str) -> dict[str, Any]:
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "gridPos": {"x": 12 * (number % 2), "y": 8 * (number // 2), "w": 12, "h": 8},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": "A", "datasource": _SOURCE, "legendFormat": legend, "expr": expression}
        ],
    }
