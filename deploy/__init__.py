"""Files for deployments: image, Kubernetes manifests, Prometheus rules, Grafana dashboards."""
