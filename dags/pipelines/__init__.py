"""The work itself: plain Python without Airflow, so that it runs in a worker, in a pod, in a test or by hand."""
