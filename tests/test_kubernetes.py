"""docker/kubernetes, as far as it can be checked without a cluster."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import pytest
import yaml

from taijitu_runtime.cache import UnsafeFolderError, private_folder
from taijitu_server.settings import Settings, settings_from
from tests.helpers.server_process import Server
from tests.helpers.tiny_model import make_tiny_onnx

FOLDER = Path(__file__).parent.parent / "docker" / "kubernetes"
MANIFESTS = list(yaml.safe_load_all((FOLDER / "taijitu.yaml").read_text()))
RULES = FOLDER / "prometheus-rules.yaml"
ADDED_LABELS = {"job", "le"}  # job is added by Prometheus; le is in every histogram


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the metrics of a server with an unreachable camera after one request."""
    model = make_tiny_onnx(tmp_path_factory.mktemp("metrics") / "tiny.onnx")
    camera = "one=http://127.0.0.1:9/none.mjpeg"
    with Server(str(model), "--camera", camera) as running:
        yield httpx.get(f"{running.url}/metrics").text


def container() -> dict[str, Any]:
    found: dict[str, Any] = MANIFESTS[0]["spec"]["template"]["spec"]["containers"][0]
    return found


def expressions() -> list[str]:
    """Return every expression of the rules and of the dashboard."""
    rules = yaml.safe_load(RULES.read_text())["groups"]
    dashboard = json.loads((FOLDER / "grafana-dashboard.json").read_text())
    return [rule["expr"] for group in rules for rule in group["rules"]] + [
        target["expr"] for panel in dashboard["panels"] for target in panel["targets"]
    ]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: str(manifest["kind"]))
def test_manifests_match_the_schemas_of_kubernetes(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.31", strict=True)


def test_the_manifests_agree_with_each_other_and_with_the_server() -> None:
    deployment, service, autoscaler, budget = MANIFESTS
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (service["spec"]["selector"], budget["spec"]["selector"]["matchLabels"]):
        assert selector.items() <= labels.items()
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["enableServiceLinks"] is False
    variables = {entry["name"].removeprefix("TAIJITU_").lower(): entry["value"] for entry in container()["env"]}
    assert variables.keys() <= Settings.model_fields.keys()
    settings = settings_from(variables, None)
    assert settings.drain_s > 0
    assert pod["terminationGracePeriodSeconds"] > settings.drain_s + settings.shutdown_s + 5
    assert container()["ports"][0]["containerPort"] == settings.port
    assert "/" not in container()["image"], "names a registry"
    with_paths = [probe["httpGet"] for name, probe in container().items() if name.endswith("Probe")]
    assert {probe["path"] for probe in with_paths} == {"/health/live", "/health/ready"}
    assert {probe["port"] for probe in with_paths} == {container()["ports"][0]["name"]}


def test_no_volume_is_mounted_where_the_server_would_not_use_it(tmp_path: Path) -> None:
    empty = tmp_path / "emptyDir"
    empty.mkdir()
    empty.chmod(0o777)  # as the kubelet makes it
    with pytest.raises(UnsafeFolderError):
        private_folder(empty / "taijitu")
    dockerfile = (FOLDER.parent / "server.Dockerfile").read_text()
    (cache,) = re.findall(r"XDG_CACHE_HOME=(\S+)", dockerfile)
    volumes = {volume["name"]: volume for volume in MANIFESTS[0]["spec"]["template"]["spec"]["volumes"]}
    mounted = {mount["mountPath"]: volumes.pop(mount["name"]) for mount in container()["volumeMounts"]}
    assert "emptyDir" not in mounted.get(cache, {})
    assert volumes == {}


def test_every_metric_and_label_of_rules_and_dashboard_exists(metrics: str) -> None:
    kinds = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    typed = re.findall(r"^# TYPE (\w+) (\w+)$", metrics, re.MULTILINE)
    known = {name + end for name, kind in typed for end in kinds[kind]}
    used = {name for expression in expressions() for name in re.findall(r"taijitu_\w+", expression)}
    assert "taijitu_requests_total" in known
    assert used - known == set()
    labels = {label for series in re.findall(r"\{(.*?)\}", metrics) for label in re.findall(r"(\w+)=", series)}
    for expression in expressions():
        named = re.findall(r"(\w+)\s*(?:=~|!=|!~|=)\s*\"", expression)
        named += [name for group in re.findall(r"by \((.*?)\)", expression) for name in group.split(", ")]
        assert set(named) - labels - ADDED_LABELS <= {"reason"}, expression  # only refused requests have a reason


def test_promtool_accepts_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool (Debian: apt install prometheus)")
    done = subprocess.run([promtool, "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_first_failure_to_load_a_model_is_an_alert(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool (Debian: apt install prometheus)")
    labels = {"job": "taijitu", "model": "m", "outcome": "failed"}
    matchers = ",".join(f'{label}="{value}"' for label, value in labels.items())
    name = "TaijituModelNotLoaded"
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]:
        rule.pop("annotations")
    (tmp_path / "rules.yaml").write_text(json.dumps({"groups": [group]}))
    severity = next(rule["labels"] for rule in group["rules"] if rule["alert"] == name)
    firing = [{"exp_labels": labels | severity}]
    tests = {
        "rule_files": ["rules.yaml"],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": f"taijitu_model_loads_total{{{matchers}}}", "values": "_x10 1+0x40"}],
                "alert_rule_test": [
                    {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": expected}
                    for minute, expected in ((5, []), (12, firing), (40, []))
                ],
            }
        ],
    }
    (tmp_path / "tests.yaml").write_text(json.dumps(tests))
    done = subprocess.run(
        [promtool, "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
