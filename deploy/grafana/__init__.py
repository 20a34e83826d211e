"""The Grafana dashboards as Python values. `make docs` generates the JSON in `dashboards/` from them."""
