# The app with its embedded weights, for a machine without a GPU:  docker build -t mmmrs-demo . && docker run -p 7860:7860 mmmrs-demo
# With CUDA:  docker build --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 -t mmmrs-demo . && docker run --gpus all ...
# With SD1.5:  docker run -v ./weights/sd15:/app/weights/sd15 ...
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# torch and torchvision come from this one index; the rest does not matter to it.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
COPY requirements.txt .
RUN grep ^torch requirements.txt > torch.txt && pip install --index-url "${TORCH_INDEX}" -r torch.txt
RUN pip install -r requirements.txt

FROM python:${PYTHON}-slim
# rasterio's wheels bring GDAL, but not this.
RUN apt-get update && apt-get install --yes --no-install-recommends libexpat1 && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 person
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONPATH=/app \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_TEMP_DIR=/tmp/gradio
WORKDIR /app
COPY . .
USER person
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/gradio_api/info', timeout=4)"]
CMD ["python", "app.py"]
