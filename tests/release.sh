#!/bin/bash
# Builds the sdist and the wheel twice, compares their bytes, and runs each in empty environments. Publishes nothing.
#
#     tests/release.sh [PYTHON] [TAG]
#
# PYTHON has `build` and `hatchling`; what it built is left in dist/release. With a TAG, such as v0.2.0, that has to be
# the version's, and no interpreter may be missing.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "$(command -v "${1:-.venv/bin/python}")")
tag=${2:-}
commit=$(git describe --always --abbrev=40 --exclude='*' --dirty)
version=$("$python" -c 'import vlbench; print(vlbench.__version__)')
if [ -n "$tag" ] && [ "$tag" != "v$version" ]; then
    echo "the tag is $tag and the version $version; the tag has to be v$version" >&2
    exit 1
fi
# What is built depends on the commit alone, not on when and where it is built.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
unset PYTHONPATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The first wheel is made of the first sdist, the second of its unpacked files, in another folder and without git.
built=dist/release
rm -rf "$built"
"$python" -m build --no-isolation --outdir "$built" . >"$work/log" || { cat "$work/log"; exit 1; }
mkdir "$work/tree"
tar -xzf "$built"/*.tar.gz -C "$work/tree" --strip-components=1
"$python" -m build --no-isolation --sdist --wheel --outdir "$work/again" "$work/tree" >"$work/log" || { cat "$work/log"; exit 1; }
for file in "$built"/*; do
    cmp "$file" "$work/again/$(basename "$file")"
    echo "two builds are equal: $(sha256sum "$file")"
done
built=$(realpath "$built")

# Prints the path of an interpreter of a version, also of one that pyenv has and does not use.
interpreter() {
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/python; do
        "$candidate" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null || continue
        "$candidate" -c 'import sys; print(sys.executable)'
        return
    done
}

expected="vlbench $version (commit ${commit:0:7}$([[ $commit != *-dirty ]] || echo ', modified'))"
for number in 3.11 3.12; do
    of_version=$(interpreter "$number")
    if [ -z "$of_version" ]; then
        echo "skipped: there is no Python $number"
        [ -z "$tag" ] || exit 1
        continue
    fi
    for file in "$built"/*; do
        start=$SECONDS
        rm -rf "$work/env" "$work/run"
        mkdir "$work/run"
        "$of_version" -m venv "$work/env"
        "$work/env/bin/python" -m pip install --quiet --disable-pip-version-check "$file"
        installed=$((SECONDS - start))
        (
            cd "$work/run"
            export PATH="$work/env/bin:$PATH" VLBENCH_DATA=$work/run
            said=$(vlbench --version)
            [ "$said" = "$expected" ] || { echo "it says $said instead of $expected" >&2; exit 1; }
            vlbench data list >list
            grep -q ucf101 list
            vlbench data synth synthetic >log 2>&1 || { cat log; exit 1; }
            vlbench test --config zero_shot.yaml --config data/synthetic.yaml --config backbone/tiny.yaml \
                --config trainer/cpu.yaml >log 2>&1 || { cat log; exit 1; }
            grep -q "\"git_commit\": \"$commit\"" results/records/*.json
        )
        echo "Python $number, $(basename "$file"): installed in $installed s, ran in $((SECONDS - start - installed)) s"
    done
done
