"""A project's own DAG, written by hand: both builders as task groups, and a report over what they found.

A tenant's DAGs are all data (see `demo/config`); a project decides in Python how the parts go together, and leaves only
their settings to the store.
"""

from airflow.sdk import DAG, task

from dagfactory_consul import DAGFactory
from pipelines.flywheel import combine
from projects.flywheel.config import config

factory = DAGFactory(config.environment)

with DAG("flywheel", schedule=config.schedule, tags=["flywheel"], catchup=False, is_paused_upon_creation=False) as dag:
    messages = factory.create("ProcessMessages", config.process_messages).build_group()
    invoices = factory.create("ProcessInvoices", config.process_invoices).build_group()
    report = task(task_id="report")(combine)(owner="flywheel", run_id="{{ run_id }}")
    [messages, invoices] >> report
