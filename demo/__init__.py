"""A demonstration on a real Airflow, and the driver that the tests on a real Airflow share with it."""
