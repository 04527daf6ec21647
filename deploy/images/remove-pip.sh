#!/bin/sh
# In a final stage: removes pip and the build tools that the base image brings for it.
set -eu
site=$(python3 -c 'import pathlib, pip; print(pathlib.Path(pip.__file__).parents[1])')
for package in pip setuptools wheel pkg_resources _distutils_hack; do
    rm -rf "${site:?}/$package" "${site:?}/$package"-*.dist-info "${site:?}/$package"-*.egg-info
done
rm -f "$site/distutils-precedence.pth"
rm -rf "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')/ensurepip"
for folder in /usr/local/bin /usr/bin; do
    rm -f "$folder"/pip "$folder"/pip3* "$folder"/wheel
done
if python3 -c 'import pip' 2>/dev/null; then
    echo "pip is still there" >&2
    exit 1
fi
