# The service's image: `docker build -t jobtrail .`; the command is one of `jobtrail --help`.
FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/jobtrail \
    && /opt/jobtrail/bin/pip install --no-cache-dir --require-hashes -r requirements-server.lock \
    && /opt/jobtrail/bin/pip install --no-cache-dir --no-deps .

FROM python:3.13-slim
RUN useradd --create-home --uid 10001 jobtrail
COPY --from=build /opt/jobtrail /opt/jobtrail
ENV PATH=/opt/jobtrail/bin:$PATH JOBTRAIL_HOME=/home/jobtrail/data PYTHONUNBUFFERED=1
USER jobtrail
EXPOSE 8700
ENTRYPOINT ["jobtrail"]
CMD ["--help"]
