# The app with its embedded weights, for a machine without a GPU:
#   docker build -t mmmrs-demo . && docker run -p 7860:7860 mmmrs-demo
# With CUDA, from the index that pip uses by itself:
#   docker build --build-arg TORCH_INDEX= -t mmmrs-demo . && docker run --gpus all -p 7860:7860 mmmrs-demo
# With SD1.5, fetched at the first run and kept in a volume, or from a folder of yours:
#   docker run -p 7860:7860 -e MMMRS_BUNDLE=sd15 -v models:/models mmmrs-demo
#   docker run -p 7860:7860 -e MMMRS_BUNDLE=sd15 -v ./weights/sd15:/app/weights/sd15:ro mmmrs-demo
# It writes to /tmp and /models alone:
#   docker run -p 7860:7860 --read-only --tmpfs /tmp mmmrs-demo
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# torch and torchvision come from this one index; the rest does not matter to it.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY requirements.txt .
RUN grep ^torch requirements.txt > torch.txt && pip install ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} -r torch.txt
RUN pip install -r requirements.txt

FROM python:${PYTHON}-slim
# rasterio's wheels bring GDAL, but not libexpat; any version of it will do.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libexpat1 && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 person && install --directory --owner=person /models
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/app \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_TEMP_DIR=/tmp/gradio \
    HF_HOME=/models
WORKDIR /app
COPY . .
USER 1000
EXPOSE 7860
# It costs next to nothing, and is there without a password too.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from os import environ; from urllib.request import urlopen; urlopen('http://127.0.0.1:' + environ['GRADIO_SERVER_PORT'] + '/gradio_api/app_id', timeout=4)"]
# Python heeds it as the first process of a container, which SIGTERM would not stop.
STOPSIGNAL SIGINT
CMD ["python", "app.py"]
