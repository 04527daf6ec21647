#!/bin/sh
# Inside the image: render the repository for $PLATFORM, then become the server. Arguments go to tritonserver.
set -eu
cd /opt/inferway
for contract in models/*/model.yaml; do
    python3 -m services.tensorrt.repository --models "$(dirname "$contract")" \
        --platform "$PLATFORM" --out /repository
done
exec tritonserver --model-repository=/repository --model-control-mode=explicit '--load-model=*' \
    --disable-auto-complete-config "$@"
