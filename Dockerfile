# Three images from one context: docker build --target teacher . and likewise teacher-gpu and student.
# Weights are never in an image: mount them at /models.
ARG PYTHON=3.12
ARG CUDA=13.0.2

FROM python:${PYTHON}-slim AS cpu
# PyTorch's own index of builds without CUDA, which are 2 GB smaller.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# A number, so that Kubernetes can tell that it is not root.
RUN useradd --uid 10001 --create-home pad && mkdir /models /runs /data && chown pad /models /runs /data
ENV PYTHONUNBUFFERED=1 HF_HOME=/models PAD_TEACHER_HOST=0.0.0.0
WORKDIR /app
# In an order that keeps the large layers when only code has changed.
COPY constraints.txt ./
RUN pip install --no-cache-dir --no-deps --index-url "$TORCH_INDEX" --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY server server
COPY client client

FROM cpu AS teacher
RUN pip install --no-cache-dir --constraint constraints.txt '.[server]'
USER 10001:10001
VOLUME /models
EXPOSE 8010
# A 9B model takes minutes to load; until then the service is live but not ready. It asks by HTTP or HTTPS, at
# PAD_TEACHER_PORT.
HEALTHCHECK --start-period=10m --interval=15s --timeout=5s \
  CMD ["pad-teacher", "health"]
# serve --model … --keys …, and key add, key list. It listens beyond the container, so that it needs keys: mount their
# folder and pass --keys, or --allow-anonymous.
ENTRYPOINT ["pad-teacher"]

FROM cpu AS student
RUN pip install --no-cache-dir --constraint constraints.txt '.[client]'
USER 10001:10001
VOLUME /models
WORKDIR /runs
ENTRYPOINT ["pad-student"]

# The wheels bring CUDA's libraries, so the smallest of NVIDIA's runtime images does; its CUDA is torch's.
FROM nvidia/cuda:${CUDA}-base-ubuntu24.04 AS teacher-gpu
# A compiler and Python's headers: Triton builds its launchers when the model is loaded.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev python3-venv \
  && rm -rf /var/lib/apt/lists/* \
  && useradd --uid 10001 --create-home pad && mkdir /models /data && chown pad /models /data \
  && python3 -m venv /opt/pad
ENV PATH=/opt/pad/bin:$PATH PYTHONUNBUFFERED=1 HF_HOME=/models PAD_TEACHER_HOST=0.0.0.0
WORKDIR /app
COPY constraints-vllm.txt ./
RUN pip install --no-cache-dir --constraint constraints-vllm.txt vllm
COPY pyproject.toml README.md LICENSE ./
COPY shared shared
COPY server server
COPY client client
RUN pip install --no-cache-dir --constraint constraints-vllm.txt '.[server,vllm]'
USER 10001:10001
VOLUME /models
EXPOSE 8010
HEALTHCHECK --start-period=30m --interval=15s --timeout=5s \
  CMD ["pad-teacher", "health"]
ENTRYPOINT ["pad-teacher"]
