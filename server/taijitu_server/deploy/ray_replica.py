"""The settings of the server in a replica of Ray Serve, and the variables that have no use there."""

from __future__ import annotations

from collections.abc import Mapping

from taijitu_server.settings import PREFIX, Settings, settings_from, settings_in

PROXY = "Ray's proxy holds the connections"
ARGUMENTS = "serve.yaml has it"
NO_USE = {
    "host": PROXY,
    "port": PROXY,
    "workers": "Ray starts the replicas",
    "models": ARGUMENTS,
    "reload_by_post": "a replica has one model",
    "inference_threads": ARGUMENTS,
    "decode_threads": "a replica has one",
    "max_header_bytes": PROXY,
    "max_connections": PROXY,
    "header_timeout_s": PROXY,
    "body_timeout_s": PROXY,
    "keep_alive_s": PROXY,
    "drain_s": "Ray ends the replicas",
}
"""Settings that a replica does not use, and why."""


def replica_settings(threads: int, environment: Mapping[str, str]) -> Settings:
    """Return the settings of a replica that computes with so many threads, as many processors as it reserves.

    One batch at a time: Ray binds a replica to no processors, so that by default it would run one on each of the node.
    """
    flags = {"inference_threads": threads, "decode_threads": 1}
    if "instances" not in settings_in(environment):
        flags["instances"] = 1
    return settings_from(flags, None)


def unused_variables(environment: Mapping[str, str]) -> list[str]:
    """Return one warning for each setting among the environment variables that has no use in a replica."""
    given = settings_in(environment)
    return [
        f"the environment variable {PREFIX}{name.upper()} is ignored: {why}"
        for name, why in NO_USE.items()
        if name in given
    ]
