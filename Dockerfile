# The command line of micro in a container, without a screen:
#   docker build --tag micro .
# With an NVIDIA card (and the NVIDIA container toolkit on the host):
#   docker build --tag micro:cuda --build-arg BASE=nvidia/cuda:12.6.3-base-ubuntu24.04 \
#     --build-arg TORCH=https://download.pytorch.org/whl/cu126 .
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
# Where the wheels of torch come from; those for processors alone are ten times smaller.
ARG TORCH=https://download.pytorch.org/whl/cpu
RUN apt-get update && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/micro \
    && /opt/micro/bin/pip install --no-cache-dir --index-url "${TORCH}" torch torchvision
COPY . /src
RUN /opt/micro/bin/pip install --no-cache-dir "/src[postgres]"

FROM ${BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 micro
COPY --from=build /opt/micro /opt/micro
ENV PATH=/opt/micro/bin:${PATH}
USER micro
WORKDIR /home/micro
# A run that is asked to stop finishes the images in hand.
STOPSIGNAL SIGTERM
ENTRYPOINT ["micro"]
CMD ["--help"]
