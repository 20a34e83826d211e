"""The Grafana dashboards: values in Python, from which `make docs` makes the JSON in `dashboards/`."""
