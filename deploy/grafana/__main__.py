"""`python -m deploy.grafana`: make the JSON of every dashboard anew."""

from deploy.grafana.catalogue import files

for path, content in files().items():
    path.write_text(content, "utf-8")
