# Stands in for prom/prometheus.
FROM localhost/servers-root
RUN install --directory --owner=nobody --group=nogroup /prometheus
USER nobody
VOLUME /prometheus
EXPOSE 9090
ENTRYPOINT ["prometheus"]
