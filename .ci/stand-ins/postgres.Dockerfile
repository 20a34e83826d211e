# Stands in for postgres:17. Its socket is in /tmp: podman lays a tmpfs of its own over /run of a read-only container, where
# nobody but root may write.
FROM localhost/servers-root
COPY postgres-entrypoint /usr/local/bin/
RUN install --directory --mode=0700 --owner=postgres --group=postgres /var/lib/postgresql/data
ENV PATH=/usr/lib/postgresql/17/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PGDATA=/var/lib/postgresql/data LANG=C.UTF-8 PGHOST=/tmp
USER postgres
VOLUME /var/lib/postgresql/data
EXPOSE 5432
# The "fast" shutdown, as in the official image.
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint"]
