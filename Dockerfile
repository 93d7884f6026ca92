# docker build -t ttd . && docker run --rm --gpus all -v "$PWD/out:/ttd/out" ttd make demo
#
# Pin the base by its digest where builds must not change; the registry prints it:
#   docker pull python:3.12-slim-bookworm
#   docker build --build-arg BASE=python:3.12-slim-bookworm@sha256:... -t ttd .
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}

# gcc: PAMR's kernel for the CPU is compiled at first use.
RUN apt-get update \
    && apt-get install -y --no-install-recommends make gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

# Not root: what a model or a data set might find to attack is this user's. The numbers may be the
# host user's, so that files in a mounted folder are theirs:
#   docker build --build-arg UID="$(id -u)" --build-arg GID="$(id -g)" -t ttd .
ARG UID=1000
ARG GID=1000
RUN groupadd --non-unique --gid ${GID} ttd \
    && useradd --non-unique --uid ${UID} --gid ${GID} --create-home ttd \
    && install -d -o ttd -g ttd /ttd /ttd/out
USER ttd
WORKDIR /ttd

# torch with CUDA's libraries and everything else, from requirements.lock: each file's hash is
# checked. The host needs a driver only.
ENV LOCKED=1
COPY --chown=ttd:ttd Makefile requirements*.txt requirements.lock ./
RUN make install
COPY --chown=ttd:ttd . .

CMD ["make", "test"]
