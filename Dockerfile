# docker build -t ttd . && docker run --rm --gpus all -v "$PWD/out:/ttd/out" ttd make demo
FROM pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime

# gcc: PAMR's kernel for the CPU is compiled at first use.
RUN apt-get update \
    && apt-get install -y --no-install-recommends make gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /ttd
COPY . .
# The image's own torch is used: the virtual environment sees it and adds the rest.
ENV VENV_FLAGS=--system-site-packages
RUN rm -rf .venv && make install

CMD ["make", "test"]
