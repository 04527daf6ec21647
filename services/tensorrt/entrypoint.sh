#!/bin/sh
# Inside the image: render the repository for $PLATFORM, then become the server. Arguments go to tritonserver.
# A network that TensorRT refuses is left out, and the log says why; the others are served.
set -eu
cd /opt/inferway
python3 -m services.tensorrt.repository --models $(dirname models/*/model.yaml) --onnx onnx \
    --platform "$PLATFORM" --out /repository || [ -n "$(ls /repository)" ]
exec tritonserver --model-repository=/repository --model-control-mode=explicit '--load-model=*' \
    --disable-auto-complete-config "$@"
