"""The Airflow connection type `consul`: where a Consul is and the token for it, kept by Airflow's secrets backend."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from airflow.sdk import BaseHook

from .errors import DagFactoryError
from .stores import Store, open_store


class ConsulHook(BaseHook):
    """Opens the store that an Airflow connection of type `consul` describes.

    Args:
        consul_conn_id: the connection: host, port, schema (http or https), path in `extra`, the token as the password.
        prefix: of the keys.
    """

    conn_name_attr = "consul_conn_id"
    default_conn_name = "consul_default"
    conn_type = "consul"
    hook_name = "Consul"

    def __init__(self, consul_conn_id: str = default_conn_name, *, prefix: str = "dagfactory/", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.consul_conn_id = consul_conn_id
        self.prefix = prefix

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return which fields Airflow's form shows, and under which names."""
        return {"hidden_fields": ["login"], "relabeling": {"password": "Token"}}

    def get_conn(self) -> Store:
        """Return the store. Raises SettingsError where the connection does not describe one."""
        return open_store(f"consul://?conn_id={self.consul_conn_id}", prefix=self.prefix)

    def test_connection(self) -> tuple[bool, str]:
        """Say whether Consul answers, for the button in Airflow's form."""
        try:
            with closing(self.get_conn()) as store:
                store.probe()
        except DagFactoryError as error:
            return False, str(error)
        return True, "Consul answers"
