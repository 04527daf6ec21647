#!/bin/sh
# In a build stage: environment.sh NAME PIP-ARGUMENT... makes /opt/venv of what pip installs, without pip, and its bill
# of materials, /usr/share/sbom/NAME.cdx.json. What the servers never import is left out; the rest is compiled, since a
# container with a read-only file system would compile it anew at every start (5.1 s in place of 1.7 for the gateway).
set -eu
name=$1
shift

pip_into() {
    python3 -m venv --without-pip "$1"
    environment=$1
    shift
    python3 -m pip --python "$environment/bin/python3" install --quiet --no-cache-dir --no-compile \
        --disable-pip-version-check --root-user-action=ignore "$@"
}

pip_into /opt/venv "$@"
# What packages ask for and no server here uses: tokenizers downloads of models, torch tools that build its extensions.
python3 -m pip --python /opt/venv/bin/python3 uninstall --quiet --yes --root-user-action=ignore \
    hf-xet huggingface-hub setuptools wheel
pip_into /tmp/sbom --requirement requirements/sbom.txt
mkdir -p /usr/share/sbom
/tmp/sbom/bin/cyclonedx-py environment --output-reproducible --of JSON -o "/usr/share/sbom/$name.cdx.json" /opt/venv/bin/python3
rm -rf /tmp/sbom

site=$(/opt/venv/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
find "$site" -type d -name tests -prune -exec rm -rf {} +
rm -rf "$site/numpy/f2py" "$site/onnxruntime/datasets" "$site/onnxruntime/quantization" \
    "$site/onnxruntime/tools" "$site/onnxruntime/transformers" "$site/torch/include" \
    "$site/simdjson/simdjson.h" "$site/simdjson/simdjson.cpp"
find "$site" \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.a' \) -delete
python3 -m compileall -q --invalidation-mode unchecked-hash "$site" || test -d "$site" # templates are no Python
