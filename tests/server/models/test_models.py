"""Several models, versions, and hot reload: accepted requests are answered, and a bad file removes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

from taijitu_runtime.errors import UsageError
from taijitu_server.cli import build_parser
from taijitu_server.errors import HttpError
from taijitu_server.metrics import Metrics
from taijitu_server.models.batcher import Job
from taijitu_server.models.decode_pool import DecodePool
from taijitu_server.models.folder import find_models, misplaced_models
from taijitu_server.models.registry import Registry
from taijitu_server.models.served_model import ServedModel
from taijitu_server.settings import Settings, settings_from
from tests.helpers.image_file import image_file
from tests.helpers.machine_tree import as_nobody
from tests.helpers.server_process import WITH_ERRORS, Server
from tests.helpers.tiny_model import card_dict, make_tiny_onnx
from tests.helpers.waiting import eventually


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    for version in ("1", "2"):
        (models / "colours" / version).mkdir(parents=True)
        make_tiny_onnx(models / "colours" / version / "model.onnx")
    make_tiny_onnx(models / "french.onnx", labels=("rouge", "vert", "bleu"))
    (models / "notes.txt").write_text("no model")
    return models


@pytest.fixture
def reloading(folder: Path) -> Iterator[Server]:
    with Server("--models", str(folder), "--reload-s", "0.1", "--reload-by-post", levels=WITH_ERRORS) as running:
        yield running


def test_every_suffix_that_a_backend_opens_is_served_in_any_case(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.trt", "c.ONNX", "d.Engine", "e.plan", "f.pt", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "g" / "3").mkdir(parents=True)
    (tmp_path / "g" / "3" / "model.TRT").touch()
    misplaced = {tmp_path / name for name in ("a b.onnx", "a.engine", "g/model.onnx", "g/v4/model.onnx")}
    (tmp_path / "g" / "v4").mkdir()
    for path in (*misplaced, tmp_path / ".a.onnx"):
        path.touch()
    models = find_models(tmp_path)
    assert misplaced_models(tmp_path, models) == misplaced - {tmp_path / "a.engine"} | {tmp_path / "a.onnx"}
    assert {key: files[0].name for key, files in models.items()} == {
        ("a", "1"): "a.engine",
        ("b", "1"): "b.trt",
        ("c", "1"): "c.ONNX",
        ("d", "1"): "d.Engine",
        ("e", "1"): "e.plan",
        ("g", "3"): "model.TRT",
    }


def red() -> bytes:
    return image_file(Image.new("RGB", (16, 16), (255, 0, 0)))


def classify(server: Server, **query: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/classify", params=query, content=red(), timeout=30)


def swap_in(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.replace(path)


def ready(server: Server) -> dict[str, Any]:
    reply: dict[str, Any] = httpx.get(f"{server.url}/health/ready").json()
    return reply


def test_models_and_versions_are_chosen_by_name(reloading: Server) -> None:
    assert ready(reloading)["models"] == {"colours": ["1", "2"], "french": ["1"]}
    assert classify(reloading, model="colours").json()["version"] == "2"
    assert classify(reloading, model="colours", version="1").json()["version"] == "1"
    assert classify(reloading, model="french").json()["answers"][0]["label"] == "rouge"
    unnamed, unknown = classify(reloading), classify(reloading, model="color")
    assert (unnamed.status_code, unknown.status_code) == (400, 404)
    assert "colours, french" in unnamed.json()["error"]
    assert "colours" in unknown.json()["error"]
    listed = httpx.get(f"{reloading.url}/models").json()
    assert [(model["model"], model["version"]) for model in listed] == [
        ("colours", "1"),
        ("colours", "2"),
        ("french", "1"),
    ]
    assert listed[2]["labels"] == ["rouge", "vert", "bleu"]


def test_a_new_file_takes_over_under_load_and_a_bad_one_does_not(
    reloading: Server, folder: Path, tmp_path: Path
) -> None:
    german = make_tiny_onnx(tmp_path / "german.onnx", labels=("rot", "gruen", "blau")).read_bytes()
    found: list[tuple[int, str]] = []
    stop = threading.Event()

    def load() -> None:
        with httpx.Client(timeout=30) as client:
            while not stop.is_set():
                reply = client.post(f"{reloading.url}/classify?model=french", content=red())
                found.append((reply.status_code, reply.json().get("answers", [{}])[0].get("label", reply.text)))

    clients = [threading.Thread(target=load) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        eventually(lambda: len(found) > 20)
        swap_in(folder / "french.onnx", german)
        eventually(lambda: found[-1][1] == "rot")
        swap_in(folder / "french.onnx", german[: len(german) // 2])
        eventually(lambda: "french/1" in ready(reloading)["failures"])
        count = len(found)
        eventually(lambda: len(found) > count + 20)
        swap_in(folder / "french.onnx", german)
        eventually(lambda: ready(reloading)["failures"] == {})
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert set(found) == {(200, "rouge"), (200, "rot")}
    metrics = httpx.get(f"{reloading.url}/metrics").text
    assert 'taijitu_model_loads_total{model="french",outcome="failed"} 1.0' in metrics


def test_models_come_and_go_with_their_files(reloading: Server, folder: Path) -> None:
    make_tiny_onnx(folder / "late.onnx")
    eventually(lambda: "late" in ready(reloading)["models"])
    assert classify(reloading, model="late").status_code == 200
    (folder / "late.onnx").unlink()
    eventually(lambda: "late" not in ready(reloading)["models"])
    assert classify(reloading, model="late").status_code == 404


def test_loading_and_unloading_by_post(start_server: Callable[..., Server], folder: Path) -> None:
    running = start_server("--models", str(folder), "--reload-by-post", levels=WITH_ERRORS)
    with triton.InferenceServerClient(running.url.removeprefix("http://")) as client:
        client.unload_model("french")
        assert not client.is_model_ready("colours", "9")
        with pytest.raises(InferenceServerException, match="french"):
            client.is_model_ready("french") or client.get_model_metadata("french")
        client.load_model("french")
        assert client.is_model_ready("french")
        good = (folder / "french.onnx").read_bytes()
        swap_in(folder / "french.onnx", b"no model")
        with pytest.raises(InferenceServerException, match=r"french\.onnx"):
            client.load_model("french")
        assert classify(running, model="french").json()["answers"][0]["label"] == "rouge"
        swap_in(folder / "french.onnx", good)
        client.load_model("french")
        with pytest.raises(InferenceServerException, match="expected none"):
            client.load_model("french", config=json.dumps({"a": 1}))


def test_an_unloaded_model_stays_unloaded_until_it_is_loaded(reloading: Server, folder: Path) -> None:
    change = f"{reloading.url}/v2/repository/models/french/"
    for origin in ("https://elsewhere.example", "http://[", "null"):
        refused = httpx.post(f"{change}unload", headers={"Origin": origin})
        assert (refused.status_code, "--cors-origins" in refused.text) == (403, True)
    assert httpx.post(f"{change}unload", headers={"Origin": reloading.url}).status_code == 200
    make_tiny_onnx(folder / "late.onnx")
    eventually(lambda: "late" in ready(reloading)["models"])  # so the folder has been read since
    assert "french" not in ready(reloading)["models"]
    assert httpx.post(f"{change}load").status_code == 200
    assert "french" in ready(reloading)["models"]


def test_what_could_not_be_loaded_is_unloaded_too(start_server: Callable[..., Server], folder: Path) -> None:
    running = start_server("--models", str(folder), "--reload-by-post", levels=WITH_ERRORS)
    change = f"{running.url}/v2/repository/models"
    swap_in(folder / "colours" / "2" / "model.onnx", b"no model")
    swap_in(folder / "french.onnx", b"no model")
    failed = httpx.post(f"{change}/colours/load")
    assert (failed.status_code, "still is" in failed.json()["error"]) == (400, True)
    assert httpx.post(f"{change}/french/unload").status_code == 200
    failed = httpx.post(f"{change}/french/load")
    assert (failed.status_code, "still is" in failed.json()["error"]) == (400, False), "nothing was served before"
    assert set(ready(running)["failures"]) == {"colours/2", "french/1"}
    for name in ("colours", "french"):
        assert httpx.post(f"{change}/{name}/unload").status_code == 200
        assert httpx.post(f"{change}/{name}/unload").status_code == 404
    assert httpx.post(f"{running.url}/v2/repository/index").json() == []


def test_without_its_folder_a_server_serves_on_and_loads_nothing(
    start_server: Callable[..., Server], folder: Path
) -> None:
    running = start_server("--models", str(folder), "--reload-by-post", levels=WITH_ERRORS)
    load = f"{running.url}/v2/repository/models/french/load"
    away = folder.rename(folder.with_name("away"))
    failed = httpx.post(load)
    assert (failed.status_code, str(folder) in failed.json()["error"]) == (400, True)
    assert classify(running, model="french").status_code == 200
    away.rename(folder)
    assert httpx.post(load).status_code == 200


def test_a_version_with_two_files_stays_as_it_was_and_says_so(reloading: Server, folder: Path) -> None:
    second = folder / "colours" / "2" / "second.onnx"
    swap_in(second, (folder / "colours" / "2" / "model.onnx").read_bytes())
    eventually(lambda: ready(reloading)["failures"] != {})
    assert list(ready(reloading)["failures"]) == ["colours/2"]
    assert "got model.onnx, second.onnx, expected one file" in ready(reloading)["failures"]["colours/2"]
    assert classify(reloading, model="colours").json()["version"] == "2"
    second.unlink()
    eventually(lambda: ready(reloading)["failures"] == {})
    assert classify(reloading, model="colours").json()["version"] == "2"


def test_a_failure_is_forgotten_with_its_file(reloading: Server, folder: Path) -> None:
    (folder / "colours" / "3").mkdir()
    bad = folder / "colours" / "3" / "model.onnx"
    swap_in(bad, b"no model")
    eventually(lambda: list(ready(reloading)["failures"]) == ["colours/3"])
    bad.unlink()
    eventually(lambda: ready(reloading)["failures"] == {})


def test_a_model_that_is_replaced_while_the_server_starts_is_served(tmp_path: Path) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx")
    other = make_tiny_onnx(tmp_path / "model.other", labels=("rouge", "vert", "bleu")).read_bytes()

    class Busy(Registry):
        """A registry in which a model is replaced just after it was read."""

        def _open(self, *args: Any) -> ServedModel:
            opened = super()._open(*args)
            if opened.labels[0] == "red":
                swap_in(model, other)
            return opened

    registry = Busy(Settings(models=tmp_path), Metrics())
    registry.load_all()
    served = registry.get("model")
    assert served.labels[0] == "rouge"
    assert asyncio.run(registry.refresh()) == []
    assert registry.get("model") is served, "its files are known"
    registry.close()


def with_weights(path: Path, scale: float) -> bytes:
    """Make a model whose weights are in weights.bin; return its own file."""
    onnx.save(
        onnx.load(make_tiny_onnx(path, scale=scale)),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    return path.read_bytes()


def test_new_weights_are_not_served_with_the_old_graph(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    with_weights(models / "model.onnx", 1.0)
    new_model = with_weights(tmp_path / "new.onnx", 2.0)
    new_weights = (tmp_path / "weights.bin").read_bytes()
    new_model = new_model.replace(b"average", b"AVERAGE")  # another graph
    opened: list[bytes] = []

    class Slow(Registry):
        """A registry that has read the new weights and the old graph when the new graph comes."""

        def _open(self, *args: Any) -> ServedModel:
            opened.append((models / "model.onnx").read_bytes())
            model = super()._open(*args)
            if len(opened) == 2:
                swap_in(models / "model.onnx", new_model)
            return model

    metrics = Metrics()
    registry = Slow(Settings(models=models), metrics)
    registry.load_all()
    swap_in(models / "weights.bin", new_weights)
    assert asyncio.run(registry.refresh()) == []
    assert opened[1] == opened[0] != opened[2] == new_model
    assert metrics.registry.get_sample_value("taijitu_model_loads_total", {"model": "model", "outcome": "loaded"}) == 2
    assert asyncio.run(registry.refresh()) == []
    assert len(opened) == 3
    registry.close()


def test_files_that_never_stay_the_same_are_a_failure(tmp_path: Path) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx")
    content = model.read_bytes()

    class Restless(Registry):
        def _open(self, *args: Any) -> ServedModel:
            opened = super()._open(*args)
            if self.served:
                swap_in(model, content)
            return opened

    registry = Restless(Settings(models=tmp_path), Metrics())
    registry.load_all()
    served = registry.get("model")
    swap_in(model, content)
    (failed,) = asyncio.run(registry.refresh())
    assert "model.onnx" in failed
    assert registry.get("model") is served
    registry.close()


def test_a_model_that_hangs_is_reported_and_freed_although_it_was_replaced(tmp_path: Path) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx")
    other = make_tiny_onnx(tmp_path / "model.other", labels=("rouge", "vert", "bleu")).read_bytes()
    settings = Settings(models=tmp_path, queue_timeout_ms=1, run_timeout_s=0.01, shutdown_s=1)
    registry = Registry(settings, Metrics())
    registry.load_all()
    old, pool, hang = registry.get("model"), DecodePool(1), threading.Event()

    def prepare(_: Job) -> Any:
        assert hang.wait(30)
        return np.zeros(old.input.shape(1), old.input.dtype)

    async def scenario() -> None:
        job = old.submit(pool, prepare)
        swap_in(model, other)
        assert await registry.refresh() == []
        assert registry.get("model").labels[0] == "rouge"
        registry.check_overdue()
        with pytest.raises(HttpError) as caught:
            await asyncio.wait_for(job.future, 1)
        assert caught.value.status == 504
        hang.set()
        while old.pending:
            await asyncio.sleep(0.01)
        assert await registry.refresh() == []
        with pytest.raises(UsageError):  # it is closed
            old.classifier.predict(np.zeros((8, 8, 3), np.uint8))

    asyncio.run(scenario())
    pool.close()
    registry.close()


@pytest.mark.parametrize(("delay", "batches"), [("1000", [2, 2]), ("0", [1, 1])])
def test_a_batch_waits_for_more_pictures_as_long_as_is_set(tmp_path: Path, delay: str, batches: list[int]) -> None:
    arguments = [str(make_tiny_onnx(tmp_path / "model.onnx")), "--max-delay-ms", delay, "--max-batch", "2"]
    flags = vars(build_parser().parse_args([*arguments, "--instances", "1"]))
    path, file = flags.pop("model"), flags.pop("settings")
    model = ServedModel.open("", "1", path, settings_from(flags, file), Metrics())

    async def ask() -> list[int]:
        first = model.submit(None, lambda _: model.preparation.rows([red()]))
        await asyncio.wait([first.future], timeout=30 if delay == "0" else 0.05)
        second = model.submit(None, lambda _: model.preparation.rows([red()]))
        await asyncio.wait_for(asyncio.gather(first.future, second.future), 30)
        return [first.batch, second.batch]

    try:
        assert asyncio.run(ask()) == batches
    finally:
        model.close()


def test_requests_to_a_model_and_to_the_one_that_replaced_it_are_counted_together(tmp_path: Path) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx")
    metrics = Metrics()
    registry = Registry(Settings(models=tmp_path, shutdown_s=1), metrics)
    registry.load_all()
    old, pool, release = registry.get("model"), DecodePool(2), threading.Event()

    def pending() -> float | None:
        return metrics.registry.get_sample_value("taijitu_pending_requests", {"model": "model", "version": "1"})

    def rows(_: Job) -> Any:
        return np.zeros(old.input.shape(1), old.input.dtype)

    def late_rows(job: Job) -> Any:
        assert release.wait(30)
        return rows(job)

    async def scenario() -> None:
        slow = old.submit(pool, late_rows)
        swap_in(model, make_tiny_onnx(tmp_path / "model.other", scale=2.0).read_bytes())
        await registry.refresh()
        await registry.get("model").submit(pool, rows).future
        assert pending() == 1
        release.set()
        await slow.future
        assert pending() == 0

    asyncio.run(scenario())
    pool.close()
    registry.close()


def test_the_files_of_a_model_are_checked_too(tmp_path: Path) -> None:
    make_tiny_onnx(tmp_path / "model.onnx")
    (tmp_path / "broken.engine").write_bytes(b"no plan")
    registry = Registry(Settings(models=tmp_path), Metrics())

    def failure() -> str:
        asyncio.run(registry.refresh())
        return registry.failures["broken", "1"]

    first = failure()
    (tmp_path / "broken.engine.json").write_text("{}")  # a sidecar that arrives after its engine
    assert failure() != first
    registry.close()


def test_new_weights_are_noticed_under_any_name_and_files_beside_a_model_are_not(tmp_path: Path) -> None:
    model = make_tiny_onnx(tmp_path / "model.onnx")
    onnx.save(onnx.load(model), model, save_as_external_data=True, location="weights.bin", size_threshold=0)
    weights = tmp_path / "weights.bin"
    registry = Registry(Settings(models=tmp_path), Metrics())
    registry.load_all()

    def served() -> ServedModel:
        asyncio.run(registry.refresh())
        return registry.get("model")

    first = served()
    (tmp_path / "model.onnx.part").write_bytes(b"half of the next one")
    assert served() is first
    swap_in(weights, (-np.frombuffer(weights.read_bytes(), np.float32)).tobytes())
    second = served()
    assert second is not first
    good = weights.read_bytes()
    weights.unlink()
    assert served() is second
    assert "model" in registry.failures.popitem()[0]
    swap_in(weights, good)  # the missing file arrives, and its model was not touched
    assert served() is not second
    registry.close()


def test_a_check_for_new_models_does_not_hold_up_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiny_onnx(tmp_path / "model.onnx")
    registry = Registry(Settings(models=tmp_path), Metrics())
    registry.load_all()
    is_listed = threading.Event()

    def find_late(folder: Path) -> Any:  # as in a folder of a million files, or on a disk far away
        assert is_listed.wait(30)
        return find_models(folder)

    monkeypatch.setattr("taijitu_server.models.registry.find_models", find_late)

    async def scenario() -> None:
        check = asyncio.create_task(registry.refresh())
        model, pool = registry.get("model"), DecodePool(1)
        await asyncio.sleep(0)
        await model.submit(pool, lambda _: np.zeros(model.input.shape(1), model.input.dtype)).future
        is_listed.set()
        assert await check == []
        pool.close()

    asyncio.run(scenario())
    registry.close()


def test_names_that_are_not_unicode_stop_nothing(reloading: Server, folder: Path) -> None:
    bad = os.fsencode(folder / "colours" / "2") + b"/caf\xe9.onnx"
    Path(os.fsdecode(bad)).write_bytes(b"no model")
    eventually(lambda: "colours/2" in ready(reloading)["failures"])  # two files: which one is not said
    assert "\\" in ready(reloading)["failures"]["colours/2"]
    make_tiny_onnx(folder / "new.onnx")
    eventually(lambda: "new" in ready(reloading)["models"])
    Path(os.fsdecode(bad)).unlink()
    eventually(lambda: not ready(reloading)["failures"])
    code, log = reloading.stop()
    assert code == 0
    assert all(map(json.loads, log.splitlines()))


def test_a_link_that_is_swapped_serves_what_it_leads_to(reloading: Server, folder: Path, tmp_path: Path) -> None:
    for number, label in enumerate(("eins", "zwei")):  # as Kubernetes mounts a volume: one link to a folder is swapped
        target = tmp_path / f"..{number}"
        target.mkdir()
        make_tiny_onnx(target / "linked.onnx", labels=(label, "b", "c"))
    current = tmp_path / "..data"
    current.symlink_to(tmp_path / "..0")
    (folder / "linked.onnx").symlink_to(current / "linked.onnx")
    eventually(lambda: "linked" in ready(reloading)["models"])
    for number, label in enumerate(("eins", "zwei")):
        new = tmp_path / "..new"
        new.symlink_to(tmp_path / f"..{number}")
        new.replace(current)
        eventually(lambda: bool(classify(reloading, model="linked").json()["answers"][0]["label"] == label))  # noqa: B023


def test_a_broken_link_is_a_failure_and_leaves_the_old_model_serving(
    reloading: Server, folder: Path, tmp_path: Path
) -> None:
    make_tiny_onnx(tmp_path / "target.onnx")
    (folder / "linked.onnx").symlink_to(tmp_path / "target.onnx")
    (folder / "colours" / "3").mkdir()
    (folder / "colours" / "3" / "model.onnx").symlink_to("nowhere.onnx")
    eventually(lambda: "linked" in ready(reloading)["models"])
    (tmp_path / "target.onnx").rename(tmp_path / "away.onnx")
    eventually(lambda: set(ready(reloading)["failures"]) == {"colours/3", "linked/1"})
    assert classify(reloading, model="linked").status_code == 200
    (tmp_path / "away.onnx").rename(tmp_path / "target.onnx")
    eventually(lambda: set(ready(reloading)["failures"]) == {"colours/3"})


def test_a_broken_link_to_a_folder_leaves_its_models_serving(reloading: Server, folder: Path, tmp_path: Path) -> None:
    release = tmp_path / "release"
    for name in ("2", "3"):
        (release / name).mkdir(parents=True)
        make_tiny_onnx(release / name / "model.onnx")
    (folder / "linked").symlink_to(release)
    (folder / "colours" / "3").symlink_to(release / "3")
    served = {"colours": ["1", "2", "3"], "french": ["1"], "linked": ["2", "3"]}
    eventually(lambda: ready(reloading)["models"] == served)
    release.rename(tmp_path / "away")
    eventually(lambda: set(ready(reloading)["failures"]) == {"colours/3", "linked/2", "linked/3"})
    assert ready(reloading)["models"] == served
    assert classify(reloading, model="linked", version="2").status_code == 200
    (tmp_path / "away").rename(release)
    eventually(lambda: not ready(reloading)["failures"])
    (folder / "linked").unlink()
    eventually(lambda: "linked" not in ready(reloading)["models"])


def test_an_unreadable_folder_does_not_stop_other_models(reloading: Server, folder: Path) -> None:
    loop = folder / "loop"
    loop.mkdir()
    (loop / "1").symlink_to(loop / "1")
    locked = folder / "locked"
    locked.mkdir()
    locked.chmod(0)
    make_tiny_onnx(folder / "new.onnx")
    eventually(lambda: "new" in ready(reloading)["models"])


def test_a_folder_that_may_not_be_read_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with TemporaryDirectory() as name:  # not tmp_path, whose parents are root's alone if root runs the tests
        locked = Path(name) / "locked"
        locked.mkdir(mode=0)
        make_tiny_onnx(Path(name) / "open.onnx")
        Path(name).chmod(0o755)
        with as_nobody():
            assert list(find_models(Path(name))) == [("open", "1")]
        assert str(locked) in caplog.messages[0]


def test_200_models_in_a_folder(start_server: Callable[..., Server], tmp_path: Path) -> None:
    first = make_tiny_onnx(tmp_path / "m000.onnx")
    for number in range(1, 200):
        (tmp_path / f"m{number:03}.onnx").hardlink_to(first)
    running = start_server("--models", str(tmp_path), "--reload-s", "0.2", "--instances", "1")
    assert len(ready(running)["models"]) == 200
    for number in (0, 99, 199):
        assert classify(running, model=f"m{number:03}").json()["answers"][0]["label"] == "red"
    (tmp_path / "m000.onnx").unlink()
    eventually(lambda: len(ready(running)["models"]) == 199)


@pytest.mark.parametrize("name", ["timm/resnet18", "my net", "réseau", "../up"])
def test_a_model_is_reachable_for_any_name_in_its_card(
    start_server: Callable[..., Server], tmp_path: Path, name: str
) -> None:
    card = card_dict(architecture={"name": name, "options": {}})
    running = start_server(str(make_tiny_onnx(tmp_path / "a.onnx", card=card)))
    (served,) = ready(running)["models"]
    reply = httpx.get(f"{running.url}/v2/models/{served}")
    assert (reply.status_code, reply.json()["name"]) == (200, served)
    assert httpx.get(f"{running.url}/models").json()[0]["card"]["architecture"]["name"] == name
