"""The models of a server: the versions that serve, and how a new file replaces an old one."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from taijitu_runtime.console import shown
from taijitu_runtime.errors import ArtefactError, ProofError, TaijituError, UsageError, name_hint, one_line
from taijitu_runtime.machine import return_free_memory
from taijitu_server.errors import MODEL_UNKNOWN, MODEL_UNNAMED, HttpError
from taijitu_server.metrics import Metrics
from taijitu_server.models.folder import (
    ONLY_VERSION,
    PLACES,
    Files,
    Key,
    Stamp,
    find_models,
    is_broken,
    misplaced_models,
    stamp_of,
)
from taijitu_server.models.served_model import ServedModel
from taijitu_server.settings import Settings

log = logging.getLogger("taijitu.server")

MOST_OPENINGS = 3  # of a version whose files are replaced while it is loaded


class Registry:
    """Served models by name and version. All but `load_all` is called in the event loop.

    Args:
        settings: Those of the server.
        metrics: Where loads are counted.
        single: The only file to serve; None for those in the folder `settings.models`.

    Attributes:
        served: The models that answer, by name and then by version.
        failures: Why versions could not be loaded; of some of them an earlier file is still served.
        refused: Versions that failed their proof at the start, until they are corrected.
    """

    def __init__(self, settings: Settings, metrics: Metrics, single: Path | None = None) -> None:
        self.settings = settings
        self.metrics = metrics
        self.single = single
        self.served: dict[str, dict[str, ServedModel]] = {}
        self.failures: dict[Key, str] = {}
        self.refused: set[Key] = set()
        self._stamps: dict[Key, Stamp] = {}
        self._misplaced: set[Path] = set()  # those that the log names already
        self._unloaded: set[str] = set()  # by POST; loaded again only on request
        self._retired: set[ServedModel] = set()  # no longer served, and not freed yet
        self._single_name = ""  # from its card
        self._changing = asyncio.Lock()

    def load_all(self) -> None:
        """Load all models before serving starts. ArtefactError for the first that cannot be served.

        If one of several models fails its proof, it is left out, and the server is not ready until it is corrected.
        """
        found = self._found()
        for key, files in found.items():
            stamp = stamp_of(files)  # before it is opened: a replacement meanwhile is found by the next refresh
            try:
                model, stamp = self._open_unchanged(key, files, stamp)
            except ProofError as error:
                if len(found) == 1:
                    raise
                self._stamps[key] = stamp
                self.refused.add(key)
                self._note_failure(key, error)
                continue
            if self.single is not None:
                self._single_name = model.name
            self._stamps[model.name, model.version] = stamp
            self._put(model)
        if not found:
            raise ArtefactError(f"{self.settings.models}: got no model, expected {PLACES}; check --models")

    def get(self, name: str | None = None, version: str | None = None) -> ServedModel:
        """Return a model by name (None: the only one) and version (None: the highest).

        HttpError 400 or 404 otherwise.
        """
        if not self.served:
            raise HttpError(MODEL_UNKNOWN, "no model is loaded")
        if name is None:
            if len(self.served) != 1:
                raise HttpError(MODEL_UNNAMED, f"got no model name, expected ?model= one of {', '.join(self.names())}")
            name = next(iter(self.served))
        versions = self.served.get(name)
        if versions is None:
            raise HttpError(MODEL_UNKNOWN, f"unknown model {name[:100]!r}; {name_hint(name, self.names())}")
        if version is None:
            return versions[max(versions, key=int)]
        if version not in versions:
            text = f"no version {version[:20]!r} of {name}; there is {', '.join(sorted(versions, key=int))}"
            raise HttpError(MODEL_UNKNOWN, text)
        return versions[version]

    def names(self) -> list[str]:
        """Return the served names, sorted."""
        return sorted(self.served)

    def all(self) -> list[ServedModel]:
        """Return every served version, by name and version."""
        return [self.served[name][version] for name in self.names() for version in sorted(self.served[name], key=int)]

    def unserved(self) -> dict[Key, str]:
        """Return the versions that could not be loaded and of which no earlier one serves, with why."""
        return {key: reason for key, reason in self.failures.items() if key[1] not in self.served.get(key[0], {})}

    async def refresh(self, only: str | None = None, again: bool = False) -> list[str]:
        """Load new or changed models, drop removed ones, of one name or of all; return one line for each failure.

        A name that was unloaded stays so until it is loaded `again` by name.
        A file that cannot be served leaves the version before it serving, and is tried again once it changes.
        """
        async with self._changing:
            for model in [model for model in self._retired if not model.pending]:  # it hung, and no longer does
                await self._free(model)
            if again:
                self._unloaded -= {only}
            found = {
                key: files
                for key, files in (await asyncio.to_thread(self._found)).items()  # a folder may be large, or far away
                if only in (None, key[0]) and key[0] not in self._unloaded
            }
            failed = []
            for key, files in found.items():
                try:
                    stamp = await asyncio.to_thread(stamp_of, files, self._stamps.get(key, ()))
                    if stamp != self._stamps.get(key) or (again and key in self.failures):
                        self._stamps[key] = stamp
                        await self._replace(key, files, stamp)
                except Exception as error:  # an error in one file must not stop the others
                    failed.append(self._note_failure(key, error))
            for key in [key for key in self._known() if only in (None, key[0]) and key not in found]:
                await self._drop(key)
            return failed

    async def unload(self, name: str) -> None:
        """Stop serving a model, once its accepted requests are answered, until it is loaded again.

        Its versions that could not be loaded are forgotten too. HttpError 404 for an unknown name.
        """
        async with self._changing:
            keys = [key for key in self._known() if key[0] == name]
            if not keys:
                self.get(name)  # raises
            self._unloaded.add(name)
            for key in keys:
                await self._drop(key)

    def check_overdue(self) -> None:
        """Answer overdue requests with an error, also those to models that were replaced or removed."""
        for model in (*self.all(), *self._retired):
            model.check_overdue()

    def close(self) -> None:
        """Free every model."""
        for model in self.all():
            model.close()
        self.served.clear()

    def _known(self) -> set[Key]:
        """Return the versions that are served, or could not be loaded."""
        return self._stamps.keys() | self.failures.keys()

    def _found(self) -> dict[Key, Files]:
        if self.single is not None:
            return {(self._single_name, ONLY_VERSION): (self.single,)}
        folder = self.settings.models
        if folder is None or not folder.is_dir():
            raise UsageError(f"{folder}: got no folder, expected one of {PLACES}; check --models")
        found = find_models(folder)
        misplaced = misplaced_models(folder, found)
        for path in sorted(misplaced - self._misplaced):
            log.warning(
                "%s is not served: got another name or place, or a second file of one version, expected %s",
                shown(path),
                PLACES,
            )
        self._misplaced = misplaced
        # Behind a broken link to a model's folder its versions cannot be seen: those that were there are failures.
        return found | {key: (folder / key[0],) for key in self._known() - found.keys() if is_broken(folder / key[0])}

    def _open_unchanged(self, key: Key, files: Files, stamp: Stamp) -> tuple[ServedModel, Stamp]:
        """Open a version whose files had this stamp, and again where one of them is replaced meanwhile.

        Otherwise new weights that are put in place just before their graph would be served with the old one.

        Returns:
            The model, and the stamp of its files.
        """
        for _ in range(MOST_OPENINGS):
            model, before = self._open(key, files), stamp
            stamp = stamp_of(files, before)
            if stamp == before:
                self.metrics.loads.labels(model.name, "loaded").inc()
                return model, stamp
            model.close()
        raise ArtefactError(
            f"{files[0]}: got other files whenever it was loaded, expected them to stay the same; put them in place by "
            "renaming"
        )

    def _open(self, key: Key, files: Files) -> ServedModel:
        name, version = key
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise ArtefactError(f"{files[0].parent}: got {names}, expected one file; remove the others")
        return ServedModel.open(name, version, files[0], self.settings, self.metrics)

    def _note_failure(self, key: Key, error: Exception) -> str:
        self.failures[key] = shown(one_line(error))
        self.metrics.loads.labels(key[0], "failed").inc()
        is_ours = isinstance(error, (TaijituError, OSError))
        text = "model %s version %s stays as it was: %s"
        log.error(text, *key, self.failures[key], exc_info=None if is_ours else error)
        return self.failures[key]

    def _put(self, model: ServedModel) -> None:
        self.served[model.name] = {**self.served.get(model.name, {}), model.version: model}

    async def _replace(self, key: Key, files: Files, stamp: Stamp) -> None:
        model, self._stamps[key] = await asyncio.to_thread(self._open_unchanged, key, files, stamp)
        old = self.served.get(model.name, {}).get(model.version)
        self._put(model)
        self.failures.pop(key, None)
        self.refused.discard(key)
        log.info("model %s version %s is loaded", model.name, model.version)
        if old is not None:
            await self._retire(old)

    async def _drop(self, key: Key) -> None:
        name, version = key
        self._stamps.pop(key, None)
        self.failures.pop(key, None)
        self.refused.discard(key)
        versions = self.served.get(name, {})
        model = versions.pop(version, None)
        if not versions:
            self.served.pop(name, None)
        if model is not None:
            log.warning("model %s version %s is gone", name, version)
            await self._retire(model)

    async def _retire(self, model: ServedModel) -> None:
        """Free a model once its accepted requests are answered; one that hangs, in a later `refresh`."""
        self._retired.add(model)
        until = time.monotonic() + self.settings.shutdown_s
        # Requests that found the model before it was replaced may still be decoding: they count as pending.
        while model.pending and time.monotonic() < until:
            await asyncio.sleep(0.01)
        if model.pending:
            log.error("model %s version %s still runs, and is not freed yet", model.name, model.version)
            return
        await self._free(model)

    async def _free(self, model: ServedModel) -> None:
        self._retired.remove(model)
        await asyncio.to_thread(model.close)
        await asyncio.to_thread(return_free_memory)  # glibc keeps it otherwise, in the heap of each former thread
