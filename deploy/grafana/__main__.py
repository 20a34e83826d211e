"""`python -m deploy.grafana`: generate the JSON of every dashboard."""

from deploy.grafana.all_dashboards import files

for path, content in files().items():
    path.write_text(content, "utf-8")
