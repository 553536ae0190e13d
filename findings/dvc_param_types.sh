#!/usr/bin/env bash
# DVC compares parameters with Python's ==, for which 1, 1.0 and True are one value. A stage whose parameter goes from
# a number to a switch (a weight of 1 that becomes `true`, a width of 4 that becomes 4.0) is "up to date", and the
# results of the old value stay, although the stage's command reads another type from the file.
set -euo pipefail

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
python3 -m venv "$WORK/venv"
"$WORK/venv/bin/python" -m pip install --quiet --disable-pip-version-check dvc==3.67.1
export PATH="$WORK/venv/bin:$PATH" DVC_NO_ANALYTICS=1

mkdir "$WORK/project"
cd "$WORK/project"
git init --quiet
dvc init --quiet
cat > dvc.yaml <<'YAML'
stages:
  weigh:
    cmd: python -c "import yaml; print(repr(yaml.safe_load(open('params.yaml'))['weight']), file=open('seen.txt', 'w'))"
    params: [weight]
    outs: [seen.txt]
YAML

echo "dvc $(dvc --version)"
echo "weight: 1" > params.yaml
dvc repro --quiet
failed=0
for value in 1 1.0 true 2; do
    echo "weight: $value" > params.yaml
    status=$(dvc status --quiet && echo "up to date" || echo "changed")
    printf 'weight: %-5s dvc status: %-11s the result on disk was made of %s\n' "$value" "$status" "$(cat seen.txt)"
    expected="up to date"
    if [ "$value" = 2 ]; then expected="changed"; fi
    if [ "$status" != "$expected" ]; then failed=1; fi
done
if [ "$failed" = 1 ]; then
    echo "the behaviour has changed" >&2
    exit 1
fi
