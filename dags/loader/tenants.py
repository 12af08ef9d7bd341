"""Every tenant's DAGs, in Airflow, by the plain loader: for an Airflow that cannot have the bundle.

Where there is a bundle this file is not needed: it brings the same DAGs. Airflow's safe mode reads only files that
mention both `dag` and `airflow`; this docstring is what it finds.
"""

from dagfactory_consul import load_dags

load_dags(globals())
