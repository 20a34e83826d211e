# Stands in for the base of our image, which is named in the Dockerfile. pip reaches its index as on this machine.
FROM localhost/python-root
ARG PIP_INDEX_URL
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_INDEX_URL=${PIP_INDEX_URL}
COPY ca-certificates.crt /etc/ssl/certs/
CMD ["python"]
