#!/bin/sh
# Inside the image: render the repository for $PLATFORM, then become the server. Arguments go to tritonserver.
# A network that TensorRT refuses is left out, and the log says why; the others are served.
set -eu
cd /opt/inferway
repository=/run/triton/repository
mkdir -p "$repository"
set -- --model-repository="$repository" --model-control-mode=explicit '--load-model=*' --disable-auto-complete-config "$@"
dirname models/*/model.yaml | xargs /opt/venv/bin/python3 -m services.tensorrt.repository --onnx /models/onnx \
    --platform "$PLATFORM" --out "$repository" --models || [ -n "$(ls "$repository")" ]
exec tritonserver "$@"
