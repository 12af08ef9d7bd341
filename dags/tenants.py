"""Every tenant's DAGs, in Airflow: what the store says is what runs. Nothing here needs to change for a new tenant.

Airflow's safe mode reads only files that mention both `dag` and `airflow`; this sentence is what it finds.
"""

from dagfactory_consul import load_dags

load_dags(globals())
