"""Continual learning and testing in production, taught and run on real films

Modules:

- `trending_now.dags.airflow_files.films`: The film service in Airflow, a task a step.
- `trending_now.dags.kubeflow_files.films_pipeline`: The film service as a pipeline of Kubeflow, a task a step."""

__version__ = "0.1.0"
