"""Shows what is wrong with tenants' configurations among Airflow's import errors; a part of the plain loader.

It raises them, and a file that raises loses its DAGs: so it is a file of its own, which holds none.
"""

from dagfactory_consul import load_problems

load_problems()
