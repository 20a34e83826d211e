# Stands in for rabbitmq:4. RabbitMQ itself reads RABBITMQ_DEFAULT_USER and RABBITMQ_DEFAULT_PASS.
FROM localhost/servers-root
ENV PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/lib/rabbitmq LANG=C.UTF-8 \
    RABBITMQ_LOGS=- RUNNING_UNDER_SYSTEMD=true
USER rabbitmq
VOLUME /var/lib/rabbitmq
EXPOSE 5672
CMD ["rabbitmq-server"]
